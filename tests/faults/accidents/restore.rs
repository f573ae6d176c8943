//! The database goes back: a backup is restored, with the gateway running or down.

use super::{back_up, restore};
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::process::Gateway;
use test_support::world::{Backend, SERVERS, World};

const WENT_BACK: &str = "The database went back: lane";

/// A load of small segments: hundreds of messages fill several.
fn world_with(backend: Backend, settings: &[(&str, &str)]) -> (World, Load) {
    let mut world = World::with_broker(backend, Broker::private());
    world.set("INBOX_SEGMENT_BYTES", "65536");
    for (name, value) in settings {
        world.set(name, value);
    }
    let load = Load::over(&world, 2).of_bytes(2_000);
    (world, load)
}

fn store(world: &World, load: &mut Load, count: usize) {
    let messages = load.next(world, count);
    world.publish_all(messages);
    load.wait_until_stored(world);
}

fn wait_for_replay(gateway: &Gateway, load: &Load, world: &World) {
    gateway.wait_for_line(WENT_BACK);
    gateway.wait_for_line("numbers assigned again: flow");
    load.wait_until_stored(world);
}

#[test]
fn restore_under_running_gateway_is_replayed() {
    for backend in SERVERS {
        let (world, mut load) = world_with(backend, &[]);
        let mut gateway = world.start_subscribed();
        store(&world, &mut load, 100);
        back_up(&world.sql);
        store(&world, &mut load, 300);
        restore(&world.sql);
        // Also where nothing more is published.
        wait_for_replay(&gateway, &load, &world);
        store(&world, &mut load, 50);
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(load.judge(&world), [0; 0], "{backend:?}");
    }
}

#[test]
fn restore_during_downtime_is_replayed() {
    for backend in SERVERS {
        let (world, mut load) = world_with(backend, &[]);
        let mut gateway = world.start_subscribed();
        store(&world, &mut load, 100);
        back_up(&world.sql);
        store(&world, &mut load, 100);
        assert_eq!(gateway.stop(), Some(0));
        let mut gateway = world.start_subscribed();
        store(&world, &mut load, 200);
        assert_eq!(gateway.stop(), Some(0));
        restore(&world.sql);

        let mut gateway = world.start_subscribed();
        gateway.wait_for_line("does not know the last start");
        wait_for_replay(&gateway, &load, &world);
        store(&world, &mut load, 50);
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(load.judge(&world), [0; 0], "{backend:?}");
    }
}

#[test]
fn restore_beyond_kept_segments_is_reported() {
    let (world, mut load) = world_with(Backend::MariaDb, &[("INBOX_KEEP_SECONDS", "0")]);
    let mut gateway = world.start_subscribed();
    store(&world, &mut load, 100);
    back_up(&world.sql);
    store(&world, &mut load, 300);
    assert_eq!(gateway.stop(), Some(0));
    restore(&world.sql);
    let mut gateway = world.start_subscribed();
    let line = gateway.wait_for_line(WENT_BACK);
    assert!(line.contains("cannot be brought back"), "{line}");
    assert_eq!(gateway.stop(), Some(0));
}
