//! Selects dead letters by their columns.

use super::super::topic::TopicFilter;
use super::DeadLetterReason;

/// A selection of dead letters. Absent conditions are met by all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LetterFilter {
    /// Code of the flow at the time of the dead letter.
    pub flow: Option<String>,
    /// The reason.
    pub reason: Option<DeadLetterReason>,
    /// A filter that matches the topic.
    pub topic: Option<TopicFilter>,
    /// Earliest time of the dead letter: microseconds since 1970, UTC.
    pub since_us: Option<i64>,
    /// The time from which on none is selected.
    pub until_us: Option<i64>,
    /// A text in topic, payload or detail; letter case counts.
    pub text: Option<String>,
    /// Only letters with a higher id are selected.
    pub above: Option<i64>,
    /// Only letters with this id or a lower one are selected.
    pub up_to: Option<i64>,
    /// Only letters without a sequence number are selected: a message with one was processed before.
    pub is_unnumbered: bool,
}

impl LetterFilter {
    /// Whether the filter selects all dead letters.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether the topic is selected; the database decides the other conditions.
    #[must_use]
    pub fn matches_topic(&self, topic: &str) -> bool {
        self.topic.as_ref().is_none_or(|filter| filter.matches(topic))
    }
}
