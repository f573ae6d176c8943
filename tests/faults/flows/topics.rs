//! Edits of topics: acknowledged messages of the old topic are not lost, wherever they wait.

use super::{Stream, edit};
use crate::backlog;
use crate::kept_table::wait_until_routed_to;
use test_support::eventually;
use test_support::oracle::Load;
use test_support::proxy::{Proxy, Way};
use test_support::publisher::{Message, Publisher};
use test_support::world::World;

fn move_to(world: &World, topic: &str) {
    edit(world, "moving", &format!("topic = '{}'", world.topic(topic)));
}

#[test]
fn topic_edit_under_load_loses_nothing() {
    let world = backlog::world();
    let mut stream = Stream::new(&world, "moving", "topic0");
    let mut load = Load::over(&world, 4);
    let proxy = Proxy::to_mqtt(world.broker.address);
    world.reach_broker_at(proxy.address());
    let mut gateway = world.start_subscribed();
    let others = load.next(&world, 3_000);
    let broker = world.broker.address;
    let publishing = std::thread::spawn(move || Publisher::connect(broker).publish_all(others));
    for turn in 1..3 {
        let loaded = gateway.count_lines("Flows loaded");
        // The broker has all of it, and the gateway no more than may be unacknowledged: a thousand.
        proxy.stall(Way::ToServer);
        let old = format!("topic{}", turn - 1);
        let messages = stream.next(&world, &old, 5_000);
        world.publish_all(messages);
        let topic = format!("topic{turn}");
        move_to(&world, &topic);
        eventually("the reload", || (gateway.count_lines("Flows loaded") > loaded).then_some(()));
        let mark = world.broker.mark();
        // SUBSCRIBE and UNSUBSCRIBE are the first that the broker hears.
        proxy.flow();
        world.wait_for_filters(mark, &[&world.topic(&topic)]);
        world.broker.wait_for_unsubscription(mark, &world.name, &world.topic(&old));
    }
    let messages = stream.next(&world, "topic2", 100);
    world.publish_all(messages);
    publishing.join().unwrap();
    stream.assert_all_from(&world, 1);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn offline_topic_edit_keeps_inbox_messages() {
    let world = backlog::world();
    let mut stream = Stream::new(&world, "moving", "old");
    let mut other = Stream::new(&world, "other", "other");
    let mut gateway = world.start_subscribed();
    backlog::hold(&world);
    stream.publish(&world, "old", 300);
    other.publish(&world, "other", 300);
    gateway.kill();
    backlog::release(&world);
    move_to(&world, "new");
    // It takes over the topic, but not earlier messages.
    edit(&world, "other", &format!("topic = '{}'", world.topic("old")));

    let mut gateway = world.start_subscribed();
    stream.publish(&world, "new", 100);
    other.publish(&world, "old", 100);
    for stream in [&stream, &other] {
        stream.assert_all_from(&world, 1);
    }
    assert_eq!(gateway.stop(), Some(0));
    assert!(world.dead_letters().is_empty());
}

#[test]
fn offline_topic_edit_keeps_broker_messages() {
    let world = backlog::world();
    let mut stream = Stream::new(&world, "moving", "old");
    let mut gateway = world.start_subscribed();
    stream.publish(&world, "old", 100);
    assert_eq!(gateway.stop(), Some(0));
    let messages = stream.next(&world, "old", 2_000);
    world.publish_all(messages);
    move_to(&world, "new");

    let mut gateway = world.start_subscribed();
    let messages = stream.next(&world, "new", 100);
    world.publish_all(messages);
    stream.assert_all_from(&world, 1);
    assert_eq!(gateway.stop(), Some(0));
}

/// The broker still has the old filter, under the flow's identifier.
#[test]
fn offline_topic_edit_survives_unreadable_flows() {
    let mut world = backlog::world();
    let mut stream = Stream::new(&world, "moving", "old");
    let mut gateway = world.start_subscribed();
    stream.publish(&world, "old", 100);
    assert_eq!(gateway.stop(), Some(0));
    move_to(&world, "new");

    // Until there is a connection, and then some.
    world.set("FAILPOINTS", "flows-read=5*return->off");
    let mark = world.broker.mark();
    let mut gateway = world.start_subscribed();
    gateway.wait_for_line("Error reloading flows: reading the flows: ");
    world.broker.wait_for_unsubscription(mark, &world.name, &world.topic("old"));
    world.publish("old", r#"{"strange": 1}"#);
    stream.publish(&world, "new", 100);
    stream.assert_all_from(&world, 1);
    assert_eq!(gateway.stop(), Some(0));
}

/// The broker keeps the filter. So only the identifier marks messages from before the edit.
fn another_flow_keeps_the_topic(world: &World) -> [Stream; 2] {
    let [moving, staying] = ["moving", "staying"].map(|code| Stream::new(world, code, "old"));
    [moving, staying]
}

fn for_both(world: &World, [moving, staying]: &mut [Stream; 2], count: i64) -> Vec<Message> {
    staying.next(world, "old", count);
    moving.next(world, "old", count)
}

fn each_has_its_own_from_now_on(world: &World, mut streams: [Stream; 2]) {
    for (stream, topic) in streams.iter_mut().zip(["new", "old"]) {
        let messages = stream.next(world, topic, 100);
        world.publish_all(messages);
    }
    for stream in &streams {
        stream.assert_all_from(world, 1);
    }
}

#[test]
fn shared_topic_survives_offline_edit() {
    let world = backlog::world();
    let mut streams = another_flow_keeps_the_topic(&world);
    let mut gateway = world.start_subscribed();
    backlog::publish(&world, for_both(&world, &mut streams, 100));
    assert_eq!(gateway.stop(), Some(0));
    world.publish_all(for_both(&world, &mut streams, 2_000));
    move_to(&world, "new");

    let mut gateway = world.start_subscribed();
    each_has_its_own_from_now_on(&world, streams);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn shared_topic_survives_edit_under_load() {
    let world = backlog::world();
    let mut streams = another_flow_keeps_the_topic(&world);
    let proxy = Proxy::to_mqtt(world.broker.address);
    world.reach_broker_at(proxy.address());
    let mut gateway = world.start_subscribed();
    let loaded = gateway.count_lines("Flows loaded");
    proxy.stall(Way::ToServer);
    world.publish_all(for_both(&world, &mut streams, 5_000));
    move_to(&world, "new");
    eventually("the reload", || (gateway.count_lines("Flows loaded") > loaded).then_some(()));
    let mark = world.broker.mark();
    proxy.flow();
    world.wait_for_filters(mark, &[&world.topic("new"), &world.topic("old")]);
    wait_until_routed_to(1, &world.topic("old"), &world.inbox_directory());
    each_has_its_own_from_now_on(&world, streams);
    assert_eq!(gateway.stop(), Some(0));
}

/// The broker sends them as soon as it has the first filters, before it confirms the others. If it sends no
/// subscription identifiers, only the table shows their flows.
#[test]
fn retained_messages_reach_new_flows() {
    for version in ["5", "3.1.1"] {
        retained_messages_come_by(version);
    }
}

fn retained_messages_come_by(version: &str) {
    let world = backlog::world();
    assert!(world.command(&["migrate"]).status.success());
    world.sql.execute("UPDATE mqtt_servers SET protocol_version = ?", [version.into()]);
    world.flow("first", "first").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let codes: Vec<String> = (0..50).map(|n| format!("new{n}")).collect();
    let retained =
        |code: &String| Message { retained: true, ..Message::new(&world.topic(code), "{\"n\": 1}") };
    world.publish_all(codes.iter().map(retained));
    world.sql.run("BEGIN");
    for code in &codes {
        world.flow(code, code).insert(&world.sql);
    }
    world.sql.run("COMMIT");
    for code in &codes {
        world.wait_for_stored(code, 1);
    }
    assert_eq!(gateway.stop(), Some(0));
}
