#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::Value;

use super::*;

fn parse(text: &str) -> Result<Payload<'_>, PayloadError> {
    Payload::parse(text.as_bytes(), &PayloadLimits::default())
}

fn stored(text: &str, style: ValueStyle) -> String {
    parse(text).expect(text).get("v").expect("has v").text(style).into_owned()
}

/// A payload and Python's text of `v`: `str(value)`, or `json.dumps(value, ensure_ascii=False)` for objects and arrays.
const AS_PYTHON_STORES: &[(&str, &str)] = &[
    (r#"{"v":"plain"}"#, "plain"),
    (r#"{"v":"\u0041\u00e9"}"#, "Aé"),
    (r#"{"v":"\ud83d\ude00 \u20ac"}"#, "😀 €"),
    (r#"{"v":"a\/b/c"}"#, "a/b/c"),
    (r#"{"v":"\b\f\n\r\t\"\\"}"#, "\u{8}\u{c}\u{a}\u{d}\u{9}\"\\"),
    (r#"{"v":"\u0000\u001f\u007f"}"#, "\u{0}\u{1f}\u{7f}"),
    (r#"{"v":123456789012345678901234567890}"#, "123456789012345678901234567890"),
    (r#"{"v":-5}"#, "-5"),
    (r#"{"v":{}}"#, "{}"),
    (r#"{"v":[]}"#, "[]"),
    (r#"{"v":[ ]}"#, "[]"),
    (r#"{"v":{ }}"#, "{}"),
    (r#"{"v":[1,2,3]}"#, "[1, 2, 3]"),
    (r#"{"v":{"a":1,"b":[true,false,null]}}"#, "{\"a\": 1, \"b\": [true, false, null]}"),
    (r#"{"v":{"a":{"b":{"c":[{},[],""]}}}}"#, "{\"a\": {\"b\": {\"c\": [{}, [], \"\"]}}}"),
    (r#"{"v":{"grad":"°C","名":"温度","e":"😀"}}"#, "{\"grad\": \"°C\", \"名\": \"温度\", \"e\": \"😀\"}"),
    (
        r#"{"v":["\u0041","\ud83d\ude00","\/","\u00e9","\u2028","\u007f"]}"#,
        "[\"A\", \"😀\", \"/\", \"é\", \"\u{2028}\", \"\u{7f}\"]",
    ),
    (
        r#"{"v":["\b\f\n\r\t","\u0000\u001f","\"\\","a/b"]}"#,
        "[\"\\b\\f\\n\\r\\t\", \"\\u0000\\u001f\", \"\\\"\\\\\", \"a/b\"]",
    ),
    (r#"{"v":{"a":1,"b":2,"a":3}}"#, "{\"a\": 3, \"b\": 2}"),
    (r#"{"v":{"a":1,"\u0061":{"x":1,"x":[2]},"b":0}}"#, "{\"a\": {\"x\": [2]}, \"b\": 0}"),
    (r#"{"v":[{"k":1,"k":2,"k":3},{"k":4}]}"#, "[{\"k\": 3}, {\"k\": 4}]"),
    (r#"{"v":[123456789012345678901234567890,-1,0]}"#, "[123456789012345678901234567890, -1, 0]"),
    ("{\"v\":\u{9}[ 1 ,\u{a} {\"a\" : \"b\" } ]\u{d}}", "[1, {\"a\": \"b\"}]"),
    (r#"{"v":{"":"","\n":"\u000b"}}"#, "{\"\": \"\", \"\\n\": \"\\u000b\"}"),
    (r#"{"v":{"a":{"z":1,"a":2,"z":{"q":1,"q":2}},"b":1,"a":{"y":0}}}"#, "{\"a\": {\"y\": 0}, \"b\": 1}"),
    (r#"{"v":true}"#, "True"),
    (r#"{"v":false}"#, "False"),
    (r#"{"v":null}"#, "None"),
];

#[test]
fn values_are_stored_as_by_python() {
    for &(payload, expected) in AS_PYTHON_STORES {
        assert_eq!(stored(payload, ValueStyle::Python), expected, "{payload}");
    }
}

#[test]
fn json_style_changes_booleans_and_null_only() {
    for &(payload, python) in AS_PYTHON_STORES {
        let json = match python {
            "True" => "true",
            "False" => "false",
            "None" => "null",
            other => other,
        };
        assert_eq!(stored(payload, ValueStyle::Json), json, "{payload}");
    }
}

#[test]
fn numbers_keep_their_spelling() {
    for number in
        ["-0", "1.0", "1e2", "1E+02", "0.10", "123456789012345678901234567890.5", "1e400", "-1.5e-7"]
    {
        assert_eq!(stored(&format!(r#"{{"v":{number}}}"#), ValueStyle::Python), number);
        assert_eq!(stored(&format!(r#"{{"v":[{number}]}}"#), ValueStyle::Python), format!("[{number}]"));
    }
}

#[test]
fn last_duplicate_attribute_wins() {
    let payload = parse(r#" {"b" : 1, "a":[ 1,{}], "\u0062":"x", "":null} "#).unwrap();
    let all: Vec<_> = payload.attributes().iter().map(|a| (a.name(), a.raw(), a.kind())).collect();
    let expected =
        [("b", "\"x\"", JsonKind::String), ("a", "[ 1,{}]", JsonKind::Array), ("", "null", JsonKind::Null)];
    assert_eq!(all, expected);
    assert!(payload.get("c").is_none());
    assert!(parse("{}").unwrap().attributes().is_empty());
}

#[test]
fn kinds_match_python() {
    let kinds = [
        ("1", JsonKind::Int),
        ("-0", JsonKind::Int),
        ("1.0", JsonKind::Number),
        ("1e2", JsonKind::Number),
        ("true", JsonKind::Bool),
        ("null", JsonKind::Null),
        ("\"1\"", JsonKind::String),
        ("[]", JsonKind::Array),
        ("{}", JsonKind::Object),
    ];
    for (value, kind) in kinds {
        assert_eq!(parse(&format!(r#"{{"v":{value}}}"#)).unwrap().get("v").unwrap().kind(), kind, "{value}");
    }
}

#[test]
fn invalid_payloads_have_a_reason() {
    let not_json = [
        "",
        " ",
        "{",
        "{\"a\"",
        "{\"a\":",
        "{\"a\":1",
        "{\"a\":1,",
        "{\"a\":1,}",
        "{,}",
        "{a:1}",
        "{'a':1}",
        "{\"a\":1}}",
        "{} x",
        "{\"a\":01}",
        "{\"a\":.5}",
        "{\"a\":1.}",
        "{\"a\":+1}",
        "{\"a\":1e}",
        "{\"a\":-}",
        "{\"a\":[1,]}",
        "{\"a\":[1}",
        "{\"a\":{]}",
        "{\"a\":NaN}",
        "{\"a\":Infinity}",
        "{\"a\":-Infinity}",
        "NaN",
        "{\"a\":tru}",
        "{\"a\":True}",
        "{\"a\":\"\n\"}",
        "{\"a\":\"\u{0}\"}",
        "{\"a\":\"\\x\"}",
        "{\"a\":\"\\u12\"}",
        "{\"a\":\"\\u+123\"}",
        "\u{feff}{}",
        "{\"a\":1 2}",
        "{\"a\" 1}",
        "[1",
        "{\"a\":\"x",
    ];
    for text in not_json {
        assert_eq!(parse(text).expect_err(text).reason().as_str(), "payload_not_json", "{text:?}");
    }
    for (text, kind) in [
        ("[]", JsonKind::Array),
        ("1", JsonKind::Int),
        ("\"x\"", JsonKind::String),
        (" null ", JsonKind::Null),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!((error, error.reason().as_str()), (PayloadError::NotAnObject(kind), "payload_not_object"));
    }
    let error = Payload::parse(b"{\"a\":\"\xff\"}", &PayloadLimits::default()).unwrap_err();
    assert_eq!((error, error.reason().as_str()), (PayloadError::NotUtf8 { at: 6 }, "payload_not_utf8"));
}

#[test]
fn error_names_problem_and_position() {
    let messages = [
        ("{\"a\":NaN}", "not JSON: NaN and Infinity are no JSON at byte 5"),
        ("{\"a\":1 2}", "not JSON: expected ',' or '}' at byte 7"),
        ("{\"a\":\"\\ud80\"}", "not JSON: \\u needs four hexadecimal digits at byte 6"),
        ("", "not JSON: the text ends where a value should be at byte 0"),
        ("[]", "not a JSON object but: array"),
    ];
    for (text, message) in messages {
        assert_eq!(parse(text).unwrap_err().to_string(), message);
    }
}

#[test]
fn half_surrogate_pairs_are_located() {
    let cases = [
        (r#"{"a":"\ud83d\ude00"}"#, None),
        (r#"{"a":"\\ud83d"}"#, None),
        (r#"{"a":"\ud83d"}"#, Some(6)),
        (r#"{"a":"\ude00\ud83d"}"#, Some(6)),
        (r#"{"a":"\ud83d\u0041"}"#, Some(6)),
        (r#"{"a":"\uD83D\uD83D\uDE00"}"#, Some(6)),
        (r#"{"a":["",{"\ud83d":1}]}"#, Some(11)),
        (r#"{"a":"\udc00"}"#, Some(6)),
        (r#"{"\ud800":1}"#, Some(2)),
        (r#"{"a":[{"b":"\udfff"}]}"#, Some(12)),
    ];
    for (text, place) in cases {
        assert_eq!(parse(text).expect(text).half_pair(), place, "{text}");
    }
    let payload = parse(r#"{"\ud83d":1,"\ud83e":2}"#).unwrap();
    assert_eq!(payload.attributes().len(), 2, "two names stay two");
    assert_eq!(parse(r#"{"a":"\ud83d\u00"}"#).unwrap_err().reason().as_str(), "payload_not_json");
}

#[test]
fn limits_are_inclusive() {
    let limits = PayloadLimits { max_payload_bytes: 24, max_depth: 3, max_attributes: 2 };
    let outcome = |text: &str| {
        Payload::parse(text.as_bytes(), &limits).map(|_| ()).map_err(|error| error.reason().as_str())
    };
    assert_eq!(outcome(&format!("{{\"a\":\"{}\"}}", "x".repeat(16))), Ok(()));
    assert_eq!(outcome(&format!("{{\"a\":\"{}\"}}", "x".repeat(17))), Err("payload_too_large"));
    assert_eq!(outcome(r#"{"a":[[],{}]}"#), Ok(()));
    assert_eq!(outcome(r#"{"a":[[[]]]}"#), Err("payload_too_deep"));
    assert_eq!(outcome(r#"{"a":1,"b":2,"a":3}"#), Ok(()));
    assert_eq!(outcome(r#"{"a":1,"b":2,"c":3}"#), Err("payload_too_many_attributes"));
}

#[test]
fn excessive_depth_uses_no_stack() {
    for levels in [3_000, 10_000, 1_000_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{{\"v\":{}1{}}}", open.repeat(levels), close.repeat(levels));
            let limits = PayloadLimits { max_payload_bytes: usize::MAX, ..PayloadLimits::default() };
            let refused = Payload::parse(deep.as_bytes(), &limits).unwrap_err();
            assert_eq!(refused, PayloadError::TooDeep { limit: 1000 });
            // The error occurs at the first level beyond the limit, before the missing brackets are noticed.
            let unclosed = &deep.as_bytes()[..deep.len() / 2];
            let refused = Payload::parse(unclosed, &limits).unwrap_err();
            assert_eq!(refused, PayloadError::TooDeep { limit: 1000 });
        }
    }
}

#[test]
fn allowed_depth_uses_no_stack() {
    let levels = 100_000;
    let nested = format!("{}1{}", "{\"a\": ".repeat(levels), "}".repeat(levels));
    let limits =
        PayloadLimits { max_payload_bytes: usize::MAX, max_depth: usize::MAX, ..PayloadLimits::default() };
    let text = format!("{{\"v\":{}}}", nested.replace(' ', ""));
    let payload = Payload::parse(text.as_bytes(), &limits).unwrap();
    assert_eq!(payload.get("v").unwrap().text(ValueStyle::Python), nested);
}

#[test]
fn many_names_are_distinguished() {
    for count in [31, 32, 33, 34, 70, 5_000] {
        let once: Vec<String> = (0..count).map(|n| format!("\"n{n}\":{n}")).collect();
        let again: Vec<String> = (0..count).rev().map(|n| format!("\"\\u006e{n}\":\"x{n}\"")).collect();
        let text = format!("{{{},{}}}", once.join(","), again.join(","));
        let payload = parse(&text).unwrap();
        assert_eq!(payload.attributes().len(), count);
        for (n, attribute) in payload.attributes().iter().enumerate() {
            assert_eq!((attribute.name(), attribute.raw()), (&*format!("n{n}"), &*format!("\"x{n}\"")));
            assert_eq!(payload.get(attribute.name()), Some(attribute));
        }
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::btree_map("[a-c\"\\\\é\n]{0,3}", inner, 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// JSON texts, most of them damaged by a few random edits.
fn nearly_json() -> impl Strategy<Value = String> {
    let edits = prop::collection::vec(
        (any::<prop::sample::Index>(), prop::sample::select(b"{}[],:\"\\u0123dD8eE+-. tn\n".to_vec())),
        0..3,
    );
    (any_json(), edits, any::<bool>()).prop_map(|(value, edits, pretty)| {
        let object = serde_json::json!({"v": value, "w": [value]});
        let mut bytes =
            if pretty { serde_json::to_vec_pretty(&object) } else { serde_json::to_vec(&object) }.unwrap();
        for (place, byte) in edits {
            let place = place.index(bytes.len());
            bytes[place] = byte;
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}

/// JSON texts, with duplicate names.
#[derive(Debug, Clone)]
enum Doc {
    Scalar(&'static str),
    Array(Vec<Doc>),
    Object(Vec<(&'static str, Doc)>),
}

impl Doc {
    fn written(&self) -> String {
        match self {
            Doc::Scalar(raw) => (*raw).to_owned(),
            Doc::Array(elements) => {
                format!("[{}]", elements.iter().map(Doc::written).collect::<Vec<_>>().join(","))
            }
            Doc::Object(members) => {
                let members = members.iter().map(|(name, value)| format!("\"{name}\":{}", value.written()));
                format!("{{{}}}", members.collect::<Vec<_>>().join(","))
            }
        }
    }

    fn as_python_dumps(&self) -> String {
        match self {
            Doc::Scalar(raw) => (*raw).to_owned(),
            Doc::Array(elements) => {
                format!("[{}]", elements.iter().map(Doc::as_python_dumps).collect::<Vec<_>>().join(", "))
            }
            Doc::Object(members) => {
                let mut last: Vec<(&str, &Doc)> = Vec::new();
                for (name, value) in members {
                    match last.iter_mut().find(|(known, _)| known == name) {
                        Some(member) => member.1 = value,
                        None => last.push((name, value)),
                    }
                }
                let members =
                    last.iter().map(|(name, value)| format!("\"{name}\": {}", value.as_python_dumps()));
                format!("{{{}}}", members.collect::<Vec<_>>().join(", "))
            }
        }
    }
}

fn any_doc() -> impl Strategy<Value = Doc> {
    let leaf =
        prop::sample::select(vec!["1", "1.50", "null", "\"\"", "\"é, {\"", "true"]).prop_map(Doc::Scalar);
    leaf.prop_recursive(6, 80, 6, |inner| {
        let name = prop::sample::select(vec!["", "a", "b", "c"]);
        prop_oneof![
            1 => prop::collection::vec(inner.clone(), 0..4).prop_map(Doc::Array),
            3 => prop::collection::vec((name, inner), 0..6).prop_map(Doc::Object),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn parser_agrees_with_serde_json(text in nearly_json()) {
        let by_serde: Result<Value, _> = serde_json::from_str(&text);
        match (parse(&text), by_serde) {
            (Ok(payload), Ok(Value::Object(members))) => {
                prop_assert_eq!(payload.attributes().len(), members.len());
                for attribute in payload.attributes() {
                    let raw: Value = serde_json::from_str(attribute.raw()).unwrap();
                    prop_assert_eq!(Some(&raw), members.get(attribute.name()));
                }
            }
            (Ok(_), Err(error)) => prop_assert!(error.to_string().contains("number out of range"), "{}", error),
            (Err(PayloadError::NotAnObject(_)), Ok(value)) => prop_assert!(!value.is_object()),
            (Err(PayloadError::NotJson(_)), Err(_)) => {}
            (ours, by_serde) => prop_assert!(false, "{:?} but {:?}", ours, by_serde),
        }
    }

    #[test]
    fn stored_text_preserves_nested_values(value in any_json()) {
        let text = serde_json::json!({"v": value}).to_string();
        let stored = stored(&text, ValueStyle::Json);
        if let Value::String(content) = &value {
            prop_assert_eq!(&stored, content);
        } else {
            prop_assert_eq!(serde_json::from_str::<Value>(&stored).unwrap(), value);
        }
    }

    #[test]
    fn nested_duplicates_match_python(doc in any_doc()) {
        let compact = format!("{{\"v\":[{}]}}", doc.written());
        prop_assert_eq!(stored(&compact, ValueStyle::Json), format!("[{}]", doc.as_python_dumps()), "{}", compact);
    }

    #[test]
    fn payload_parser_never_panics(bytes in prop::collection::vec(any::<u8>(), 0..80)) {
        let _ = Payload::parse(&bytes, &PayloadLimits::default());
    }
}
