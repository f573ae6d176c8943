//! A numbered message on its way to an HTTP endpoint.

use std::fmt;
use std::sync::Arc;

use super::message::{FlowId, Offset, Record};

/// What tells one delivery from every other, for ever: the same on each attempt, and never used
/// again, also when a flow's counter was reset by hand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OutboxKey {
    /// The inbox the message came through.
    pub inbox_id: Arc<str>,
    /// Its place there.
    pub inbox_offset: Offset,
    /// The flow it is posted for.
    pub flow_id: FlowId,
}

/// The form sent as `Idempotency-Key`.
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
    /// Number of the message within its flow.
    pub message_id: i64,
    /// Code of the flow when the message was numbered.
    pub flow_code: Arc<str>,
    /// Where it goes.
    pub url: Arc<str>,
    /// Topic it came from.
    pub topic: String,
    /// What is posted, byte for byte as received.
    pub payload: OutboxPayload,
    /// Attempts that failed so far.
    pub attempts: u32,
    /// When it was numbered: microseconds since 1970, UTC, by the gateway's clock.
    pub created_at_us: i64,
}

/// The body of a post: shared with the batch it came from, or read back from the table.
#[derive(Debug, Clone)]
pub enum OutboxPayload {
    /// Still in memory.
    Received(Arc<Record>),
    /// Read from the table.
    Loaded(Vec<u8>),
}

impl OutboxPayload {
    /// The bytes to post.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        match self {
            // One that is not whole is dead-lettered before it gets a number.
            Self::Received(record) => record.body.as_bytes(),
            Self::Loaded(bytes) => bytes,
        }
    }
}
