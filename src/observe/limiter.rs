//! Rate limiter between the log macros and the writer. Repeated warnings and errors are counted and summarised.
//!
//! [`RepeatLimiter`] decides which records are written. This module supplies the time, and turns summaries into log
//! records. A suppressed record is not formatted, and the lock is held only while counting.

use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrono::{TimeDelta, Utc};
use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, Record};
use serde_json::Value as Json;

use super::format::timestamp;
use super::length::TEXT_CHARS;
use super::line;
use super::repeats::{Decision, Millis, RecordKey, RepeatLimiter, Rule, Summary};

/// Fields that identify the subject of a record. Records that differ in one of them are counted separately.
const SUBJECT_FIELDS: [&str; 9] =
    ["actor", "lane", "flow_id", "flow", "topic", "endpoint", "server", "place", "reason"];

/// Counts repeated records, and writes summaries of the suppressed ones.
pub(super) struct Limiter {
    origin: Instant,
    repeats: Mutex<RepeatLimiter<Arc<Example>>>,
}

/// A record that represents others in a summary.
struct Example {
    level: Level,
    target: String,
    message: String,
    about: Vec<(String, Json)>,
}

impl Limiter {
    /// Creates a limiter without records.
    pub(super) fn new(rule: Rule) -> Self {
        Self { origin: Instant::now(), repeats: Mutex::new(RepeatLimiter::new(rule)) }
    }

    /// Writes or counts a record, and writes the summaries that are due for its key.
    pub(super) fn pass(&self, record: &Record<'_>, write: &dyn Fn(&Record<'_>)) {
        let (key, now, mut summaries) = (key_of(record), self.now(), Vec::new());
        // A separate statement, so that the lock is released before any formatting or writing.
        let known = self.repeats().record(key, now, &mut summaries);
        let decision = known.unwrap_or_else(|| {
            let example = Arc::new(Example::from_record(record));
            self.repeats().admit(key, example, now, &mut summaries)
        });
        self.emit(summaries, write);
        match decision {
            Decision::Write => write(record),
            Decision::Count => {}
            Decision::CountAndKeep => {
                let example = Arc::new(Example::from_record(record));
                self.repeats().keep(key, example);
            }
        }
    }

    /// Writes the summaries of all windows and series that have ended.
    pub(super) fn write_due(&self, write: &dyn Fn(&Record<'_>)) {
        let summaries = self.repeats().take_due(self.now());
        self.emit(summaries, write);
    }

    /// Writes the summaries of all suppressed records.
    pub(super) fn write_all(&self, write: &dyn Fn(&Record<'_>)) {
        let summaries = self.repeats().take_all();
        self.emit(summaries, write);
    }

    fn emit(&self, summaries: Vec<Summary<Arc<Example>>>, write: &dyn Fn(&Record<'_>)) {
        for summary in summaries {
            match summary {
                Summary::Window { example, repeated, mixed, since, until } => {
                    let lasted = until - since;
                    let mut fields = example.fields(mixed);
                    fields.extend([("repeated", repeated.into()), ("lasted_ms", lasted.into())]);
                    let args = format_args!(
                        "{} (repeated {repeated} times in {}{}; this is one of them)",
                        example.message,
                        Seconds(lasted),
                        many_kinds(mixed)
                    );
                    self.emit_one(&example, example.level, since, fields, args, write);
                }
                Summary::End { example, total, mixed, since, until } => {
                    let lasted = until - since;
                    let mut fields = example.fields(mixed);
                    fields.extend([("total", total.into()), ("lasted_ms", lasted.into())]);
                    let args = format_args!(
                        "No longer repeated, {total} times in all within {}{}: {}",
                        Seconds(lasted),
                        many_kinds(mixed),
                        example.message
                    );
                    // INFO, because the end of the repetition needs no action.
                    self.emit_one(&example, Level::Info, since, fields, args, write);
                }
            }
        }
    }

    fn emit_one(
        &self,
        example: &Example,
        level: Level,
        since: Millis,
        fields: Vec<(&str, Value<'_>)>,
        args: fmt::Arguments<'_>,
        write: &dyn Fn(&Record<'_>),
    ) {
        let ago = i64::try_from(self.now().saturating_sub(since)).unwrap_or(i64::MAX);
        let since = timestamp(Utc::now() - TimeDelta::milliseconds(ago));
        let mut fields: Vec<(&str, Value<'_>)> = fields;
        fields.push(("since", since.as_str().into()));
        write(
            &Record::builder()
                .level(level)
                .target(&example.target)
                .key_values(&fields.as_slice())
                .args(args)
                .build(),
        );
    }

    fn now(&self) -> Millis {
        u64::try_from(self.origin.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn repeats(&self) -> MutexGuard<'_, RepeatLimiter<Arc<Example>>> {
        self.repeats.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Example {
    fn from_record(record: &Record<'_>) -> Self {
        let message = line::message(record, TEXT_CHARS);
        let about = line::fields(record, TEXT_CHARS).into_iter();
        let about = about.filter(|(name, _)| SUBJECT_FIELDS.contains(&name.as_str())).collect();
        Self { level: record.level(), target: record.target().to_owned(), message, about }
    }

    /// Returns the fields shared by all records that the example represents; none if their keys differ.
    fn fields(&self, mixed: bool) -> Vec<(&str, Value<'_>)> {
        let about = self.about.iter().filter(|_| !mixed);
        about.map(|(name, value)| (name.as_str(), to_kv(value))).collect()
    }
}

/// Marks a summary whose example has a topic that other counted records do not have.
fn many_kinds(mixed: bool) -> &'static str {
    if mixed { ", of many kinds" } else { "" }
}

fn key_of(record: &Record<'_>) -> RecordKey {
    let mut hasher = DefaultHasher::new();
    (record.level(), record.target(), record.file(), record.line()).hash(&mut hasher);
    let site = hasher.finish();
    let mut about = SubjectHasher { hasher, any: false };
    // An error can only come from the visitor, and this visitor returns none.
    let _ = record.key_values().visit(&mut about);
    RecordKey { site, detailed: if about.any { about.hasher.finish() } else { site } }
}

/// Hashes the fields that identify the subject of a record.
struct SubjectHasher {
    hasher: DefaultHasher,
    any: bool,
}

impl<'kvs> VisitSource<'kvs> for SubjectHasher {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        if SUBJECT_FIELDS.contains(&key.as_str()) {
            self.any = true;
            key.as_str().hash(&mut self.hasher);
            let _ = write!(self, "{value}");
        }
        Ok(())
    }
}

impl Write for SubjectHasher {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.hasher.write(text.as_bytes());
        Ok(())
    }
}

fn to_kv(value: &Json) -> Value<'_> {
    match value {
        Json::String(text) => text.as_str().into(),
        Json::Number(number) if number.is_u64() => number.as_u64().unwrap_or_default().into(),
        Json::Number(number) if number.is_i64() => number.as_i64().unwrap_or_default().into(),
        other => Value::from_display(other),
    }
}

/// Formats milliseconds as seconds with one decimal place.
struct Seconds(u64);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{} s", self.0 / 1_000, self.0 % 1_000 / 100)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use std::cell::{Cell, RefCell};

    use super::*;

    /// Passes `count` records of each topic, and returns the written lines including the final summaries.
    fn lines(topics: &[&str], count: u64) -> Vec<Json> {
        let limiter = Limiter::new(Rule { window_ms: 3_600_000, burst: 2 });
        let written = RefCell::new(Vec::new());
        let write =
            |record: &Record<'_>| written.borrow_mut().push(line::json(record, Utc::now(), TEXT_CHARS));
        for number in 1..=count {
            for topic in topics {
                let args = format_args!("Invalid payload in topic {topic}: {number}");
                let about = [("topic", Value::from(*topic)), ("number", number.into())];
                let builder = &mut Record::builder();
                let record = builder.level(Level::Error).target("t").args(args).key_values(&about).build();
                limiter.pass(&record, &write);
            }
        }
        limiter.write_all(&write);
        written.into_inner().iter().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn summary_keeps_level_target_and_topic() {
        let lines = lines(&["a"], 1_000);
        assert_eq!(lines.len(), 4, "two, a sum, the end: {lines:?}");
        let sum = &lines[2];
        assert_eq!(
            (&sum["level"], &sum["target"], &sum["topic"]),
            (&"ERROR".into(), &"t".into(), &"a".into())
        );
        assert_eq!(sum["repeated"], 998);
        assert!(sum["number"].is_null(), "only one of the records has this number");
        let message = sum["message"].as_str().unwrap();
        assert!(message.starts_with("Invalid payload in topic a: 514 (repeated 998 times in "), "{message}");
        let (end, begin) = (&lines[3], "No longer repeated, 1000 times in all within ");
        assert_eq!((&end["level"], &end["total"]), (&"INFO".into(), &1_000.into()));
        assert!(end["message"].as_str().unwrap().starts_with(begin), "{end}");
        assert!(chrono::DateTime::parse_from_rfc3339(end["since"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn topics_are_counted_separately() {
        let lines = lines(&["a", "b"], 5);
        let repeated: Vec<u64> = lines.iter().filter_map(|line| line["repeated"].as_u64()).collect();
        assert_eq!(repeated, [3, 3]);
    }

    #[test]
    fn suppressed_records_are_not_formatted() {
        struct Costly<'a>(&'a Cell<u64>);
        impl fmt::Display for Costly<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.set(self.0.get() + 1);
                f.write_str("costly")
            }
        }
        let limiter = Limiter::new(Rule { window_ms: 3_600_000, burst: 1 });
        let formatted = Cell::new(0);
        for _ in 0..100_000 {
            let args = format_args!("{}", Costly(&formatted));
            limiter.pass(&Record::builder().level(Level::Warn).args(args).build(), &|_| {});
        }
        assert!(formatted.get() < 20, "{} times", formatted.get());
    }

    #[test]
    fn logging_while_formatting_does_not_deadlock() {
        struct Logs<'a>(&'a Limiter);
        impl fmt::Display for Logs<'_> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.pass(&Record::builder().level(Level::Warn).target("inner").build(), &|_| {});
                f.write_str("outer")
            }
        }
        let limiter = Limiter::new(Rule { window_ms: 3_600_000, burst: 1 });
        for _ in 0..10 {
            let args = format_args!("{}", Logs(&limiter));
            limiter.pass(&Record::builder().level(Level::Warn).args(args).build(), &|_| {});
        }
    }

    #[test]
    fn mixed_summary_names_no_topic() {
        let topics: Vec<String> = (0..1_000).map(|number| format!("t/{number}")).collect();
        let lines = lines(&topics.iter().map(String::as_str).collect::<Vec<_>>(), 1);
        let (sums, each): (Vec<&Json>, Vec<&Json>) =
            lines.iter().partition(|line| !line["lasted_ms"].is_null());
        assert!(each.iter().all(|line| line["topic"].is_string()));
        let [sum, over] = &sums[..] else { panic!("{sums:?}") };
        assert_eq!(sum["repeated"].as_u64().unwrap() + each.len() as u64, 1_000);
        for line in [sum, over] {
            assert!(line["topic"].is_null(), "{line}");
            assert!(line["message"].as_str().unwrap().contains(" s, of many kinds"), "{line}");
        }
    }

    #[test]
    fn summary_follows_a_cut_message() {
        let long = "ü".repeat(3 * TEXT_CHARS);
        let lines = lines(&[&long], 3);
        let message = lines[2]["message"].as_str().unwrap();
        assert!(message.starts_with("Invalid payload in topic üüü"), "{message}");
        let (_, end) = message.split_once('…').unwrap();
        assert!(end.contains("üü: 3 (repeated 1 times in "), "{end}");
        assert!(end.ends_with("; this is one of them)"), "{end}");
        assert!(lines.iter().all(|line| line["topic"].as_str().unwrap().chars().count() == TEXT_CHARS));
    }
}
