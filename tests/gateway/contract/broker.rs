//! Which broker is taken from `mqtt_servers`, and with which credentials.

use std::net::{Ipv4Addr, SocketAddr};
use std::process::Command;

use test_support::eventually;
use test_support::mosquitto::{Broker, BrokerOptions, path_with_sbin};
use test_support::net::free_port;
use test_support::world::{Backend, World};

const NOBODY: u16 = 1;

fn forget_servers(world: &World) {
    world.sql.run("DELETE FROM mqtt_servers");
}

fn the_default_one_of_the_enabled_comes_first(world: World) {
    let port = world.broker.address.port();
    forget_servers(&world);
    world.add_server("127.0.0.1", Some(NOBODY), Some(false), Some(true));
    world.add_server("127.0.0.1", Some(NOBODY), None, Some(true));
    world.add_server("127.0.0.1", Some(NOBODY), Some(true), None);
    world.add_server("127.0.0.1", Some(NOBODY), Some(true), Some(false));
    world.add_server("127.0.0.1", Some(port), Some(true), Some(true));
    world.add_server("127.0.0.1", Some(NOBODY), Some(true), Some(true));
    came_first(&world);
}

/// The gateway gets to its broker without having tried another.
fn came_first(world: &World) {
    world.flow("any", "t").insert(&world.sql);
    let gateway = world.start_subscribed();
    assert_eq!(gateway.count_lines("MQTT connection failed"), 0);
}

fn without_a_default_the_smallest_id_comes_first(world: World) {
    let port = world.broker.address.port();
    forget_servers(&world);
    world.add_server("127.0.0.1", Some(NOBODY), Some(false), Some(false));
    world.add_server("127.0.0.1", Some(port), Some(true), Some(false));
    world.add_server("127.0.0.1", Some(NOBODY), Some(true), Some(false));
    came_first(&world);
}

fn none_enabled_is_a_clear_end(world: World) {
    world.sql.run("UPDATE mqtt_servers SET enabled = FALSE");
    let mut gateway = world.start();
    assert_eq!(gateway.wait_for_exit().code(), Some(1));
    gateway.wait_for_line("Fatal error during startup: ");
}

fn an_empty_table_gets_the_local_broker(backend: Backend) {
    let world = World::without_broker(backend, Broker::shared());
    let _gateway = world.start();
    let sql = "SELECT COUNT(*) FROM mqtt_servers \
               WHERE host = '127.0.0.1' AND port = 1883 AND enabled = TRUE AND is_default = TRUE";
    eventually("the default row", || {
        (world.sql.try_rows(sql, []).ok()?[0].try_get_by_index::<i64>(0).unwrap() == 1).then_some(())
    });
}

/// On an address of its own, so that the standard port is free despite other programs,
/// other runs of these tests included.
fn null_port_is_the_standard_port(backend: Backend) {
    let [.., high, low] = std::process::id().to_be_bytes();
    let place = match backend {
        Backend::MariaDb => 77,
        Backend::Postgres => 79,
        Backend::Sqlite => 78,
    };
    let own_address = Ipv4Addr::new(127, place, high, low.max(1));
    let address = SocketAddr::from((own_address, 1883));
    let broker = Broker::with(&BrokerOptions { address, ..BrokerOptions::default() });
    let world = World::without_broker(backend, broker);
    forget_servers(&world);
    world.add_server(&own_address.to_string(), None, Some(true), Some(true));
    world.flow("any", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
}

fn credentials_are_used_when_both_are_there(backend: Backend) {
    let passwords = tempfile::NamedTempFile::new().unwrap();
    let hashed = Command::new("mosquitto_passwd")
        .env("PATH", path_with_sbin())
        .args(["-b", passwords.path().to_str().unwrap(), "device", "hidden-word"])
        .status()
        .unwrap();
    assert!(hashed.success());
    let access = format!("allow_anonymous false\npassword_file {}", passwords.path().display());
    let broker = Broker::with(&BrokerOptions { access, ..BrokerOptions::default() });
    let world = World::with_broker(backend, broker);
    world.flow("any", "t").insert(&world.sql);

    world.sql.run("UPDATE mqtt_servers SET username = 'device'");
    let mut refused = world.start();
    refused.wait_for_line("MQTT connection failed with reason code: ");
    refused.stop();
    world.sql.run("UPDATE mqtt_servers SET password = 'hidden-word'");
    let mut accepted = world.start_subscribed();
    accepted.stop();
    assert!(!accepted.stderr().contains("hidden-word"));
}

fn a_broker_that_is_not_there_is_awaited(backend: Backend) {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, free_port()));
    let options = BrokerOptions { address, ..BrokerOptions::default() };
    let mut broker = Broker::with(&options);
    broker.stop();
    let mut world = World::with_broker(backend, broker);
    world.flow("any", "t").insert(&world.sql);
    let gateway = world.start();
    gateway.wait_for_line("MQTT connection failed with reason code: ");
    let mark = world.broker.mark();
    world.broker.start();
    world.wait_for_flows(mark);
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_stored("any", 1);
}

on_each_database!(
    the_default_one_of_the_enabled_comes_first,
    without_a_default_the_smallest_id_comes_first,
    none_enabled_is_a_clear_end,
);

mod private {
    use super::{
        a_broker_that_is_not_there_is_awaited, an_empty_table_gets_the_local_broker,
        credentials_are_used_when_both_are_there, null_port_is_the_standard_port,
    };
    on_each_backend!(
        an_empty_table_gets_the_local_broker,
        null_port_is_the_standard_port,
        credentials_are_used_when_both_are_there,
        a_broker_that_is_not_there_is_awaited,
    );
}
