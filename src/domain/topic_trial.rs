//! Says whether a flow gets the messages of a topic, and if not, why it might have been expected to.

use thiserror::Error;

use super::flow_definition::FlowDefinition;
use super::problem::Problem;
use super::topic::{FilterError, TopicFilter};

/// Whether a flow gets the messages of a topic.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum TopicVerdict {
    /// It gets them.
    #[error("matches")]
    Matches,
    /// Its filter matches, but it is disabled.
    #[error("matches, but the flow is disabled{}", if *.is_null { ": its column enabled is NULL" } else { "" })]
    Disabled {
        /// Whether `enabled` is NULL.
        is_null: bool,
    },
    /// Its filter matches, but the broker closes the connection over it.
    #[error("matches, but the broker refuses its topic filter")]
    Avoided,
    /// Its filter is not valid, so the flow gets no messages at all.
    #[error("gets no messages at all: {0}")]
    InvalidFilter(FilterError),
    /// Its filter almost matches.
    #[error("does not match: {0}")]
    NearMiss(NearMiss),
    /// Its filter does not match.
    #[error("does not match")]
    NoMatch,
}

/// The only difference between a topic and a filter that would match it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum NearMiss {
    /// Upper and lower case.
    #[error("they differ in upper and lower case, which counts in MQTT")]
    Case,
    /// A slash at the beginning.
    #[error("only one of them begins with a slash, which makes a level of its own")]
    LeadingSlash,
    /// A slash at the end.
    #[error("only one of them ends with a slash, which makes a level of its own")]
    TrailingSlash,
    /// Blanks at the beginning or end.
    #[error("one of them begins or ends with a blank, which counts in MQTT")]
    Blank,
    /// A wildcard at the first level, which leaves out topics that begin with `$`.
    #[error("a wildcard at the first level does not match topics that begin with $")]
    Reserved,
}

impl TopicVerdict {
    /// Judges a flow. `is_avoided` says whether the broker closes the connection over its filter.
    #[must_use]
    pub fn new(flow: &FlowDefinition, topic: &str, is_avoided: bool) -> Self {
        let filter = match TopicFilter::parse(&flow.topic) {
            Ok(filter) => filter,
            Err(error) => return Self::InvalidFilter(error),
        };
        if !filter.matches(topic) {
            return near_miss(&filter, topic).map_or(Self::NoMatch, Self::NearMiss);
        }
        match flow.enabled {
            Some(true) if is_avoided => Self::Avoided,
            Some(true) => Self::Matches,
            enabled => Self::Disabled { is_null: enabled.is_none() },
        }
    }

    /// The verdict for programs.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Matches => "matches",
            Self::Disabled { .. } => "disabled",
            Self::Avoided => "refused_by_broker",
            Self::InvalidFilter(_) => "invalid_filter",
            Self::NearMiss(_) => "near_miss",
            Self::NoMatch => "no_match",
        }
    }
}

/// Checks the topic of a message, as MQTT and brokers demand.
pub fn check_topic(topic: &str) -> Result<(), Problem> {
    const FIELD: &str = "topic";
    if topic.contains(['+', '#']) {
        let remedy = "give the topic of a message, such as sensors/kitchen/temperature";
        return Err(Problem::error(FIELD, "a topic has no wildcards; filters have", remedy));
    }
    // Without wildcards, topics and filters follow the same rules.
    match TopicFilter::parse(topic) {
        Ok(_) => Ok(()),
        Err(FilterError::Empty) => {
            Err(Problem::error(FIELD, "the topic is empty", "give the topic of a message"))
        }
        Err(error) => Err(Problem::error(FIELD, error, "correct the topic")),
    }
}

/// Finds the difference without which the filter would match.
fn near_miss(filter: &TopicFilter, topic: &str) -> Option<NearMiss> {
    let pattern = filter.pattern();
    let matches =
        |pattern: &str, topic: &str| TopicFilter::parse(pattern).is_ok_and(|filter| filter.matches(topic));
    let ignoring = [
        (NearMiss::Case, matches(&pattern.to_lowercase(), &topic.to_lowercase())),
        (NearMiss::LeadingSlash, matches(without_first_slash(pattern), without_first_slash(topic))),
        (NearMiss::TrailingSlash, matches(without_last_slash(pattern), without_last_slash(topic))),
        (NearMiss::Blank, matches(pattern.trim(), topic.trim())),
        (NearMiss::Reserved, topic.strip_prefix('$').is_some_and(|topic| matches(pattern, topic))),
    ];
    ignoring.into_iter().find(|(_, would_match)| *would_match).map(|(difference, _)| difference)
}

fn without_first_slash(text: &str) -> &str {
    text.strip_prefix('/').unwrap_or(text)
}

fn without_last_slash(text: &str) -> &str {
    text.strip_suffix('/').unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(filter: &str, enabled: Option<bool>, topic: &str) -> TopicVerdict {
        let flow = FlowDefinition { topic: filter.to_owned(), enabled, ..FlowDefinition::default() };
        TopicVerdict::new(&flow, topic, false)
    }

    #[test]
    fn enabled_flows_match() {
        assert_eq!(verdict("a/+", Some(true), "a/b"), TopicVerdict::Matches);
        assert_eq!(verdict("a/+", Some(false), "a/b"), TopicVerdict::Disabled { is_null: false });
        assert_eq!(verdict("a/+", None, "a/b"), TopicVerdict::Disabled { is_null: true });
        assert_eq!(verdict("a/+", Some(true), "b/b"), TopicVerdict::NoMatch);
        assert!(matches!(verdict("a/#/b", Some(true), "a/b"), TopicVerdict::InvalidFilter(_)));
    }

    #[test]
    fn a_filter_that_the_broker_refuses_is_named() {
        let flow = FlowDefinition { topic: "a".to_owned(), enabled: Some(true), ..FlowDefinition::default() };
        assert_eq!(TopicVerdict::new(&flow, "a", true), TopicVerdict::Avoided);
    }

    #[test]
    fn topics_of_messages_have_no_wildcards() {
        assert_eq!(check_topic("a/b "), Ok(()));
        for bad in ["", "a/+", "#", "a\n", "a\0"] {
            assert!(check_topic(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn near_misses_are_explained() {
        for (filter, topic, difference) in [
            ("Sensors/+", "sensors/a", NearMiss::Case),
            ("$share/g/A", "a", NearMiss::Case),
            ("a/b", "/a/b", NearMiss::LeadingSlash),
            ("/a/b", "a/b", NearMiss::LeadingSlash),
            ("a/b", "a/b/", NearMiss::TrailingSlash),
            ("a/b/", "a/b", NearMiss::TrailingSlash),
            ("a/b ", "a/b", NearMiss::Blank),
            ("#", "$SYS/uptime", NearMiss::Reserved),
        ] {
            assert_eq!(
                verdict(filter, Some(true), topic),
                TopicVerdict::NearMiss(difference),
                "{filter} {topic}"
            );
        }
    }
}
