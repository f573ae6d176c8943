//! Metrics of the broker connection.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::known::Known;

/// State and counters of the broker connection.
#[derive(Debug, Default)]
pub struct BrokerMetrics {
    is_connected: Known,
    connections: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
    /// `host:port` of the last broker that accepted a connection.
    address: Mutex<Option<Arc<str>>>,
}

impl BrokerMetrics {
    /// Counts a connection that the broker with this `host:port` accepted.
    pub fn connected(&self, address: &Arc<str>) {
        *self.address.lock().unwrap_or_else(PoisonError::into_inner) = Some(Arc::clone(address));
        self.connections.fetch_add(1, Relaxed);
        self.is_connected.set(true);
    }

    /// Counts a lost connection.
    pub fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
        self.is_connected.set(false);
    }

    /// Counts a failed connection attempt.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
        self.is_connected.set(false);
    }

    /// Marks the connection as closed by the gateway.
    pub fn mark_disconnected(&self) {
        self.is_connected.set(false);
    }

    /// Returns whether the gateway is connected; `None` until the first attempt has succeeded or failed.
    #[must_use]
    pub fn is_connected(&self) -> Option<bool> {
        self.is_connected.get()
    }

    /// Returns `host:port` of the broker to which the gateway is connected.
    #[must_use]
    pub fn address(&self) -> Option<Arc<str>> {
        let address = self.address.lock().unwrap_or_else(PoisonError::into_inner).clone();
        address.filter(|_| self.is_connected() == Some(true))
    }

    /// Returns the time since which this is so.
    #[must_use]
    pub fn since(&self) -> Option<SystemTime> {
        self.is_connected.since()
    }

    /// Returns the numbers of accepted connections, lost connections and failed attempts.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        [&self.connections, &self.lost, &self.failed].map(|count| count.load(Relaxed))
    }
}
