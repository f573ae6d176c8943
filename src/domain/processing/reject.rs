//! Why a message gets no place in a flow.

use std::sync::Arc;

use super::super::dead_letter::DeadLetterReason;

/// The cause of a dead letter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct RejectCause {
    pub(super) reason: DeadLetterReason,
    /// The sentence for people.
    pub(super) detail: String,
    /// The number that the message had already taken.
    pub(super) message_id: Option<i64>,
}

impl RejectCause {
    pub(super) fn new(reason: DeadLetterReason, detail: impl Into<String>) -> Self {
        Self { reason, detail: detail.into(), message_id: None }
    }
}

/// Why a message is not handed on to a flow.
pub(super) enum NotProcessed {
    /// It becomes a dead letter.
    Rejected(RejectCause),
    /// Its key was seen before, in the message with this number.
    Repeated { flow_code: Arc<str>, message_id: i64 },
}

impl From<RejectCause> for NotProcessed {
    fn from(cause: RejectCause) -> Self {
        Self::Rejected(cause)
    }
}
