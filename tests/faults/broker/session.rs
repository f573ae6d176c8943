//! The gateway's session at the broker: lost, kept, and shared with another client.

use std::process::{Command, Stdio};

use test_support::eventually;
use test_support::flows::DeadLetter;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::publisher::Publisher;
use test_support::world::{Backend, World};

#[test]
fn forgotten_session_is_subscribed_again() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 300);
    world.publish_all(messages);
    // The gateway must have received the messages before the session is lost.
    world.broker.wait_for_acknowledged(&world.name, 300);
    world.broker.stop();
    world.broker.forget_sessions();
    let mark = world.broker.mark();
    world.broker.start();
    world.wait_for_flows(mark);
    let messages = load.next(&world, 300);
    // The publisher of before is gone with the broker.
    Publisher::connect(world.broker.address).publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// A message that is published before its flow is active is lost.
#[test]
fn active_flow_is_logged_once_per_session() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    // More than are named at once.
    for number in 0..30 {
        world.flow(&format!("f{number}"), &format!("t/{number}")).insert(&world.sql);
    }
    let mut gateway = world.start();
    gateway.wait_for_line("more flows are active");
    assert_eq!(gateway.count_lines(" is active: "), 20);
    world.flow("later", "later").insert(&world.sql);
    let line = gateway.wait_for_line("Flow later is active");
    assert!(line.contains(&world.topic("later")), "{line}");
    world.sql.execute("UPDATE flows SET topic = ? WHERE code = 'later'", [world.topic("moved").into()]);
    gateway.wait_for_line_that("the new topic", &|line| {
        line.contains("Flow later is active") && line.contains(&world.topic("moved"))
    });
    world.broker.stop();
    let mark = world.broker.mark();
    world.broker.start();
    world.wait_for_flows(mark);
    world.sql.run("DELETE FROM flows WHERE code <> 'later'");
    world.broker.wait_for_unsubscription(mark, &world.name, &world.topic("t/0"));
    assert_eq!(gateway.count_lines("Flow later is active"), 2, "the session is kept");

    world.broker.stop();
    world.broker.forget_sessions();
    world.broker.start();
    eventually("it to be active again", || (gateway.count_lines("Flow later is active") == 3).then_some(()));
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn unused_session_filter_is_unsubscribed_at_connect() {
    let world = World::with_broker(Backend::Sqlite, Broker::private());
    let mut load = Load::over(&world, 2);
    world.flow("dropped", "dropped/#").insert(&world.sql);
    world.start_subscribed().stop();

    world.sql.run("DELETE FROM flows WHERE code = 'dropped'");
    // Queued for the session until the filter is unsubscribed.
    world.publish("dropped/1", r#"{"a": 1}"#);
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    let mark = world.broker.mark();
    let mut gateway = world.start();
    world.broker.wait_for_unsubscription(mark, &world.name, &world.topic("dropped/#"));
    world.broker.wait_for_acknowledged(&world.name, 101);

    let mark = world.broker.mark();
    world.publish("dropped/2", r#"{"a": 2}"#);
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert!(world.stored("dropped").is_empty());
    // The messages that the broker had queued before the unsubscribe, and none after it.
    let letters = world.dead_letters();
    let [DeadLetter { topic, reason, .. }] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!((topic, &**reason), (&world.topic("dropped/1"), "flow_deleted"));
    let to_us = world.broker.lines_of(mark, &format!("Sending PUBLISH to {}", world.name));
    assert!(!to_us.iter().any(|line| line.contains(&world.topic("dropped"))), "{to_us:?}");
}

#[test]
fn foreign_subscription_in_session_is_harmless() {
    let world = World::with_broker(Backend::Sqlite, Broker::private());
    let mut load = Load::over(&world, 2);
    let subscribed = Command::new("mosquitto_sub")
        .args(["-h", "127.0.0.1", "-p", &world.broker.address.port().to_string(), "-V", "mqttv5"])
        .args(["-c", "-x", "3600", "-q", "1", "-E", "-i", &world.name, "-t", &world.topic("foreign/#")])
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(subscribed.success());
    world.publish("foreign/queued", "not even JSON");
    let mut gateway = world.start_subscribed();
    world.publish("foreign/live", r#"{"a": 1}"#);
    let messages = load.next(&world, 200);
    world.publish_all(messages);
    world.broker.wait_for_acknowledged(&world.name, 202);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM data WHERE attribute_name = 'a'", []), 0);
}
