//! A scripted broker that omits subscription identifiers from queued messages.

use test_support::mosquitto::Broker;
use test_support::scripted_broker::{Connection, ScriptedBroker};
use test_support::world::{Backend, World};

const NEW_SESSION: [u8; 5] = [0x20, 3, 0, 0, 0];
const KEPT_SESSION: [u8; 5] = [0x20, 3, 1, 0, 0];
const WARNING: &str = "has omitted subscription identifiers";

struct Stage {
    broker: ScriptedBroker,
    world: World,
}

impl Stage {
    /// With a flow for each of these topics, named like it.
    fn with(topics: &[&str]) -> Stage {
        let broker = ScriptedBroker::new();
        let world = World::without_broker(Backend::Sqlite, Broker::shared());
        world.add_server("127.0.0.1", Some(broker.port()), Some(true), Some(true));
        for topic in topics {
            world.flow(topic, topic).insert(&world.sql);
        }
        Stage { broker, world }
    }

    /// Accepts a connection and grants `count` filters. Returns them without the world's prefix, in order.
    fn accept(&self, connack: &[u8], count: usize) -> (Connection, Vec<(String, bool)>) {
        let mut connection = self.broker.accept_with(connack);
        let granted = self.granted(&mut connection, count);
        (connection, granted)
    }

    fn granted(&self, connection: &mut Connection, count: usize) -> Vec<(String, bool)> {
        let prefix = self.world.topic("");
        let mut granted = connection.grant(count);
        for (filter, _) in &mut granted {
            *filter = filter.replace(&prefix, "");
        }
        granted.sort();
        granted
    }

    fn publish(&self, connection: &mut Connection, packet_id: u16, number: u32) {
        let payload = format!(r#"{{"number": {number}}}"#);
        connection.publish(packet_id, false, &self.world.topic("t/a"), &payload);
    }
}

fn named(filters: &[&str]) -> Vec<(String, bool)> {
    filters.iter().map(|filter| ((*filter).to_owned(), true)).collect()
}

#[test]
fn identifiers_are_abandoned_in_the_next_session() {
    let stage = Stage::with(&["t/#", "t/a"]);
    let mut gateway = stage.world.start();
    let (connection, granted) = stage.accept(&NEW_SESSION, 2);
    assert_eq!(granted, named(&["t/#", "t/a"]));
    gateway.wait_for_line("\"Subscribed\"");
    drop(connection);

    // A copy for each filter, before the gateway has subscribed again.
    let mut connection = stage.broker.accept_with(&KEPT_SESSION);
    (1..=2).for_each(|packet_id| stage.publish(&mut connection, packet_id, 1));
    assert_eq!(stage.granted(&mut connection, 2), named(&["t/#", "t/a"]));
    gateway.wait_for_line(WARNING);
    drop(connection);

    // The identifiers are renewed at once, and then by the flows; also after a kill.
    let renewed = named(&["t/#", "t/#", "t/a", "t/a"]);
    let (connection, granted) = stage.accept(&KEPT_SESSION, 4);
    assert_eq!(granted, renewed);
    assert_eq!(gateway.count_warnings(WARNING), 1);
    gateway.kill();
    drop(connection);
    let gateway = stage.world.start();
    let (connection, granted) = stage.accept(&KEPT_SESSION, 4);
    assert_eq!(granted, renewed);
    drop(connection);

    let joined = [("t/#".to_owned(), false)];
    let (mut connection, granted) = stage.accept(&NEW_SESSION, 1);
    assert_eq!(granted, joined);
    stage.publish(&mut connection, 1, 2);
    connection.await_puback(1);
    let numbers = |code: &str| -> Vec<String> {
        let stored = stage.world.wait_for_stored(code, 3);
        stored.iter().map(|message| message.value("number").unwrap().to_owned()).collect()
    };
    for code in ["t/#", "t/a"] {
        assert_eq!(numbers(code), ["1", "1", "2"], "{code}");
    }
    drop(connection);
    let (_connection, granted) = stage.accept(&KEPT_SESSION, 1);
    assert_eq!(granted, joined);
    assert_eq!(gateway.count_warnings(WARNING), 0);
}

#[test]
fn a_message_that_one_filter_matches_proves_nothing() {
    let stage = Stage::with(&["t/#", "u"]);
    let gateway = stage.world.start();
    let (connection, _) = stage.accept(&NEW_SESSION, 2);
    gateway.wait_for_line("\"Subscribed\"");
    drop(connection);
    let mut connection = stage.broker.accept_with(&KEPT_SESSION);
    stage.publish(&mut connection, 1, 1);
    assert_eq!(stage.granted(&mut connection, 2), named(&["t/#", "u"]));
    stage.world.wait_for_stored("t/#", 1);
    drop(connection);
    let (_connection, granted) = stage.accept(&NEW_SESSION, 2);
    assert_eq!(granted, named(&["t/#", "u"]));
    assert_eq!(gateway.count_warnings(WARNING), 0);
}

#[test]
fn members_of_a_group_keep_to_identifiers() {
    let mut stage = Stage::with(&["t/#", "t/a"]);
    stage.world.set("SHARED_GROUP", "g");
    let gateway = stage.world.start();
    let filters = named(&["$share/g/t/#", "$share/g/t/a"]);
    let (connection, granted) = stage.accept(&NEW_SESSION, 2);
    assert_eq!(granted, filters);
    gateway.wait_for_line("\"Subscribed\"");
    drop(connection);
    let mut connection = stage.broker.accept_with(&KEPT_SESSION);
    stage.publish(&mut connection, 1, 1);
    assert_eq!(stage.granted(&mut connection, 2), filters);
    stage.world.wait_for_stored("t/a", 1);
    drop(connection);
    let (_connection, granted) = stage.accept(&NEW_SESSION, 2);
    assert_eq!(granted, filters);
    assert_eq!(gateway.count_warnings(WARNING), 0);
}
