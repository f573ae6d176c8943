//! Between the log macros and the log: of warnings and errors of the same kind a few are written and the rest is
//! counted, and told in sums. [`RepeatLimiter`] decides; this gives it the time, and turns what it tells into records.
//!
//! What is not written is not formatted, and the lock is held for nothing but the counting.

use std::fmt::{self, Write};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use chrono::{TimeDelta, Utc};
use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, Record};
use serde_json::Value as Json;

use super::length::TEXT_CHARS;
use super::line;
use super::repeats::{Decision, Moment, RecordKey, RepeatLimiter, Rule, Summary};

/// Fields that say what a record is about: two that differ in one of these are not the same kind.
const ABOUT: [&str; 9] =
    ["actor", "lane", "flow_id", "flow", "topic", "endpoint", "server", "place", "reason"];

/// Counts what is logged, and says what is to be written.
pub(super) struct Limiter {
    origin: Instant,
    repeats: Mutex<RepeatLimiter<Arc<Example>>>,
}

/// A record that stands for many.
struct Example {
    level: Level,
    target: String,
    message: String,
    about: Vec<(String, Json)>,
}

impl Limiter {
    /// Nothing was logged yet.
    pub(super) fn new(rule: Rule) -> Self {
        Self { origin: Instant::now(), repeats: Mutex::new(RepeatLimiter::new(rule)) }
    }

    /// Writes a record, or counts it; and whatever is due to be told of its kind.
    pub(super) fn pass(&self, record: &Record<'_>, write: &dyn Fn(&Record<'_>)) {
        let (key, now, mut summaries) = (key_of(record), self.now(), Vec::new());
        // A statement of its own: the lock is let go before anything is formatted or written.
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

    /// Writes what is over by now.
    pub(super) fn write_due(&self, write: &dyn Fn(&Record<'_>)) {
        let summaries = self.repeats().take_due(self.now());
        self.emit(summaries, write);
    }

    /// Writes all that was not told yet.
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
                    // Good summaries, and the sum of what the lines of the level itself say.
                    self.emit_one(&example, Level::Info, since, fields, args, write);
                }
            }
        }
    }

    fn emit_one(
        &self,
        example: &Example,
        level: Level,
        since: Moment,
        fields: Vec<(&str, Value<'_>)>,
        args: fmt::Arguments<'_>,
        write: &dyn Fn(&Record<'_>),
    ) {
        let ago = i64::try_from(self.now().saturating_sub(since)).unwrap_or(i64::MAX);
        let since = line::timestamp(Utc::now() - TimeDelta::milliseconds(ago));
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

    fn now(&self) -> Moment {
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
        let about = about.filter(|(name, _)| ABOUT.contains(&name.as_str())).collect();
        Self { level: record.level(), target: record.target().to_owned(), message, about }
    }

    /// What all are about that it stands for: nothing where it stands for others than its own kind too.
    fn fields(&self, mixed: bool) -> Vec<(&str, Value<'_>)> {
        let about = self.about.iter().filter(|_| !mixed);
        about.map(|(name, value)| (name.as_str(), as_kv(value))).collect()
    }
}

/// Whoever reads a sum has to know that its topic is not the topic of all.
fn many_kinds(mixed: bool) -> &'static str {
    if mixed { ", of many kinds" } else { "" }
}

fn key_of(record: &Record<'_>) -> RecordKey {
    let mut hasher = DefaultHasher::new();
    (record.level(), record.target(), record.file(), record.line()).hash(&mut hasher);
    let site = hasher.finish();
    let mut about = About { hasher, any: false };
    // Only a visitor that fails makes this fail, and ours does not.
    let _ = record.key_values().visit(&mut about);
    RecordKey { site, detailed: if about.any { about.hasher.finish() } else { site } }
}

/// Takes the values of the fields in that say what a record is about.
struct About {
    hasher: DefaultHasher,
    any: bool,
}

impl<'kvs> VisitSource<'kvs> for About {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        if ABOUT.contains(&key.as_str()) {
            self.any = true;
            key.as_str().hash(&mut self.hasher);
            let _ = write!(self, "{value}");
        }
        Ok(())
    }
}

impl Write for About {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        self.hasher.write(text.as_bytes());
        Ok(())
    }
}

fn as_kv(value: &Json) -> Value<'_> {
    match value {
        Json::String(text) => text.as_str().into(),
        Json::Number(number) if number.is_u64() => number.as_u64().unwrap_or_default().into(),
        Json::Number(number) if number.is_i64() => number.as_i64().unwrap_or_default().into(),
        other => Value::from_display(other),
    }
}

/// Milliseconds as seconds for people, with one place after the point.
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

    /// Passes `count` records of each topic and gives the lines that came out, those of the end included.
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
    fn a_summary_has_the_level_the_target_and_the_topic_of_what_it_stands_for() {
        let lines = lines(&["a"], 1_000);
        assert_eq!(lines.len(), 4, "two, a sum, the end: {lines:?}");
        let sum = &lines[2];
        assert_eq!(
            (&sum["level"], &sum["target"], &sum["topic"]),
            (&"ERROR".into(), &"t".into(), &"a".into())
        );
        assert_eq!(sum["repeated"], 998);
        assert!(sum["number"].is_null(), "it is of one of them only");
        let message = sum["message"].as_str().unwrap();
        assert!(message.starts_with("Invalid payload in topic a: 514 (repeated 998 times in "), "{message}");
        let (end, begin) = (&lines[3], "No longer repeated, 1000 times in all within ");
        assert_eq!((&end["level"], &end["total"]), (&"INFO".into(), &1_000.into()));
        assert!(end["message"].as_str().unwrap().starts_with(begin), "{end}");
        assert!(chrono::DateTime::parse_from_rfc3339(end["since"].as_str().unwrap()).is_ok());
    }

    #[test]
    fn each_topic_has_its_own_count() {
        let lines = lines(&["a", "b"], 5);
        let repeated: Vec<u64> = lines.iter().filter_map(|line| line["repeated"].as_u64()).collect();
        assert_eq!(repeated, [3, 3]);
    }

    #[test]
    fn what_is_only_counted_is_not_formatted() {
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
    fn a_message_that_logs_while_it_is_formatted_stops_nothing() {
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
    fn a_sum_of_many_kinds_says_so_and_names_none_of_them() {
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
    fn a_sum_is_told_behind_a_message_that_was_cut() {
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
