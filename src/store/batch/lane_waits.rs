//! The rows that a lane waits for, shared by its worker and the status.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::domain::message::FlowId;
use crate::domain::row_waits::{RowWait, RowWaits};

/// The rows that a lane waits for. The worker writes it once or twice in a transaction.
#[derive(Debug)]
pub struct LaneWaits {
    born: Instant,
    waits: Mutex<RowWaits>,
}

impl Default for LaneWaits {
    fn default() -> Self {
        Self { born: Instant::now(), waits: Mutex::default() }
    }
}

impl LaneWaits {
    /// All present waits.
    #[must_use]
    pub fn read(&self) -> Vec<RowWait> {
        self.waits().read(self.now())
    }

    pub(super) fn begin(&self, flows: &[FlowId]) {
        self.waits().begin(flows, self.now());
    }

    pub(super) fn end(&self) {
        self.waits().end();
    }

    pub(super) fn defer(&self, flow: FlowId) {
        self.waits().defer(flow, self.now());
    }

    pub(super) fn rejoin(&self, flow: FlowId) {
        self.waits().rejoin(flow);
    }

    /// Forgets the waits of the former worker of the lane.
    pub(super) fn reset(&self) {
        *self.waits() = RowWaits::default();
    }

    fn now(&self) -> Duration {
        self.born.elapsed()
    }

    fn waits(&self) -> MutexGuard<'_, RowWaits> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
