#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use proptest::prelude::*;
use serde_json::Value;

use super::*;
use crate::domain::payload::PayloadLimits;

fn key(text: &str) -> MessageKey {
    MessageKey::parse(Some(text)).unwrap().unwrap()
}

fn hash(place: &str, payload: &str, properties: &[(&str, &str)]) -> Option<KeyHash> {
    let payload = Payload::parse(payload.as_bytes(), &PayloadLimits::default()).unwrap();
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let delivery =
        DeliveryFacts { user_properties: properties.iter().map(owned).collect(), ..DeliveryFacts::default() };
    key(place).hash_of(&payload, &delivery)
}

#[test]
fn key_location_is_pointer_or_property() {
    for none in [None, Some(""), Some("  ")] {
        assert_eq!(MessageKey::parse(none), Ok(None));
    }
    for good in ["/id", "/", "/a/0/b", "/a~0b~1c", "property:id", "property:a b", "property:/x"] {
        assert_eq!(key(good).text, good);
    }
    for bad in
        ["id", "$.id", "#/id", " /id", "/a~", "/a~2", "/~/~1", "property:", "Property:id", "properties:id"]
    {
        assert_eq!(MessageKey::parse(Some(bad)), Err(UnusableKey(bad.to_owned())), "{bad}");
    }
}

#[test]
fn absent_null_and_empty_keys_are_none() {
    for (place, payload) in [
        ("/id", "{}"),
        ("/id", r#"{"id": null}"#),
        ("/id", r#"{"id": ""}"#),
        ("/id/x", r#"{"id": 1}"#),
        ("/id/0", r#"{"id": []}"#),
        ("/id/-", r#"{"id": [1]}"#),
        ("/id/00", r#"{"id": [1]}"#),
        ("/id/+0", r#"{"id": [1]}"#),
        ("/id/1", r#"{"id": [1]}"#),
        ("/id/b", r#"{"id": {"a": 1}}"#),
        ("property:id", r#"{"id": 1}"#),
    ] {
        assert_eq!(hash(place, payload, &[("other", "x"), ("ID", "x")]), None, "{place} in {payload}");
    }
    assert_eq!(hash("property:id", "{}", &[("id", "")]), None);
}

#[test]
fn equal_values_have_equal_keys() {
    let same = [
        (r#"{"k": "A/b"}"#, r#"{ "k" : "\u0041\/b" }"#),
        (r#"{"k": {"a": [1, "x"]}}"#, r#"{"k":{"a":[1,"\u0078"]}}"#),
        (r#"{"k": 1}"#, r#"{"k": 7, "k": 1}"#),
    ];
    for (one, other) in same {
        assert_eq!(hash("/k", one, &[]), hash("/k", other, &[]), "{one} and {other}");
    }
    let values = ["1", r#""1""#, "1.0", "1e0", "-1", "true", r#""true""#, "[1]", r#""[1]""#, r#"{"a": 1}"#];
    let hashes: Vec<_> = values.map(|value| hash("/k", &format!(r#"{{"k": {value}}}"#), &[]).unwrap()).into();
    for (at, one) in hashes.iter().enumerate() {
        assert_eq!(hashes.iter().position(|other| other == one), Some(at), "{}", values[at]);
    }
}

#[test]
fn key_depends_on_its_location() {
    let payload = r#"{"a": "1", "b": "1", "c": {"a": "1"}}"#;
    let hashes = ["/a", "/b", "/c/a", "property:a"].map(|place| hash(place, payload, &[("a", "1")]).unwrap());
    for (at, one) in hashes.iter().enumerate() {
        assert_eq!(hashes.iter().position(|other| other == one), Some(at));
    }
}

#[test]
fn first_duplicate_property_is_the_key() {
    let both = hash("property:k", "{}", &[("x", "0"), ("k", "1"), ("k", "2")]);
    assert_eq!(both, hash("property:k", "{}", &[("k", "1")]));
    assert_ne!(both, hash("property:k", "{}", &[("k", "2")]));
}

/// JSON with names and texts that need escapes in JSON and in a pointer.
fn json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a/~\"\\\\é]{0,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a/~01\"é]{0,2}", inner, 0..4)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

/// Every pointer into `value`, and some pointers without a value.
fn pointers(value: &Value, prefix: &str, all: &mut Vec<String>) {
    let mut into = |token: String, inner: &Value| {
        let path = format!("{prefix}/{}", token.replace('~', "~0").replace('/', "~1"));
        all.push(format!("{path}/nowhere"));
        pointers(inner, &path, all);
        all.push(path);
    };
    match value {
        Value::Object(members) => members.iter().for_each(|(name, inner)| into(name.clone(), inner)),
        Value::Array(items) => {
            (0..).zip(items).for_each(|(at, inner): (usize, _)| into(at.to_string(), inner));
        }
        _ => {}
    }
}

proptest! {
    /// Compares with the pointers of `serde_json`.
    #[test]
    fn pointer_finds_the_named_value(members in prop::collection::btree_map("[a/~01\"é]{0,2}", json(), 0..4)) {
        let value = Value::Object(members.into_iter().collect());
        let text = value.to_string();
        let mut all = vec!["/nowhere".to_owned()];
        pointers(&value, "", &mut all);
        for place in all {
            let expected = value.pointer(&place).filter(|found| !found.is_null() && *found != "");
            let alone = expected.map(|found| format!(r#"{{"k": {found}}}"#));
            let at = |text: &str, tokens: &[String]| {
                let payload = Payload::parse(text.as_bytes(), &PayloadLimits::default()).unwrap();
                content_at(&payload, tokens).map(|(sort, content)| (sort, content.into_owned()))
            };
            let found = at(&text, &pointer(&place).unwrap());
            prop_assert_eq!(found, alone.and_then(|text| at(&text, &["k".to_owned()])), "{}", place);
        }
    }

    #[test]
    fn parse_accepts_known_prefixes_only(text in any::<String>()) {
        let read = MessageKey::parse(Some(&text));
        let plausible = text.trim().is_empty() || text.starts_with(['/']) || text.starts_with(PROPERTY);
        prop_assert!(plausible || read.is_err());
    }
}
