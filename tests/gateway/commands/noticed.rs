//! Edits that count in a running gateway without a reload.

use test_support::eventually;
use test_support::process::Gateway;
use test_support::world::World;

use super::{add_temp, succeeds};

/// A gateway that reads the flows again only after a day, unless it notices an edit. It has noticed one.
fn noticing(world: &mut World) -> Gateway {
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "86400");
    world.flow("OLD", "old").insert(&world.sql);
    let gateway = world.start();
    let mut edits = 0;
    eventually("a noticed edit", || {
        edits += 1;
        world.sql.execute("UPDATE flows SET description = ?", [format!("edit {edits}").into()]);
        (gateway.count_lines("Flow OLD was edited: description") > 0).then_some(())
    });
    gateway
}

fn edits_by_commands_count_at_once(mut world: World) {
    let gateway = noticing(&mut world);
    add_temp(&world, "t");
    gateway.wait_for_line("Flow TEMP is active");
    world.publish("t", r#"{"value": 1}"#);
    world.wait_for_last_msg_id("TEMP", 1);
    succeeds(&world, &["flows", "disable", "TEMP"]);
    gateway.wait_for_line("Flow TEMP was disabled");
    succeeds(&world, &["flows", "remove", "TEMP", "--yes"]);
    gateway.wait_for_line("Flow TEMP was deleted");
    let revision = || world.sql.count("SELECT revision FROM flow_revision", []);
    let before = revision();
    succeeds(&world, &["flows", "touch"]);
    assert_eq!(revision(), before + 1);
}

fn edits_by_sql_are_noticed(mut world: World) {
    let gateway = noticing(&mut world);
    let topic = world.topic("new");
    world.sql.execute("UPDATE flows SET topic = ?", [topic.as_str().into()]);
    let is_topic = |line: &str| line.contains("Flow OLD was edited") && line.contains("topic");
    gateway.wait_for_line_that("an edited topic", &is_topic);
    eventually("a message on the new topic", || {
        world.publish("new", "{}");
        world.last_msg_id("OLD").filter(|number| *number > 0)
    });
}

on_each_database! { edits_by_commands_count_at_once, edits_by_sql_are_noticed }
