//! Each fault of `docs/OPERATIONS.md`, caused on the real binary, and its log line with actor, cause and time.

mod actors;
mod bound;
mod fields;
mod format;
mod messages;
mod page;
mod peers;
mod repeats;
mod unread;

use serde_json::{Map, Value};
use test_support::process::Gateway;

type Record = Map<String, Value>;

/// Waits for a line whose message begins like this and whose fields hold all of `told`.
fn await_record(gateway: &Gateway, begin: &str, told: &[(&str, &str)]) -> Record {
    let is_it = |line: &str| parse(line).is_some_and(|record| matches(&record, begin, told));
    let line = gateway.wait_for_line_that(&format!("{begin} {told:?}"), &is_it);
    // Shown with `--nocapture`: the lines that the page quotes.
    eprintln!("{line}");
    parse(&line).unwrap()
}

/// The next repetition of a periodic line.
fn await_again(gateway: &Gateway, first: &Record, begin: &str) -> Record {
    let is_it = |line: &str| {
        parse(line).is_some_and(|record| {
            matches(&record, begin, &[("actor", text(first, "actor"))])
                && record["timestamp"] != first["timestamp"]
                && record["since"] == first["since"]
        })
    };
    parse(&gateway.wait_for_line_that(&format!("{begin} again"), &is_it)).unwrap()
}

fn parse(line: &str) -> Option<Record> {
    serde_json::from_str(line).ok()
}

fn matches(record: &Record, begin: &str, told: &[(&str, &str)]) -> bool {
    text(record, "message").starts_with(begin)
        && told.iter().all(|(field, part)| match record.get(*field) {
            Some(Value::String(value)) => value.contains(part),
            Some(value) => format!("{value}") == *part,
            None => false,
        })
}

fn text<'a>(record: &'a Record, field: &str) -> &'a str {
    record.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn number(record: &Record, field: &str) -> f64 {
    record.get(field).and_then(Value::as_f64).unwrap_or_else(|| panic!("no {field} in {record:?}"))
}

/// Asserts that `since` lies at least `ms` milliseconds before the line.
fn assert_since(record: &Record, at_least_ms: i64) {
    let moment = |field| chrono::DateTime::parse_from_rfc3339(text(record, field)).unwrap();
    let lasted = (moment("timestamp") - moment("since")).num_milliseconds();
    assert!(lasted >= at_least_ms, "{record:?}");
}

fn assert_one_object_a_line(gateway: &Gateway) {
    for line in gateway.stderr().lines() {
        let record = parse(line).unwrap_or_else(|| panic!("{line}"));
        for field in ["timestamp", "level", "target", "message"] {
            assert!(record[field].is_string(), "{line}");
        }
    }
}
