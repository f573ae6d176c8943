//! The history of edits, and the way back.

use serde_json::Value;
use test_support::world::{Backend, World, text_of};

use super::{add_temp, document, fails, succeeds};

fn entries(world: &World, code: &str) -> Vec<Value> {
    document(world, &["flows", "history", code])["history"].as_array().unwrap().clone()
}

fn id(entry: &Value) -> String {
    entry["id"].to_string()
}

fn every_edit_is_an_entry(world: World) {
    add_temp(&world, "t");
    assert!(succeeds(&world, &["flows", "history", "TEMP"]).contains("added (command by "));
    world.sql.run("UPDATE flows SET last_msg_id = 41");
    succeeds(&world, &["flows", "edit", "TEMP", "--description", "rooms", "--message-key", "/id"]);
    succeeds(&world, &["flows", "edit", "TEMP", "--description", "rooms"]);
    succeeds(&world, &["flows", "disable", "TEMP"]);
    fails(&world, &["flows", "edit", "TEMP", "--topic", "a/#/b"]);
    succeeds(&world, &["flows", "touch"]);
    succeeds(&world, &["flows", "remove", "TEMP", "--yes"]);

    let entries = entries(&world, "TEMP");
    let edits: Vec<&Value> = entries.iter().map(|entry| &entry["edit"]).collect();
    assert_eq!(edits, ["removed", "changed", "changed", "added"]);
    assert_eq!(entries[2]["changed"], serde_json::json!(["description", "message_key"]));
    assert_eq!(
        (&entries[2]["before"]["message_key"], &entries[2]["after"]["message_key"]),
        (&Value::Null, &"/id".into())
    );
    assert_eq!(entries[1]["changed"], serde_json::json!(["enabled"]));
    assert_eq!((&entries[3]["before"], &entries[3]["counts_from"]), (&Value::Null, &1.into()));
    assert_eq!((&entries[0]["after"], &entries[0]["counts_from"]), (&Value::Null, &42.into()));
    assert_eq!(entries[3]["after"]["payload_schema"]["value"], "number");
    assert!(entries.iter().all(|entry| entry["edited_by"].as_str().unwrap().starts_with("command by ")));
    assert!(entries.is_sorted_by_key(|entry| -entry["id"].as_i64().unwrap()));

    let page = document(&world, &["flows", "history", "TEMP", "--limit", "1", "--before", &id(&entries[0])]);
    assert_eq!(page["history"], serde_json::json!([entries[1]]));
    assert!(fails(&world, &["flows", "history", "temp"]).contains("there is no flow \"temp\""));
    world.flow("SQL", "sql").insert(&world.sql);
    assert!(succeeds(&world, &["flows", "history", "SQL"]).contains("No edit was found"));
}

fn a_flow_goes_back_to_an_entry(world: World) {
    add_temp(&world, "t");
    succeeds(
        &world,
        &["flows", "edit", "TEMP", "--schema", r#"{ "unit":  "string" }"#, "--message-key", "/id"],
    );
    succeeds(&world, &["flows", "edit", "TEMP", "--schema", "{}", "--message-key", ""]);
    world.sql.run("UPDATE flows SET last_msg_id = 6");
    let before = entries(&world, "TEMP");
    let back = succeeds(&world, &["flows", "rollback", "TEMP", "--to", &id(&before[1])]);
    assert!(back.contains("Rolled back flow TEMP. It counts from sequence number 7."), "{back}");
    let shown = document(&world, &["flows", "show", "TEMP"])["flow"].clone();
    assert_eq!((&shown["payload_schema"]["unit"], &shown["message_key"]), (&"string".into(), &"/id".into()));
    let after = entries(&world, "TEMP");
    assert_eq!((after.len(), &after[0]["counts_from"]), (before.len() + 1, &7.into()));
    assert_eq!(after[0]["after"], before[1]["after"]);
    let again = succeeds(&world, &["flows", "rollback", "TEMP", "--to", &id(&before[1])]);
    assert!(again.contains("Flow TEMP is unchanged"), "{again}");
    assert!(fails(&world, &["flows", "rollback", "TEMP", "--to", "999999"]).contains("flows history TEMP"));
}

fn a_removed_flow_comes_back_with_its_numbers(world: World) {
    add_temp(&world, "t");
    world.sql.run("UPDATE flows SET last_msg_id = 41");
    succeeds(&world, &["flows", "remove", "TEMP", "--yes"]);
    let entries = entries(&world, "TEMP");
    let removed = fails(&world, &["flows", "rollback", "TEMP", "--to", &id(&entries[0])]);
    assert!(removed.contains("the flow was removed by entry"), "{removed}");
    let back = succeeds(&world, &["flows", "rollback", "TEMP", "--to", &id(&entries[1])]);
    assert!(back.contains("It counts from sequence number 42."), "{back}");
    assert_eq!(world.last_msg_id("TEMP"), Some(41));
    succeeds(&world, &["flows", "remove", "TEMP", "--yes"]);
    let again = add_temp(&world, "t");
    assert!(again.contains("It counts from sequence number 42."), "{again}");
    world.sql.run("DELETE FROM flows");
    let unknown = fails(&world, &["flows", "rollback", "TEMP", "--to", &id(&entries[1])]);
    assert!(unknown.contains("--last-msg-id"), "{unknown}");
}

fn secrets_are_in_no_history(world: World) {
    let topic = world.topic("p");
    let options = |key: &str, seconds: u32| {
        format!(r#"{{"delivery": {{"timeout_seconds": {seconds}, "headers": {{"X-Key": "{key}"}}}}}}"#)
    };
    let url = "http://me:s3cret@127.0.0.1:9/hook?key=s3cret";
    let add = ["flows", "add", "P", "--topic", &topic, "--action", "POST_ENDPOINT", "--endpoint-url", url];
    succeeds(&world, &[&add[..], &["--options", &options("s3cret-1", 5)]].concat());
    succeeds(&world, &["flows", "edit", "P", "--options", &options("s3cret-2", 6)]);
    succeeds(&world, &["flows", "edit", "P", "--options", &options("s3cret-3", 6)]);
    let texts = succeeds(&world, &["flows", "history", "P"]);
    assert!(texts.contains("options: another secret"), "{texts}");
    let stored = world.sql.rows("SELECT old_row, new_row FROM edit_history", []);
    for row in &stored {
        for column in ["old_row", "new_row"] {
            let row: Option<String> = row.try_get("", column).unwrap();
            assert!(!row.unwrap_or_default().contains("s3cret"));
        }
    }
    assert!(!(texts + &Value::from(entries(&world, "P")).to_string()).contains("s3cret"));

    let first = id(&entries(&world, "P")[2]);
    succeeds(&world, &["flows", "rollback", "P", "--to", &first]);
    let kept = "SELECT COUNT(*) FROM flows WHERE CAST(options AS CHAR(200)) LIKE '%s3cret-3%' \
                AND CAST(options AS CHAR(200)) LIKE '%:5%'";
    assert_eq!(world.sql.count(kept, []), 1, "the secret of the row stays");
    succeeds(&world, &["flows", "edit", "P", "--endpoint-url", "http://127.0.0.1:9/"]);
    let refused = fails(&world, &["flows", "rollback", "P", "--to", &first]);
    assert!(refused.contains("error: endpoint_url: ***") && refused.contains("flows edit"), "{refused}");
}

fn edits_of_brokers_are_entries(world: World) {
    let added =
        document(&world, &["servers", "add", "--host", "h", "--username", "me", "--password", "env:MQTT_P"]);
    let id = added["server"]["id"].to_string();
    succeeds(&world, &["servers", "edit", &id, "--port", "1884", "--password", "file:/run/secrets/p"]);
    succeeds(&world, &["servers", "remove", &id, "--yes"]);
    let history = document(&world, &["servers", "history", &id])["history"].clone();
    assert_eq!(history.as_array().unwrap().len(), 3);
    assert_eq!(history[1]["changed"], serde_json::json!(["port", "password"]));
    assert_eq!(
        (&history[1]["before"]["password"], &history[1]["after"]["port"]),
        (&"env:MQTT_P".into(), &1884.into())
    );
    assert!(fails(&world, &["servers", "history", "999"]).contains("servers list"));
}

/// Without the right to write the history, nothing is edited.
#[test]
fn an_edit_and_its_entry_are_one() {
    let world = super::world(Backend::Sqlite);
    add_temp(&world, "t");
    world
        .sql
        .run("CREATE TRIGGER full BEFORE INSERT ON edit_history BEGIN SELECT RAISE(ABORT, 'no space'); END");
    let output = world.command(&["flows", "disable", "TEMP"]);
    assert!(text_of(&output).contains("no space"), "{}", text_of(&output));
    assert_eq!(document(&world, &["flows", "show", "TEMP"])["flow"]["enabled"], true);
}

on_each_database!(
    every_edit_is_an_entry,
    a_flow_goes_back_to_an_entry,
    a_removed_flow_comes_back_with_its_numbers,
    secrets_are_in_no_history,
    edits_of_brokers_are_entries,
);
