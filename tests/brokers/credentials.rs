//! User name and password by reference.

use std::fs;

use crate::support::oracle::Load;
use crate::support::passwords::Passwords;
use crate::support::world::{Backend, World};

const OLD: &str = "the-old-word";
const NEW: &str = "the-new-word";

fn world_with_passwords() -> (World, Passwords) {
    let passwords = Passwords::with(OLD);
    (World::with_broker(Backend::Sqlite, passwords.broker()), passwords)
}

#[test]
fn a_password_file_that_rotates_is_read_at_the_next_reconnect() {
    let (mut world, passwords) = world_with_passwords();
    let file = world.directory().join("password");
    fs::write(&file, format!("{OLD}\n")).unwrap();
    let reference = format!("file:{}", file.display());
    world.sql.execute("UPDATE mqtt_servers SET username = 'device', password = ?", [reference.into()]);
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 200);
    world.publish_all(messages);

    passwords.set(NEW);
    // Throws the gateway out, in the midst of the stream.
    world.broker.reload();
    gateway.wait_for_line("MQTT connection failed with reason code: 135");
    let mark = world.broker.mark();
    fs::write(&file, format!("{NEW}\n")).unwrap();
    world.wait_for_flows(mark);
    let messages = load.next(&world, 200);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert!(!gateway.stderr().contains(OLD) && !gateway.stderr().contains(NEW));
}

#[test]
fn name_and_password_may_stand_in_the_environment() {
    let (mut world, _passwords) = world_with_passwords();
    world.flow("any", "t").insert(&world.sql);
    world.sql.run("UPDATE mqtt_servers SET username = 'env:BROKER_USER', password = 'env:BROKER_PASSWORD'");
    world.set("BROKER_USER", "device");
    let mut gateway = world.start();
    let line = gateway.wait_for_line("env:BROKER_PASSWORD is not set in the environment");
    assert!(line.contains("password of the MQTT server with id 1"), "{line}");
    assert_eq!(gateway.stop(), Some(0));
    world.set("BROKER_PASSWORD", OLD);
    let mut gateway = world.start_subscribed();
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn a_password_that_looks_like_a_reference_can_be_written_down() {
    let (mut world, passwords) = world_with_passwords();
    world.flow("any", "t").insert(&world.sql);
    passwords.set("env:HOME");
    world.broker.reload();
    world.sql.run("UPDATE mqtt_servers SET username = 'device', password = 'plain:env:HOME'");
    let mut gateway = world.start_subscribed();
    assert_eq!(gateway.stop(), Some(0));
}
