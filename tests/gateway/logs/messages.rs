//! The lines for messages that were stored, posted or repeated.

use serde_json::Value;
use test_support::sink::Sink;
use test_support::world::{Backend, World};

use crate::logs::page::assert_quoted;
use crate::logs::{Record, assert_one_object_a_line, await_record, number, text};

/// Target of the lines.
const MESSAGES: &str = "messages";

fn assert_message(record: &Record, flow: &str, topic: &str, payload: &str) {
    assert_eq!((text(record, "target"), text(record, "level")), (MESSAGES, "DEBUG"), "{record:?}");
    assert_eq!((text(record, "flow"), text(record, "topic")), (flow, topic), "{record:?}");
    assert_eq!(
        (&record["message_id"], &record["payload_bytes"]),
        (&Value::from(1), &Value::from(payload.len()))
    );
    assert!(number(record, "duration_ms") > 0.0, "{record:?}");
    assert!(!record.values().any(|value| value == payload), "{record:?}");
}

#[test]
fn each_message_has_its_line() {
    let mut world = World::on(Backend::Sqlite);
    world.set("LOG_MESSAGES", "true");
    let sink = Sink::new();
    world.flow("stores", "s").insert(&world.sql);
    world.flow("posts", "p").posts_to(&sink.url("/in?token=secret")).insert(&world.sql);
    world.flow("keyed", "k").insert(&world.sql);
    assert!(world.command(&["migrate"]).status.success());
    world.sql.run("UPDATE flows SET message_key = '/n' WHERE code = 'keyed'");
    let mut gateway = world.start_subscribed();
    let payload = r#"{"n": 12}"#;
    for topic in ["s", "p", "k", "k"] {
        world.publish(topic, payload);
    }
    let stored = await_record(&gateway, "Stored message 1 of flow stores", &[]);
    assert_message(&stored, "stores", &world.topic("s"), payload);
    let posted = await_record(&gateway, "Posted message 1 of flow posts", &[]);
    assert_message(&posted, "posts", &world.topic("p"), payload);
    assert_eq!((&posted["status"], &posted["attempts"]), (&Value::from(200), &Value::from(1)));
    let repeated = "Dropped a message: flow keyed already has message 1 with the same key";
    assert_message(&await_record(&gateway, repeated, &[]), "keyed", &world.topic("k"), payload);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(gateway.count_lines("Stored message"), 2);
    assert!(!gateway.stderr().contains("token=secret"));
    assert_one_object_a_line(&gateway);
    assert_quoted(
        "Lines for messages",
        &[
            "Stored message 1 of flow ",
            "Posted message 1 of flow ",
            "Dropped a message: flow keyed already has ",
        ],
    );
}

#[test]
fn messages_have_no_lines_by_default() {
    let world = World::on(Backend::Sqlite);
    world.flow("stores", "s").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    world.publish("s", "{}");
    world.wait_for_stored("stores", 0);
    world.wait_for_last_msg_id("stores", 1);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(gateway.count_lines("Stored message"), 0);
}

#[test]
fn log_level_enables_the_lines() {
    let mut world = World::on(Backend::Sqlite);
    world.set("RUST_LOG", "warn,messages=debug");
    world.flow("stores", "s").insert(&world.sql);
    let gateway = world.start();
    test_support::eventually("a stored message", || {
        world.publish("s", "{}");
        (gateway.count_lines("Stored message") > 0).then_some(())
    });
}
