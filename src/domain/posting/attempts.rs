//! The last failed attempts of a message, as the column `recent_attempts` keeps them.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};
use serde::{Deserialize, Serialize};

/// Maximum number of attempts that are kept; older ones are dropped first.
pub const MAX_ATTEMPTS: usize = 5;

/// Maximum number of bytes of each text of an attempt.
pub const MAX_TEXT_BYTES: usize = 512;

/// Longest value of the column that is read. The texts escaped as JSON, each byte as `\u0000`, are shorter.
const MAX_JSON_BYTES: usize = MAX_ATTEMPTS * (3 * 6 * MAX_TEXT_BYTES + 128);

/// A failed attempt to post a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Attempt {
    /// When it began, by the clock of the gateway: UTC, as in RFC 3339.
    at: String,
    /// Its duration in milliseconds.
    ms: u64,
    /// The HTTP status of the answer, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<u16>,
    /// Why there was no usable answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    error: String,
    /// The beginning of the answer.
    #[serde(skip_serializing_if = "String::is_empty")]
    answer: String,
}

impl Attempt {
    /// An attempt that began at `at_us` (microseconds since 1970).
    #[must_use]
    pub fn new(at_us: i64, took: Duration) -> Self {
        let at = DateTime::from_timestamp_micros(at_us).unwrap_or_default();
        Self {
            at: at.to_rfc3339_opts(SecondsFormat::Millis, true),
            ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
            ..Self::default()
        }
    }

    /// Adds the answer: its status and its text.
    #[must_use]
    pub fn with_answer(self, status: u16, text: &str) -> Self {
        Self { status: Some(status), answer: bounded(text), ..self }
    }

    /// Adds the status of an answer that is not usable, if there was one, and the reason. The reason must be free of
    /// secrets.
    #[must_use]
    pub fn with_error(self, status: Option<u16>, error: &str) -> Self {
        Self { status, error: bounded(error), ..self }
    }

    /// When it began: UTC, as in RFC 3339.
    #[must_use]
    pub fn at(&self) -> &str {
        &self.at
    }

    /// Its duration in milliseconds.
    #[must_use]
    pub fn ms(&self) -> u64 {
        self.ms
    }

    /// The HTTP status of the answer, if there was one.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        self.status
    }

    /// Why there was no usable answer; empty if there was one.
    #[must_use]
    pub fn error(&self) -> &str {
        &self.error
    }

    /// The beginning of the answer; empty if there was none.
    #[must_use]
    pub fn answer(&self) -> &str {
        &self.answer
    }

    fn bounded(self) -> Self {
        Self { at: bounded(&self.at), error: bounded(&self.error), answer: bounded(&self.answer), ..self }
    }
}

/// The last failed attempts of a message, the oldest first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecentAttempts(Vec<Attempt>);

impl RecentAttempts {
    /// Parses the value of the column. Entries that are not attempts are dropped, since other programs write the table
    /// as well.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        if text.len() > MAX_JSON_BYTES {
            return Self::default();
        }
        let entries: Vec<serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
        let attempts = entries.into_iter().filter(serde_json::Value::is_object);
        let attempts = attempts.filter_map(|entry| serde_json::from_value::<Attempt>(entry).ok());
        attempts.fold(Self::default(), |attempts, attempt| attempts.with(attempt.bounded()))
    }

    /// The attempts, the oldest first.
    #[must_use]
    pub fn attempts(&self) -> &[Attempt] {
        &self.0
    }

    /// Adds an attempt, and drops the oldest one beyond [`MAX_ATTEMPTS`].
    #[must_use]
    pub fn with(mut self, attempt: Attempt) -> Self {
        self.0.push(attempt);
        self.0.drain(..self.0.len().saturating_sub(MAX_ATTEMPTS));
        self
    }

    /// The value of the column; `None` without attempts.
    #[must_use]
    pub fn to_json(&self) -> Option<String> {
        if self.0.is_empty() {
            return None;
        }
        serde_json::to_string(&self.0).ok()
    }
}

/// The beginning of `text`, at most [`MAX_TEXT_BYTES`].
fn bounded(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default().to_owned()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn attempt(number: u64) -> Attempt {
        Attempt::new(0, Duration::from_millis(number))
    }

    #[test]
    fn attempt_is_readable_json() {
        let attempts = RecentAttempts::default()
            .with(attempt(12).with_answer(503, "busy"))
            .with(Attempt::new(1_500_000, Duration::ZERO).with_error(None, "cannot connect"));
        assert_eq!(
            attempts.to_json().unwrap(),
            r#"[{"at":"1970-01-01T00:00:00.000Z","ms":12,"status":503,"answer":"busy"},"#.to_owned()
                + r#"{"at":"1970-01-01T00:00:01.500Z","ms":0,"error":"cannot connect"}]"#
        );
        assert_eq!(RecentAttempts::default().to_json(), None);
    }

    #[test]
    fn foreign_entries_are_dropped() {
        let attempts = RecentAttempts::parse(r#"[1, null, [], {"ms": -1}, {"ms": 7, "by": "hand"}, "x"]"#);
        assert_eq!(attempts, RecentAttempts::default().with(Attempt { ms: 7, ..Attempt::default() }));
        for text in ["", "null", "{}", "[", "[}"] {
            assert_eq!(RecentAttempts::parse(text), RecentAttempts::default(), "{text}");
        }
        assert_eq!(RecentAttempts::parse(&" ".repeat(MAX_JSON_BYTES + 1)), RecentAttempts::default());
    }

    proptest! {
        #[test]
        fn last_attempts_survive_in_order(
            texts in prop::collection::vec((any::<Option<u16>>(), any::<String>(), ".{0,700}"), 0..12),
        ) {
            let all: Vec<Attempt> = texts
                .iter()
                .zip(0..)
                .map(|((status, error, answer), number)| match status {
                    Some(status) => attempt(number).with_answer(*status, answer),
                    None => attempt(number).with_error(None, error),
                })
                .collect();
            let attempts = all.iter().cloned().fold(RecentAttempts::default(), RecentAttempts::with);
            prop_assert_eq!(&attempts.0, &all[all.len().saturating_sub(MAX_ATTEMPTS)..]);
            let text = attempts.to_json().unwrap_or_default();
            prop_assert!(text.len() <= MAX_JSON_BYTES);
            prop_assert_eq!(RecentAttempts::parse(&text), attempts);
        }

        #[test]
        fn texts_are_bounded(text in r"[\x00-\x7fä€😀]{0,2000}") {
            let long = attempt(0).with_answer(500, &text);
            prop_assert!(long.answer.len() <= MAX_TEXT_BYTES && text.starts_with(&long.answer));
            let json = (0..9).fold(RecentAttempts::default(), |all, _| all.with(long.clone())).to_json();
            prop_assert!(json.unwrap().len() <= MAX_JSON_BYTES);
        }

        #[test]
        fn no_column_panics(text: String, value in any_json()) {
            let _ = RecentAttempts::parse(&text);
            let parsed = RecentAttempts::parse(&value);
            prop_assert!(parsed.0.len() <= MAX_ATTEMPTS);
            prop_assert!(parsed.0.iter().all(|attempt| attempt.at.len() <= MAX_TEXT_BYTES));
        }
    }

    /// Arrays of objects that resemble attempts.
    fn any_json() -> impl Strategy<Value = String> {
        let value = prop_oneof![
            any::<i64>().prop_map(|number| number.to_string()),
            any::<String>().prop_map(|text| serde_json::Value::from(text).to_string()),
            Just("null".to_owned()),
            Just("[{}]".to_owned()),
        ];
        let name = prop::sample::select(vec!["at", "ms", "status", "error", "answer", "other"]);
        let entry = prop::collection::vec((name, value), 0..5).prop_map(|members| {
            let members: Vec<String> =
                members.iter().map(|(name, value)| format!("{name:?}: {value}")).collect();
            format!("{{{}}}", members.join(", "))
        });
        prop::collection::vec(entry, 0..9).prop_map(|entries| format!("[{}]", entries.join(", ")))
    }
}
