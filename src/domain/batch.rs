//! The batches that a lane's worker processes, and their outcomes.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use super::dead_letter::DeadLetterReason;
use super::flow::Action;
use super::message::{FlowId, Offset, Record};
use super::outbox::OutboxItem;
use super::payload::Payload;
use super::stable_hash::mix;

/// Number of a lane, from 0.
pub type Lane = u32;

/// Returns the lane of a flow. The assignment is permanent, so the hash must not depend on the build.
#[must_use]
pub fn lane_of(flow: FlowId, lanes: u32) -> Lane {
    // Stored lane offsets depend on this hash.
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
    /// The owner of the offset to advance.
    pub scope: Scope,
    /// The expected offset in SQL.
    pub from: Offset,
    /// The offset in SQL after the commit.
    pub next: Offset,
    /// The records to process. Empty if the batch only advances the offset.
    pub entries: Vec<BatchEntry>,
}

/// The owner of a batch: a lane or a lagging flow. The batch advances the offset of its owner.
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

/// A flow whose lane continues without it.
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
    /// Number of messages, counted once for each flow. Batch limits refer to this number.
    #[must_use]
    pub fn pairs(&self) -> usize {
        self.entries.iter().map(|entry| entry.flows.len().max(1)).sum()
    }
}

/// Names the first few flows, for reports about a slow handler.
impl fmt::Display for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// Maximum number of flows that are listed.
        const NAMED: usize = 5;
        write!(f, "{} messages of the inbox from {} to {}", self.pairs(), self.from, self.next)?;
        let flows: BTreeSet<FlowId> = self.entries.iter().flat_map(|entry| &entry.flows).copied().collect();
        let named: Vec<String> = flows.iter().take(NAMED).map(ToString::to_string).collect();
        if !named.is_empty() {
            write!(f, ", flow_id {}", named.join(", "))?;
        }
        if flows.len() > NAMED {
            write!(f, " and {} more", flows.len() - NAMED)?;
        }
        match self.entries.first() {
            Some(entry) => write!(f, ", first topic {:?}", entry.record.topic),
            None => Ok(()),
        }
    }
}

/// A record, as far as it concerns one lane.
#[derive(Debug, Clone)]
pub struct BatchEntry {
    /// The message.
    pub record: Arc<Record>,
    /// The flows of this lane that it belongs to, ascending.
    pub flows: Vec<FlowId>,
    /// Whether this lane writes the dead letter if the payload is invalid. Such a payload belongs to no flow.
    pub reports_invalid_payload: bool,
}

/// A message with a readable payload that was processed for a flow.
pub type ProcessedMessage<'m> = (FlowId, &'m Record, &'m Payload<'m>);

/// A message that was numbered for a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessResult {
    /// Code of the flow.
    pub flow_code: Arc<str>,
    /// Its sequence number, consecutive within the flow.
    pub message_id: i64,
    /// The action performed.
    pub action: Action,
    /// Offset of the message in the inbox.
    pub inbox_offset: Offset,
}

/// A message that is not stored or posted. Both variants are permanent; see [`processing`](super::processing).
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProcessError {
    /// It became a dead letter.
    #[error("{0}")]
    Rejected(Rejection),
    /// An earlier message has the same key. The message is dropped.
    #[error("flow {flow_code} already has message {message_id} with the same key")]
    Repeated {
        /// Code of the flow.
        flow_code: Arc<str>,
        /// Sequence number of the first message with the key.
        message_id: i64,
        /// Offset of the dropped message in the inbox.
        inbox_offset: Offset,
    },
}

/// The cause of a dead letter, with the data that identifies its message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rejection {
    /// The flow and its code; `None` if the payload is invalid. The code of a deleted flow is unknown.
    pub flow: Option<(FlowId, Option<Arc<str>>)>,
    /// Its sequence number, if one was assigned.
    pub message_id: Option<i64>,
    /// Offset of the message in the inbox.
    pub inbox_offset: Offset,
    /// Topic of the message.
    pub topic: String,
    /// The cause.
    pub reason: DeadLetterReason,
    /// Text for operators.
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
    /// One result for each message and flow, in the order of the batch. Messages of deferred flows have none: they are
    /// processed by later batches of their flow.
    pub results: Vec<Result<ProcessResult, ProcessError>>,
    /// Numbered messages in the outbox, in the order of the batch.
    pub posts: Vec<OutboxItem>,
    /// The deferred flows. Their messages from these offsets on are not processed.
    pub deferred: Vec<LaggingFlow>,
    /// The outcome of a batch of a lagging flow.
    pub catch_up: Option<CatchUp>,
}

/// How a batch of a lagging flow ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CatchUp {
    /// The row of the flow is still locked; the batch had no effect.
    StillLocked,
    /// The flow is at the `next` of the batch.
    Advanced,
    /// The flow is at the offset of its lane and no longer lags.
    Rejoined,
}

#[cfg(test)]
mod tests {
    use super::super::message::{Body, DeliveryFacts};
    use super::*;

    #[test]
    fn batch_is_described_by_its_first_flows() {
        let record = |topic: &str| Record {
            offset: 7,
            received_at_us: 0,
            topic: topic.to_owned(),
            body: Body::Whole(Vec::new()),
            delivery: DeliveryFacts::default(),
        };
        let entry = |topic, flows| BatchEntry {
            record: Arc::new(record(topic)),
            flows,
            reports_invalid_payload: false,
        };
        let scope = Scope::Lane { max_deferred: 0 };
        let mut batch = Batch { lane: 0, epoch: 1, scope, from: 7, next: 9, entries: Vec::new() };
        assert_eq!(batch.to_string(), "0 messages of the inbox from 7 to 9");
        batch.entries = vec![entry("a", vec![1, 2, 3]), entry("b", vec![2, 4, 5, 6, 7])];
        assert_eq!(
            batch.to_string(),
            "8 messages of the inbox from 7 to 9, flow_id 1, 2, 3, 4, 5 and 2 more, first topic \"a\""
        );
    }

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
