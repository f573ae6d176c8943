//! Payload parser: it must agree with `serde_json` on which inputs are JSON objects and on their attributes.

use std::collections::BTreeMap;

use serde_json::Value;
use serde_json::value::RawValue;

use super::{behaviour, fuzz};
use crate::domain::payload::{JsonKind, Payload, PayloadError, PayloadLimits};
use crate::domain::value_style::ValueStyle;

const LIMITS: PayloadLimits =
    PayloadLimits { max_payload_bytes: 90_000, max_depth: 100, max_attributes: 200 };

#[test]
fn payloads_agree_with_serde_json() {
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
    // Without a depth limit, deep nesting must not overflow the stack.
    let unbounded = PayloadLimits { max_depth: usize::MAX, max_attributes: usize::MAX, ..LIMITS };
    if let Ok(payload) = Payload::parse(input, &unbounded) {
        payload.attributes().iter().for_each(|attribute| drop(attribute.text(ValueStyle::Python)));
    }
    match (&ours, serde_json::from_slice::<Value>(input)) {
        (Ok(payload), Ok(theirs)) => check_agreement(payload, input, &theirs),
        (Err(error), Ok(theirs)) => check_rejection(*error, input, &theirs),
        // The parser accepts numbers beyond the range of f64 and unpaired surrogates, and keeps them as written.
        (Ok(payload), Err(error)) => assert!(
            payload.half_pair().is_some() || error.to_string().contains("number out of range"),
            "{error}"
        ),
        (Err(_), Err(_)) => {}
    }
    match ours {
        Ok(payload) => {
            let kinds: Vec<String> =
                payload.attributes().iter().take(6).map(|a| a.kind().to_string()).collect();
            behaviour(("taken", kinds))
        }
        Err(PayloadError::NotJson(error)) => behaviour(("not JSON", error.problem)),
        Err(error) => behaviour(error.reason().as_str()),
    }
}

fn check_rejection(error: PayloadError, input: &[u8], theirs: &Value) {
    match error {
        PayloadError::TooLarge { .. } => assert!(input.len() > LIMITS.max_payload_bytes),
        PayloadError::NotAnObject(_) => assert!(!theirs.is_object()),
        PayloadError::TooDeep { .. } => assert!(depth(input) > LIMITS.max_depth),
        PayloadError::TooManyAttributes { .. } => {
            assert!(theirs.as_object().is_some_and(|object| object.len() > LIMITS.max_attributes));
        }
        PayloadError::NotUtf8 { .. } | PayloadError::NotJson(_) => panic!("{error}, but it is {theirs}"),
        PayloadError::TopicNotUtf8 | PayloadError::PacketMalformed => panic!("{error}, of a payload"),
    }
}

/// Returns the nesting depth of valid JSON text.
fn depth(text: &[u8]) -> usize {
    let (mut open, mut deepest, mut in_string, mut escaped) = (0_usize, 0, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            _ if in_string => {}
            b'{' | b'[' => {
                open += 1;
                deepest = open.max(deepest);
            }
            b'}' | b']' => open -= 1,
            _ => {}
        }
    }
    deepest
}

fn check_agreement(payload: &Payload<'_>, input: &[u8], theirs: &Value) {
    assert!(depth(input) <= LIMITS.max_depth);
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
