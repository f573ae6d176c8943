//! `validate_payload`: every type, every form of a schema, and the text of a rejection.

use test_support::world::World;

/// A type's names, the values it takes and the values it refuses.
const TYPES: [(&[&str], &[&str], &[&str]); 6] = [
    (&["string", "str"], &[r#""text""#, r#""""#, r#""12""#], &["1", "true", "null", "[]", "{}"]),
    (&["number", "float"], &["1", "-2.5", "1e3", "0"], &[r#""1""#, "true", "false", "null", "[1]"]),
    (
        &["int", "integer"],
        &["1", "-7", "0", "123456789012345678901234567890"],
        &["1.5", "1.0", r#""1""#, "true", "null", "[]"],
    ),
    (&["bool", "boolean"], &["true", "false"], &["0", "1", r#""true""#, "null"]),
    (&["object"], &["{}", r#"{"a": 1}"#], &["[]", r#""{}""#, "null", "1"]),
    (&["array"], &["[]", "[1, [2]]"], &["{}", r#""[]""#, "null", "true"]),
];

/// Publishes and gives the number of messages that must then be stored.
fn publish_values(world: &World, topic: &str, values: &[&str]) -> usize {
    for value in values {
        world.publish(topic, format!(r#"{{"field": {value}}}"#));
    }
    values.len()
}

fn types_accept_only_their_values(world: World) {
    for (names, _, _) in TYPES {
        for name in names {
            let schema = format!(r#"{{"field": "{name}"}}"#);
            world.flow(name, name).schema(&schema).insert(&world.sql);
        }
    }
    let _gateway = world.start_subscribed();
    let mut refused = 0;
    for (names, good, bad) in TYPES {
        for name in names {
            let first = good.len() / 2;
            publish_values(&world, name, &good[..first]);
            refused += publish_values(&world, name, bad);
            publish_values(&world, name, &good[first..]);
        }
    }
    let letters = world.wait_for_dead_letters(refused);
    assert_eq!(letters.len(), refused);
    for letter in letters {
        assert!(letter.detail.contains("field"), "the detail names the field: {letter:?}");
        assert!(letter.flow_id.is_some() && !letter.reason.is_empty(), "{letter:?}");
    }
    for (names, good, _) in TYPES {
        for name in names {
            let stored = world.wait_for_stored(name, good.len());
            let count = i64::try_from(good.len()).unwrap();
            assert!(stored.iter().map(|m| m.id).eq(1..=count), "{name}: {stored:?}");
        }
    }
}

fn all_schema_forms_are_accepted(world: World) {
    let forms = [
        ("short", r#"{"field": "int"}"#),
        ("typed", r#"{"field": {"type": "int"}}"#),
        ("properties", r#"{"properties": {"field": "int"}}"#),
        ("both", r#"{"properties": {"field": {"type": "int"}}}"#),
        (
            "json_schema",
            r#"{"$schema": "https://json-schema.org/draft/2020-12/schema", "type": "object",
            "required": ["field"], "properties": {"field": {"type": "integer", "maximum": 10}}}"#,
        ),
    ];
    for (code, schema) in forms {
        world.flow(code, "any").schema(schema).insert(&world.sql);
    }
    let _gateway = world.start_subscribed();
    world.publish("any", r#"{"field": "seven"}"#);
    world.publish("any", r#"{"another": 7}"#);
    world.publish("any", r#"{"field": 7, "another": true}"#);
    for (code, _) in forms {
        let stored = world.wait_for_stored(code, 1);
        assert_eq!(stored.len(), 1, "{code}");
        assert_eq!(stored[0].id, 1, "{code}: a refused payload takes no id");
        assert_eq!(
            stored[0].value("another"),
            Some("True"),
            "{code}: fields not named are allowed and stored"
        );
    }
    assert_eq!(world.wait_for_dead_letters(2 * forms.len()).len(), 2 * forms.len());
}

fn a_json_schema_is_more_than_types(world: World) {
    let schema = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema",
        "properties": {"level": {"maximum": 10}}}"#;
    world.flow("bounded", "t").schema(schema).insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"level": 11}"#);
    world.publish("t", r#"{"level": 10}"#);
    assert_eq!(world.wait_for_stored("bounded", 1)[0].value("level"), Some("10"));
    assert!(world.wait_for_dead_letters(1)[0].detail.contains("level"));
}

fn rejection_names_field_and_types(world: World) {
    let id = world.flow("strict", "t").schema(r#"{"temperature": "number"}"#).insert(&world.sql);
    let gateway = world.start_subscribed();
    world.publish("t", r#"{"temperature": "warm"}"#);
    let letter = world.wait_for_dead_letters(1).remove(0);
    assert_eq!(letter.flow_id, Some(id));
    assert_eq!(letter.payload, br#"{"temperature": "warm"}"#);
    assert_eq!(letter.topic, world.topic("t"));
    for word in ["temperature", "number", "string"] {
        assert!(letter.detail.contains(word), "{word} is missing in {}", letter.detail);
    }
    gateway.wait_for_line(&format!("Error processing topic {} (flow_id={id}): ", world.topic("t")));
    assert_eq!(world.last_msg_id("strict"), None, "a refused payload takes no id");
}

on_each_database!(
    types_accept_only_their_values,
    all_schema_forms_are_accepted,
    a_json_schema_is_more_than_types,
    rejection_names_field_and_types,
);
