//! Counts the messages of each flow in the outbox, and their age, without a query.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::message::FlowId;

/// Shared by the workers, which add, and the delivery, which takes away.
///
/// An approximate limit, not an account: after a crash between a commit and the count, the delivery corrects it when it
/// counts the table at its start.
#[derive(Debug, Default)]
pub struct OutboxGauge {
    waiting: Mutex<HashMap<FlowId, Waiting>>,
    was_counted: AtomicBool,
}

/// The waiting messages of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waiting {
    /// Number of messages.
    pub rows: u64,
    /// When the oldest of them was numbered, in microseconds since 1970. It may be too early, by the messages that were
    /// delivered since the table was last counted.
    pub oldest_at_us: i64,
}

impl OutboxGauge {
    /// Number of messages of `flow` in the outbox.
    #[must_use]
    pub fn waiting(&self, flow: FlowId) -> u64 {
        self.counts().get(&flow).map_or(0, |waiting| waiting.rows)
    }

    /// Adds a message that was numbered at `at_us`.
    pub fn add(&self, flow: FlowId, at_us: i64) {
        self.counts().entry(flow).or_insert(Waiting { rows: 0, oldest_at_us: at_us }).rows += 1;
    }

    /// Removes `count` messages.
    pub fn subtract(&self, flow: FlowId, count: u64) {
        let mut counts = self.counts();
        if let Some(waiting) = counts.get_mut(&flow) {
            waiting.rows = waiting.rows.saturating_sub(count);
            if waiting.rows == 0 {
                counts.remove(&flow);
            }
        }
    }

    /// Sets when the oldest message of `flow` was numbered. An earlier time is ignored: the table counts the age of some
    /// messages from a later one, the end of a pause.
    pub fn set_oldest(&self, flow: FlowId, at_us: i64) {
        if let Some(waiting) = self.counts().get_mut(&flow) {
            waiting.oldest_at_us = waiting.oldest_at_us.max(at_us);
        }
    }

    /// Replaces all counts by the counts of the table.
    pub fn replace(&self, counted: HashMap<FlowId, Waiting>) {
        *self.counts() = counted;
        self.was_counted.store(true, Ordering::Release);
    }

    /// Whether the table was ever counted; before that, rows of an earlier process are unknown.
    #[must_use]
    pub fn was_counted(&self) -> bool {
        self.was_counted.load(Ordering::Acquire)
    }

    /// The waiting messages of each flow that has some.
    #[must_use]
    pub fn by_flow(&self) -> Vec<(FlowId, Waiting)> {
        self.counts().iter().map(|(flow, waiting)| (*flow, *waiting)).collect()
    }

    /// Number of all messages in the outbox.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts().values().map(|waiting| waiting.rows).sum()
    }

    /// When the oldest of all messages was numbered, in microseconds since 1970.
    #[must_use]
    pub fn oldest_at_us(&self) -> Option<i64> {
        self.counts().values().map(|waiting| waiting.oldest_at_us).min()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<FlowId, Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_a_flow_is_the_first_that_waits_until_others_are_told() {
        let gauge = OutboxGauge::default();
        gauge.add(1, 10);
        gauge.add(1, 20);
        gauge.add(2, 15);
        assert_eq!((gauge.total(), gauge.oldest_at_us()), (3, Some(10)));
        gauge.subtract(1, 1);
        gauge.set_oldest(1, 20);
        assert_eq!(gauge.oldest_at_us(), Some(15));
        gauge.set_oldest(1, 5);
        assert_eq!(gauge.oldest_at_us(), Some(15), "the age counts from the end of a pause");
        gauge.subtract(1, 1);
        gauge.subtract(2, 1);
        assert_eq!((gauge.total(), gauge.oldest_at_us()), (0, None));
        gauge.set_oldest(2, 1);
        assert_eq!(gauge.oldest_at_us(), None, "of what does not wait nothing is known");
    }

    #[test]
    fn what_the_table_holds_is_known_when_it_was_counted() {
        let gauge = OutboxGauge::default();
        gauge.add(1, 10);
        assert!(!gauge.was_counted());
        gauge.replace(HashMap::new());
        assert!(gauge.was_counted());
    }
}
