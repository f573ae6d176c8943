//! A message that does not arrive: why, and a message to try.

use test_support::world::World;

use super::{add_temp, document, fails, succeeds};

fn missing_messages_are_explained(world: World) {
    add_temp(&world, "+/temp");
    world.flow("CASE", "+/Temp").insert(&world.sql);
    world.flow("SLASH", "+/temp/").insert(&world.sql);
    world.flow("OFF", "#").enabled(None).insert(&world.sql);
    world.flow("BAD", "b").topic("a/#/b").insert(&world.sql);
    world.flow("OTHER", "other").insert(&world.sql);
    let topic = world.topic("kitchen/temp");

    let text = succeeds(&world, &["explain", &topic, r#"{"value": 21.5}"#]);
    for words in [
        "+/temp): matches\n  would be stored as number 1, in 1 row of data\n",
        "does not match: they differ in upper and lower case",
        "does not match: only one of them ends with a slash",
        "matches, but the flow is disabled: its column enabled is NULL",
        "gets no messages at all: '#' must be the last level",
        "1 other flow does not match.",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let text = succeeds(&world, &["explain", &topic, r#"{"value": "warm"}"#]);
    let reason =
        "  would become a dead letter, validation_failed: field \"value\": expected number, got string";
    assert!(text.contains(reason), "{text}");
    let text = succeeds(&world, &["explain", &topic, r#"{"value": 1"#]);
    assert!(
        text.contains("The payload is invalid: would become a dead letter, payload_not_json: "),
        "{text}"
    );
    assert!(succeeds(&world, &["explain", "nowhere"]).ends_with("No flow gets this message.\n"));
    assert!(fails(&world, &["explain", "a/#"]).contains("a topic has no wildcards"));
    let verdicts = document(&world, &["explain", &topic]);
    let verdicts = verdicts["flows"].as_array().unwrap().iter().map(|flow| flow["verdict"].as_str().unwrap());
    let expected = ["matches", "near_miss", "near_miss", "disabled", "invalid_filter", "no_match"];
    assert_eq!(verdicts.collect::<Vec<_>>(), expected);
}

fn what_is_explained_happens(world: World) {
    add_temp(&world, "t");
    let _gateway = world.start_subscribed();
    let topic = world.topic("t");
    for payload in [r#"{"value": 1, "unit": "C"}"#, r#"{"value": "1"}"#] {
        let outcome = document(&world, &["explain", &topic, payload])["flows"][0]["outcome"].clone();
        let published = succeeds(&world, &["publish", &topic, payload]);
        assert!(
            published.starts_with(&format!("Published {} bytes to {topic}.", payload.len())),
            "{published}"
        );
        if outcome["dead_letter"].is_null() {
            let stored = world.wait_for_stored("TEMP", 1).remove(0);
            assert_eq!(
                (outcome["message_id"].as_i64(), outcome["rows"].as_u64()),
                (Some(stored.id), Some(2))
            );
        } else {
            let letter = world.wait_for_dead_letters(1).remove(0);
            assert_eq!(outcome["dead_letter"]["reason"], letter.reason);
            assert_eq!(outcome["dead_letter"]["detail"], letter.detail);
        }
    }
}

fn a_broker_that_is_away_is_named(world: World) {
    world.sql.run("UPDATE mqtt_servers SET port = 1");
    let text = fails(&world, &["publish", "a", "{}"]);
    assert!(
        text.contains("error: broker: 127.0.0.1:1: ") && text.contains("check that the broker runs"),
        "{text}"
    );
    world.sql.run("UPDATE mqtt_servers SET enabled = FALSE");
    assert!(fails(&world, &["publish", "a", "{}"]).contains("no MQTT server is enabled"));
}

on_each_database!(missing_messages_are_explained, what_is_explained_happens, a_broker_that_is_away_is_named);
