//! Database metrics.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::histogram::{BYTES, DURATIONS, Histogram, MESSAGES};
use super::known::Known;

named_enum! {
    /// Kind of a database failure.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum ErrorKind {
        /// The connection failed or broke.
        Connection = "connection",
        /// The transaction was a deadlock victim.
        Deadlock = "deadlock",
        /// Waiting for a lock timed out.
        Lock = "lock",
        /// The database cannot execute statements: full disk, missing table, missing privileges.
        Outage = "outage",
        /// The database rejected a value.
        Poison = "poison",
        /// A statement timed out without an answer.
        Silent = "silent",
    }
}

impl ErrorKind {
    /// Returns whether this failure affects every statement.
    fn means_down(self) -> bool {
        matches!(self, Self::Connection | Self::Outage | Self::Silent)
    }
}

/// State and counters of the database.
#[derive(Debug)]
pub struct DatabaseMetrics {
    is_up: Known,
    /// Failures in the order of [`ErrorKind::ALL`].
    errors: [AtomicU64; ErrorKind::ALL.len()],
    transactions: Mutex<Transactions>,
    /// Used fraction of the value range, by column.
    numbers: Mutex<Vec<(&'static str, f64)>>,
    set_backs: AtomicU64,
    replayed: AtomicU64,
}

/// Histograms of the committed transactions of the workers.
#[derive(Debug, Clone)]
pub struct Transactions {
    /// Time from the start of the batch to the answer to COMMIT, in seconds.
    pub seconds: Histogram,
    /// Messages in a transaction.
    pub messages: Histogram,
    /// Payload bytes in a transaction.
    pub bytes: Histogram,
}

impl Default for DatabaseMetrics {
    fn default() -> Self {
        let transactions = Transactions {
            seconds: Histogram::new(DURATIONS),
            messages: Histogram::new(MESSAGES),
            bytes: Histogram::new(BYTES),
        };
        Self {
            is_up: Known::default(),
            errors: [const { AtomicU64::new(0) }; ErrorKind::ALL.len()],
            transactions: Mutex::new(transactions),
            numbers: Mutex::default(),
            set_backs: AtomicU64::new(0),
            replayed: AtomicU64::new(0),
        }
    }
}

impl DatabaseMetrics {
    /// Marks the database as up after a successful statement.
    pub fn mark_up(&self) {
        self.is_up.set(true);
    }

    /// Counts a failure, and marks the database as down if the failure affects every statement.
    pub fn failed(&self, kind: ErrorKind) {
        if let Some((_, count)) = ErrorKind::ALL.iter().zip(&self.errors).find(|(known, _)| **known == kind) {
            count.fetch_add(1, Relaxed);
        }
        if kind.means_down() {
            self.is_up.set(false);
        }
    }

    /// Records a committed transaction of a worker.
    #[allow(clippy::cast_precision_loss, reason = "larger values fall into the last bucket")]
    pub fn committed(&self, took: Duration, messages: usize, bytes: usize) {
        let mut transactions = self.transactions.lock().unwrap_or_else(PoisonError::into_inner);
        transactions.seconds.observe_duration(took, 1);
        transactions.messages.observe(messages as f64, 1);
        transactions.bytes.observe(bytes as f64, 1);
    }

    /// Counts a lane whose offset was below the last committed one.
    pub fn count_set_back(&self) {
        self.set_backs.fetch_add(1, Relaxed);
    }

    /// Counts messages processed again after a set-back.
    pub fn count_replayed(&self, messages: u64) {
        self.replayed.fetch_add(messages, Relaxed);
    }

    /// Returns the number of set-backs, and of messages processed again.
    #[must_use]
    pub fn replays(&self) -> (u64, u64) {
        (self.set_backs.load(Relaxed), self.replayed.load(Relaxed))
    }

    /// Sets the used fraction of the value range by column.
    pub fn set_numbers_used(&self, used: impl Iterator<Item = (&'static str, f64)>) {
        *self.numbers.lock().unwrap_or_else(PoisonError::into_inner) = used.collect();
    }

    /// Returns the used fraction of the value range by column, as of the last reload of the flows.
    #[must_use]
    pub fn numbers_used(&self) -> Vec<(&'static str, f64)> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns whether the database is up; `None` before the first statement.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        self.is_up.get()
    }

    /// Returns the failures by kind.
    #[must_use]
    pub fn errors(&self) -> Vec<(&'static str, u64)> {
        let counts = self.errors.iter().map(|count| count.load(Relaxed));
        ErrorKind::ALL.iter().map(|kind| kind.as_str()).zip(counts).collect()
    }

    /// Returns the histograms of the transactions.
    #[must_use]
    pub fn transactions(&self) -> Transactions {
        self.transactions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lock_timeout_is_no_outage() {
        let database = DatabaseMetrics::default();
        assert_eq!(database.is_up(), None, "unknown before the first statement");
        database.mark_up();
        for kind in [ErrorKind::Lock, ErrorKind::Deadlock, ErrorKind::Poison] {
            database.failed(kind);
            assert_eq!(database.is_up(), Some(true), "{kind:?}");
        }
        for kind in [ErrorKind::Connection, ErrorKind::Outage, ErrorKind::Silent] {
            database.mark_up();
            database.failed(kind);
            assert_eq!(database.is_up(), Some(false), "{kind:?}");
        }
        assert!(database.errors().iter().all(|(_, count)| *count == 1));
    }
}
