//! Dead letters, by reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::dead_letter::DeadLetterReason;

/// Dead letters that this process has made, and those that are kept.
#[derive(Debug)]
pub struct DeadLetters {
    /// By reason. The lock is taken only where there are some.
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Rows of the table at most; `None` until they were counted.
    rows: Mutex<Option<u64>>,
}

impl Default for DeadLetters {
    fn default() -> Self {
        // A rate is known only of a counter that exists before its first dead letter.
        let counts = DeadLetterReason::ALL.iter().map(|reason| (reason.as_str(), 0)).collect();
        Self { counts: Mutex::new(counts), rows: Mutex::default() }
    }
}

impl DeadLetters {
    /// Counts one.
    pub fn count(&self, reason: DeadLetterReason) {
        *self.counts().entry(reason.as_str()).or_default() += 1;
    }

    /// Says how many rows the table has, and answers how many it had the last time.
    pub fn replace_rows(&self, rows: u64) -> Option<u64> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).replace(rows)
    }

    /// Rows of the table at most, as they were counted last.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The counts, by reason.
    #[must_use]
    pub fn read(&self) -> Vec<(&'static str, u64)> {
        self.counts().iter().map(|(reason, count)| (*reason, *count)).collect()
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<&'static str, u64>> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_counted_from_the_start() {
        let mut reasons = DeadLetterReason::ALL.map(|reason| (reason.as_str(), 0));
        reasons.sort_unstable();
        assert_eq!(DeadLetters::default().read(), reasons);
    }
}
