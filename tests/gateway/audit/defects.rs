//! Each defect, made by hand, is found and named, and nothing else is.

use std::fs;

use test_support::world::{Backend, World, text_of};

/// A migrated database with the flow F: three messages of two attributes.
fn healthy(backend: Backend) -> World {
    let world = World::on(backend);
    assert!(world.command(&["migrate"]).status.success());
    world.flow("F", "f").schema(r#"{"a": "number"}"#).continues_from(3).insert(&world.sql);
    for id in 1..=3 {
        store(&world, "F", id, &["a", "b"], id);
    }
    assert_eq!(world.audit(), [""; 0]);
    world
}

/// The rows of a message, received in that second.
fn store(world: &World, code: &str, id: i64, names: &[&str], second: i64) {
    for name in names {
        world.sql.execute(
            &format!(
                "INSERT INTO data (received_at, flow_code, attribute_name, attribute_value, last_msg_id) \
                 VALUES ('2026-01-01 00:00:{second:02}', ?, ?, '1', ?)"
            ),
            [code.into(), (*name).into(), id.into()],
        );
    }
}

fn found_after(backend: Backend, code: i32, findings: &[&str], spoil: impl Fn(&World)) {
    let world = healthy(backend);
    spoil(&world);
    let audit = world.audit_with(&[]);
    assert_eq!(audit.findings(), findings, "{backend:?}: {:#}", audit.report["findings"]);
    assert_eq!(audit.code, Some(code));
}

fn on_each(code: i32, findings: &[&str], spoil: impl Fn(&World)) {
    for backend in [Backend::MariaDb, Backend::Postgres, Backend::Sqlite] {
        found_after(backend, code, findings, &spoil);
    }
}

#[test]
fn a_gap() {
    on_each(1, &["wrong gap of F"], |world| world.sql.run("DELETE FROM data WHERE last_msg_id = 2"));
}

#[test]
fn gap_may_come_from_empty_object() {
    on_each(0, &["look gap of F"], |world| {
        world.sql.run("DELETE FROM data WHERE last_msg_id = 2; UPDATE flows SET payload_schema = '{}'");
    });
}

#[test]
fn a_number_with_a_name_twice() {
    on_each(1, &["wrong repeated of F"], |world| store(world, "F", 3, &["b"], 3));
}

#[test]
fn a_number_received_at_two_times() {
    on_each(1, &["wrong repeated of F"], |world| store(world, "F", 2, &["c"], 9));
}

#[test]
fn attribute_names_compare_by_bytes() {
    on_each(0, &[], |world| store(world, "F", 3, &["A", "a "], 3));
}

#[test]
fn a_counter_below_the_last_number() {
    on_each(1, &["wrong counter_too_low of F"], |world| world.sql.run("UPDATE flows SET last_msg_id = 2"));
    on_each(1, &["wrong counter_too_low of F"], |world| {
        world.sql.run("UPDATE flows SET last_msg_id = NULL");
    });
}

#[test]
fn a_counter_ahead_of_the_last_number() {
    on_each(0, &["look counter_ahead of F"], |world| world.sql.run("UPDATE flows SET last_msg_id = 4"));
}

#[test]
fn rows_of_a_code_that_no_flow_has() {
    on_each(0, &["look no_such_flow"], |world| store(world, "gone", 1, &["a"], 1));
}

#[test]
fn rows_without_a_number_or_a_code() {
    on_each(0, &["look no_number of F", "look no_number"], |world| {
        world.sql.run(
            "INSERT INTO data (received_at, flow_code, attribute_name, last_msg_id) VALUES \
             ('2026-01-01 00:00:01', 'F', 'a', NULL), ('2026-01-01 00:00:01', NULL, 'a', 1)",
        );
    });
}

/// A row of the outbox of flow `flow`, of an owner without a lease.
fn post(world: &World, flow: i64, offset: i64, message_id: i64, attempts: i32) {
    world.sql.execute(
        "INSERT INTO outbox (inbox_id, flow_id, inbox_offset, message_id, url, payload, owner, attempts, created_at, \
         next_attempt_at) VALUES ('00000000000000000000000000000001', ?, ?, ?, 'http://h', '{}', \
         '00000000000000000000000000000001', ?, '2026-01-01 00:00:01', '2026-01-01 00:00:01')",
        [flow.into(), offset.into(), message_id.into(), attempts.into()],
    );
}

fn flow_id(world: &World) -> i64 {
    world.sql.count("SELECT id FROM flows", [])
}

#[test]
fn posts_that_fail_and_that_nobody_posts() {
    on_each(0, &["look failing_posts of F", "look no_such_flow", "look no_lease"], |world| {
        post(world, flow_id(world), 1, 3, 4);
        post(world, 99, 2, 1, 0);
    });
}

#[test]
fn a_flow_that_lags() {
    on_each(0, &["look lagging of F"], |world| {
        world.sql.execute(
            "INSERT INTO inbox_lagging (inbox_id, lane, flow_id, next_offset, since) \
             VALUES ('00000000000000000000000000000001', 0, ?, 7, '2026-01-01 00:00:01')",
            [flow_id(world).into()],
        );
    });
}

#[test]
fn duplicate_or_excess_outbox_ids_are_found() {
    on_each(1, &["wrong repeated of F", "look no_lease"], |world| {
        post(world, flow_id(world), 1, 3, 0);
        post(world, flow_id(world), 2, 3, 0);
    });
    on_each(1, &["wrong counter_too_low of F", "look no_lease"], |world| {
        post(world, flow_id(world), 1, 4, 0);
    });
}

#[test]
fn dead_letters_by_flow_and_of_none() {
    on_each(1, &["wrong counter_too_low of F", "look dead_letters of F", "look dead_letters"], |world| {
        for (flow, id) in [(Some(flow_id(world)), Some(4)), (None, None)] {
            world.sql.execute(
                "INSERT INTO dead_letters (occurred_at, received_at, inbox_id, inbox_offset, topic, payload, \
                 payload_bytes, flow_id, message_id, reason) VALUES ('2026-01-01 00:00:01', '2026-01-01 00:00:01', \
                 '00000000000000000000000000000001', 1, 't', '{}', 2, ?, ?, 'outbox_full')",
                [flow.into(), id.map(i64::from).into()],
            );
        }
    });
}

#[test]
fn lane_beyond_log_and_hole_are_found() {
    let world = World::on(Backend::Sqlite);
    world.flow("F", "f").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    for value in 0..20 {
        world.publish("f", format!(r#"{{"value": {value}}}"#));
    }
    world.wait_for_last_msg_id("F", 20);
    gateway.kill();
    assert_eq!(world.audit(), [""; 0]);

    world.sql.run("UPDATE inbox_offsets SET next_offset = 4611686018427387904 WHERE lane = 0");
    // The next start begins above it.
    assert_eq!(world.audit_with(&[]).findings(), ["look identity", "look offset_too_high"]);
    world.sql.run("UPDATE inbox_offsets SET next_offset = 0 WHERE lane = 0");
    assert_eq!(world.audit_with(&[]).report["inbox"]["lanes"][0]["waiting"], 20);

    let segments = fs::read_dir(world.inbox_directory()).unwrap().map(|entry| entry.unwrap().path());
    let segment =
        segments.filter(|path| path.extension().is_some_and(|name| name == "segment")).max().unwrap();
    let mut bytes = fs::read(&segment).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&segment, bytes).unwrap();
    assert_eq!(world.audit_with(&[]).findings(), ["wrong damage"]);
}

#[test]
fn missing_inbox_and_lost_meta_file_are_found() {
    let mut world = World::on(Backend::Sqlite);
    world.flow("F", "f").insert(&world.sql);
    world.set("MQTT_CLIENT_ID", "audited");
    let mut gateway = world.start_subscribed();
    world.publish("f", r#"{"value": 1}"#);
    world.wait_for_last_msg_id("F", 1);
    gateway.kill();
    let inbox = world.inbox_directory();
    fs::write(inbox.join("meta"), "damaged").unwrap();
    let audit = world.audit_with(&[]);
    assert_eq!((audit.findings(), audit.code), (vec!["look damage".to_owned()], Some(0)));
    assert_eq!(audit.report["inbox"]["records"], 1);

    let segments = fs::read_dir(&inbox).unwrap().map(|entry| entry.unwrap().path());
    for segment in segments.filter(|path| path.extension().is_some_and(|name| name == "segment")) {
        fs::write(&segment, "damaged").unwrap();
    }
    let audit = world.audit_with(&[]);
    assert_eq!((audit.findings(), audit.code), (vec!["wrong damage".to_owned()], Some(1)));
    assert!(text_of(&world.command(&["check"])).contains("No file of the inbox can be read"));

    let other = world.directory().join("other");
    world.set("INBOX_DIR", &other.display().to_string());
    let audit = world.audit_with(&[]);
    assert_eq!(audit.findings(), ["look no_inbox"]);
    let detail = audit.report["findings"][0]["detail"].as_str().unwrap();
    assert!(detail.contains("INBOX_DIR") && detail.contains("/other"), "{detail}");
    let people = text_of(&world.command(&["audit"]));
    assert!(people.contains("there is no inbox in "), "{people}");
    assert!(text_of(&world.command(&["audit", "--flow", "F"])).contains("not checked for a single flow"));
    let check = world.command(&["check"]);
    let text = text_of(&check);
    assert!(text.contains("MQTT_CLIENT_ID=audited has the inbox"), "{text}");
    assert!(text.contains("but INBOX_DIR is no inbox. Set INBOX_DIR to the former"), "{text}");
    assert_eq!(check.status.code(), Some(1));
    assert!(!other.exists());
}

#[test]
fn one_flow_alone_can_be_asked_for() {
    let world = healthy(Backend::MariaDb);
    world.flow("G", "g").insert(&world.sql);
    store(&world, "G", 1, &["a"], 1);
    assert_eq!(world.audit_with(&[]).findings(), ["wrong counter_too_low of G"]);
    assert_eq!(world.audit_with(&["--flow", "G"]).findings(), ["wrong counter_too_low of G"]);
    let other = world.audit_with(&["--flow", "F"]);
    assert_eq!((other.findings(), other.code), (Vec::new(), Some(0)));
    assert_eq!(other.report["flows"].as_array().unwrap().len(), 1);
    let unknown = world.command(&["audit", "--flow", "H"]);
    assert_eq!(unknown.status.code(), Some(1));
    assert!(text_of(&unknown).contains("there is no flow with the code"));
}

#[test]
fn missing_database_is_reported_not_created() {
    let mut world = World::on(Backend::Sqlite);
    let path = world.directory().join("none.sqlite");
    world.set("DATABASE_URL", &format!("sqlite://{}", path.display()));
    let output = world.command(&["audit"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text_of(&output).contains("there is no database"), "{}", text_of(&output));
    assert!(!path.exists());
}

#[test]
fn missing_tables_are_reported_not_created() {
    let world = World::on(Backend::Sqlite);
    let output = world.command(&["audit"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text_of(&output).contains("mqtt-gateway migrate"), "{}", text_of(&output));
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM sqlite_master WHERE name = 'outbox'", []), 0);
}

#[test]
fn wrong_settings_are_told_by_exit_code_2() {
    let mut world = World::on(Backend::Sqlite);
    world.set("LANES", "many");
    assert_eq!(world.command(&["audit"]).status.code(), Some(2));
}

#[test]
fn the_table_for_people_says_the_same() {
    let world = healthy(Backend::Sqlite);
    world.sql.run("DELETE FROM data WHERE last_msg_id = 2");
    let output = world.command(&["audit"]);
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("WRONG gap: flow F: 1 numbers in 1 gaps"), "{text}");
    assert!(text.ends_with("1 wrong, 0 worth a look\n"), "{text}");
}
