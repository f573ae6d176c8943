//! Dead letters: messages that could not be processed, and the reasons.

mod filter;
mod place;
mod remedy;
mod replay;

pub use filter::LetterFilter;
pub use place::offending_place;
pub(crate) use replay::ReplayPath;
pub use replay::{DeadLetter, NotReplayable, ReplayOutcome, ReplayedLetter};

named_enum! {
    /// The cause of a dead letter, with its name in `dead_letters.reason` and in the metrics.
    ///
    /// `docs/TABLES.md` lists the meaning of each reason and the remedy.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
    pub enum DeadLetterReason {
        /// The payload is longer than allowed.
        PayloadTooLarge = "payload_too_large",
        /// The topic is not UTF-8, or contains NUL.
        TopicNotUtf8 = "topic_not_utf8",
        /// The PUBLISH packet breaks another rule of MQTT.
        PacketMalformed = "packet_malformed",
        /// The payload is not UTF-8.
        PayloadNotUtf8 = "payload_not_utf8",
        /// The payload is not JSON.
        PayloadNotJson = "payload_not_json",
        /// The payload is JSON, but not an object.
        PayloadNotObject = "payload_not_object",
        /// The payload is nested too deep.
        PayloadTooDeep = "payload_too_deep",
        /// The payload has too many attributes.
        PayloadTooManyAttributes = "payload_too_many_attributes",
        /// The flow was disabled while the message waited.
        FlowDisabled = "flow_disabled",
        /// The flow was deleted while the message waited.
        FlowDeleted = "flow_deleted",
        /// The payload does not match the schema of the flow.
        ValidationFailed = "validation_failed",
        /// `flows.message_key` cannot be parsed.
        UnusableMessageKey = "unusable_message_key",
        /// `flows.options` cannot be used.
        UnusableOptions = "unusable_options",
        /// `flows.payload_schema` cannot be compiled.
        InvalidSchema = "invalid_schema",
        /// `flows.action` is not a known action.
        UnknownAction = "unknown_action",
        /// The action is to post, and `flows.endpoint_url` is missing or unusable.
        NoUsableUrl = "no_usable_url",
        /// The flow's counter is at its maximum.
        CounterExhausted = "counter_exhausted",
        /// The name of an attribute does not fit its column.
        NameTooLong = "name_too_long",
        /// The value of an attribute does not fit its column.
        ValueTooLong = "value_too_long",
        /// The message needs too many rows.
        TooManyRows = "too_many_rows",
        /// A string of the payload contains an unpaired surrogate.
        HalfSurrogatePair = "half_surrogate_pair",
        /// A string of the payload contains U+0000, which the database cannot store.
        NulCharacter = "nul_character",
        /// The database rejects the message itself.
        RefusedByDatabase = "refused_by_database",
        /// The outbox of the flow is full.
        OutboxFull = "outbox_full",
        /// The message exceeded its time in the outbox.
        OutboxExpired = "outbox_expired",
        /// An operator cancelled the post.
        Cancelled = "cancelled",
        /// The endpoint rejects the message itself.
        EndpointRefused = "endpoint_refused",
    }
}

impl DeadLetterReason {
    /// Whether the flow was disabled or deleted while its message waited.
    #[must_use]
    pub fn is_about_a_stopped_flow(self) -> bool {
        matches!(self, Self::FlowDisabled | Self::FlowDeleted)
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
