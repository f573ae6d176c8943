//! Credentials that the broker refuses, and takes later on.

use std::process::Command;

use tempfile::NamedTempFile;

use crate::support::mosquitto::{Broker, BrokerOptions, path_with_sbin};
use crate::support::oracle::Load;
use crate::support::world::{Backend, World};

const RIGHT: &str = "the-right-word";

/// A broker that lets anyone in who gives no name; the gateway gives one.
fn world_with_passwords() -> (World, NamedTempFile) {
    let passwords = NamedTempFile::new().unwrap();
    set_password(&passwords, RIGHT);
    let access = format!("allow_anonymous true\npassword_file {}", passwords.path().display());
    let broker = Broker::with(&BrokerOptions { access, ..BrokerOptions::default() });
    let world = World::with_broker(Backend::Sqlite, broker);
    world.sql.execute("UPDATE mqtt_servers SET username = 'device', password = ?", [RIGHT.into()]);
    (world, passwords)
}

fn set_password(passwords: &NamedTempFile, password: &str) {
    let status = Command::new("mosquitto_passwd")
        .env("PATH", path_with_sbin())
        .args(["-b", passwords.path().to_str().unwrap(), "device", password])
        .status()
        .unwrap();
    assert!(status.success());
}

#[test]
fn credentials_that_are_refused_for_a_while_stop_nothing_for_good_and_lose_nothing() {
    let (mut world, passwords) = world_with_passwords();
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 500);
    world.publish_all(messages);

    set_password(&passwords, "another-word");
    // Throws the gateway out, in the midst of the stream.
    world.broker.reload();
    gateway.wait_for_line("MQTT connection failed with reason code: ");
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    assert!(gateway.is_running());

    set_password(&passwords, RIGHT);
    let mark = world.broker.mark();
    world.broker.reload();
    world.wait_for_flows(mark);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(
        load.judge(&world),
        [0; 0],
        "nothing twice, although the broker sends what is unanswered again"
    );
    assert!(!gateway.stderr().contains(RIGHT));
}

#[test]
fn credentials_that_are_wrong_at_the_start_and_become_right_need_no_restart() {
    let (mut world, passwords) = world_with_passwords();
    set_password(&passwords, "another-word");
    world.broker.reload();
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start();
    let line = gateway.wait_for_line("MQTT connection failed with reason code: ");
    assert!(line.contains("135") || line.contains("134"), "not authorised, or bad name or password: {line}");

    set_password(&passwords, RIGHT);
    let mark = world.broker.mark();
    world.broker.reload();
    world.wait_for_flows(mark);
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
