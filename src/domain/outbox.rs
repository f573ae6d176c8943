//! A message with a sequence number that is delivered to an HTTP endpoint.

use std::fmt;
use std::str::FromStr;
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

/// Parses the format of [`OutboxKey`].
impl FromStr for OutboxKey {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The id of a flow may be negative, and has a hyphen then.
        let mut parts = text.splitn(3, '-');
        let inbox_id = parts.next().filter(|id| !id.is_empty()).ok_or(NotAKey)?;
        let mut number = || parts.next().ok_or(NotAKey);
        let (offset, flow) = (number()?, number()?);
        Ok(Self {
            inbox_id: inbox_id.into(),
            inbox_offset: offset.parse().map_err(|_| NotAKey)?,
            flow_id: flow.parse().map_err(|_| NotAKey)?,
        })
    }
}

/// Bounds of the posts of a flow that were counted. A later post has a higher number. A post that was put back later,
/// by a replay, has its former number and a later time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CountedPosts {
    /// The highest number.
    pub last_message_id: i64,
    /// Time of the database before the count: microseconds since 1970, UTC.
    pub at_us: i64,
}

/// The place of a post among those of its flow: by number, and by key where two have the same number.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PostPlace {
    /// Its sequence number.
    pub message_id: i64,
    /// Its key.
    pub key: OutboxKey,
}

impl fmt::Display for PostPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}@{}", self.message_id, self.key)
    }
}

/// Parses the format of [`PostPlace`].
impl FromStr for PostPlace {
    type Err = NotAKey;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (message_id, key) = text.split_once('@').ok_or(NotAKey)?;
        Ok(Self { message_id: message_id.parse().map_err(|_| NotAKey)?, key: key.parse()? })
    }
}

/// The text is no key of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected the key of a post, as in its header Idempotency-Key: INBOX-OFFSET-FLOW")]
pub struct NotAKey;

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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn other_texts_are_no_keys() {
        for text in ["", "a", "a-1", "-1-1", "a-x-1", "a-1-x", "a-1-1-1"] {
            assert_eq!(text.parse::<OutboxKey>(), Err(NotAKey), "{text}");
        }
    }

    proptest! {
        #[test]
        fn keys_are_parsed_as_they_are_formatted(
            inbox in "[0-9a-f]{32}", inbox_offset in any::<u64>(), flow_id in any::<i64>(),
        ) {
            let key = OutboxKey { inbox_id: inbox.into(), inbox_offset, flow_id };
            prop_assert_eq!(key.to_string().parse::<OutboxKey>(), Ok(key));
        }
    }
}
