//! Changes of `mqtt_servers` while the gateway runs, and the report of `check` on its rows.

use test_support::mosquitto::Broker;
use test_support::net::free_port;
use test_support::oracle::Load;
use test_support::publisher::Publisher;
use test_support::world::{Backend, World, text_of};

fn changed_broker_row_applies_without_loss(backend: Backend) {
    let (mut world, second) = (World::with_broker(backend, Broker::private()), Broker::private());
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 200);
    world.publish_all(messages);
    let first = std::mem::replace(&mut world.broker, second);
    let mark = world.broker.mark();
    world.reach_broker_at(world.broker.address);
    world.wait_for_flows(mark);
    gateway.wait_for_line(&format!("Leaving the broker at {}", first.address));
    load.wait_until_stored(&world);
    Publisher::connect(world.broker.address).publish_all(load.next(&world, 200));
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn changed_broker_row_applies_on_mariadb() {
    changed_broker_row_applies_without_loss(Backend::MariaDb);
}

#[test]
fn changed_broker_row_applies_on_sqlite() {
    changed_broker_row_applies_without_loss(Backend::Sqlite);
}

#[test]
fn sighup_applies_changed_broker_row() {
    let (mut world, second) = (World::with_broker(Backend::Sqlite, Broker::private()), Broker::private());
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "3600");
    world.flow("any", "t").insert(&world.sql);
    let gateway = world.start_subscribed();
    gateway.wait_for_line("Subscribed");
    world.broker = second;
    let mark = world.broker.mark();
    world.reach_broker_at(world.broker.address);
    gateway.signal("HUP");
    world.wait_for_flows(mark);
}

#[test]
fn unusable_broker_row_is_reported_once() {
    let world = World::on(Backend::Sqlite);
    world.flow("any", "t").insert(&world.sql);
    world.sql.run(
        "ALTER TABLE mqtt_servers ADD COLUMN ca_file VARCHAR(255); \
         INSERT INTO mqtt_servers (id, host, port, enabled, is_default) VALUES (0, 'h', 70000, 1, 1); \
         INSERT INTO mqtt_servers (id, host, enabled, ca_file) VALUES (100, 'h', 1, '/ca.pem')",
    );
    let mut gateway = world.start_subscribed();
    gateway.wait_for_line("A broker is passed over: the MQTT server with id 0 has the port 70000");
    gateway.wait_for_line("A broker is passed over: the MQTT server with id 100 names files for TLS");
    // A few reloads later.
    let mark = world.broker.mark();
    world.flow("later", "later").insert(&world.sql);
    world.wait_for_filters(mark, &[&world.topic("later")]);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(gateway.count_lines("A broker is passed over"), 2);
}

#[test]
fn check_tells_of_every_broker() {
    let world = World::on(Backend::Sqlite);
    let nobody = free_port();
    world.add_server("127.0.0.1", Some(nobody), Some(true), Some(false));
    world.add_server("127.0.0.1", Some(0), Some(true), Some(false));
    let checked = text_of(&world.command(&["check"]));
    assert!(
        checked.contains(&format!("ok   broker {} accepts us by MQTT 5\n", world.broker.address)),
        "{checked}"
    );
    assert!(checked.contains(&format!("FAIL broker: 127.0.0.1:{nobody}: Connection refused")), "{checked}");
    assert!(checked.contains("has the port 0"), "{checked}");
}
