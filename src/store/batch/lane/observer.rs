//! The events of a lane.

use std::time::Duration;

use crate::domain::batch::{BatchOutcome, LaggingFlow, ProcessedMessage};
use crate::domain::message::FlowId;
use crate::store::error::StoreError;

/// A committed transaction with messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// Time from the batch to the answer to COMMIT.
    pub took: Duration,
    /// Messages, counted once for each flow.
    pub messages: usize,
    /// Their payloads, in bytes.
    pub bytes: usize,
}

/// Receives the events of a lane.
pub trait LaneObserver {
    /// The database failed, whether or not the lane can recover at once.
    fn failed(&self, error: &StoreError);
    /// A transaction with messages was committed and answered.
    fn committed(&self, transaction: Committed);
    /// Messages with readable payloads were processed for flows, with this outcome.
    fn processed(&self, _messages: &mut dyn Iterator<Item = ProcessedMessage<'_>>, _outcome: &BatchOutcome) {}
    /// The database failed for the `failures`th time in a row; the next attempt is after `delay`.
    fn retrying(&self, error: &StoreError, failures: u32, delay: Duration);
    /// A transaction was committed.
    fn progressing(&self);
    /// The lane goes on without a flow because its row is locked elsewhere.
    fn deferred(&self, flow: LaggingFlow, code: &str);
    /// The lane goes on without a flow because the database rejected `refused` of its messages in a row.
    fn set_aside(&self, flow: LaggingFlow, code: &str, refused: u32, refusal: &StoreError);
    /// A lagging flow has caught up with the lane.
    fn rejoined(&self, flow: FlowId);
}
