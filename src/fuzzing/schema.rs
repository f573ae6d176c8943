//! Schemas of flows and the validation of payloads. An input is a schema, a NUL byte and a payload.

use super::{behaviour, fuzz};
use crate::domain::payload::{JsonKind, Payload, PayloadLimits};
use crate::domain::schema::{PayloadSchema, SchemaError, ValidationError};

#[test]
fn schemas_never_panic() {
    let dictionary = [
        "{",
        "}",
        "\"",
        ":",
        ",",
        "\0",
        "\"type\"",
        "\"string\"",
        "\"number\"",
        "\"int\"",
        "\"bool\"",
        "\"object\"",
        "\"array\"",
        "\"properties\"",
        "\"$schema\"",
        "\"https://json-schema.org/draft/2020-12/schema\"",
        "\"$ref\"",
        "\"#\"",
        "\"#/$defs/a\"",
        "\"$defs\"",
        "\"required\"",
        "\"items\"",
        "\"pattern\"",
        "\"(a*)*$\"",
        "\"minimum\"",
        "\"enum\"",
        "\"anyOf\"",
        "\"not\"",
        "null",
        "1",
        "[]",
        "true",
        "\"http://127.0.0.1:1/x\"",
    ];
    fuzz("schema", &dictionary, |input| {
        let (schema, payload) = match input.iter().position(|byte| *byte == 0) {
            Some(at) => (&input[..at], &input[at + 1..]),
            None => (input, &b"{}"[..]),
        };
        let Ok(schema) = str::from_utf8(schema) else { return 0 };
        check(schema, payload)
    });
}

fn check(text: &str, payload: &[u8]) -> u64 {
    let schema = match PayloadSchema::compile(text) {
        Ok(schema) => schema,
        Err(SchemaError::JsonSchema(_)) => return behaviour("no JSON Schema"),
        Err(error) => return behaviour(std::mem::discriminant(&error)),
    };
    let Ok(payload) = Payload::parse(payload, &PayloadLimits::default()) else { return behaviour("payload") };
    let outcome = schema.validate(&payload);
    check_simple_schema(text, &payload, outcome.is_ok());
    match outcome {
        Ok(()) => behaviour(("fits", payload.attributes().len().min(5))),
        Err(ValidationError::WrongType { expected, found, .. }) => {
            behaviour(("type", expected.to_string(), found.to_string()))
        }
        Err(error) => behaviour(std::mem::discriminant(&error)),
    }
}

/// Compares the outcome for a schema `{"field": "type", …}` with an independent implementation of the rules.
fn check_simple_schema(schema: &str, payload: &Payload<'_>, fits: bool) {
    let Ok(fields) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(schema) else {
        return;
    };
    if fields.contains_key("$schema") || !fields.values().all(serde_json::Value::is_string) {
        return;
    }
    let expected = fields.iter().all(|(name, kind)| {
        let Some(attribute) = payload.get(name) else { return false };
        match (kind.as_str().unwrap_or_default(), attribute.kind()) {
            ("string" | "str", kind) => kind == JsonKind::String,
            ("number" | "float", kind) => matches!(kind, JsonKind::Int | JsonKind::Number),
            ("int" | "integer", kind) => kind == JsonKind::Int,
            ("bool" | "boolean", kind) => kind == JsonKind::Bool,
            ("object", kind) => kind == JsonKind::Object,
            ("array", kind) => kind == JsonKind::Array,
            (other, _) => panic!("{other:?} is no type, but was taken for one"),
        }
    });
    assert_eq!(fits, expected, "{schema}");
}
