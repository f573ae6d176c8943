//! Formats of the log, by default and by setting.

use crate::logs::{assert_one_object_a_line, await_record, parse, text};
use test_support::world::{Backend, World};

#[test]
fn piped_log_is_json_by_default() {
    let mut world = World::on(Backend::Sqlite);
    world.settings.remove("LOG_FORMAT");
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    world.publish("t", b"\xff{\n");
    await_record(&gateway, "Invalid payload in topic ", &[("topic", &world.topic("t"))]);
    assert_eq!(gateway.stop(), Some(0));
    assert_one_object_a_line(&gateway);

    world.set("LOG_FORMAT", "human");
    let mut gateway = world.start_subscribed();
    assert_eq!(gateway.stop(), Some(0));
    assert!(gateway.stderr().lines().all(|line| parse(line).is_none()));
}

#[test]
fn failed_start_logs_json_lines() {
    let mut world = World::on(Backend::Sqlite);
    world.settings.remove("LOG_FORMAT");
    world.set("LANES", "many\nlanes");
    let output = world.command(&[]);
    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    let records: Vec<_> =
        stderr.lines().map(|line| parse(line).unwrap_or_else(|| panic!("{line}"))).collect();
    assert!(records.iter().any(|record| text(record, "message").starts_with("Fatal error during startup: ")));
}
