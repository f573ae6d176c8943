#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn check(schema: &str, payload: &str) -> Result<(), ValidationError> {
    let payload = Payload::parse(payload.as_bytes(), &PayloadLimits::default()).expect(payload);
    PayloadSchema::compile(schema).expect(schema).validate(&payload)
}

fn message(schema: &str, payload: &str) -> String {
    check(schema, payload).expect_err(payload).to_string()
}

#[test]
fn field_types_accept_contract_values() {
    let values = [
        "\"x\"",
        "\"1\"",
        "1",
        "-0",
        "123456789012345678901234567890",
        "1.0",
        "1e2",
        "true",
        "null",
        "{}",
        "[]",
    ];
    let types = [
        (&["string", "str"][..], "11000000000"),
        (&["number", "float"], "00111110000"),
        (&["int", "integer"], "00111000000"),
        (&["bool", "boolean"], "00000001000"),
        (&["object"], "00000000010"),
        (&["array"], "00000000001"),
    ];
    for (names, taken) in types {
        for name in names {
            for (value, taken) in values.iter().zip(taken.chars()) {
                let fits = check(&format!(r#"{{"f":"{name}"}}"#), &format!(r#"{{"f":{value}}}"#)).is_ok();
                assert_eq!(fits, taken == '1', "{name} takes {value}");
            }
        }
    }
}

#[test]
fn examples_are_valid() {
    let schema =
        r#"{"s": "str", "n": "number", "i": "int", "b": "bool", "o": "object", "a": {"type": "array"}}"#;
    for schema in [schema, "{}", "null"] {
        let example = PayloadSchema::compile(schema).unwrap().example().unwrap();
        assert_eq!(check(schema, &example), Ok(()), "{example}");
        assert_ne!(example, "{}");
    }
    assert_eq!(
        PayloadSchema::compile(r#"{"$schema": "", "type": "object"}"#)
            .map_or(None, |schema| schema.example()),
        None
    );
}

#[test]
fn fields_have_three_notations() {
    let ways = [
        r#"{"a":"int","b":"str"}"#,
        r#"{"a":{"type":"int"},"b":{"type":"str","maxLength":1}}"#,
        r#"{"properties":{"a":"int","b":{"type":"str"}}}"#,
        r#"{"type":"object","required":["zzz"],"properties":{"a":{"type":"int"},"b":"str"}}"#,
        r#"{"\u0061":"i\u006et","b":"str"}"#,
    ];
    for schema in ways {
        assert_eq!(check(schema, r#"{"a":1,"b":"long","c":null}"#), Ok(()), "{schema}");
        assert_eq!(message(schema, r#"{"b":"x"}"#), r#"field "a": expected int, but it is missing"#);
        assert_eq!(message(schema, r#"{"a":1,"b":null}"#), r#"field "b": expected string, got null"#);
    }
}

#[test]
fn properties_and_type_can_be_field_names() {
    assert_eq!(
        message(r#"{"properties":"int"}"#, "{}"),
        r#"field "properties": expected int, but it is missing"#
    );
    assert_eq!(
        message(r#"{"properties":{"type":"int"}}"#, "{}"),
        r#"field "type": expected int, but it is missing"#
    );
    assert_eq!(message(r#"{"type":"object"}"#, "{}"), r#"field "type": expected object, but it is missing"#);
}

#[test]
fn empty_schema_accepts_any_object() {
    for schema in ["{}", "null", " null ", r#"{"properties":{}}"#] {
        assert_eq!(check(schema, "{}"), Ok(()), "{schema}");
        assert_eq!(check(schema, r#"{"a":1}"#), Ok(()), "{schema}");
    }
}

#[test]
fn error_names_the_actual_type() {
    let came = [
        ("1", "int"),
        ("1.5", "float"),
        ("true", "bool"),
        ("null", "null"),
        ("[]", "array"),
        ("{}", "object"),
    ];
    for (value, kind) in came {
        let expected = format!(r#"field "a": expected string, got {kind}"#);
        assert_eq!(message(r#"{"a":"string"}"#, &format!(r#"{{"a":{value}}}"#)), expected);
    }
}

#[test]
fn last_duplicate_value_is_validated() {
    assert_eq!(check(r#"{"a":"int"}"#, r#"{"a":"x","a":1}"#), Ok(()));
    assert!(check(r#"{"a":"int"}"#, r#"{"a":1,"a":"x"}"#).is_err());
}

#[test]
fn schema_errors_name_field_and_type() {
    let unknown = |field: &str, found: &str| SchemaError::UnknownType {
        field: field.to_owned(),
        found: found.to_owned(),
    };
    let typeless = |found| SchemaError::FieldWithoutType { field: "a".to_owned(), found };
    let cases = [
        (r#"{"a":"int","b":"date"}"#, unknown("b", "date")),
        (r#"{"a":"String"}"#, unknown("a", "String")),
        (r#"{"a":""}"#, unknown("a", "")),
        (r#"{"a":{"type":"null"}}"#, unknown("a", "null")),
        (r#"{"properties":{"a":{"type":"int "}}}"#, unknown("a", "int ")),
        (r#"{"a":1}"#, typeless(JsonKind::Int)),
        (r#"{"a":null}"#, typeless(JsonKind::Null)),
        (r#"{"a":["int"]}"#, typeless(JsonKind::Array)),
        (r#"{"a":{}}"#, typeless(JsonKind::Object)),
        (r#"{"a":{"type":["int","str"]}}"#, typeless(JsonKind::Array)),
        ("[]", SchemaError::NotAnObject(JsonKind::Array)),
        ("\"int\"", SchemaError::NotAnObject(JsonKind::String)),
    ];
    for (schema, expected) in cases {
        assert_eq!(PayloadSchema::compile(schema).expect_err(schema), expected, "{schema}");
    }
    for schema in ["", "{", "{\"a\":int}"] {
        let error = PayloadSchema::compile(schema).expect_err(schema);
        assert!(matches!(error, SchemaError::Unreadable(PayloadError::NotJson(_))), "{schema}");
    }
    let text = unknown("b", "date").to_string();
    assert!(text.contains("\"b\"") && text.contains("\"date\"") && text.contains("integer"), "{text}");
}

const STRICT: &str = r#"{
    "$schema": "https://json-schema.org/draft/2020-12/schema",
    "type": "object",
    "properties": {"t": {"type": "number", "maximum": 100}, "tags": {"type": "array", "items": {"type": "string"}}},
    "required": ["t"]
}"#;

#[test]
fn schema_key_selects_json_schema() {
    assert_eq!(check(STRICT, r#"{"t":1.5,"tags":["x"]}"#), Ok(()));
    assert_eq!(message(STRICT, r#"{"t":101}"#), r#"at "/t": 101 is greater than the maximum of 100"#);
    assert_eq!(message(STRICT, r#"{"t":1,"tags":["x",7]}"#), r#"at "/tags/1": 7 is not of type "string""#);
    assert_eq!(message(STRICT, "{}"), r#"at "": "t" is a required property"#);
    for draft in ["http://json-schema.org/draft-07/schema#", "http://json-schema.org/draft-04/schema#"] {
        assert_eq!(check(&json!({"$schema": draft, "required": ["a"]}).to_string(), r#"{"a":null}"#), Ok(()));
    }
}

#[test]
fn invalid_or_remote_json_schema_is_rejected() {
    let draft = "https://json-schema.org/draft/2020-12/schema";
    let cases = [
        json!({"$schema": draft, "type": "whatever"}),
        json!({"$schema": draft, "properties": []}),
        json!({"$schema": draft, "$ref": "https://example.com/other.json"}),
        json!({"$schema": draft, "$ref": "file:///etc/hostname"}),
        json!({"$schema": "https://example.com/my-draft"}),
        json!({"$schema": 7}),
    ];
    for schema in cases {
        let error = PayloadSchema::compile(&schema.to_string()).map(|_| ()).unwrap_err();
        assert!(matches!(error, SchemaError::JsonSchema(_)), "{schema}: {error}");
    }
}

#[test]
fn json_schema_rejects_deep_payloads() {
    let nested =
        |levels: usize| format!(r#"{{"t":1,"x":{}{}}}"#, "[".repeat(levels - 1), "]".repeat(levels - 1));
    assert_eq!(check(STRICT, &nested(127)), Ok(()));
    let error = ValidationError::TooDeepForJsonSchema { depth: 128, limit: 127 };
    assert_eq!(check(STRICT, &nested(128)), Err(error));
}

#[test]
fn json_schema_rejects_large_payloads() {
    // The object, the name and the array count too.
    let payload = |elements: usize| format!(r#"{{"t":[{}0]}}"#, "0,".repeat(elements - 1));
    let schema = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema"}"#;
    assert_eq!(check(schema, &payload(99_997)), Ok(()));
    let error = ValidationError::TooManyNodesForJsonSchema { nodes: 100_001, limit: 100_000 };
    assert_eq!(check(schema, &payload(99_998)), Err(error));
    let of_objects = |count: usize| format!(r#"{{"l":[{}{{"":0}}]}}"#, r#"{"":0},"#.repeat(count - 1));
    assert!(check(schema, &of_objects(33_332)).is_ok() && check(schema, &of_objects(33_333)).is_err());
    assert_eq!(check("{}", &of_objects(33_333)), Ok(()));
}

#[test]
fn large_json_schema_is_rejected() {
    let values = "0,".repeat(100_000);
    let schema =
        format!(r#"{{"$schema":"https://json-schema.org/draft/2020-12/schema","enum":[{values}1]}}"#);
    let error = PayloadSchema::compile(&schema).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("100006 values and names, 100000 are allowed"), "{error}");
}

const DRAFT: &str = "https://json-schema.org/draft/2020-12/schema";

/// Expressions such as `{"op": "and", "of": …}` around a number.
fn expression_schema() -> String {
    let operation = |name: &str| {
        let members = json!({"op": {"const": name}, "of": {"$ref": "#/$defs/e"}});
        json!({"type": "object", "properties": members})
    };
    let e = json!({"anyOf": [{"type": "number"}, operation("and"), operation("or")]});
    json!({"$schema": DRAFT, "properties": {"e": {"$ref": "#/$defs/e"}}, "$defs": {"e": e}}).to_string()
}

#[test]
fn branches_of_a_recursive_schema_do_not_multiply() {
    let nested = |levels: usize, innermost: &str| {
        format!(r#"{{"e":{}{innermost}{}}}"#, r#"{"op":"and","of":"#.repeat(levels), "}".repeat(levels))
    };
    let schema = expression_schema();
    assert_eq!(check(&schema, &nested(100, "1")), Ok(()));
    let problem = message(&schema, &nested(100, "null"));
    assert_eq!(problem, r#"at "": the payload does not match the schema, and is too large to say where"#);
    let problem = message(&schema, &nested(3, "null"));
    assert!(problem.contains("is not valid under any of the schemas"), "{problem}");
}

/// How the definition with this number is referred to, and the members that name it.
struct Naming {
    reference: fn(usize) -> String,
    name: fn(usize) -> Value,
}

const NAMINGS: [Naming; 3] = [
    Naming { reference: |n| format!("#/$defs/%64{n}"), name: |_| json!({}) },
    Naming { reference: |n| format!("#a{n}"), name: |n| json!({"$anchor": format!("a{n}")}) },
    Naming {
        reference: |n| format!("https://example.com/s{n}"),
        name: |n| json!({"$id": format!("https://example.com/s{n}")}),
    },
];

/// A schema of 40 definitions, each of which is `step` of a reference to the next one.
fn chain(Naming { reference, name }: &Naming, step: fn(Value) -> Value) -> String {
    let definition = |n: usize| {
        let mut definition = if n == 40 { json!({}) } else { step(json!({"$ref": reference(n + 1)})) };
        definition.as_object_mut().unwrap().append(name(n).as_object_mut().unwrap());
        (format!("d{n}"), definition)
    };
    let definitions: serde_json::Map<String, Value> = (0..=40).map(definition).collect();
    json!({"$schema": DRAFT, "$ref": reference(0), "$defs": definitions}).to_string()
}

#[test]
fn schema_with_too_many_ways_is_rejected() {
    let twice = |next: Value| json!({"properties": {"a": {"allOf": [next.clone(), next]}}});
    let branches = |next: Value| json!({"items": {"if": next.clone(), "then": next}});
    let patterns = |next: Value| json!({"patternProperties": {"a": next.clone(), "b": next}});
    for naming in &NAMINGS {
        for step in [twice, branches, patterns] {
            let error = PayloadSchema::compile(&chain(naming, step)).map(|_| ()).unwrap_err().to_string();
            assert!(error.contains("more than 10000 ways"), "{error}");
        }
        let once = |next: Value| json!({"properties": {"a": next.clone(), "b": next}});
        assert_eq!(check(&chain(naming, once), "{}"), Ok(()));
    }
}

#[test]
fn schema_that_leads_back_to_the_same_value_is_rejected() {
    let schema =
        json!({"$schema": DRAFT, "$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/a"}]}}});
    let error = PayloadSchema::compile(&schema.to_string()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("leads back to its own definition"), "{error}");
}

#[test]
fn deeply_nested_definitions_are_rejected() {
    let schema = |definitions: usize| {
        let link = |n: usize| {
            (format!("d{n}"), json!({"properties": {"a": {"$ref": format!("#/$defs/d{}", n + 1)}}}))
        };
        let mut chain: serde_json::Map<String, Value> = (0..definitions).map(link).collect();
        chain.insert(format!("d{definitions}"), json!({}));
        json!({"$schema": DRAFT, "$ref": "#/$defs/d0", "$defs": chain}).to_string()
    };
    assert_eq!(check(&schema(240), "{}"), Ok(()));
    let error = PayloadSchema::compile(&schema(5_000)).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("nested more than 500 levels deep"), "{error}");
}

#[test]
fn deep_payloads_of_recursive_schemas_are_checked() {
    let schema = |links: usize| {
        let link = |n: usize| {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            (format!("d{n}"), json!({"oneOf": [next], "unevaluatedProperties": true}))
        };
        let mut chain: serde_json::Map<String, Value> = (0..links).map(link).collect();
        let last = json!({"properties": {"a": {"$ref": "#/$defs/d0"}}, "not": {"required": ["z"]}});
        chain.insert(format!("d{links}"), last);
        json!({"$schema": DRAFT, "$ref": "#/$defs/d0", "$defs": chain}).to_string()
    };
    let deep = |innermost: &str| format!("{}{innermost}{}", r#"{"a":"#.repeat(126), "}".repeat(126));
    // The root, a definition and the branch of each link, the last definition, and what it excludes.
    assert_eq!(check(&schema(10), &deep("{}")), Ok(()));
    assert!(check(&schema(10), &deep(r#"{"z":1}"#)).is_err());
    let error = PayloadSchema::compile(&schema(11)).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("more than 24 definitions for the same value"), "{error}");
}

#[test]
fn patterns_that_backtrack_end() {
    let schema = json!({"$schema": DRAFT, "properties": {"a": {"pattern": "^(?=x)(x+x+)+y$"}}}).to_string();
    assert_eq!(check(&schema, r#"{"a":"xxy"}"#), Ok(()));
    assert!(check(&schema, &json!({"a": "x".repeat(5_000)}).to_string()).is_err());
}

#[test]
fn json_schema_compares_numbers_as_doubles() {
    let integer =
        r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","properties":{"a":{"type":"integer"}}}"#;
    for value in ["123456789012345678901234567890", "1.0", "1e2"] {
        assert_eq!(check(integer, &format!(r#"{{"a":{value}}}"#)), Ok(()), "{value}");
    }
    let error = check(integer, r#"{"b":1e400}"#).unwrap_err();
    assert!(
        matches!(&error, ValidationError::UnfitForJsonSchema(why) if why.contains("out of range")),
        "{error}"
    );
}

#[test]
fn long_values_are_shortened_in_errors() {
    let message = message(STRICT, &format!(r#"{{"t":"{}"}}"#, "é".repeat(100_000)));
    assert!(message.len() < 600 && message.ends_with('…'), "{message}");
}

#[test]
fn validate_payload_matches_the_schema() {
    let schema = json!({"a": "int"});
    assert_eq!(validate_payload(&schema, &json!({"a": 1})), Ok(()));
    assert!(matches!(validate_payload(&schema, &json!({"a": 1.0})), Err(ValidatePayloadError::Invalid(_))));
    assert!(matches!(validate_payload(&schema, &json!([])), Err(ValidatePayloadError::Payload(_))));
    assert!(matches!(validate_payload(&json!({"a": "x"}), &json!({})), Err(ValidatePayloadError::Schema(_))));
}

proptest! {
    #[test]
    fn compile_never_panics(text in ".{0,60}") {
        let _ = PayloadSchema::compile(&text);
    }
}
