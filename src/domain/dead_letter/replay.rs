//! Whether and how a dead letter can be replayed. Pure.

use super::super::message::{FlowId, Offset};
use super::DeadLetterReason;

/// A row of `dead_letters`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Key of the row.
    pub id: i64,
    /// When it became a dead letter: microseconds since 1970, UTC.
    pub occurred_at_us: i64,
    /// When it entered the inbox: microseconds since 1970, UTC.
    pub received_at_us: i64,
    /// The inbox that received it.
    pub inbox_id: String,
    /// Its offset in the inbox.
    pub inbox_offset: Offset,
    /// Its topic.
    pub topic: String,
    /// The payload, or its beginning.
    pub payload: Vec<u8>,
    /// Length of the whole payload.
    pub payload_bytes: u64,
    /// The flow for which it failed; `None` if it reached no flow.
    pub flow_id: Option<FlowId>,
    /// Code of the flow at that time.
    pub flow_code: Option<String>,
    /// Its sequence number, if it had one.
    pub message_id: Option<i64>,
    /// The reason. A later version may write others.
    pub reason: String,
    /// The reason in a sentence.
    pub detail: Option<String>,
    /// The last failed attempts to post it, as JSON.
    pub recent_attempts: Option<String>,
}

/// The way of a dead letter through the rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ReplayPath {
    /// It has a sequence number, and its post is put back into the outbox.
    Post { flow: FlowId, message_id: i64 },
    /// It is processed for one flow.
    Flow(FlowId),
    /// It is processed for all flows whose filters match its topic.
    Topic,
}

/// Why a dead letter cannot be replayed. The row stays as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotReplayable {
    /// The payload is incomplete.
    #[error("only the first {kept} of {length} bytes of the payload were kept: publish the message again")]
    PayloadCut {
        /// Bytes of the payload in the row.
        kept: u64,
        /// Bytes of the whole payload.
        length: u64,
    },
    /// The topic or the packet was invalid.
    #[error("the packet was invalid and is not kept: correct the publisher")]
    PacketLost,
    /// Topic of a message without a flow.
    #[error("no enabled flow has a filter for its topic: create one, or discard the dead letter")]
    NoFlow,
    /// The database rejects the row of its post, such as one whose key already waits in the outbox.
    #[error("the database rejects the row of its post: {0}")]
    Database(String),
}

impl NotReplayable {
    /// The name of the cause, for programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::PayloadCut { .. } => "payload_cut",
            Self::PacketLost => "packet_lost",
            Self::NoFlow => "no_flow",
            Self::Database(_) => "database",
        }
    }
}

/// The outcome of a dead letter for one flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReplayOutcome {
    /// It is stored.
    Stored {
        /// Its sequence number.
        message_id: i64,
    },
    /// It waits in the outbox.
    Posted {
        /// Its sequence number.
        message_id: i64,
    },
    /// An earlier message has the same key: the dead letter was deleted.
    Repeated {
        /// Sequence number of that message.
        message_id: i64,
    },
    /// It was refused, and stays a dead letter with the new reason.
    Refused {
        /// The new reason.
        reason: DeadLetterReason,
        /// The reason in a sentence.
        detail: String,
    },
    /// It cannot be replayed, and is unchanged.
    NotReplayable(NotReplayable),
    /// There is no dead letter with this id, or another session replayed or deleted it.
    Gone,
}

impl ReplayOutcome {
    /// The name of the outcome, for programs.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Stored { .. } => "stored",
            Self::Posted { .. } => "posted",
            Self::Repeated { .. } => "repeated",
            Self::Refused { .. } => "refused",
            Self::NotReplayable(_) => "not_replayable",
            Self::Gone => "gone",
        }
    }

    /// Whether the message went through its flow.
    #[must_use]
    pub fn is_replayed(&self) -> bool {
        matches!(self, Self::Stored { .. } | Self::Posted { .. } | Self::Repeated { .. })
    }

    /// The name of the reason of a letter that stays.
    #[must_use]
    pub fn reason(&self) -> Option<&'static str> {
        match self {
            Self::Refused { reason, .. } => Some(reason.as_str()),
            Self::NotReplayable(cause) => Some(cause.as_str()),
            _ => None,
        }
    }

    /// Text for operators about a letter that stays.
    #[must_use]
    pub fn detail(&self) -> Option<String> {
        match self {
            Self::Refused { detail, .. } => Some(detail.clone()),
            Self::NotReplayable(cause) => Some(cause.to_string()),
            _ => None,
        }
    }
}

/// The result of the replay of one dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplayedLetter {
    /// Id of the dead letter.
    pub id: i64,
    /// One outcome for each of its flows.
    pub outcomes: Vec<ReplayOutcome>,
}

impl DeadLetter {
    /// Whether the row has all that a replay needs.
    pub fn check_replayable(&self) -> Result<(), NotReplayable> {
        self.replay_path().map(|_| ())
    }

    /// How it is replayed.
    pub(crate) fn replay_path(&self) -> Result<ReplayPath, NotReplayable> {
        use DeadLetterReason::{PacketMalformed, TopicNotUtf8};
        if [TopicNotUtf8, PacketMalformed].iter().any(|reason| reason.as_str() == self.reason) {
            return Err(NotReplayable::PacketLost);
        }
        let kept = self.payload.len() as u64;
        if kept < self.payload_bytes {
            return Err(NotReplayable::PayloadCut { kept, length: self.payload_bytes });
        }
        Ok(match (self.flow_id, self.message_id) {
            (Some(flow), Some(message_id)) => ReplayPath::Post { flow, message_id },
            (Some(flow), None) => ReplayPath::Flow(flow),
            (None, _) => ReplayPath::Topic,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn letter(reason: &str) -> DeadLetter {
        DeadLetter {
            id: 1,
            occurred_at_us: 0,
            received_at_us: 0,
            inbox_id: "i".to_owned(),
            inbox_offset: 7,
            topic: "t".to_owned(),
            payload: b"{}".to_vec(),
            payload_bytes: 2,
            flow_id: None,
            flow_code: None,
            message_id: None,
            reason: reason.to_owned(),
            detail: None,
            recent_attempts: None,
        }
    }

    #[test]
    fn cut_payloads_and_invalid_packets_are_not_replayable() {
        let cut = DeadLetter { payload_bytes: 3, ..letter("payload_too_large") };
        assert_eq!(cut.replay_path(), Err(NotReplayable::PayloadCut { kept: 2, length: 3 }));
        for reason in ["topic_not_utf8", "packet_malformed"] {
            assert_eq!(letter(reason).replay_path(), Err(NotReplayable::PacketLost));
        }
        assert_eq!(letter("payload_too_large").replay_path(), Ok(ReplayPath::Topic));
    }

    proptest! {
        #[test]
        fn whole_letters_keep_flow_and_number(
            reason in prop::sample::select(DeadLetterReason::ALL.to_vec()),
            flow_id in any::<Option<i64>>(),
            message_id in any::<Option<i64>>(),
        ) {
            let letter = DeadLetter { flow_id, message_id, ..letter(reason.as_str()) };
            match letter.replay_path() {
                Ok(ReplayPath::Post { flow, message_id: number }) => {
                    prop_assert_eq!((Some(flow), Some(number)), (flow_id, message_id));
                }
                Ok(ReplayPath::Flow(flow)) => prop_assert_eq!((Some(flow), None), (flow_id, message_id)),
                Ok(ReplayPath::Topic) => prop_assert_eq!(flow_id, None),
                Err(cause) => prop_assert_eq!(cause, NotReplayable::PacketLost),
            }
        }
    }
}
