//! From the first flow to its removal.

use test_support::eventually;
use test_support::world::World;

use super::{add_temp, document, fails, succeeds};

fn a_flow_is_added_broken_mended_and_removed(world: World) {
    let added = add_temp(&world, "+/temperature");
    assert!(added.contains("Added flow TEMP. It counts from sequence number 1."), "{added}");
    let gateway = world.start_subscribed();
    world.publish("kitchen/temperature", r#"{"value": 21.5}"#);
    world.wait_for_stored("TEMP", 1);

    let schema = world.directory().join("schema.json");
    std::fs::write(&schema, r#"{"value": "number", "unit": "string"}"#).unwrap();
    let edited = succeeds(&world, &["flows", "edit", "TEMP", "--schema", schema.to_str().unwrap()]);
    assert!(edited.contains("Changed flow TEMP. It counts from sequence number 2."), "{edited}");
    world.publish("kitchen/temperature", r#"{"value": 22}"#);
    assert!(world.wait_for_dead_letters(1)[0].detail.contains("unit"));

    succeeds(&world, &["flows", "edit", "TEMP", "--schema", r#"{"value": "number"}"#]);
    world.publish("kitchen/temperature", r#"{"value": 23}"#);
    assert_eq!(world.wait_for_stored("TEMP", 2)[1].value("value"), Some("23"));
    let shown = document(&world, &["flows", "show", "TEMP"]);
    assert_eq!(shown["flow"]["last_msg_id"], 2);
    assert_eq!(shown["flow"]["payload_schema"]["value"], "number");

    let disabled = succeeds(&world, &["flows", "disable", "TEMP"]);
    assert!(disabled.contains("Disabled flow TEMP. It counts from sequence number 3."), "{disabled}");
    world.publish("kitchen/temperature", r#"{"value": 24}"#);
    drop(gateway);
    assert_eq!(world.stored("TEMP").len(), 2);

    let asked = fails(&world, &["flows", "remove", "TEMP"]);
    assert!(asked.contains("--yes"), "{asked}");
    let removed = succeeds(&world, &["flows", "remove", "TEMP", "--yes"]);
    assert!(removed.contains("--last-msg-id 2"), "{removed}");
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM flows", []), 0);
    assert_eq!(world.stored("TEMP").len(), 2);
}

fn flows_are_listed(world: World) {
    assert!(succeeds(&world, &["flows", "list"]).contains("flows add --help"));
    add_temp(&world, "t");
    world
        .flow("P", "p")
        .posts_to("http://me:s3cret@127.0.0.1:9/hook?key=s3cret")
        .enabled(None)
        .insert(&world.sql);
    let options = r#"{"delivery": {"headers": {"X-Key": "s3cret", "X-Ref": "env:MQTT_KEY"}}}"#;
    succeeds(&world, &["flows", "edit", "P", "--options", options]);
    let list = succeeds(&world, &["flows", "list"]);
    let lines: Vec<&str> = list.lines().collect();
    assert!(lines[0].starts_with("CODE  ENABLED"), "{list}");
    assert!(lines[1].starts_with("TEMP  yes"), "{list}");
    assert!(lines[2].starts_with("P     no (NULL)  POST_ENDPOINT"), "{list}");
    let shown = succeeds(&world, &["flows", "show", "P"]);
    assert!(
        shown.contains("http://***@127.0.0.1:9/hook?key=***") && shown.contains("env:MQTT_KEY"),
        "{shown}"
    );
    let documents = [document(&world, &["flows", "list"]), document(&world, &["flows", "show", "P"])];
    assert_eq!(documents[0]["flows"].as_array().unwrap().len(), 2);
    for text in documents.map(|document| document.to_string()).into_iter().chain([list, shown]) {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

fn unknown_codes_are_errors(world: World) {
    add_temp(&world, "t");
    assert!(fails(&world, &["flows", "show", "temp"]).contains("did you mean \"TEMP\"?"));
    let error = document(&world, &["flows", "disable", "TEMP", "HUM"]);
    assert_eq!(
        (&error["error"]["kind"], &error["error"]["message"]),
        (&"not_found".into(), &"there is no flow \"HUM\"".into())
    );
    assert_eq!(document(&world, &["flows", "show", "TEMP"])["flow"]["enabled"], true, "all or none");
}

fn flows_that_cannot_work_are_found(world: World) {
    add_temp(&world, "t");
    assert!(succeeds(&world, &["flows", "validate", "--all"]).starts_with("TEMP: ok\n"));
    world.flow("BAD", "b").topic("a/#/b").action("store").schema("[]").insert(&world.sql);
    let text = fails(&world, &["flows", "validate", "--all"]);
    assert!(text.contains("BAD: cannot work\nerror: topic: '#' must be the last level"), "{text}");
    let report = document(&world, &["flows", "validate", "BAD"]);
    assert_eq!(report["ok"], false);
    let fields = report["flows"][0]["problems"].as_array().unwrap().iter().map(|problem| &problem["field"]);
    assert_eq!(fields.collect::<Vec<_>>(), ["topic", "action", "payload_schema"]);
    let check = fails(&world, &["check"]);
    assert!(check.contains("FAIL flow: BAD gets no messages"), "{check}");
    assert!(check.contains("FAIL flow: BAD cannot process messages: unknown action"), "{check}");
    succeeds(&world, &["flows", "disable", "BAD"]);
    succeeds(&world, &["check"]);
    let refused = fails(&world, &["flows", "enable", "BAD"]);
    assert!(refused.contains("error: action: unknown action"), "{refused}");
}

fn waiting_posts_of_a_removed_flow_become_dead_letters(world: World) {
    let (topic, url) = (world.topic("p"), "http://127.0.0.1:9/");
    let add = ["flows", "add", "P", "--topic", &topic, "--action", "POST_ENDPOINT", "--endpoint-url", url];
    succeeds(&world, &add);
    let _gateway = world.start_subscribed();
    world.publish("p", "{}");
    eventually("a post waits", || {
        (document(&world, &["flows", "show", "P"])["flow"]["waiting_posts"] == 1).then_some(())
    });
    let removed = document(&world, &["flows", "remove", "P", "--yes"]);
    assert_eq!(removed["removed"][0]["waiting_posts"], 1);
    assert_eq!(world.wait_for_dead_letters(1)[0].reason, "flow_deleted");
}

on_each_database!(
    a_flow_is_added_broken_mended_and_removed,
    flows_are_listed,
    unknown_codes_are_errors,
    flows_that_cannot_work_are_found,
    waiting_posts_of_a_removed_flow_become_dead_letters,
);
