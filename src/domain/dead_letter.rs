//! The reasons why a message becomes a dead letter.

use std::fmt;

/// The cause of a dead letter, with its name in `dead_letters.reason` and in the metrics.
///
/// `docs/TABLES.md` lists the meaning of each reason and the remedy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum DeadLetterReason {
    /// The payload is longer than allowed.
    PayloadTooLarge,
    /// The topic is not UTF-8, or contains NUL.
    TopicNotUtf8,
    /// The PUBLISH packet breaks another rule of MQTT.
    PacketMalformed,
    /// The payload is not UTF-8.
    PayloadNotUtf8,
    /// The payload is not JSON.
    PayloadNotJson,
    /// The payload is JSON, but not an object.
    PayloadNotObject,
    /// The payload is nested too deep.
    PayloadTooDeep,
    /// The payload has too many attributes.
    PayloadTooManyAttributes,
    /// The flow was disabled while the message waited.
    FlowDisabled,
    /// The flow was deleted while the message waited.
    FlowDeleted,
    /// The payload does not match the schema of the flow.
    ValidationFailed,
    /// `flows.message_key` cannot be parsed.
    UnusableMessageKey,
    /// `flows.payload_schema` cannot be compiled.
    InvalidSchema,
    /// `flows.action` is not a known action.
    UnknownAction,
    /// The action is to post, and `flows.endpoint_url` is missing or unusable.
    NoUsableUrl,
    /// The flow's counter is at its maximum.
    CounterExhausted,
    /// The name of an attribute does not fit its column.
    NameTooLong,
    /// The value of an attribute does not fit its column.
    ValueTooLong,
    /// The message needs too many rows.
    TooManyRows,
    /// A string of the payload contains an unpaired surrogate.
    HalfSurrogatePair,
    /// A string of the payload contains U+0000, which the database cannot store.
    NulCharacter,
    /// The database rejects the message itself.
    RefusedByDatabase,
    /// The outbox of the flow is full.
    OutboxFull,
    /// The message exceeded its time in the outbox.
    OutboxExpired,
    /// The endpoint rejects the message itself.
    EndpointRefused,
}

impl DeadLetterReason {
    /// All reasons.
    pub const ALL: [Self; 25] = [
        Self::PayloadTooLarge,
        Self::TopicNotUtf8,
        Self::PacketMalformed,
        Self::PayloadNotUtf8,
        Self::PayloadNotJson,
        Self::PayloadNotObject,
        Self::PayloadTooDeep,
        Self::PayloadTooManyAttributes,
        Self::FlowDisabled,
        Self::FlowDeleted,
        Self::ValidationFailed,
        Self::UnusableMessageKey,
        Self::InvalidSchema,
        Self::UnknownAction,
        Self::NoUsableUrl,
        Self::CounterExhausted,
        Self::NameTooLong,
        Self::ValueTooLong,
        Self::TooManyRows,
        Self::HalfSurrogatePair,
        Self::NulCharacter,
        Self::RefusedByDatabase,
        Self::OutboxFull,
        Self::OutboxExpired,
        Self::EndpointRefused,
    ];

    /// The value of `dead_letters.reason`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PayloadTooLarge => "payload_too_large",
            Self::TopicNotUtf8 => "topic_not_utf8",
            Self::PacketMalformed => "packet_malformed",
            Self::PayloadNotUtf8 => "payload_not_utf8",
            Self::PayloadNotJson => "payload_not_json",
            Self::PayloadNotObject => "payload_not_object",
            Self::PayloadTooDeep => "payload_too_deep",
            Self::PayloadTooManyAttributes => "payload_too_many_attributes",
            Self::FlowDisabled => "flow_disabled",
            Self::FlowDeleted => "flow_deleted",
            Self::ValidationFailed => "validation_failed",
            Self::UnusableMessageKey => "unusable_message_key",
            Self::InvalidSchema => "invalid_schema",
            Self::UnknownAction => "unknown_action",
            Self::NoUsableUrl => "no_usable_url",
            Self::CounterExhausted => "counter_exhausted",
            Self::NameTooLong => "name_too_long",
            Self::ValueTooLong => "value_too_long",
            Self::TooManyRows => "too_many_rows",
            Self::HalfSurrogatePair => "half_surrogate_pair",
            Self::NulCharacter => "nul_character",
            Self::RefusedByDatabase => "refused_by_database",
            Self::OutboxFull => "outbox_full",
            Self::OutboxExpired => "outbox_expired",
            Self::EndpointRefused => "endpoint_refused",
        }
    }

    /// Whether the flow was disabled or deleted while its message waited.
    #[must_use]
    pub fn is_about_a_stopped_flow(self) -> bool {
        matches!(self, Self::FlowDisabled | Self::FlowDeleted)
    }
}

impl fmt::Display for DeadLetterReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// A reason that is missing from `ALL` would have no counter before its first dead letter.
    #[test]
    fn all_holds_every_reason_once() {
        let distinct: BTreeSet<DeadLetterReason> = DeadLetterReason::ALL.into_iter().collect();
        assert_eq!(distinct.len(), DeadLetterReason::ALL.len());
        // `EndpointRefused` is the last variant, and discriminants count from 0.
        assert_eq!(DeadLetterReason::ALL.len(), DeadLetterReason::EndpointRefused as usize + 1);
        let names: BTreeSet<&str> = DeadLetterReason::ALL.into_iter().map(DeadLetterReason::as_str).collect();
        assert_eq!(names.len(), DeadLetterReason::ALL.len());
    }
}
