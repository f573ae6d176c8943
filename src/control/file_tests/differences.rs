//! Compares the outcome of a message with the expected one.

use serde_json::{Map, Value};

use crate::control::rehearsal::{Rehearsal, TestRequest};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::flow_file::{ExpectedOutcome, ExpectedRequest};
use crate::domain::payload::{Payload, PayloadLimits};
use crate::domain::value_style::ValueStyle;

/// A sentence for each difference.
pub(super) fn differences(
    expected: &ExpectedOutcome,
    rehearsal: &Rehearsal,
    style: ValueStyle,
) -> Vec<String> {
    match expected {
        ExpectedOutcome::Reason(reason) => of_reason(*reason, rehearsal),
        _ if rehearsal.dead_letter.is_some() => {
            vec![format!("expected {}, got {}", name(expected), got(rehearsal))]
        }
        ExpectedOutcome::Rows(rows) => of_rows(rows, rehearsal, style),
        ExpectedOutcome::Request(request) => match &rehearsal.request {
            Some(sent) => of_request(request, sent),
            None => vec![format!("expected a request, got {}", got(rehearsal))],
        },
    }
}

fn name(expected: &ExpectedOutcome) -> &'static str {
    match expected {
        ExpectedOutcome::Rows(_) => "rows",
        ExpectedOutcome::Request(_) => "a request",
        ExpectedOutcome::Reason(_) => "a dead letter",
    }
}

/// What would become of the message, in short.
fn got(rehearsal: &Rehearsal) -> String {
    match &rehearsal.dead_letter {
        Some(letter) => format!("a dead letter, {}: {}", letter.reason, letter.detail),
        None if rehearsal.request.is_some() => "a request".to_owned(),
        None => match rehearsal.rows.len() {
            1 => "1 row".to_owned(),
            rows => format!("{rows} rows"),
        },
    }
}

fn of_reason(expected: DeadLetterReason, rehearsal: &Rehearsal) -> Vec<String> {
    match &rehearsal.dead_letter {
        Some(letter) if letter.reason == expected.as_str() => Vec::new(),
        _ => vec![format!("expected a dead letter, {expected}, got {}", got(rehearsal))],
    }
}

fn of_rows(expected: &Map<String, Value>, rehearsal: &Rehearsal, style: ValueStyle) -> Vec<String> {
    let rows = rehearsal.rows.iter().map(|row| {
        let text = |text: &Option<String>| text.clone().unwrap_or_else(|| "NULL".to_owned());
        (text(&row.attribute_name), text(&row.attribute_value))
    });
    let rows: Vec<(String, String)> = rows.collect();
    let missing_or_different = expected.iter().filter_map(|(attribute, value)| {
        let Some((_, stored)) = rows.iter().find(|(name, _)| name == attribute) else {
            return Some(format!("{attribute}: expected {}, there is no such row", shown(value)));
        };
        let differs = !is_stored_as(value, stored, style);
        differs.then(|| format!("{attribute}: expected {}, got {stored}", shown(value)))
    });
    let unexpected = rows.iter().filter(|(name, _)| !expected.contains_key(name));
    let unexpected = unexpected.map(|(name, stored)| format!("{name}: expected no such row, got {stored}"));
    missing_or_different.chain(unexpected).collect()
}

fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// Whether the gateway stores the value as this text. Numbers are compared by their values, because YAML does not keep
/// how they are written, and so are the members of objects.
fn is_stored_as(value: &Value, stored: &str, style: ValueStyle) -> bool {
    let as_json = || serde_json::from_str::<Value>(stored).ok();
    match value {
        Value::String(text) => text == stored,
        Value::Number(number) => {
            let same = |other: &serde_json::Number| other == number || other.as_f64() == number.as_f64();
            as_json().as_ref().and_then(Value::as_number).is_some_and(same)
        }
        Value::Bool(_) | Value::Null => written(value, style).as_deref() == Some(stored),
        Value::Array(_) | Value::Object(_) => as_json().as_ref() == Some(value),
    }
}

/// The text of a value as the gateway writes it.
fn written(value: &Value, style: ValueStyle) -> Option<String> {
    let text = format!("{{\"v\": {value}}}");
    let payload = Payload::parse(text.as_bytes(), &PayloadLimits::default()).ok()?;
    payload.get("v").map(|attribute| attribute.text(style).into_owned())
}

fn of_request(expected: &ExpectedRequest, sent: &TestRequest) -> Vec<String> {
    if let Some(problem) = &sent.problem {
        return vec![format!("the request could not be made: {problem}")];
    }
    let differs = |part: &str, expected: &str, found: &str| {
        (expected != found).then(|| format!("{part}: expected {expected}, got {found}"))
    };
    let method = expected.method.as_deref().and_then(|method| differs("method", method, &sent.method));
    let url = expected.url.as_deref().and_then(|url| differs("url", url, &sent.url));
    let headers = expected.headers.iter().filter_map(|(name, value)| {
        let found = sent.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name));
        match found {
            Some(header) => differs(name, value, &header.value),
            None => Some(format!("{name}: expected {value}, there is no such header")),
        }
    });
    let body = expected.body.as_ref().filter(|body| !is_body(body, &sent.body));
    let body = body.map(|body| format!("body: expected {}, got {}", shown(body), sent.body));
    method.into_iter().chain(url).chain(headers).chain(body).collect()
}

fn is_body(expected: &Value, body: &str) -> bool {
    match expected {
        Value::String(text) => text == body,
        value => serde_json::from_str::<Value>(body).ok().as_ref() == Some(value),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::control::rehearsal::{TestHeader, TestRow};
    use crate::control::view::RejectionView;

    fn stored(rows: &[(&str, &str)]) -> Rehearsal {
        let row = |(name, value): &(&str, &str)| TestRow {
            attribute_name: Some((*name).to_owned()),
            attribute_value: Some((*value).to_owned()),
        };
        Rehearsal { rows: rows.iter().map(row).collect(), ok: true, ..Rehearsal::default() }
    }

    fn rows(expected: Value, rehearsal: &Rehearsal) -> Vec<String> {
        let Value::Object(expected) = expected else { return vec!["no object".to_owned()] };
        differences(&ExpectedOutcome::Rows(expected), rehearsal, ValueStyle::Python)
    }

    #[test]
    fn rows_are_compared_by_value() {
        let rehearsal = stored(&[
            ("text", "1"),
            ("number", "21.50"),
            ("on", "True"),
            ("nothing", "None"),
            ("object", r#"{"b": 1, "a": [true]}"#),
        ]);
        let equal = json!({"text": "1", "number": 21.5, "on": true, "nothing": null, "object": {"a": [true], "b": 1}});
        assert_eq!(rows(equal, &rehearsal), [] as [&str; 0]);
        let rehearsal = stored(&[("a", "1"), ("b", "x"), ("c", "y")]);
        assert_eq!(
            rows(json!({"a": 2, "b": "x", "d": 3}), &rehearsal),
            ["a: expected 2, got 1", "d: expected 3, there is no such row", "c: expected no such row, got y"]
        );
    }

    #[test]
    fn only_named_parts_of_a_request_are_compared() {
        let header = |name: &str, value: &str| TestHeader { name: name.to_owned(), value: value.to_owned() };
        let request = TestRequest {
            method: "PUT".to_owned(),
            url: "http://h/?a=***".to_owned(),
            headers: vec![header("x-gateway-flow", "T"), header("authorization", "***")],
            body: "{ \"v\": 1 }".to_owned(),
            ..TestRequest::default()
        };
        let rehearsal = Rehearsal { request: Some(request), ..Rehearsal::default() };
        let differences = |expected: Value| {
            let expected = ExpectedOutcome::Request(serde_json::from_value(expected).unwrap());
            differences(&expected, &rehearsal, ValueStyle::Json)
        };
        assert_eq!(differences(json!({})), [] as [&str; 0]);
        let equal = json!({"method": "PUT", "headers": {"X-Gateway-Flow": "T"}, "body": {"v": 1}});
        assert_eq!(differences(equal), [] as [&str; 0]);
        let different = json!({"method": "POST", "headers": {"X-Key": "k"}, "body": "{\"v\": 1}"});
        assert_eq!(
            differences(different),
            [
                "method: expected POST, got PUT",
                "X-Key: expected k, there is no such header",
                "body: expected {\"v\": 1}, got { \"v\": 1 }"
            ]
        );
        assert_eq!(rows(json!({"v": 1}), &rehearsal), ["v: expected 1, there is no such row"]);
    }

    #[test]
    fn reasons_are_compared() {
        let letter = RejectionView { reason: "validation_failed".to_owned(), detail: "v".to_owned() };
        let rehearsal = Rehearsal { dead_letter: Some(letter), ..Rehearsal::default() };
        let reason = |reason| differences(&ExpectedOutcome::Reason(reason), &rehearsal, ValueStyle::Json);
        assert_eq!(reason(DeadLetterReason::ValidationFailed), [] as [&str; 0]);
        assert_eq!(
            reason(DeadLetterReason::PayloadNotJson),
            ["expected a dead letter, payload_not_json, got a dead letter, validation_failed: v"]
        );
        assert_eq!(rows(json!({}), &rehearsal), ["expected rows, got a dead letter, validation_failed: v"]);
    }
}
