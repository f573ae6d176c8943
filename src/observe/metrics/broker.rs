//! How the connection to the broker fares.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use super::known::Known;

/// What was seen of the connection.
#[derive(Debug, Default)]
pub struct Broker {
    is_connected: Known,
    connections: AtomicU64,
    lost: AtomicU64,
    failed: AtomicU64,
}

impl Broker {
    /// The broker accepted a connection.
    pub fn connected(&self) {
        self.connections.fetch_add(1, Relaxed);
        self.is_connected.is(true);
    }

    /// The connection is gone.
    pub fn lost(&self) {
        self.lost.fetch_add(1, Relaxed);
        self.is_connected.is(false);
    }

    /// An attempt to connect failed.
    pub fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
        self.is_connected.is(false);
    }

    /// We have ended the connection.
    pub fn mark_disconnected(&self) {
        self.is_connected.is(false);
    }

    /// Whether there is a connection; `None` before the first attempt has succeeded or failed.
    #[must_use]
    pub fn is_connected(&self) -> Option<bool> {
        self.is_connected.get()
    }

    /// Connections that were accepted, that were lost, and attempts that failed.
    #[must_use]
    pub fn counts(&self) -> [u64; 3] {
        [&self.connections, &self.lost, &self.failed].map(|count| count.load(Relaxed))
    }
}
