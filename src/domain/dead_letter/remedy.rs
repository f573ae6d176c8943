//! The remedies of dead letters, as `docs/TABLES.md` lists them.

use super::DeadLetterReason;

impl DeadLetterReason {
    /// The remedy for a dead letter with this reason.
    #[must_use]
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::PayloadTooLarge => "raise the limit and restart the gateway; publish again what was cut",
            Self::TopicNotUtf8
            | Self::PacketMalformed
            | Self::NameTooLong
            | Self::HalfSurrogatePair
            | Self::NulCharacter => "correct the publisher",
            Self::PayloadNotUtf8 | Self::PayloadNotJson | Self::PayloadNotObject => {
                "correct the publisher, and publish the message again"
            }
            Self::PayloadTooDeep | Self::PayloadTooManyAttributes => {
                "raise the limit and replay the message, or correct the publisher"
            }
            Self::FlowDisabled => "enable the flow, and replay the message",
            Self::FlowDeleted => "publish the message again for another flow, or discard the dead letter",
            Self::ValidationFailed => "correct the schema and replay the message, or correct the publisher",
            Self::UnusableMessageKey => "correct message_key of the flow, and replay the message",
            Self::UnusableOptions => "correct the options of the flow, and replay the message",
            Self::InvalidSchema => "correct the schema of the flow, and replay the message",
            Self::UnknownAction => "correct the action of the flow, and replay the message",
            Self::NoUsableUrl => "correct endpoint_url of the flow, and replay the message",
            Self::CounterExhausted => {
                "run `mqtt-gateway migrate --widen-ids` and restart the gateway, or lower the counter; \
                 then replay the message"
            }
            Self::ValueTooLong => {
                "make data.attribute_value MEDIUMTEXT and replay the message, or correct the publisher"
            }
            Self::TooManyRows => {
                "give fewer flows the topic and replay the message, or correct the publisher"
            }
            Self::RefusedByDatabase => {
                "correct the rule of the database that the detail names and replay the message, or correct the \
                 publisher"
            }
            Self::OutboxFull | Self::OutboxExpired => "repair the endpoint, and replay the message",
            Self::Cancelled => "replay the message if it is wanted after all, or discard the dead letter",
            Self::EndpointRefused => "correct the endpoint and replay the message, or correct the publisher",
        }
    }
}
