//! Metrics of dead letters.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::dead_letter::DeadLetterReason;

/// Dead letters written by this process, and rows in the table.
#[derive(Debug)]
pub struct DeadLetterMetrics {
    /// Counts by reason. Only dead letters take the lock, so the normal path never waits for it.
    counts: Mutex<BTreeMap<&'static str, u64>>,
    /// Upper bound of the rows in the table; `None` until they have been counted.
    rows: Mutex<Option<u64>>,
}

impl Default for DeadLetterMetrics {
    fn default() -> Self {
        // Prometheus computes a rate only for counters that exist before their first increment.
        let counts = DeadLetterReason::ALL.iter().map(|reason| (reason.as_str(), 0)).collect();
        Self { counts: Mutex::new(counts), rows: Mutex::default() }
    }
}

impl DeadLetterMetrics {
    /// Counts a dead letter.
    pub fn count(&self, reason: DeadLetterReason) {
        *self.counts().entry(reason.as_str()).or_default() += 1;
    }

    /// Sets the number of rows in the table, and returns the previous one.
    pub fn replace_rows(&self, rows: u64) -> Option<u64> {
        self.rows.lock().unwrap_or_else(PoisonError::into_inner).replace(rows)
    }

    /// Returns the upper bound of the rows in the table, as last counted.
    #[must_use]
    pub fn rows(&self) -> Option<u64> {
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns the counts by reason.
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
    fn all_reasons_start_at_zero() {
        let mut reasons = DeadLetterReason::ALL.map(|reason| (reason.as_str(), 0));
        reasons.sort_unstable();
        assert_eq!(DeadLetterMetrics::default().read(), reasons);
    }
}
