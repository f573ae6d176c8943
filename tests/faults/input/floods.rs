//! Floods of unreadable messages between good ones, payloads at the limit, odd topics.

use crate::flows::Stream;
use test_support::mosquitto::Broker;
use test_support::publisher::Message;
use test_support::world::{Backend, World};

const LIMIT: usize = 10_000;

#[test]
fn unreadable_flood_costs_no_good_message() {
    let world = World::with_broker(Backend::Sqlite, Broker::private());
    let mut stream = Stream::new(&world, "good", "t");
    let mut gateway = world.start_subscribed();
    let garbage: [&[u8]; 4] = [b"garbage", b"", b"\xff\xfe", b"[1, 2]"];
    let mut messages = Vec::new();
    for turn in 0..100 {
        messages.extend(stream.next(&world, "t", 5));
        for n in 0..10 {
            messages.push(Message::new(&world.topic("t"), garbage[(turn + n) % garbage.len()]));
        }
    }
    world.publish_all(messages);
    stream.assert_all_from(&world, 1);
    assert_eq!(world.wait_for_dead_letters(1_000).len(), 1_000);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(gateway.count_errors("Invalid payload in topic"), 1_000);
}

#[test]
fn payload_limit_is_exact() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    world.set("MAX_PAYLOAD_BYTES", &LIMIT.to_string());
    world.flow("sized", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let of_bytes = |bytes: usize| format!(r#"{{"a":"{}"}}"#, "x".repeat(bytes - 8));
    assert_eq!(of_bytes(LIMIT).len(), LIMIT);
    for bytes in [LIMIT, LIMIT + 1, LIMIT - 1, LIMIT] {
        world.publish("t", of_bytes(bytes));
    }
    let stored = world.wait_for_stored("sized", 3);
    let lengths = stored.iter().map(|message| (message.id, message.value("a").unwrap().len() + 8));
    assert!(lengths.eq([(1, LIMIT), (2, LIMIT - 1), (3, LIMIT)]));
    let letters = world.wait_for_dead_letters(1);
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "payload_too_large"));
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn too_many_nodes_skip_schema_check() {
    let world = World::with_broker(Backend::Sqlite, Broker::private());
    let schema = r#"{"$schema":"https://json-schema.org/draft/2020-12/schema","type":"object"}"#;
    world.flow("checked", "t").schema(schema).insert(&world.sql);
    world.flow("plain", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    // A bit less than 4 MiB, the largest payload that is read.
    let payload = format!(r#"{{"l":[{}{{"":0}}]}}"#, r#"{"":0},"#.repeat(599_000));
    world.publish("t", &payload);
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_stored("checked", 1);
    let letters = world.wait_for_dead_letters(1);
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "validation_failed"));
    assert!(letters[0].payload == payload.as_bytes());
    assert!(gateway.stderr().contains("1797006 values and names, JSON Schema is checked up to 100000"));
    assert_eq!(gateway.stop(), Some(0));
}

fn any_topic_characters_are_kept(backend: Backend) {
    let world = World::with_broker(backend, Broker::private());
    world.flow("any", "odd/#").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let long = "l".repeat(60_000);
    let topics = [
        "",
        "/",
        "//x/",
        " ",
        "é/e\u{301}",
        "𝄞😀",
        "\u{feff}",
        "עברית",
        "'; DROP TABLE data; --",
        "$SYS",
        &long,
    ];
    for (n, topic) in topics.iter().enumerate() {
        world.publish(&format!("odd/{topic}"), format!(r#"{{"n": {n}}}"#));
        world.publish(&format!("odd/{topic}"), format!("garbage {n}"));
    }
    let stored = world.wait_for_stored("any", topics.len());
    assert!(stored.iter().zip(0_usize..).all(|(message, n)| message.value("n") == Some(&n.to_string())));
    let letters = world.wait_for_dead_letters(topics.len());
    for (n, (letter, topic)) in letters.iter().zip(topics).enumerate() {
        assert_eq!(letter.payload, format!("garbage {n}").as_bytes());
        let whole = world.topic(&format!("odd/{topic}"));
        assert!(
            whole.starts_with(&letter.topic) && letter.topic.len() >= whole.len().min(1_000),
            "{}",
            letter.topic
        );
    }
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn any_topic_characters_are_kept_on_mariadb() {
    any_topic_characters_are_kept(Backend::MariaDb);
}

#[test]
fn any_topic_characters_are_kept_on_postgres() {
    any_topic_characters_are_kept(Backend::Postgres);
}

#[test]
fn any_topic_characters_are_kept_on_sqlite() {
    any_topic_characters_are_kept(Backend::Sqlite);
}

#[test]
fn single_messages_do_not_exhaust_permits() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    world.set("BATCH_MAX_MESSAGES", "1").set("LANES", "1");
    let mut stream = Stream::new(&world, "good", "t");
    let mut gateway = world.start_subscribed();
    let messages = stream.next(&world, "t", 20);
    world.publish_all(messages);
    stream.assert_all_from(&world, 1);
    assert_eq!(gateway.stop(), Some(0));
}
