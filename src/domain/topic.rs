//! MQTT topic filters: validation and matching.
//!
//! The module `relations` compares two filters (cover, overlap, join).

mod relations;

use std::fmt;

use thiserror::Error;

/// Maximum length of a string in an MQTT packet, in bytes.
const MAX_FILTER_BYTES: usize = 65_535;
const SHARE_PREFIX: &str = "$share/";

/// A valid topic filter, ordered and compared by its text.
///
/// A shared subscription `$share/<group>/<filter>` is subscribed unchanged and matches like `<filter>`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TopicFilter {
    raw: String,
    /// Start of the matched part; 0 unless shared.
    pattern_at: usize,
}

impl TopicFilter {
    /// Checks `raw` against the rules of MQTT 5, sections 1.5.4, 4.7 and 4.8.2.
    pub fn parse(raw: &str) -> Result<TopicFilter, FilterError> {
        if raw.len() > MAX_FILTER_BYTES {
            return Err(FilterError::TooLong { length: raw.len() });
        }
        if raw.contains('\0') {
            return Err(FilterError::Nul);
        }
        if let Some(character) = raw.chars().find(|character| is_refused_by_brokers(*character)) {
            return Err(FilterError::Character { code: character.into() });
        }
        let pattern = match raw.strip_prefix(SHARE_PREFIX) {
            Some(shared) => pattern_of_shared(shared)?,
            None => raw,
        };
        check_levels(pattern)?;
        Ok(TopicFilter { raw: raw.to_owned(), pattern_at: raw.len() - pattern.len() })
    }

    /// The text to subscribe, with its share group.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.raw
    }

    /// Whether this is a `$share/<group>/…` subscription.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.pattern_at > 0
    }

    /// Whether the filter matches `topic`. No filter matches the empty topic, which MQTT forbids.
    #[must_use]
    pub fn matches(&self, topic: &str) -> bool {
        let pattern = self.pattern();
        if topic.is_empty() || (is_reserved(topic) && is_wildcard(first_level(pattern))) {
            return false;
        }
        let mut topic_levels = topic.split('/');
        for level in pattern.split('/') {
            // `#` also matches the parent level: `a/#` matches `a`.
            if level == "#" {
                return true;
            }
            match topic_levels.next() {
                Some(topic_level) if level == "+" || level == topic_level => {}
                _ => return false,
            }
        }
        topic_levels.next().is_none()
    }

    /// A topic that the filter matches.
    #[must_use]
    pub fn example(&self) -> String {
        let level = |level| if is_wildcard(level) { "example" } else { level };
        self.pattern().split('/').map(level).collect::<Vec<_>>().join("/")
    }

    /// The pattern without `$share/<group>/`.
    pub(super) fn pattern(&self) -> &str {
        self.raw.get(self.pattern_at..).unwrap_or_default()
    }
}

impl fmt::Display for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.raw)
    }
}

impl fmt::Debug for TopicFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TopicFilter({:?})", self.raw)
    }
}

/// An invalid topic filter.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FilterError {
    /// The filter is empty.
    #[error("the topic is empty")]
    Empty,
    /// The filter does not fit into an MQTT packet.
    #[error("the topic has {length} bytes, {MAX_FILTER_BYTES} are allowed")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// The filter contains U+0000, which MQTT forbids.
    #[error("the topic contains a NUL character")]
    Nul,
    /// The filter contains a character for which brokers may close the connection.
    #[error("the topic contains the character U+{code:04X}, which brokers refuse: remove it")]
    Character {
        /// Its code point.
        code: u32,
    },
    /// Levels follow `#`.
    #[error("'#' must be the last level of the topic filter")]
    MultiLevelNotLast,
    /// A level contains `+` or `#` and other characters.
    #[error("a wildcard must stand alone in its level, found {level:?}")]
    WildcardNotAlone {
        /// The level.
        level: String,
    },
    /// `$share/` without a valid group or without a filter.
    #[error("a shared subscription is written $share/<group>/<filter>, found {found:?}")]
    BadShare {
        /// The whole filter.
        found: String,
    },
}

/// Whether a broker may close the connection for this character: control characters and non-characters (MQTT 5, section
/// 1.5.4).
fn is_refused_by_brokers(character: char) -> bool {
    let code = u32::from(character);
    character.is_control() || (0xFDD0..=0xFDEF).contains(&code) || code & 0xFFFE == 0xFFFE
}

/// Whether a level is `+` or `#`.
pub(super) fn is_wildcard(level: &str) -> bool {
    level == "+" || level == "#"
}

/// Whether a topic or a first level is reserved (`$SYS/…`). A leading wildcard does not match reserved topics.
pub(super) fn is_reserved(topic: &str) -> bool {
    topic.starts_with('$')
}

fn first_level(pattern: &str) -> &str {
    pattern.split('/').next().unwrap_or_default()
}

/// Returns the filter after the group; `shared` is the text after `$share/`.
fn pattern_of_shared(shared: &str) -> Result<&str, FilterError> {
    match shared.split_once('/') {
        Some((group, pattern)) if !group.is_empty() && !group.contains(['+', '#']) && !pattern.is_empty() => {
            Ok(pattern)
        }
        _ => Err(FilterError::BadShare { found: format!("{SHARE_PREFIX}{shared}") }),
    }
}

fn check_levels(pattern: &str) -> Result<(), FilterError> {
    if pattern.is_empty() {
        return Err(FilterError::Empty);
    }
    let mut levels = pattern.split('/').peekable();
    while let Some(level) = levels.next() {
        if level.contains(['+', '#']) && !is_wildcard(level) {
            return Err(FilterError::WildcardNotAlone { level: level.to_owned() });
        }
        if level == "#" && levels.peek().is_some() {
            return Err(FilterError::MultiLevelNotLast);
        }
    }
    Ok(())
}

#[cfg(test)]
pub(super) mod tests;
