//! Flows as code: export, diff, apply, lint.

use std::thread;
use std::time::Instant;

use serde_json::Value;
use test_support::eventually;
use test_support::process::binary;
use test_support::publisher::{Message, Publisher};
use test_support::world::{Backend, SERVERS, World, text_of};

use super::edits::waits_for_a_row;
use super::{add_temp, document, fails, succeeds};

/// Writes a file into the directory of the test, and returns its name.
fn file(world: &World, name: &str, text: &str) -> String {
    std::fs::write(world.directory().join(name), text).unwrap();
    name.to_owned()
}

fn exit_code(world: &World, arguments: &[&str]) -> (Option<i32>, String) {
    let output = world.command(arguments);
    (output.status.code(), text_of(&output))
}

fn history_rows(world: &World) -> i64 {
    world.sql.count("SELECT COUNT(*) FROM edit_history", [])
}

const FLOWS: &str = r#"
flows:
  - code: TEMP
    description: 'rooms: "warm" & cold'
    topic: sensors/+/temperature
    action: STORE_DB
    payload_schema: {z: number, a: string}
  - code: BOTH
    topic: both/#
    action: STORE_DB
    endpoint_url: http://127.0.0.1:9/in
    options: {also_post: true, delivery: {headers: {X-Ref: "env:MQTT_KEY"}, timeout_seconds: 5}}
    message_key: /id
    enabled: false
"#;

fn an_export_makes_the_same_tables_elsewhere(world: World) {
    let elsewhere = super::world(world.backend);
    let name = file(&world, "flows.yaml", FLOWS);
    let applied = succeeds(&world, &["flows", "apply", &name]);
    assert!(applied.contains("+ flow TEMP: begins with sequence number 1\n"), "{applied}");
    world.sql.run("UPDATE flows SET last_msg_id = 7");
    world
        .sql
        .run("UPDATE mqtt_servers SET host = 'broker.example', username = 'me', password = 'env:MQTT_P'");

    let export = succeeds(&world, &["flows", "export", "--servers"]);
    assert!(!export.contains("last_msg_id") && !export.contains("id:"), "{export}");
    let name = file(&elsewhere, "flows.yaml", &export);
    assert_eq!(exit_code(&elsewhere, &["flows", "diff", &name]).0, Some(2));
    succeeds(&elsewhere, &["flows", "apply", &name, "--prune", "--yes"]);
    assert_eq!(exit_code(&elsewhere, &["flows", "diff", &name]), (Some(0), "No differences.\n".to_owned()));
    assert_eq!(succeeds(&elsewhere, &["flows", "export", "--servers"]), export);
    assert_eq!(elsewhere.sql.count("SELECT COUNT(*) FROM mqtt_servers", []), 1);

    let before = history_rows(&elsewhere);
    let again = succeeds(&elsewhere, &["flows", "apply", &name, "--prune"]);
    assert!(again.starts_with("Nothing to do"), "{again}");
    assert_eq!(history_rows(&elsewhere), before);
    let json = document(&world, &["flows", "export", "TEMP"]);
    assert_eq!((json["flows"].as_array().unwrap().len(), &json["flows"][0]["code"]), (1, &"TEMP".into()));
}

fn a_diff_says_what_changes(world: World) {
    add_temp(&world, "t");
    let gateway = world.start_subscribed();
    world.publish("t", r#"{"value": 1}"#);
    world.wait_for_last_msg_id("TEMP", 1);
    world.publish("t", r#"{"unit": "C"}"#);
    world.publish("t", r#"{"unit": 1}"#);
    world.wait_for_dead_letters(2);
    let export = succeeds(&world, &["flows", "export"]);
    let name = file(&world, "flows.yaml", &export.replace("value: number", "unit: string"));
    let (code, text) = exit_code(&world, &["flows", "diff", &name]);
    assert_eq!(code, Some(2));
    assert!(text.contains("~ flow TEMP: counts from sequence number 2\n"), "{text}");
    assert!(text.contains(r#"    payload_schema: {"value":"number"} -> {"unit":"string"}"#), "{text}");
    assert!(
        text.contains("    1 of its 2 newest dead letters without a number would be processed"),
        "{text}"
    );
    let diff = document(&world, &["flows", "diff", &name]);
    assert_eq!((&diff["differs"], &diff["changes"][0]["change"]), (&true.into(), &"changed".into()));
    assert_eq!(diff["changes"][0]["dead_letters"], serde_json::json!({"tried": 2, "would_pass": 1}));
    assert_eq!(document(&world, &["flows", "show", "TEMP"])["flow"]["payload_schema"]["value"], "number");
    drop(gateway);
}

fn waiting_posts_are_part_of_a_diff(world: World) {
    let (topic, url) = (world.topic("p"), "http://127.0.0.1:9/");
    let add = ["flows", "add", "P", "--topic", &topic, "--action", "POST_ENDPOINT", "--endpoint-url", url];
    succeeds(&world, &add);
    let _gateway = world.start_subscribed();
    world.publish("p", "{}");
    eventually("a post waits", || {
        (document(&world, &["flows", "show", "P"])["flow"]["waiting_posts"] == 1).then_some(())
    });
    let name = file(&world, "flows.yaml", "flows: []\n");
    let (code, text) = exit_code(&world, &["flows", "diff", &name, "--prune"]);
    assert_eq!(code, Some(2), "{text}");
    assert!(text.contains("- flow P: its last sequence number is 1\n"), "{text}");
    assert!(text.contains("    1 waiting posts become dead letters\n"), "{text}");
}

fn removing_has_to_be_asked_for(world: World) {
    add_temp(&world, "t");
    world.sql.run("UPDATE flows SET last_msg_id = 41");
    let other = "flows: [{code: OTHER, topic: o, action: STORE_DB}]\n";
    let name = file(&world, "flows.yaml", other);
    let kept = succeeds(&world, &["flows", "apply", &name]);
    assert!(kept.contains("1 flows and brokers are not in the file and stay"), "{kept}");
    assert!(fails(&world, &["flows", "apply", &name, "--prune"]).contains("--yes"));
    let dry = succeeds(&world, &["flows", "apply", &name, "--prune", "--dry-run"]);
    assert!(dry.contains("- flow TEMP") && dry.ends_with("Nothing was written.\n"), "{dry}");
    assert_eq!(world.last_msg_id("TEMP"), Some(41));
    let servers = || world.sql.count("SELECT COUNT(*) FROM mqtt_servers", []);
    let before = servers();
    succeeds(&world, &["flows", "apply", &name, "--prune", "--yes"]);
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM flows", []), 1);
    assert_eq!(servers(), before, "the file has no list of brokers");

    let temp =
        "flows: [{code: TEMP, topic: t, action: STORE_DB}, {code: OTHER, topic: o, action: STORE_DB}]\n";
    let name = file(&world, "flows.yaml", temp);
    let back = succeeds(&world, &["flows", "apply", &name]);
    assert!(back.contains("+ flow TEMP: begins with sequence number 42\n"), "{back}");
    assert_eq!(world.last_msg_id("TEMP"), Some(41), "its numbers go on");
}

fn a_wrong_file_changes_nothing(world: World) {
    add_temp(&world, "t");
    let before = history_rows(&world);
    for (text, words) in [
        (
            "flows: [{code: A, topic: a, action: STORE_DB}, {code: B, topic: a/#/b, action: STORE_DB}]",
            "f.yaml:1:58: flow B: topic: '#' must be",
        ),
        (
            "flows: [{code: A, topic: a, action: STORE_DB}, {code: A, topic: b, action: STORE_DB}]",
            "another flow has the code",
        ),
        ("flows: [{code: A, topc: a, action: STORE_DB}]", "f.yaml:1:19: flow A: topc: unknown field"),
        ("flows: [", "f.yaml:"),
        ("servers: [{host: 'a b'}]", "f.yaml:1:12: server a b: host: "),
    ] {
        let name = file(&world, "f.yaml", text);
        for arguments in
            [&["flows", "apply", &name][..], &["flows", "diff", &name], &["flows", "lint", &name]]
        {
            let (code, found) = exit_code(&world, arguments);
            assert_eq!(code, Some(1), "{arguments:?}: {found}");
            assert!(found.contains(words) || arguments[1] == "lint", "{arguments:?}: {found}");
        }
    }
    assert!(fails(&world, &["flows", "apply", "missing.yaml"]).contains("cannot read missing.yaml"));
    assert_eq!(history_rows(&world), before);
    // A flow that does not work and stays as it is holds up no other.
    world.flow("OLD", "x").action("store").insert(&world.sql);
    let text = succeeds(&world, &["flows", "export"]) + "  - {code: NEW, topic: n, action: STORE_DB}\n";
    let name = file(&world, "f.yaml", &text);
    succeeds(&world, &["flows", "apply", &name]);
}

fn masked_secrets_stay(world: World) {
    let topic = world.topic("p");
    let options = r#"{"delivery": {"timeout_seconds": 5, "headers": {"X-Key": "s3cret"}}}"#;
    let url = "http://me:s3cret@127.0.0.1:9/hook?key=s3cret";
    let add = ["flows", "add", "P", "--topic", &topic, "--action", "POST_ENDPOINT", "--endpoint-url", url];
    succeeds(&world, &[&add[..], &["--options", options]].concat());
    let export = succeeds(&world, &["flows", "export"]);
    assert!(!export.contains("s3cret"), "{export}");
    let name = file(&world, "flows.yaml", &export);
    assert_eq!(exit_code(&world, &["flows", "diff", &name]).0, Some(0));
    let name = file(&world, "flows.yaml", &export.replace("timeout_seconds: 5", "timeout_seconds: 9"));
    let applied = succeeds(&world, &["flows", "apply", &name]);
    assert!(!applied.contains("s3cret"), "{applied}");
    let kept = "SELECT COUNT(*) FROM flows WHERE CAST(options AS CHAR(200)) LIKE '%s3cret%' \
                AND CAST(options AS CHAR(200)) LIKE '%:9%' AND endpoint_url LIKE '%s3cret@%'";
    assert_eq!(world.sql.count(kept, []), 1);

    let elsewhere = super::world(world.backend);
    let name = file(&elsewhere, "flows.yaml", &export);
    succeeds(&elsewhere, &["flows", "lint", &name]);
    let refused = fails(&elsewhere, &["flows", "apply", &name]);
    for words in ["flow P: endpoint_url: ***", "flow P: options: delivery.headers.X-Key: ***", "env:NAME"] {
        assert!(refused.contains(words), "{words}: {refused}");
    }
    assert_eq!(elsewhere.sql.count("SELECT COUNT(*) FROM flows", []), 0);
}

fn what_means_the_same_is_no_difference(world: World) {
    world.flow("SAME", "s").schema(r#"{ "b":  "number", "a": "string" }"#).enabled(None).insert(&world.sql);
    world.flow("ANY", "a").schema("null").insert(&world.sql);
    world
        .sql
        .run("UPDATE flows SET endpoint_url = ' ', message_key = '', options = '{}' WHERE code = 'SAME'");
    let kept =
        "SELECT COUNT(*) FROM flows WHERE CAST(payload_schema AS CHAR(60)) LIKE '{ %' AND endpoint_url = ' '";
    assert_eq!(world.sql.count(kept, []), 1);
    let name = file(&world, "flows.yaml", &succeeds(&world, &["flows", "export"]));
    assert_eq!(exit_code(&world, &["flows", "diff", &name]), (Some(0), "No differences.\n".to_owned()));
    let text = "flows: [{code: SAME, description: a flow, topic: other, action: STORE_DB, payload_schema: {a: string, b: number}, enabled: false}]";
    let name = file(&world, "flows.yaml", text);
    let changed = document(&world, &["flows", "apply", &name])["changes"][0]["columns"].clone();
    assert_eq!(changed.as_array().unwrap().len(), 1, "{changed}");
    assert_eq!(world.sql.count(kept, []), 1, "the other columns keep their form");
}

fn brokers_are_known_by_host_and_port(world: World) {
    let before = succeeds(&world, &["flows", "export", "--servers"]);
    let one =
        "servers: [{host: h, port: 1884, username: me, password: 'env:MQTT_P'}, {host: h, port: 1885}]\n";
    succeeds(&world, &["flows", "apply", &file(&world, "s.yaml", one)]);
    let two = "servers: [{host: h, port: 1884, username: me, password: 'env:MQTT_P', tls: true}, {host: h, port: 1886}]\n";
    let name = file(&world, "s.yaml", two);
    let text = succeeds(&world, &["flows", "apply", &name]);
    assert!(
        text.contains("~ server h\n    tls: false -> true\n") && text.contains("    port: 1885 -> 1886\n"),
        "{text}"
    );
    assert_eq!(exit_code(&world, &["flows", "diff", &name]).0, Some(0));
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM mqtt_servers", []), 3);
    succeeds(&world, &["flows", "apply", &file(&world, "s.yaml", &before), "--prune", "--yes"]);
    assert_eq!(succeeds(&world, &["flows", "export", "--servers"]), before);
}

/// The first `numbered` messages have the old schema, and none of the others gets a number: they lack a field.
fn apply_counts_from_the_number_that_it_names(world: World) {
    const MESSAGES: usize = 4_000;
    add_temp(&world, "t");
    let export = succeeds(&world, &["flows", "export"]);
    let name = file(&world, "flows.yaml", &export.replace("value: number", "other: number"));
    let _gateway = world.start_subscribed();
    let topic = world.topic("t");
    let counts_from = thread::scope(|scope| {
        let address = world.broker.address;
        let publishing = scope.spawn(move || {
            let messages =
                (0..MESSAGES).map(|number| Message::new(&topic, format!(r#"{{"value": {number}}}"#)));
            Publisher::connect(address).publish_all(messages);
        });
        eventually("messages are stored", || world.last_msg_id("TEMP").filter(|number| *number > 100));
        let applied = document(&world, &["flows", "apply", &name]);
        publishing.join().unwrap();
        applied["changes"][0]["counts_from"].as_i64().unwrap()
    });
    let numbered = usize::try_from(counts_from - 1).unwrap();
    let letters = world.wait_for_dead_letters(MESSAGES - numbered);
    assert!(letters.iter().all(|letter| letter.reason == "validation_failed"));
    assert_eq!(world.last_msg_id("TEMP"), Some(counts_from - 1));
    let numbers: Vec<i64> = world.stored("TEMP").iter().map(|stored| stored.id).collect();
    assert_eq!(numbers, (1..counts_from).collect::<Vec<_>>());
}

#[test]
fn a_row_that_changes_meanwhile_is_a_conflict() {
    for backend in SERVERS {
        let world = super::world(backend);
        add_temp(&world, "t");
        let export = succeeds(&world, &["flows", "export"]);
        let text =
            export.replace("value: number", "v: number") + "  - {code: NEW, topic: n, action: STORE_DB}\n";
        let name = file(&world, "flows.yaml", &text);
        let other = world.another_session();
        other.run("BEGIN");
        other.run("UPDATE flows SET topic = 'other' WHERE code = 'TEMP'");
        let text = thread::scope(|scope| {
            let (settings, directory, name) = (&world.settings, world.directory(), name.as_str());
            let applying = scope
                .spawn(move || test_support::world::command(&["flows", "apply", name], settings, directory));
            eventually("apply waits for the row", || waits_for_a_row(&world).then_some(()));
            other.run("COMMIT");
            let output = applying.join().unwrap();
            assert_eq!(output.status.code(), Some(1));
            text_of(&output)
        });
        assert!(text.contains("flow \"TEMP\" was changed by another session meanwhile"), "{text}");
        assert_eq!(world.sql.count("SELECT COUNT(*) FROM flows WHERE topic = 'other'", []), 1);
        assert_eq!(world.sql.count("SELECT COUNT(*) FROM flows", []), 1, "nothing was written");
    }
}

#[test]
fn lint_needs_no_settings() {
    let directory = tempfile::tempdir().unwrap();
    let lint = |text: &str, extra: &[&str]| {
        std::fs::write(directory.path().join("f.yaml"), text).unwrap();
        let mut command = std::process::Command::new(binary());
        command.args(["flows", "lint", "f.yaml"]).args(extra).current_dir(directory.path()).env_clear();
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(lint(FLOWS, &[]), (Some(0), "f.yaml: ok\n".to_owned()));
    let (code, text) = lint("flows:\n- code: A\n  topic: a/#/b\n  action: STORE_DB\n", &[]);
    assert_eq!(code, Some(1));
    assert!(text.starts_with("f.yaml:3:3: error: flow A: topic: '#' must be the last level"), "{text}");
    let (code, text) = lint("flows: [{code: A}]", &["--json"]);
    let report: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((code, &report["ok"], &report["problems"][0]["line"]), (Some(1), &false.into(), &1.into()));
    let schema =
        std::process::Command::new(binary()).args(["schema", "--file"]).env_clear().output().unwrap();
    assert!(String::from_utf8(schema.stdout).unwrap().contains("FlowItem"));
}

fn many_flows(count: usize, seconds: u32) -> String {
    let flow = |number: usize| {
        format!(
            "  - code: F{number}\n    topic: site/{number}/+\n    action: STORE_DB\n    payload_schema: {{v: number}}\n    \
             description: flow {number} of {seconds}\n"
        )
    };
    format!("flows:\n{}", (0..count).map(flow).collect::<String>())
}

#[allow(clippy::print_stdout)]
fn ten_thousand_flows(world: World) {
    let timed = |what: &str, arguments: &[&str]| {
        let start = Instant::now();
        let (code, text) = exit_code(&world, arguments);
        let took = start.elapsed();
        println!("{:?} {what}: {} ms", world.backend, took.as_millis());
        (code, text.lines().last().unwrap_or_default().to_owned(), took)
    };
    let first = file(&world, "first.yaml", &many_flows(10_000, 1));
    let second = file(&world, "second.yaml", &many_flows(10_000, 2));
    let empty = file(&world, "empty.yaml", "flows: []\n");
    let applies: [(&str, &[&str]); 3] = [
        ("add", &["flows", "apply", &first]),
        ("change", &["flows", "apply", &second]),
        ("remove", &["flows", "apply", &empty, "--prune", "--yes"]),
    ];
    for (what, arguments) in applies {
        let (code, last, took) = timed(what, arguments);
        assert_eq!(
            (code, last.as_str()),
            (Some(0), "Applied. Running gateways notice it within two seconds.")
        );
        assert!(took.as_secs() < 30, "{what}: {took:?}");
        if what != "remove" {
            timed("list", &["flows", "list"]);
            timed("diff", &["flows", "diff", arguments[2]]);
            timed("apply again", &["flows", "apply", arguments[2]]);
        }
    }
    assert_eq!(history_rows(&world), 30_000);
}

macro_rules! slow_on_each_database {
    ($($name:ident: $backend:ident),*) => {
        $(
            #[test]
            #[ignore = "takes minutes; run by scripts/faults"]
            fn $name() {
                ten_thousand_flows(super::world(Backend::$backend));
            }
        )*
    };
}

slow_on_each_database!(
    ten_thousand_flows_on_mariadb: MariaDb,
    ten_thousand_flows_on_postgres: Postgres,
    ten_thousand_flows_on_sqlite: Sqlite
);

on_each_database!(
    an_export_makes_the_same_tables_elsewhere,
    a_diff_says_what_changes,
    waiting_posts_are_part_of_a_diff,
    removing_has_to_be_asked_for,
    a_wrong_file_changes_nothing,
    masked_secrets_stay,
    what_means_the_same_is_no_difference,
    brokers_are_known_by_host_and_port,
    apply_counts_from_the_number_that_it_names,
);
