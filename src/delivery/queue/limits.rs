//! Bounds of the queue, and the rules for trying again.

use std::time::Duration;

use super::Moment;
use super::flow::FlowQueue;
use crate::domain::message::FlowId;
use crate::domain::retry::Backoff;

/// When an endpoint has refused so many messages of a flow in a row, the fault is taken to be elsewhere: the flow waits, as
/// after any other failure, instead of emptying itself into dead letters.
pub const MAX_REFUSED_IN_A_ROW: u32 = 20;

/// The shortest time until another attempt, also where a message is about to expire.
pub(super) const SHORTEST_RETRY: Duration = Duration::from_millis(10);

/// Bounds of a [`DeliveryQueue`](super::DeliveryQueue).
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Messages in memory. A quarter of it is kept for loads, so that a spilled flow gets its turn.
    pub messages: usize,
    /// Their bytes by [`cost`](crate::domain::outbox_work::cost); passed by at most one message, when that is larger than a load may be.
    pub bytes: usize,
    /// Messages of one flow in memory.
    pub flow_messages: usize,
    /// Their bytes; passed by at most one message.
    pub flow_bytes: usize,
    /// Posts in flight.
    pub posts: usize,
    /// Of those, posts of flows whose last attempt failed.
    pub retries: usize,
    /// Outcomes not yet written to the table; beyond it no post begins.
    pub unsettled: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            messages: 8192,
            bytes: 8 << 20,
            flow_messages: 512,
            flow_bytes: 1 << 20,
            posts: 128,
            retries: 64,
            unsettled: 4096,
        }
    }
}

impl Limits {
    /// Messages and bytes that a load should bring.
    pub(super) fn wanted(&self, queue: &FlowQueue) -> (usize, usize) {
        // After a failure one row is enough to find out whether the endpoint is back.
        let messages = if queue.failing { 1 } else { self.flow_messages.saturating_sub(queue.messages()) };
        (messages, self.flow_bytes.saturating_sub(queue.bytes))
    }
}

/// When a failed message is tried again, and when no more.
#[derive(Debug, Clone, Copy)]
pub struct RetryRule {
    /// Time between attempts.
    pub backoff: Backoff,
    /// A message that fails at this age or above is given up, but not within the first hour, or
    /// within this time if that is shorter. Each has at least one attempt at the head of its flow,
    /// however old it is.
    pub max_age: Duration,
}

/// What has become too old while nobody could post it, be it because the gateway was down or its whole
/// site, is tried for so long after the start: the endpoints may come up later than the gateway.
const GRACE: Moment = Duration::from_hours(1);

impl RetryRule {
    /// No message is given up before this moment after the start, and after its flow goes elsewhere or goes on.
    pub(super) fn none_expires_before(&self) -> Moment {
        self.max_age.min(GRACE)
    }
}

/// A load to be made: rows of `flow` by rising number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOrder {
    /// The flow.
    pub flow: FlowId,
    /// Only rows with higher numbers than this; `None` for all.
    pub after: Option<i64>,
    /// At most so many rows.
    pub max_messages: usize,
    /// At most so much by [`cost`](crate::domain::outbox_work::cost), but at least one row.
    pub max_bytes: usize,
}
