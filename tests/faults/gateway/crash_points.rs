//! The process dies at the very places where a message is in one hand and not yet in the other.

use crate::support::mosquitto::Broker;
use crate::support::oracle::Load;
use crate::support::world::{Backend, World};

/// The process ends the 300th time (a batch: the fifth) it comes by `point`, without another word.
fn dies_once_at(backend: Backend, point: &str, before: usize) {
    let mut world = World::with_broker(backend, Broker::private());
    world.set("FAILPOINTS", &format!("{point}={before}*off->return"));
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    // At least one batch a round, so that the place is come to for certain.
    while gateway.is_running() {
        let messages = load.next(&world, 100);
        world.publish_all(messages);
    }
    assert_eq!(gateway.wait_for_exit().code(), None, "it was ended by a signal");
    world.settings.remove("FAILPOINTS");
    let mut gateway = world.start();
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0], "twice, at {point}");
}

#[test]
fn an_end_before_the_append_loses_nothing_for_the_broker_still_has_it() {
    dies_once_at(Backend::MariaDb, "intake-before-append", 299);
    dies_once_at(Backend::Sqlite, "intake-before-append", 299);
}

#[test]
fn an_end_between_append_and_puback_doubles_nothing_though_the_broker_sends_it_again() {
    dies_once_at(Backend::MariaDb, "intake-before-puback", 299);
    dies_once_at(Backend::Sqlite, "intake-before-puback", 299);
}

#[test]
fn an_end_before_the_commit_costs_no_number() {
    dies_once_at(Backend::MariaDb, "worker-before-commit", 4);
    dies_once_at(Backend::Sqlite, "worker-before-commit", 4);
}

#[test]
fn an_end_after_the_commit_and_before_the_watermark_doubles_nothing() {
    dies_once_at(Backend::MariaDb, "worker-after-commit", 4);
    dies_once_at(Backend::Sqlite, "worker-after-commit", 4);
}

#[test]
fn an_end_with_a_batch_gathered_and_not_handed_over_loses_nothing() {
    dies_once_at(Backend::MariaDb, "router-dispatch", 4);
}
