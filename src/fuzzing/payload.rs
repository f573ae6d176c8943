//! Payloads: ours and `serde_json` must agree on what is a JSON object and on what is in it.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{behaviour, fuzz};
use crate::domain::payload::{JsonKind, Payload, PayloadError, PayloadLimits};
use crate::domain::value_style::ValueStyle;

const LIMITS: PayloadLimits =
    PayloadLimits { max_payload_bytes: 90_000, max_depth: 100, max_attributes: 200 };

#[test]
fn a_payload_is_what_another_parser_says() {
    let dictionary = [
        "{",
        "}",
        "[",
        "]",
        "\"",
        ":",
        ",",
        "\\u",
        "\\ud83d\\ude00",
        "\\ud800",
        "\\\\",
        "\\\"",
        "null",
        "true",
        "false",
        "1e5",
        "-0",
        "1.0",
        "1E+400",
        "0.1",
        "\"a\":",
        ",\"a\":1",
        "{\"a\":{}}",
        "[[",
        "NaN",
        "-Infinity",
        "\u{feff}",
        " ",
        "\t",
        "\u{7f}",
        "ä",
        "😀",
    ];
    fuzz("payload", &dictionary, check);
}

fn check(input: &[u8]) -> u64 {
    let ours = Payload::parse(input, &LIMITS);
    // Whatever is inside of each other: no recursion, no overflow.
    let unbounded = PayloadLimits { max_depth: usize::MAX, max_attributes: usize::MAX, ..LIMITS };
    if let Ok(payload) = Payload::parse(input, &unbounded) {
        payload.attributes().iter().for_each(|attribute| drop(attribute.text(ValueStyle::Python)));
    }
    match (&ours, serde_json::from_slice::<Value>(input)) {
        (Ok(payload), Ok(theirs)) => agree(payload, input, &theirs),
        (Err(error), Ok(theirs)) => refused_rightly(*error, input, &theirs),
        // Numbers that no f64 holds are kept as they were written.
        (Ok(_), Err(error)) => assert!(error.to_string().contains("number out of range"), "{error}"),
        (Err(_), Err(_)) => {}
    }
    match ours {
        Ok(payload) => {
            let kinds: Vec<String> =
                payload.attributes().iter().take(6).map(|a| a.kind().to_string()).collect();
            behaviour(("taken", kinds))
        }
        Err(PayloadError::NotJson(error)) => behaviour(("not JSON", error.problem)),
        Err(error) => behaviour(error.reason()),
    }
}

fn refused_rightly(error: PayloadError, input: &[u8], theirs: &Value) {
    match error {
        PayloadError::TooLarge { .. } => assert!(input.len() > LIMITS.max_payload_bytes),
        PayloadError::NotAnObject(_) => assert!(!theirs.is_object()),
        PayloadError::TooDeep { .. } => assert!(depth(theirs) > LIMITS.max_depth || repeats_a_name(input)),
        PayloadError::TooManyAttributes { .. } => {
            assert!(theirs.as_object().is_some_and(|object| object.len() > LIMITS.max_attributes));
        }
        PayloadError::NotUtf8 { .. } | PayloadError::NotJson(_) => panic!("{error}, but it is {theirs}"),
    }
}

/// What a later value of the same name replaces is not in theirs any more, but counts in ours.
fn repeats_a_name(input: &[u8]) -> bool {
    input.iter().filter(|byte| **byte == b':').count() > 1
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(members) => 1 + members.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn agree(payload: &Payload<'_>, input: &[u8], theirs: &Value) {
    let raw: BTreeMap<String, &RawValue> = serde_json::from_slice(input).unwrap();
    assert_eq!(payload.attributes().len(), raw.len());
    for attribute in payload.attributes() {
        let name = attribute.name();
        assert_eq!(attribute.raw(), raw[name].get(), "{name:?}");
        let (value, text) = (&theirs[name], attribute.text(ValueStyle::Json));
        match attribute.kind() {
            JsonKind::String => assert_eq!(Some(&*text), value.as_str()),
            JsonKind::Array | JsonKind::Object => {
                assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), *value, "{text}");
            }
            JsonKind::Null => assert!(value.is_null()),
            JsonKind::Bool => assert_eq!(Some(&*text == "true"), value.as_bool()),
            JsonKind::Int | JsonKind::Number => assert!(value.is_number()),
        }
    }
}
