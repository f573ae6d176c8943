//! How the database fares, by what those who use it meet.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use super::histogram::{BYTES, DURATIONS, Histogram, MESSAGES};
use super::known::Known;

/// Kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorKind {
    /// No connection, or it broke.
    Connection,
    /// A transaction gave way to another.
    Deadlock,
    /// Something stayed locked by somebody else for too long.
    Lock,
    /// The database cannot do its work: a full disk, a missing table, no rights.
    Outage,
    /// The database refused a value.
    Poison,
    /// It took a statement and said nothing more.
    Silent,
}

impl ErrorKind {
    const ALL: [ErrorKind; 6] =
        [Self::Connection, Self::Deadlock, Self::Lock, Self::Outage, Self::Poison, Self::Silent];

    fn as_str(self) -> &'static str {
        match self {
            Self::Connection => "connection",
            Self::Deadlock => "deadlock",
            Self::Lock => "lock",
            Self::Outage => "outage",
            Self::Poison => "poison",
            Self::Silent => "silent",
        }
    }

    /// Whether the database is of no use while it lasts, for anybody.
    fn means_down(self) -> bool {
        matches!(self, Self::Connection | Self::Outage | Self::Silent)
    }
}

/// What was seen of the database.
#[derive(Debug)]
pub struct Database {
    is_up: Known,
    /// In the order of the kinds.
    errors: [AtomicU64; ErrorKind::ALL.len()],
    transactions: Mutex<Transactions>,
    /// How far the numbers of each column have got, as a part of all.
    numbers: Mutex<Vec<(&'static str, f64)>>,
    set_backs: AtomicU64,
    replayed: AtomicU64,
}

/// The transactions of the workers that brought messages into SQL.
#[derive(Debug, Clone)]
pub struct Transactions {
    /// Time from the batch to the answer to COMMIT.
    pub seconds: Histogram,
    /// Messages in each.
    pub messages: Histogram,
    /// Bytes of payload in each.
    pub bytes: Histogram,
}

impl Default for Database {
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

impl Database {
    /// It has done what it was asked for.
    pub fn mark_up(&self) {
        self.is_up.is(true);
    }

    /// It has not.
    pub fn failed(&self, kind: ErrorKind) {
        if let Some((_, count)) = ErrorKind::ALL.iter().zip(&self.errors).find(|(known, _)| **known == kind) {
            count.fetch_add(1, Relaxed);
        }
        if kind.means_down() {
            self.is_up.is(false);
        }
    }

    /// A worker has committed so many messages, in a transaction that took so long.
    #[allow(clippy::cast_precision_loss, reason = "what has more digits falls into the last bucket")]
    pub fn committed(&self, took: Duration, messages: usize, bytes: usize) {
        let mut transactions = self.transactions.lock().unwrap_or_else(PoisonError::into_inner);
        transactions.seconds.observe_duration(took, 1);
        transactions.messages.observe(messages as f64, 1);
        transactions.bytes.observe(bytes as f64, 1);
    }

    /// A lane was found below the offset that was committed.
    pub fn count_set_back(&self) {
        self.set_backs.fetch_add(1, Relaxed);
    }

    /// So many messages were processed again because of that.
    pub fn count_replayed(&self, messages: u64) {
        self.replayed.fetch_add(messages, Relaxed);
    }

    /// How often a lane was set back, and how many messages were processed again.
    #[must_use]
    pub fn replays(&self) -> (u64, u64) {
        (self.set_backs.load(Relaxed), self.replayed.load(Relaxed))
    }

    /// So far have the numbers of these columns got, each as a part of all that it has.
    pub fn set_numbers_used(&self, used: impl Iterator<Item = (&'static str, f64)>) {
        *self.numbers.lock().unwrap_or_else(PoisonError::into_inner) = used.collect();
    }

    /// The same, as it was when the flows were read last.
    #[must_use]
    pub fn numbers_used(&self) -> Vec<(&'static str, f64)> {
        self.numbers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether it did the last thing that it was asked for; `None` before the first.
    #[must_use]
    pub fn is_up(&self) -> Option<bool> {
        self.is_up.get()
    }

    /// Failures by kind.
    #[must_use]
    pub fn errors(&self) -> Vec<(&'static str, u64)> {
        let counts = self.errors.iter().map(|count| count.load(Relaxed));
        ErrorKind::ALL.iter().map(|kind| kind.as_str()).zip(counts).collect()
    }

    /// The workers' transactions.
    #[must_use]
    pub fn transactions(&self) -> Transactions {
        self.transactions.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_of_somebody_else_is_an_error_and_no_outage() {
        let database = Database::default();
        assert_eq!(database.is_up(), None, "nobody has asked");
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
