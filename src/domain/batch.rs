//! The batches that a lane's worker processes, and their outcomes.

use std::fmt;
use std::sync::Arc;

use super::dead_letter::DeadLetterReason;
use super::flow::Action;
use super::message::{FlowId, Offset, Record};
use super::outbox::OutboxItem;
use super::stable_hash::mix;

/// Number of a lane, from 0.
pub type Lane = u32;

/// The lane that serves a flow. It never changes, so the hash must not depend on the build.
#[must_use]
pub fn lane_of(flow: FlowId, lanes: u32) -> Lane {
    // The hash is part of the format of every inbox.
    let hash = mix(flow.cast_unsigned());
    // The remainder is below `lanes`, so it fits.
    u32::try_from(hash % u64::from(lanes.max(1))).unwrap_or(0)
}

/// Records of the inbox for one lane, in order.
#[derive(Debug, Clone)]
pub struct Batch {
    /// The lane.
    pub lane: Lane,
    /// Epoch in which the lane was opened; batches of older epochs are void.
    pub epoch: i64,
    /// The offset that it advances.
    pub scope: Scope,
    /// The expected offset in SQL.
    pub from: Offset,
    /// The offset in SQL after the commit.
    pub next: Offset,
    /// The records to process. Empty if the batch only advances the offset.
    pub entries: Vec<BatchEntry>,
}

/// Whether a batch is of a lane or of a lagging flow: it advances the offset of that one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// The lane, without its lagging flows.
    Lane {
        /// Most flows that may be deferred, if their rows stay locked elsewhere.
        max_deferred: usize,
    },
    /// A lagging flow that catches up with its lane.
    Lagging {
        /// The flow.
        flow: FlowId,
        /// The offset of the lane in SQL: a batch whose `next` is the same ends the lag.
        lane_at: Offset,
    },
}

/// A flow that its lane has gone on without.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LaggingFlow {
    /// The flow.
    pub flow: FlowId,
    /// All records below are done for this flow.
    pub next_offset: Offset,
}

/// The position of a lane in SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LanePosition {
    /// Raised by each worker that takes the lane over.
    pub epoch: i64,
    /// All records below are done.
    pub next_offset: Offset,
}

/// A lane that a worker has taken over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedLane {
    /// Its position.
    pub position: LanePosition,
    /// Its lagging flows, by flow.
    pub lagging: Vec<LaggingFlow>,
}

impl Batch {
    /// Messages, counted once for each flow: the measure of a batch.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.entries.iter().map(|entry| entry.flows.len().max(1)).sum()
    }
}

/// A record, as far as it concerns one lane.
#[derive(Debug, Clone)]
pub struct BatchEntry {
    /// The message.
    pub record: Arc<Record>,
    /// The flows of this lane that it belongs to, ascending.
    pub flows: Vec<FlowId>,
    /// Whether this lane makes the dead letter if the payload is invalid. It belongs to no flow, so one lane does it.
    pub reports_invalid_payload: bool,
}

/// A message that was numbered for a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessResult {
    /// Code of the flow.
    pub flow_code: Arc<str>,
    /// The number it got, consecutive within the flow.
    pub message_id: i64,
    /// What was done with it.
    pub action: Action,
}

/// Why a message got no number, or could not be handed on. Both are permanent; see [`processing`](super::processing).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// It became a dead letter.
    #[error("{0}")]
    Rejected(Rejection),
    /// A message with the same key was numbered before. Nothing is kept.
    #[error("flow {flow_code} has had this key already, in message {message_id}")]
    Repeated {
        /// Code of the flow.
        flow_code: Arc<str>,
        /// The number that the first one got.
        message_id: i64,
    },
}

/// Why a message is a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The flow and its code, unless the payload belongs to none. A flow that was deleted has no code any more.
    pub flow: Option<(FlowId, Option<Arc<str>>)>,
    /// Number it had already got, if any.
    pub message_id: Option<i64>,
    /// Topic of the message.
    pub topic: String,
    /// The cause.
    pub reason: DeadLetterReason,
    /// The sentence for people.
    pub detail: String,
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.flow {
            None => write!(f, "Invalid payload in topic {}: {}", self.topic, self.detail),
            Some((id, _)) => {
                write!(f, "Error processing topic {} (flow_id={id}): {}", self.topic, self.detail)
            }
        }
    }
}

/// The outcome of a committed batch.
#[derive(Debug, Default)]
pub struct BatchOutcome {
    /// One for each message and flow, in the order of the batch. The messages of deferred flows have none: they come
    /// again in batches of their own.
    pub results: Vec<Result<ProcessResult, ProcessError>>,
    /// Numbered messages in the outbox, in the order of the batch.
    pub posts: Vec<OutboxItem>,
    /// The flows that were deferred: from these offsets on nothing of theirs was done.
    pub deferred: Vec<LaggingFlow>,
    /// The outcome of a batch of a lagging flow.
    pub catch_up: Option<CatchUp>,
}

/// How a batch of a lagging flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// The row of the flow is still locked; nothing was done.
    StillLocked,
    /// The flow is at the `next` of the batch.
    Advanced,
    /// The flow is at the offset of its lane, and no longer lags.
    Rejoined,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lane_of_is_stable_across_builds() {
        let lanes: Vec<Lane> = (1..=12).map(|flow| lane_of(flow, 4)).collect();
        assert_eq!(lanes, [0, 3, 2, 1, 1, 3, 1, 3, 1, 1, 0, 1].to_vec());
    }

    #[test]
    fn flows_spread_evenly_over_lanes() {
        let on_lane_0 = (1..=10_000).filter(|flow| lane_of(*flow, 2) == 0).count();
        assert!((4_500..5_500).contains(&on_lane_0), "{on_lane_0}");
    }
}
