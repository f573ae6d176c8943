//! Limits of the queue and the retry policy.

use std::time::Duration;

use super::Moment;
use crate::domain::retry::Backoff;

/// Number of consecutive rejected messages after which the fault is attributed to the endpoint. The flow then waits as
/// after any other failure, instead of turning all its messages into dead letters.
pub const MAX_REFUSED_IN_A_ROW: u32 = 20;

/// Minimum delay before a retry, even for a message that is about to expire.
pub(super) const MIN_RETRY_DELAY: Duration = Duration::from_millis(10);

/// Limits of a [`DeliveryQueue`](super::DeliveryQueue).
#[derive(Debug, Clone, Copy)]
pub struct QueueLimits {
    /// Messages in memory. A quarter is reserved for loads, so that a spilled flow gets its turn.
    pub messages: usize,
    /// Bytes in memory by [`cost`](crate::domain::outbox_work::cost). One message that is larger than a load may exceed
    /// it.
    pub bytes: usize,
    /// Messages of one flow in memory.
    pub flow_messages: usize,
    /// Bytes of one flow in memory; one message may exceed it.
    pub flow_bytes: usize,
    /// Posts in flight.
    pub posts: usize,
    /// Posts in flight of flows whose last attempt failed.
    pub retries: usize,
    /// Outcomes not yet written to the table. At this limit no further post starts.
    pub unflushed: usize,
}

impl Default for QueueLimits {
    fn default() -> Self {
        Self {
            messages: 8192,
            bytes: 8 << 20,
            flow_messages: 512,
            flow_bytes: 1 << 20,
            posts: 128,
            retries: 64,
            unflushed: 4096,
        }
    }
}

/// When a failed message is retried and when it is given up.
#[derive(Debug, Clone, Copy)]
pub struct RetryRule {
    /// Delay between attempts.
    pub backoff: Backoff,
    /// Age from which a failing message is given up. During the first hour after the start, or during this time if it
    /// is shorter, no message is given up. Each message has at least one attempt at the head of its flow, whatever its
    /// age.
    pub max_age: Duration,
    /// Posts of a flow wait while another process has earlier ones. Off in a group of replicas, whose members process
    /// messages of the same flow at the same time.
    pub waits_for_others: bool,
}

/// Period after the start in which old messages are still retried. After an outage of a whole site the endpoints may
/// start later than the gateway.
const GRACE_PERIOD: Moment = Duration::from_hours(1);

impl RetryRule {
    /// Time before which no message is given up, counted from the start and from a change of its flow's destination.
    pub(super) fn none_expires_before(&self) -> Moment {
        self.max_age.min(GRACE_PERIOD)
    }
}
