//! Line formats of a log record: human-readable, JSON, and error file.

use std::borrow::Cow;
use std::fmt::Write;

use chrono::{DateTime, NaiveDateTime, Utc};
use log::Record;
use log::kv::{Error, Key, Value, VisitSource, VisitValue};
use serde_json::Value as Json;

use super::format::timestamp;
use super::length::cut;
use crate::domain::invisible::{escape_in_json, is_invisible};
use crate::domain::library_text::without_links;

/// The logger name in the error file, part of its documented format. The targets of own records begin with it, too.
const NAME: &str = "mqtt_gateway";
/// Reserved fields of the JSON object. A key-value of a record must not replace them.
const OWN_FIELDS: [&str; 4] = ["timestamp", "level", "target", "message"];
/// A field that is never shortened: no input controls its length, and each of its lines may matter.
const UNCUT: &str = "backtrace";

/// `2026-11-22T15:04:05.123Z INFO  target message key=value`.
///
/// Continuation lines of a message are indented, so that no topic or payload can imitate a record.
/// Texts are limited to `max_chars` characters.
pub(super) fn human(record: &Record<'_>, now: DateTime<Utc>, max_chars: usize) -> String {
    let (target, message) = (record.target(), message(record, max_chars));
    let mut line = format!("{} {:<5} {target}", timestamp(now), record.level());
    if message != target {
        line.push(' ');
        line.push_str(&printable(&message, "\n    "));
    }
    for (key, value) in fields(record, max_chars) {
        let _ = write!(line, " {key}={}", bare_or_quoted(&value));
    }
    line
}

/// Formats a JSON object with `timestamp`, `level`, `target`, `message` and the record's key-values.
/// Texts are limited to `max_chars` characters.
pub(super) fn json(record: &Record<'_>, now: DateTime<Utc>, max_chars: usize) -> String {
    let message = message(record, max_chars);
    let own = [timestamp(now), record.level().to_string(), record.target().to_owned(), message];
    let own = OWN_FIELDS.map(str::to_owned).into_iter().zip(own.map(Json::String));
    let mut line = String::from("{");
    for (name, value) in own.chain(fields(record, max_chars)) {
        if line.len() > 1 {
            line.push(',');
        }
        let _ = write!(line, "{}:{value}", Json::String(name));
    }
    line.push('}');
    escape_in_json(line)
}

/// Returns the message of a record, limited to `max_chars` characters. A library's message loses links to documentation.
pub(super) fn message(record: &Record<'_>, max_chars: usize) -> String {
    let is_own = record.target().starts_with(NAME);
    let text = if is_own { record.args().to_string() } else { without_links(record.args()) };
    cut(text, max_chars)
}

/// `YYYY-MM-DD HH:MM:SS | LEVEL | mqtt_gateway | MESSAGE`, the message on one line.
pub(super) fn error_file(level: log::Level, message: &str, now: NaiveDateTime) -> String {
    format!("{} | {level} | {NAME} | {}", now.format("%Y-%m-%d %H:%M:%S"), printable(message, "\\n"))
}

/// Replaces line breaks by `line_break` and escapes other invisible characters.
///
/// Text from a broker must not move the cursor of a terminal or imitate another text.
fn printable<'a>(text: &'a str, line_break: &str) -> Cow<'a, str> {
    if !text.contains(is_invisible) {
        return Cow::Borrowed(text);
    }
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => printable.push_str(line_break),
            '\t' => printable.push(c),
            c if is_invisible(c) => printable.extend(c.escape_default()),
            c => printable.push(c),
        }
    }
    Cow::Owned(printable)
}

fn bare_or_quoted(value: &Json) -> String {
    match value {
        Json::String(text) if is_bare(text) => text.clone(),
        other => escape_in_json(other.to_string()),
    }
}

fn is_bare(text: &str) -> bool {
    !text.is_empty()
        && !text.contains(|c: char| c.is_whitespace() || is_invisible(c) || matches!(c, '"' | '='))
}

/// Returns the key-values of a record in order, with texts limited to `max_chars` characters.
/// A reserved name gets an underscore appended.
pub(super) fn fields(record: &Record<'_>, max_chars: usize) -> Vec<(String, Json)> {
    let mut fields = LineFields { max_chars, found: Vec::new() };
    // An error can only come from the visitor, and this visitor returns none.
    let _ = record.key_values().visit(&mut fields);
    fields.found
}

struct LineFields {
    max_chars: usize,
    found: Vec<(String, Json)>,
}

impl<'kvs> VisitSource<'kvs> for LineFields {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let mut name = key.as_str().to_owned();
        if OWN_FIELDS.contains(&key.as_str()) {
            name.push('_');
        }
        let mut json = ToJson(Json::Null);
        value.visit(&mut json)?;
        let json = match json.0 {
            Json::String(text) if name != UNCUT => Json::String(cut(text, self.max_chars)),
            other => other,
        };
        self.found.push((name, json));
        Ok(())
    }
}

/// Converts a value to JSON. Numbers, booleans and null keep their type; other values become text.
struct ToJson(Json);

impl VisitValue<'_> for ToJson {
    fn visit_any(&mut self, value: Value<'_>) -> Result<(), Error> {
        self.0 = Json::String(value.to_string());
        Ok(())
    }

    fn visit_null(&mut self) -> Result<(), Error> {
        self.0 = Json::Null;
        Ok(())
    }

    fn visit_u64(&mut self, value: u64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_i64(&mut self, value: i64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_u128(&mut self, value: u128) -> Result<(), Error> {
        self.0 = u64::try_from(value).map_or_else(|_| Json::String(value.to_string()), Json::from);
        Ok(())
    }

    fn visit_i128(&mut self, value: i128) -> Result<(), Error> {
        self.0 = i64::try_from(value).map_or_else(|_| Json::String(value.to_string()), Json::from);
        Ok(())
    }

    fn visit_f64(&mut self, value: f64) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }

    fn visit_bool(&mut self, value: bool) -> Result<(), Error> {
        self.0 = value.into();
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use chrono::{NaiveDate, TimeZone};
    use log::Level;
    use proptest::prelude::*;

    use super::*;
    use crate::observe::length::TEXT_CHARS;

    fn now() -> DateTime<Utc> {
        Utc.with_ymd_and_hms(2026, 11, 22, 15, 4, 5).unwrap() + chrono::TimeDelta::milliseconds(123)
    }

    fn with_record<T>(
        target: &str,
        message: &str,
        kvs: &[(&str, Value<'_>)],
        use_it: fn(&Record<'_>, DateTime<Utc>, usize) -> T,
    ) -> T {
        let args = format_args!("{message}");
        let record = Record::builder().level(Level::Info).target(target).args(args).key_values(&kvs).build();
        use_it(&record, now(), TEXT_CHARS)
    }

    #[test]
    fn human_line_has_all_parts() {
        let kvs = [("actor", Value::from("router")), ("depth", Value::from(3))];
        assert_eq!(
            with_record("mailbox", "report", &kvs, human),
            "2026-11-22T15:04:05.123Z INFO  mailbox report actor=router depth=3"
        );
        assert_eq!(
            with_record("mailbox", "mailbox", &kvs, human),
            "2026-11-22T15:04:05.123Z INFO  mailbox actor=router depth=3"
        );
    }

    #[test]
    fn human_line_quotes_spaces() {
        let kvs = [("a", Value::from("x y")), ("b", Value::from("")), ("c", Value::from("q\"=\n"))];
        let line = with_record("t", "m", &kvs, human);
        assert!(line.ends_with(r#" m a="x y" b="" c="q\"=\n""#), "{line}");
    }

    #[test]
    fn message_cannot_imitate_a_record() {
        let line = with_record("t", "one\n2026 two\x1b[2J\r", &[], human);
        assert!(line.ends_with("one\n    2026 two\\u{1b}[2J\\r"), "{line}");
    }

    #[test]
    fn bidi_and_line_breaks_are_escaped() {
        let text = "a\u{202e}b\u{2028}c\u{9b}d\u{e0041}";
        let kvs = [("topic", Value::from(text))];
        let line = with_record("t", text, &kvs, human);
        let ending = r#" a\u{202e}b\u{2028}c\u{9b}d\u{e0041} topic="a\u202eb\u2028c\u009bd\udb40\udc41""#;
        assert!(line.ends_with(ending), "{line}");
        let line = with_record("t", text, &kvs, json);
        assert!(line.contains(r#""topic":"a\u202eb\u2028c\u009bd\udb40\udc41""#), "{line}");
        let read: Json = serde_json::from_str(&line).unwrap();
        assert_eq!((read["topic"].as_str(), read["message"].as_str()), (Some(text), Some(text)));
        assert!(
            error_file(Level::Error, text, NaiveDateTime::default())
                .ends_with(r"a\u{202e}b\u{2028}c\u{9b}d\u{e0041}")
        );
    }

    #[test]
    fn lines_of_libraries_have_no_links() {
        let text = "closed: https://docs.rs/rustls/index.html";
        let line = with_record("sqlx_core::pool::inner", text, &[], human);
        assert!(line.ends_with("sqlx_core::pool::inner closed"), "{line}");
        let line = with_record("mqtt_gateway::intake", text, &[], human);
        assert!(line.ends_with(text), "{line}");
    }

    #[test]
    fn json_line_has_all_fields() {
        let error = std::io::Error::other("no \"disk\"");
        let kvs = [
            ("actor", Value::from("router")),
            ("depth", Value::from(3)),
            ("age", Value::from(1.5)),
            ("ok", Value::from(true)),
            ("ms", Value::from(&2_000_u128)),
            ("error", Value::from_dyn_display(&error)),
            ("none", Value::null()),
            ("level", Value::from("mine")),
        ];
        assert_eq!(
            with_record("t", "two\nlines", &kvs, json),
            r#"{"timestamp":"2026-11-22T15:04:05.123Z","level":"INFO","target":"t","message":"two\nlines","actor":"router","depth":3,"age":1.5,"ok":true,"ms":2000,"error":"no \"disk\"","none":null,"level_":"mine"}"#
        );
    }

    #[test]
    fn backtrace_is_never_cut() {
        let long = "ü".repeat(65_535);
        let message = format!("Invalid payload in topic {long}: no JSON");
        let kvs = [("topic", Value::from(long.as_str())), (UNCUT, Value::from(long.as_str()))];
        let read: Json = serde_json::from_str(&with_record("t", &message, &kvs, json)).unwrap();
        let text = |field: &str| read[field].as_str().unwrap();
        for field in ["message", "topic"] {
            assert_eq!(text(field).chars().count(), TEXT_CHARS, "{field}");
        }
        assert!(text("message").starts_with("Invalid payload in topic üüü"));
        assert!(text("message").ends_with("üü: no JSON"));
        assert_eq!(text(UNCUT), long);
        let line = with_record("t", &message, &kvs[..1], human);
        assert!(line.chars().count() < 2 * TEXT_CHARS + 100, "{}", line.len());
    }

    #[test]
    fn error_file_escapes_line_breaks() {
        let noon = NaiveDate::from_ymd_opt(2026, 11, 22).unwrap().and_hms_opt(12, 0, 1).unwrap();
        assert_eq!(
            error_file(Level::Error, "Invalid payload in topic a\nb: x", noon),
            "2026-11-22 12:00:01 | ERROR | mqtt_gateway | Invalid payload in topic a\\nb: x"
        );
    }

    proptest! {
        #[test]
        fn json_record_is_one_line(message in any::<String>(), value in any::<String>()) {
            let line = with_record("t", &message, &[("key", Value::from(value.as_str()))], json);
            prop_assert!(!line.contains(is_invisible));
            let read: Json = serde_json::from_str(&line).unwrap();
            prop_assert_eq!(read["message"].as_str(), Some(message.as_str()));
            prop_assert_eq!(read["key"].as_str(), Some(value.as_str()));
        }

        #[test]
        fn error_file_record_is_one_line(message in any::<String>()) {
            let line = error_file(Level::Error, &message, NaiveDateTime::default());
            prop_assert!(!line.contains(['\n', '\r']));
        }
    }
}
