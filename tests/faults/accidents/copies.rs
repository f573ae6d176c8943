//! Copies of an inbox directory: an old one put back, one started beside the original.

use super::{copy_directory, free_lanes, hold_lanes, is_refused, put_back, with_inbox};
use crate::backlog;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::process::Gateway;
use test_support::world::{Backend, World};

const NOT_THE_LAST: &str = "is not the one that ran last";

const ALL: [Backend; 3] = [Backend::MariaDb, Backend::Postgres, Backend::Sqlite];

fn world(backend: Backend) -> World {
    World::with_broker(backend, Broker::private())
}

/// Runs the gateway until it has stored `count` messages, and stops it.
fn run(world: &World, load: &mut Load, messages: usize) {
    let mut gateway = world.start_subscribed();
    let messages = load.next(world, messages);
    world.publish_all(messages);
    load.wait_until_stored(world);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn an_old_copy_put_back_loses_nothing() {
    ALL.into_iter().for_each(old_copy_loses_nothing);
}

fn old_copy_loses_nothing(backend: Backend) {
    let world = world(backend);
    let mut load = Load::over(&world, 2);
    let copy = world.directory().join("copy");
    run(&world, &mut load, 100);
    copy_directory(&world.inbox_directory(), &copy);
    for _ in 0..4 {
        run(&world, &mut load, 50);
    }
    put_back(&copy, &world.inbox_directory());

    let mut gateway = world.start_subscribed();
    gateway.wait_for_line(NOT_THE_LAST);
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    run(&world, &mut load, 50);
    assert_eq!(load.judge(&world), [0; 0], "{backend:?}");
}

/// The copy holds messages that were stored after it was made.
#[test]
fn old_inbox_copy_repeats_nothing() {
    ALL.into_iter().for_each(old_copy_repeats_nothing);
}

fn old_copy_repeats_nothing(backend: Backend) {
    let world = world(backend);
    let mut load = Load::over(&world, 2);
    run(&world, &mut load, 20);
    let mut gateway = world.start_subscribed();
    hold_lanes(&world);
    let messages = load.next(&world, 60);
    backlog::publish(&world, messages);
    gateway.kill();
    let copy = world.directory().join("copy");
    copy_directory(&world.inbox_directory(), &copy);
    free_lanes(&world);
    run(&world, &mut load, 40);
    put_back(&copy, &world.inbox_directory());
    run(&world, &mut load, 40);
    assert_eq!(load.judge(&world), [0; 0], "{backend:?}");
}

#[test]
fn a_copy_is_refused_while_the_original_runs() {
    for backend in ALL {
        let world = world(backend);
        let mut load = Load::over(&world, 2);
        let mut gateway = world.start_subscribed();
        let messages = load.next(&world, 50);
        world.publish_all(messages);
        let copy = world.directory().join("copy");
        copy_directory(&world.inbox_directory(), &copy);
        let mut settings = with_inbox(&world, &copy);
        settings.insert("MQTT_CLIENT_ID".to_owned(), format!("{}-twin", world.name));
        is_refused(&settings, &world, &["INBOX_DIR is a copy", world.inbox_directory().to_str().unwrap()]);
        let messages = load.next(&world, 50);
        world.publish_all(messages);
        load.wait_until_stored(&world);
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(load.judge(&world), [0; 0], "{backend:?}");
    }
}

#[test]
fn of_two_copies_started_at_once_one_runs() {
    let world = world(Backend::MariaDb);
    let mut load = Load::over(&world, 2);
    run(&world, &mut load, 50);
    let copy = world.directory().join("copy");
    copy_directory(&world.inbox_directory(), &copy);
    let settings = with_inbox(&world, &copy);
    let [mut first, mut second] =
        [&world.settings, &settings].map(|settings| Gateway::start(&[], settings, world.directory()));
    let refused = test_support::eventually("the end of one of them", || {
        if !first.is_running() {
            return Some(0);
        }
        (!second.is_running()).then_some(1)
    });
    let mut gateways = [first, second];
    assert_eq!(gateways[refused].wait_for_exit().code(), Some(1));
    gateways[refused].wait_for_line("INBOX_DIR is a copy");
    let running = &mut gateways[1 - refused];
    running.wait_for_line("Subscribed");
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(running.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// The original stands still while its copy takes over, and has messages that the copy lacks.
#[test]
fn superseded_gateway_ends_keeping_messages() {
    let world = world(Backend::MariaDb);
    let mut load = Load::over(&world, 2);
    let mut original = world.start_subscribed();
    let messages = load.next(&world, 50);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    let copy = world.directory().join("copy");
    copy_directory(&world.inbox_directory(), &copy);
    hold_lanes(&world);
    let messages = load.next(&world, 50);
    backlog::publish(&world, messages);
    original.signal("STOP");
    free_lanes(&world);

    let mark = world.broker.mark();
    let mut twin = Gateway::start(&[], &with_inbox(&world, &copy), world.directory());
    world.wait_for_flows(mark);
    let messages = load.next(&world, 50);
    world.publish_all(messages);
    Load::wait_for_count(&world, 100);
    original.signal("CONT");
    original.wait_for_line("has taken the inbox id");
    assert_eq!(original.wait_for_exit().code(), Some(1));
    is_refused(&world.settings, &world, &["INBOX_DIR is a copy", copy.to_str().unwrap()]);
    assert_eq!(twin.stop(), Some(0));

    is_refused(&world.settings, &world, &["holds messages that the other lacks", "--replay"]);
    let mark = world.broker.mark();
    let mut original = Gateway::start(&["--replay"], &world.settings, world.directory());
    original.wait_for_line(NOT_THE_LAST);
    world.wait_for_flows(mark);
    load.wait_until_stored(&world);
    assert_eq!(original.stop(), Some(0));
    for flow in ["flow0", "flow1"] {
        let stored = world.stored(flow);
        let ids: Vec<i64> = stored.iter().map(|message| message.id).collect();
        assert!(ids.iter().copied().eq(1..=75), "{flow}: {ids:?}");
    }
}
