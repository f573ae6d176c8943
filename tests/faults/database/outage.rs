//! The database goes away in the middle of the stream: nothing is lost, nothing doubled, and memory stays bounded.

use std::cell::RefCell;

use test_support::mariadb::MariaDbServer;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::postgres::PostgresServer;
use test_support::world::World;

use super::reconnected;

/// The bound is the release build's; a debug build's code alone is larger, its heap is the same.
const MOST_MEMORY_KIB: u64 = 128 * 1024;

fn survives(world: &World, end: impl Fn(), start: impl Fn()) {
    let mut load = Load::over(world, 4);
    let mut gateway = world.start_subscribed();
    for _ in 0..2 {
        let messages = load.next(world, 1_000);
        world.publish_all(messages);
        end();
        // All of this has to wait in the inbox.
        let messages = load.next(world, 5_000);
        world.publish_all(messages);
        assert!(gateway.is_running());
        start();
    }
    reconnected(world);
    load.wait_until_stored(world);
    let memory = gateway.peak_memory_kib();
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(
        load.judge(world),
        [0; 0],
        "neither broker nor gateway was restarted: nothing may be there twice"
    );
    assert!(memory < MOST_MEMORY_KIB, "{memory} KiB");
}

#[test]
fn full_inbox_leaves_rest_at_broker() {
    let mut server = MariaDbServer::new();
    let mut world = World::on_server(&server, Broker::private());
    world.set("INBOX_MAX_BYTES", "2097152").set("INBOX_SEGMENT_BYTES", "262144");
    let mut load = Load::over(&world, 4).of_bytes(2_000);
    let mut gateway = world.start_subscribed();
    server.stop();
    let messages = load.next(&world, 3_000);
    world.publish_all(messages);
    gateway.wait_for_line_that("the inbox being full", &|line| {
        let line = line.to_lowercase();
        line.contains("inbox") && line.contains("full")
    });
    server.start();
    reconnected(&world);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0], "the connection to the broker was never lost");
}

#[test]
fn a_killed_database_costs_no_message() {
    let server = RefCell::new(MariaDbServer::new());
    let world = World::on_server(&server.borrow(), Broker::shared());
    survives(&world, || server.borrow_mut().kill(), || server.borrow_mut().start());
}

#[test]
fn a_stopped_database_costs_no_message() {
    let server = RefCell::new(MariaDbServer::new());
    let world = World::on_server(&server.borrow(), Broker::shared());
    survives(&world, || server.borrow_mut().stop(), || server.borrow_mut().start());
}

#[test]
fn a_killed_postgres_costs_no_message() {
    let server = RefCell::new(PostgresServer::new());
    let world = World::on_postgres_server(&server.borrow(), Broker::shared());
    survives(&world, || server.borrow_mut().kill(), || server.borrow_mut().start());
}

#[test]
fn a_stopped_postgres_costs_no_message() {
    let server = RefCell::new(PostgresServer::new());
    let world = World::on_postgres_server(&server.borrow(), Broker::shared());
    survives(&world, || server.borrow_mut().stop(), || server.borrow_mut().start());
}
