//! Fields of messages that change: the log, the commands, and who is not affected.

use serde_json::Value;
use test_support::eventually;
use test_support::world::{Backend, World};

use super::{document, fails, succeeds};

/// The changes of all flows, as `flow field change`.
fn changes(world: &World) -> Vec<String> {
    let flows = document(world, &["flows", "drift"])["flows"].as_array().unwrap().clone();
    let changes = flows.iter().flat_map(|flow| {
        let fields = flow["fields"].as_array().unwrap().iter();
        fields.map(|field| {
            format!(
                "{} {} {}",
                text(&flow["code"]),
                text(&field["field"]),
                text(&field["change"]["description"])
            )
        })
    });
    changes.collect()
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

fn wait_for_changes(world: &World, expected: &[&str]) {
    eventually("the changes", || (changes(world) == expected).then_some(()));
}

fn add_room(world: &World) {
    world.flow("ROOM", "room/+").schema(r#"{"v": "number", "unit": "string"}"#).insert(&world.sql);
}

fn changed_fields_are_logged_and_accepted(world: World) {
    add_room(&world);
    let gateway = world.start_subscribed();
    world.publish("room/a", r#"{"v": 1, "unit": "C"}"#);
    world.wait_for_stored("ROOM", 1);
    world.publish("room/b", r#"{"v": "1", "unit": "C", "battery": 90}"#);
    world.publish("room/b", r#"{"v": 2, "battery": 80}"#);
    world.wait_for_dead_letters(2);
    gateway.wait_for_line(" appeared as int. `mqtt-gateway flows drift`");
    gateway.wait_for_line(" vanished; such messages become dead letters");
    let expected =
        ["ROOM unit vanished", "ROOM v changed from number to string", "ROOM battery appeared as int"];
    wait_for_changes(&world, &expected);
    let shown = document(&world, &["flows", "drift", "ROOM"])["drift"]["fields"].clone();
    let fact = shown[1]["facts"].as_array().unwrap().iter().find(|fact| fact["kind"] == "string").unwrap();
    assert_eq!((&fact["messages"], &fact["is_change"]), (&1.into(), &true.into()));
    assert_eq!(text(&fact["first_topic"]), world.topic("room/b"));
    let table = succeeds(&world, &["flows", "drift", "ROOM"]);
    assert!(table.contains("flows drift ROOM --accept unit") && table.contains("(missing)"), "{table}");

    assert!(fails(&world, &["flows", "drift", "ROOM", "--accept", "x"]).contains("flows drift ROOM"));
    let accepted = succeeds(&world, &["flows", "drift", "ROOM", "--accept", "unit", "--replay"]);
    assert!(
        accepted.contains("\"unit\" is removed from the schema") && accepted.contains("stored"),
        "{accepted}"
    );
    world.wait_for_stored("ROOM", 2);
    assert_eq!(world.dead_letters().len(), 1);
    succeeds(&world, &["flows", "drift", "ROOM", "--dismiss", "battery"]);
    let accepted = document(&world, &["flows", "drift", "ROOM", "--accept", "v"]);
    assert_eq!(accepted["accepted"]["dead_letters"]["text"], "field \"v\": expected ");
    assert_eq!(changes(&world), [] as [&str; 0]);
    let schema = document(&world, &["flows", "show", "ROOM"])["flow"]["payload_schema"].clone();
    // The battery came with strings and numbers alike, and so did the value.
    assert!(schema.get("unit").is_none(), "{schema}");
    let edits = document(&world, &["flows", "history", "ROOM"])["history"].as_array().unwrap().len();
    assert_eq!(edits, 2, "each acceptance is in the history");
}

fn fields_survive_a_restart(world: World) {
    add_room(&world);
    let mut gateway = world.start_subscribed();
    world.publish("room/a", r#"{"v": 1, "unit": "C", "extra": 1}"#);
    eventually("the fields", || {
        let fields = document(&world, &["flows", "drift", "ROOM"])["drift"]["fields"].clone();
        (fields.as_array().unwrap().len() == 3).then_some(())
    });
    world.publish("room/a", r#"{"v": 2, "unit": "C", "extra": 1}"#);
    world.wait_for_stored("ROOM", 2);
    assert_eq!(gateway.stop(), Some(0));
    let shown = document(&world, &["flows", "drift", "ROOM"])["drift"]["fields"].clone();
    assert_eq!(shown[0]["facts"][0]["messages"], 2, "the last counts are written at the end: {shown}");
    let mut gateway = world.start_subscribed();
    world.publish("room/a", r#"{"v": 1, "unit": "C"}"#);
    wait_for_changes(&world, &["ROOM extra vanished"]);
    assert_eq!(gateway.stop(), Some(0));
    succeeds(&world, &["flows", "remove", "ROOM", "--yes"]);
    assert_eq!(changes(&world), [] as [&str; 0]);
}

on_each_database!(changed_fields_are_logged_and_accepted, fields_survive_a_restart);

/// Endless new names, names of a megabyte, and names with control characters.
#[test]
fn hostile_names_are_bounded() {
    let world = super::world(Backend::Sqlite);
    world.flow("EVIL", "evil").posts_to("http://127.0.0.1:9/").schema("{}").insert(&world.sql);
    world.flow("ROOM", "room").insert(&world.sql);
    let gateway = world.start_subscribed();
    world.publish(
        "evil",
        format!("{{\"{}\": 1, \"\\u001b[31m\\u202e\": 1, \"\\u0000\": 1}}", "x".repeat(1_000_000)),
    );
    let names =
        |from: usize| (from..from + 1_000).map(|name| format!("\"{name}\": 1")).collect::<Vec<_>>().join(",");
    for message in 0..100 {
        world.publish("evil", format!("{{{}}}", names(message * 1_000)));
    }
    world.publish("room", r#"{"value": 1}"#);
    world.wait_for_stored("ROOM", 1);
    let drift = eventually("all fields that are kept", || {
        let drift = document(&world, &["flows", "drift", "EVIL"])["drift"].clone();
        (drift["fields"].as_array().unwrap().len() == 100).then_some(drift)
    });
    assert_eq!(drift["fields"][0]["field"], "\u{1b}[31m\u{202e}");
    let shown = succeeds(&world, &["flows", "drift"]);
    assert!(shown.contains("EVIL") && !shown.contains('\u{1b}'));
    assert!(gateway.count_lines("\u{1b}[31m\u{202e}") == 0, "the log shows no control characters");
}

/// The user of the database may not write the table: messages go on.
#[test]
fn messages_need_no_right_on_the_fields() {
    let world = super::world(Backend::MariaDb);
    add_room(&world);
    let user = format!("'{}'@'%'", world.name);
    world.sql.run(&format!("REVOKE ALL ON {}.* FROM {user}", world.name));
    let tables = world.sql.rows(
        "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE()",
        [],
    );
    for table in tables.iter().map(|row| row.try_get_by_index::<String>(0).unwrap()) {
        let rights = if table == "flow_fields" { "SELECT" } else { "SELECT, INSERT, UPDATE, DELETE" };
        world.sql.run(&format!("GRANT {rights} ON {}.{table} TO {user}", world.name));
    }
    let mut gateway = world.start_subscribed();
    world.publish("room/a", r#"{"v": 1, "unit": "C"}"#);
    gateway.wait_for_line("Drift is not recorded until the next start");
    world.publish("room/a", r#"{"v": 2, "unit": "C"}"#);
    world.wait_for_stored("ROOM", 2);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(gateway.count_lines("Drift is not recorded"), 1);
}
