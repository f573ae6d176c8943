//! Statements that the server finds too large.

use std::collections::BTreeMap;

use test_support::mariadb::MariaDbServer;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::publisher::Message;
use test_support::sink::Sink;
use test_support::world::World;

use super::end_sessions;

#[test]
fn batches_fit_server_packet_limit() {
    let server = MariaDbServer::with(&["--max-allowed-packet=64K"]);
    let mut world = World::on_server(&server, Broker::shared());
    world.set("BATCH_MAX_MESSAGES", "1000");
    let mut load = Load::over(&world, 4).of_bytes(1_000);
    world.flow("any", "any").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let whole = |bytes: usize| format!(r#"{{"text": "{}"}}"#, "x".repeat(bytes - 12));
    for bytes in [15_000, 17_000, 16_000, 64_000, 200_000, 12] {
        let messages = load.next(&world, 200);
        world.publish_all(messages);
        world.publish("any", whole(bytes));
    }
    load.wait_until_stored(&world);
    let stored = world.wait_for_stored("any", 3);
    assert!(stored.iter().map(|message| message.id).eq(1..=3));
    let letters = world.wait_for_dead_letters(3);
    assert!(letters.iter().all(|letter| letter.reason == "payload_too_large"), "{letters:?}");
    let lengths: Vec<i64> = world
        .sql
        .rows("SELECT payload_bytes FROM dead_letters ORDER BY id", [])
        .iter()
        .map(|row| row.try_get_by_index(0).unwrap())
        .collect();
    assert_eq!(lengths, [17_000, 64_000, 200_000]);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(gateway.count_lines("Database refuses"), 0, "nothing was too large for the server");
}

#[test]
fn lowered_packet_limit_shrinks_statements() {
    let server = MariaDbServer::with(&["--max-allowed-packet=4M"]);
    let world = World::on_server(&server, Broker::shared());
    let sink = Sink::new();
    let mut load = Load::over(&world, 4).of_bytes(2_000);
    world.flow("wide", "wide").insert(&world.sql);
    let posting = world.flow("post", "post").posts_to(&sink.url("/")).insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);

    world.sql.run("SET GLOBAL max_allowed_packet = 65536");
    end_sessions(&world);
    // A payload may take a quarter of the server's limit, as after a new start.
    let attributes: BTreeMap<String, String> =
        (0..15).map(|n| (format!("a{n}"), "x".repeat(1_000))).collect();
    let wide = serde_json::to_string(&attributes).unwrap();
    let too_large = format!(r#"{{"text": "{}"}}"#, "x".repeat(100_000));
    for _ in 0..3 {
        let messages = load.next(&world, 200);
        world.publish_all(messages);
        world.publish_all([
            Message::new(&world.topic("wide"), &wide),
            Message::new(&world.topic("post"), &too_large),
            Message::new(&world.topic("post"), r#"{"a": 1}"#),
        ]);
    }
    load.wait_until_stored(&world);
    let stored = world.wait_for_stored("wide", 3);
    assert!(stored.iter().map(|message| message.id).eq(1..=3));
    assert!(stored.iter().all(|message| message.attributes.len() == 15));
    let letters = world.wait_for_dead_letters(3);
    assert!(
        letters.iter().all(|letter| letter.reason == "payload_too_large" && letter.flow_id == Some(posting)),
        "{letters:?}"
    );
    sink.wait_for_delivered(3);
    assert_eq!((letters.len(), world.last_msg_id("post")), (3, Some(3)));
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
