//! How many messages of each flow wait in the outbox, without asking the database.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::domain::message::FlowId;

/// Shared by the workers, which add, and the delivery, which takes away.
///
/// A bound for the outbox, not an account: a crash between a commit and the count is mended when
/// the delivery counts the table at its start.
#[derive(Debug, Default)]
pub struct OutboxGauge {
    waiting: Mutex<HashMap<FlowId, u64>>,
}

impl OutboxGauge {
    /// Messages of `flow` that wait.
    #[must_use]
    pub fn waiting(&self, flow: FlowId) -> u64 {
        self.counts().get(&flow).copied().unwrap_or(0)
    }

    /// `count` more wait.
    pub fn add(&self, flow: FlowId, count: u64) {
        *self.counts().entry(flow).or_default() += count;
    }

    /// `count` wait no longer.
    pub fn subtract(&self, flow: FlowId, count: u64) {
        let mut counts = self.counts();
        if let Some(waiting) = counts.get_mut(&flow) {
            *waiting = waiting.saturating_sub(count);
            if *waiting == 0 {
                counts.remove(&flow);
            }
        }
    }

    /// Starts again from a count of the table.
    pub fn replace(&self, counted: HashMap<FlowId, u64>) {
        *self.counts() = counted;
    }

    /// All that wait.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts().values().sum()
    }

    fn counts(&self) -> MutexGuard<'_, HashMap<FlowId, u64>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
