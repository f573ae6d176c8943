//! Credentials that the broker refuses, and takes later on.

use test_support::oracle::Load;
use test_support::passwords::{Passwords, USER};
use test_support::world::{Backend, World};

const RIGHT: &str = "the-right-word";

fn world_with_passwords() -> (World, Passwords) {
    let passwords = Passwords::with(RIGHT);
    let world = World::with_broker(Backend::Sqlite, passwords.broker());
    world.sql.execute("UPDATE mqtt_servers SET username = ?, password = ?", [USER.into(), RIGHT.into()]);
    (world, passwords)
}

#[test]
fn temporarily_refused_credentials_lose_nothing() {
    let (mut world, passwords) = world_with_passwords();
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 500);
    world.publish_all(messages);

    passwords.set("another-word");
    // Throws the gateway out, in the midst of the stream.
    world.broker.reload();
    gateway.wait_for_line("MQTT connection failed with reason code: ");
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    assert!(gateway.is_running());

    passwords.set(RIGHT);
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
fn corrected_credentials_need_no_restart() {
    let (mut world, passwords) = world_with_passwords();
    passwords.set("another-word");
    world.broker.reload();
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start();
    let line = gateway.wait_for_line("MQTT connection failed with reason code: ");
    assert!(line.contains("135") || line.contains("134"), "not authorised, or bad name or password: {line}");

    passwords.set(RIGHT);
    let mark = world.broker.mark();
    world.broker.reload();
    world.wait_for_flows(mark);
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
