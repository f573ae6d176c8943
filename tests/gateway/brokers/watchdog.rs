//! A client library that does not come back, and nothing else, ends the process, and nothing is lost by it.

use test_support::eventually;
use test_support::http::{admin_of, get};
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::proxy::{How, Proxy};
use test_support::scripted_broker::ScriptedBroker;
use test_support::world::{Backend, World};

const NOT_BACK: &str = "The MQTT client does not come back";

#[test]
fn hung_client_call_ends_process_without_loss() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    let mut load = Load::over(&world, 2);
    // The thread stands still for the rest of the day at the first change of the list.
    world.set("FAILPOINTS", "mqtt-patience=return(10000);mqtt-list-changed=sleep(86400000)");
    let mut gateway = world.start_subscribed();
    world.publish_all(load.next(&world, 100));
    world.add_server("127.0.0.1", Some(1), Some(true), Some(false));
    let line = gateway.wait_for_line(NOT_BACK);
    assert!(line.contains("a call into it has not returned"), "{line}");
    assert_eq!(gateway.wait_for_exit().code(), Some(3));
    // Messages wait at the broker while no gateway is connected.
    world.publish_all(load.next(&world, 100));

    world.settings.remove("FAILPOINTS");
    let mark = world.broker.mark();
    let mut gateway = world.start();
    world.wait_for_flows(mark);
    world.publish_all(load.next(&world, 100));
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    world.audit();
}

#[test]
fn endless_connect_attempts_end_process() {
    let mut world = World::on(Backend::Sqlite);
    world.set("FAILPOINTS", "mqtt-patience=return(20000);mqtt-outcome=return");
    let mut gateway = world.start();
    let line = gateway.wait_for_line(NOT_BACK);
    assert!(line.contains("a connection attempt has not ended"), "{line}");
    assert_eq!(gateway.wait_for_exit().code(), Some(3));
}

/// The actor blocks while it handles a lost connection, until its successor has reported the next connection.
#[test]
fn stale_loss_event_is_ignored() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    let proxy = Proxy::to_mqtt(world.broker.address);
    world.reach_broker_at(proxy.address());
    world.flow("before", "before").insert(&world.sql);
    world.set("FAILPOINTS", "mqtt-event=1*off->1*sleep(50000)->off").set("ADMIN_BIND", "127.0.0.1:0");
    let mut gateway = world.start_subscribed();
    proxy.refuse();
    proxy.cut(How::Fin);
    gateway.wait_for_line("Actor mqtt is back");
    world.add_broker();
    gateway.signal("HUP");
    eventually("the second connection", || (gateway.count_lines("Subscribed") == 2).then_some(()));
    gateway.wait_for_line("Connection to the broker lost");
    let mark = world.broker.mark();
    world.flow("after", "after").insert(&world.sql);
    gateway.signal("HUP");
    world.wait_for_filters(mark, &[&world.topic("after")]);
    let ready = get(admin_of(&gateway), "/health/ready");
    assert_eq!(ready.status, 200, "{}", ready.body);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn silent_connection_is_reopened() {
    let broker = ScriptedBroker::new();
    let mut world = World::without_broker(Backend::Sqlite, Broker::shared());
    world.add_server("127.0.0.1", Some(broker.port()), Some(true), Some(true));
    world.flow("any", "t").insert(&world.sql);
    world.set("FAILPOINTS", "mqtt-patience=return(10000)");
    let mut gateway = world.start();
    let silent = broker.accept(false);
    gateway.wait_for_line("no message and no answer to a keepalive probe");
    let mut connection = broker.accept(true);
    drop(silent);
    // A broker that answers keeps its connection.
    connection.await_unsubscribe();
    connection.publish(1, false, &world.topic("t"), r#"{"a": 1}"#);
    connection.await_puback(1);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(world.stored("any").len(), 1);
    assert_eq!(gateway.count_lines("Connection to the broker lost"), 1);
}

/// A broker such as rumqttd does not answer an UNSUBSCRIBE of an unknown filter, so a probe would end the connection.
#[test]
fn answered_pings_keep_quiet_connection() {
    let broker = ScriptedBroker::new();
    let mut world = World::without_broker(Backend::Sqlite, Broker::shared());
    world.add_server("127.0.0.1", Some(broker.port()), Some(true), Some(true));
    world.flow("any", "t").insert(&world.sql);
    world.set("FAILPOINTS", "mqtt-patience=return(10000)").set("MQTT_KEEPALIVE", "3");
    let mut gateway = world.start();
    let mut connection = broker.accept(false);
    // Together they take longer than the silence before a probe.
    for _ in 0..5 {
        connection.await_ping();
    }
    connection.publish(1, false, &world.topic("t"), r#"{"a": 1}"#);
    connection.await_puback(1);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(gateway.count_lines("Connection to the broker lost"), 0);
}

#[test]
fn a_broker_that_is_away_ends_nothing() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    world.flow("any", "t").insert(&world.sql);
    world.set("FAILPOINTS", "mqtt-patience=return(10000)");
    world.broker.stop();
    let mut gateway = world.start();
    test_support::eventually("many attempts", || {
        (gateway.count_lines("MQTT connection failed with reason code: ") >= 5).then_some(())
    });
    let mark = world.broker.mark();
    world.broker.start();
    world.wait_for_flows(mark);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(gateway.count_lines(NOT_BACK), 0);
}
