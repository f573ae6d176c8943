//! Dead letters, by reason.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// All reasons there are, so that each shows before its first dead letter: a rate is known only of
/// what was there before.
const REASONS: [&str; 25] = [
    "counter_exhausted",
    "endpoint_refused",
    "flow_deleted",
    "flow_disabled",
    "half_surrogate_pair",
    "invalid_schema",
    "name_too_long",
    "no_usable_url",
    "nul_character",
    "outbox_expired",
    "outbox_full",
    "packet_malformed",
    "payload_not_json",
    "payload_not_object",
    "payload_not_utf8",
    "payload_too_deep",
    "payload_too_large",
    "payload_too_many_attributes",
    "refused_by_database",
    "too_many_rows",
    "topic_not_utf8",
    "unknown_action",
    "unusable_message_key",
    "validation_failed",
    "value_too_long",
];

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
        let counts = REASONS.iter().map(|reason| (*reason, 0)).collect();
        Self { counts: Mutex::new(counts), rows: Mutex::default() }
    }
}

impl DeadLetters {
    /// Counts one.
    pub fn count(&self, reason: &'static str) {
        *self.counts().entry(reason).or_default() += 1;
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
