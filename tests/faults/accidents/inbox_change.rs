//! The inbox directory of the settings is another one than the client id had, or is lost.

use super::{free_lanes, hold_lanes, is_refused, with_inbox};
use crate::backlog;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::process::Gateway;
use test_support::world::{Backend, World};

const ALL: [Backend; 3] = [Backend::MariaDb, Backend::Postgres, Backend::Sqlite];

/// A gateway that was killed with 50 messages in its inbox.
fn killed(backend: Backend) -> (World, Load) {
    let world = World::with_broker(backend, Broker::private());
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start_subscribed();
    hold_lanes(&world);
    let messages = load.next(&world, 50);
    backlog::publish(&world, messages);
    gateway.kill();
    free_lanes(&world);
    (world, load)
}

#[test]
fn changed_inbox_is_refused_while_first_lives() {
    for backend in ALL {
        let (world, load) = killed(backend);
        let other = world.directory().join("other");
        let first = world.inbox_directory();
        is_refused(&with_inbox(&world, &other), &world, &["--new-inbox", first.to_str().unwrap()]);
        let mut gateway = world.start_subscribed();
        load.wait_until_stored(&world);
        assert_eq!(gateway.stop(), Some(0));
        // Drained in order: nothing can be left in it.
        let mut gateway = Gateway::start(&[], &with_inbox(&world, &other), world.directory());
        gateway.wait_for_line("Subscribed");
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(load.judge(&world), [0; 0], "{backend:?}");
    }
}

#[test]
fn a_lost_inbox_is_given_up_when_told() {
    let (world, mut load) = killed(Backend::MariaDb);
    let other = world.directory().join("other");
    let mark = world.broker.mark();
    let mut gateway = Gateway::start(&["--new-inbox"], &with_inbox(&world, &other), world.directory());
    gateway.wait_for_line("is abandoned");
    world.wait_for_flows(mark);
    let messages = load.next(&world, 50);
    world.publish_all(messages);
    Load::wait_for_count(&world, 50);
    assert_eq!(gateway.stop(), Some(0));
    // It was only mislaid.
    let mut gateway = world.start_subscribed();
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn client_id_in_use_is_refused() {
    let world = World::with_broker(Backend::MariaDb, Broker::private());
    Load::over(&world, 1);
    let mut gateway = world.start_subscribed();
    let settings = with_inbox(&world, &world.directory().join("other"));
    let mut second = Gateway::start(&["--new-inbox"], &settings, world.directory());
    assert_eq!(second.wait_for_exit().code(), Some(1));
    second.wait_for_line("another gateway runs with MQTT_CLIENT_ID");
    assert_eq!(gateway.stop(), Some(0));
}
