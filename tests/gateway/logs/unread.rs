//! An unread log and a hung disk stop nothing.

use crate::logs::page::assert_quoted;
use crate::logs::{Gateway, assert_one_object_a_line, await_record, parse};
use test_support::http::{admin_of, get, scrape};
use test_support::publisher::Message;
use test_support::world::{Backend, World};

const DROPPED: &str = "mqtt_gateway_log_lines_dropped_total";

/// Each an error of some thousand bytes: together far more than may wait.
const GARBAGE: usize = 3_000;

fn world() -> World {
    let mut world = World::on(Backend::Sqlite);
    world.set("ADMIN_BIND", "127.0.0.1:0").set("LOG_REPEAT_SECONDS", "0").set("MAILBOX_REPORT_SECONDS", "1");
    world.flow("any", "t/#").insert(&world.sql);
    world
}

/// Fills the pipe and the gateway's own buffer.
fn fill(world: &World, gateway: &Gateway) {
    let topic = world.topic(&format!("t/{}", "x".repeat(1_000)));
    world.publish_all((0..GARBAGE).map(|_| Message::new(&topic, b"garbage")));
    world.wait_for_dead_letters(GARBAGE);
    let dropped = scrape(admin_of(gateway))[DROPPED];
    assert!(dropped > 0.0, "nothing was dropped, so nothing was held up");
}

fn still_works(world: &World, gateway: &Gateway) {
    let before = world.stored("any").len();
    world.publish("t/a", r#"{"a": 1}"#);
    world.wait_for_stored("any", before + 1);
    assert_eq!(get(admin_of(gateway), "/health/live").status, 200);
}

#[test]
fn unread_log_stops_nothing() {
    let world = world();
    let mut gateway = world.start_subscribed();
    gateway.leave_unread();
    fill(&world, &gateway);
    still_works(&world, &gateway);
    gateway.read_on();
    await_record(&gateway, "Log lines were dropped here: ", &[("level", "ERROR")]);
    assert_eq!(gateway.stop(), Some(0));
    let errors = world.error_log();
    assert!(
        errors.contains(" | ERROR | mqtt_gateway | Log lines were dropped here: "),
        "errors are among them"
    );
    let stderr = gateway.stderr();
    let records: Vec<_> = stderr.lines().filter_map(parse).collect();
    let dropped: u64 = records.iter().filter_map(|record| record.get("dropped")?.as_u64()).sum();
    let garbage = records.iter().filter(|record| record.get("reason").is_some()).count();
    assert!(garbage as u64 + dropped >= GARBAGE as u64, "{garbage} lines and {dropped} dropped");
    assert!(stderr.contains("Drained"), "the last lines are there");
    assert_one_object_a_line(&gateway);
    assert_quoted("Log lines dropped", &["Log lines were dropped here: "]);
}

#[test]
fn unread_log_does_not_block_shutdown() {
    let world = world();
    let mut gateway = world.start_subscribed();
    gateway.leave_unread();
    fill(&world, &gateway);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn hung_log_directory_stops_nothing() {
    let mut world = world();
    // As on a network disk whose server is away.
    world.set("FAILPOINTS", "error-file-open=sleep(600000)");
    let mut gateway = world.start_subscribed();
    fill(&world, &gateway);
    still_works(&world, &gateway);
    assert_eq!(gateway.stop(), Some(0));
}
