//! A broker goes, another stands in, and the first comes back.

use std::collections::HashSet;
use std::net::SocketAddr;

use test_support::eventually;
use test_support::http::{admin_of, get};
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::process::Gateway;
use test_support::publisher::Publisher;
use test_support::scripted_broker::ScriptedBroker;
use test_support::world::{Backend, World};

/// A world whose broker is the first of two.
fn world_of_two(backend: Backend) -> (World, Broker) {
    let (world, second) = (World::with_broker(backend, Broker::private()), Broker::private());
    world.add_server("127.0.0.1", Some(second.address.port()), Some(true), Some(false));
    (world, second)
}

fn wait_for_flows_at(broker: &Broker, world: &World, flows: usize) {
    let topics: Vec<String> = (0..flows).map(|flow| world.topic(&format!("load/{flow}"))).collect();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    // From its first line on: it is asked once.
    broker.wait_for_subscriptions(broker.beginning(), &world.name, &topics);
}

/// How often the gateway has told of a connection to this broker.
fn connections_to(gateway: &Gateway, address: SocketAddr) -> usize {
    let server = format!("\"server\":\"{address}\"");
    let lines = gateway.stderr();
    lines.lines().filter(|line| line.contains("Connected to the broker") && line.contains(&server)).count()
}

fn wait_for_connections(gateway: &Gateway, address: SocketAddr, count: usize) {
    test_support::eventually(&format!("connection {count} to {address}"), || {
        (connections_to(gateway, address) >= count).then_some(())
    });
}

fn wait_until_stored(world: &World, keys: &HashSet<u64>) {
    let listed: Vec<String> = keys.iter().map(|key| format!("'{key}'")).collect();
    let sql = format!(
        "SELECT COUNT(DISTINCT attribute_value) FROM data WHERE attribute_name = 'key' AND attribute_value IN ({})",
        listed.join(", ")
    );
    let wanted = i64::try_from(keys.len()).unwrap();
    test_support::eventually("these messages in data", || {
        (world.sql.count(&sql, []) >= wanted).then_some(())
    });
}

fn nothing_is_lost_between_two_brokers(backend: Backend) {
    let (mut world, second) = world_of_two(backend);
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 300);
    world.publish_all(messages);
    load.wait_until_stored(&world);

    world.broker.stop();
    wait_for_flows_at(&second, &world, 2);
    let mut at_second = Publisher::connect(second.address);
    at_second.publish_all(load.next(&world, 300));
    load.wait_until_stored(&world);

    // Devices go on publishing where they are, until we have left and beyond.
    world.broker.start();
    while gateway.count_lines("Leaving the broker at") == 0 {
        at_second.publish_all(load.next(&world, 20));
    }
    at_second.publish_all(load.next(&world, 50));
    wait_for_connections(&gateway, world.broker.address, 2);
    let messages = load.next(&world, 300);
    let keys = Load::keys_of(&messages);
    Publisher::connect(world.broker.address).publish_all(messages);
    // Later messages would stay at the first broker.
    wait_until_stored(&world, &keys);

    // Messages that reached the second broker afterwards wait in the session.
    world.broker.stop();
    wait_for_connections(&gateway, second.address, 2);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    world.audit();
    let stored = world.sql.count("SELECT COUNT(*) FROM data WHERE attribute_name = 'key'", []);
    let published =
        world.sql.count("SELECT COUNT(DISTINCT attribute_value) FROM data WHERE attribute_name = 'key'", []);
    let most = i64::try_from(second.resent_to(&world.name) + world.broker.resent_to(&world.name)).unwrap();
    assert!(stored - published <= most, "{} more than the {most} that were sent again", stored - published);
}

#[test]
fn nothing_is_lost_between_two_brokers_on_mariadb() {
    nothing_is_lost_between_two_brokers(Backend::MariaDb);
}

#[test]
fn nothing_is_lost_between_two_brokers_on_sqlite() {
    nothing_is_lost_between_two_brokers(Backend::Sqlite);
}

#[test]
fn unused_filters_are_unsubscribed_per_broker() {
    let (mut world, second) = world_of_two(Backend::Sqlite);
    world.flow("kept", "kept").insert(&world.sql);
    world.flow("dropped", "dropped").insert(&world.sql);
    world.broker.stop();
    let mut gateway = world.start();
    let topics = [world.topic("kept"), world.topic("dropped")];
    second.wait_for_subscriptions(second.beginning(), &world.name, &[&topics[0], &topics[1]]);

    let mark = world.broker.mark();
    world.broker.start();
    world.wait_for_flows(mark);
    let mark = world.broker.mark();
    world.sql.run("UPDATE flows SET enabled = FALSE WHERE code = 'dropped'");
    world.broker.wait_for_unsubscription(mark, &world.name, &topics[1]);
    // The session at the second broker still has it.
    let mark = second.mark();
    world.broker.stop();
    second.wait_for_unsubscription(mark, &world.name, &topics[1]);
    assert_eq!(gateway.stop(), Some(0));
}

/// rumqttd does not answer for a filter that the session does not hold, as after a stay at another broker.
#[test]
fn unanswered_unsubscribe_does_not_stop_flows() {
    let broker = ScriptedBroker::new();
    let mut world = World::without_broker(Backend::Sqlite, Broker::shared());
    world.add_server("127.0.0.1", Some(broker.port()), Some(true), Some(true));
    world.flow("moving", "old").insert(&world.sql);
    world.set("FAILPOINTS", "mqtt-answer-timeout=return(10000)").set("ADMIN_BIND", "127.0.0.1:0");
    let mut gateway = world.start();
    let connection = broker.accept(false);
    gateway.wait_for_line("\"Subscribed\"");
    assert_eq!(gateway.stop(), Some(0));
    drop(connection);
    world.sql.execute("UPDATE flows SET topic = ?", [world.topic("new").into()]);

    let mut gateway = world.start();
    let mut connection = broker.accept(true);
    connection.ignore_unsubscribe();
    gateway.wait_for_line("does not answer an UNSUBSCRIBE");
    let is_ready = || get(admin_of(&gateway), "/health/ready").status == 200;
    eventually("a ready gateway", || is_ready().then_some(()));
    connection.publish(1, false, &world.topic("new"), r#"{"a": 1}"#);
    connection.await_puback(1);
    world.wait_for_stored("moving", 1);
    assert_eq!(gateway.count_lines("\"Subscribed\""), 1);
    assert_eq!(gateway.stop(), Some(0));
}
