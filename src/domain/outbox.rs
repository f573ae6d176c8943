//! A message with a sequence number that is delivered to an HTTP endpoint.

use std::fmt;
use std::sync::Arc;

use super::message::{FlowId, Offset, Record};
use super::posting::attempts::RecentAttempts;
use super::posting::destination::PostDestination;

/// The idempotency key of a delivery. It is the same for each attempt and is never reused, even if the counter of the
/// flow is reset by hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutboxKey {
    /// The inbox of the message.
    pub inbox_id: Arc<str>,
    /// Its offset in the inbox.
    pub inbox_offset: Offset,
    /// The flow.
    pub flow_id: FlowId,
}

/// Formats the value of the header `Idempotency-Key`.
impl fmt::Display for OutboxKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.inbox_id, self.inbox_offset, self.flow_id)
    }
}

/// A row of the table `outbox`.
#[derive(Debug, Clone)]
pub struct OutboxItem {
    /// Its key.
    pub key: OutboxKey,
    /// Sequence number of the message within its flow.
    pub message_id: i64,
    /// Code of the flow when the sequence number was assigned.
    pub flow_code: Arc<str>,
    /// Its endpoint, with the options of its flow.
    pub destination: PostDestination,
    /// Topic of the message.
    pub topic: String,
    /// The request body, byte for byte as received.
    pub payload: OutboxPayload,
    /// Number of failed attempts.
    pub attempts: u32,
    /// The last of them.
    pub recent_attempts: RecentAttempts,
    /// Time of the sequence number: microseconds since 1970, UTC, by the clock of the gateway.
    pub created_at_us: i64,
}

/// The body of a request: shared with its batch, or loaded from the table.
#[derive(Debug, Clone)]
pub enum OutboxPayload {
    /// The record in memory.
    Received(Arc<Record>),
    /// Bytes loaded from the table.
    Loaded(Vec<u8>),
}

impl OutboxPayload {
    /// The bytes to post.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            // A truncated body is dead-lettered before this point.
            Self::Received(record) => record.body.as_bytes(),
            Self::Loaded(bytes) => bytes,
        }
    }
}
