//! The state of a gateway, by command and by the API.

use serde_json::{Value, json};
use test_support::eventually;
use test_support::world::{Backend, World};

use super::Served;
use crate::commands::{document, fails, succeeds};

/// A gateway whose port is in its settings, so that commands find it.
fn at_known_port(mut world: World) -> (World, test_support::process::Gateway) {
    let port = test_support::net::free_port();
    world.set("ADMIN_BIND", &format!("127.0.0.1:{port}"));
    let mark = world.broker.mark();
    let gateway = world.start();
    world.wait_for_flows(mark);
    (world, gateway)
}

fn status_names_faults_and_remedies(world: World) {
    world.flow("F", "f").schema(r#"{"n": "number"}"#).insert(&world.sql);
    let (world, gateway) = at_known_port(world);
    let text = eventually("no problem", || {
        let output = world.command(&["status"]);
        output.status.success().then(|| test_support::world::text_of(&output))
    });
    for words in ["ready", "connected since", "1 enabled", "router", "No problem."] {
        assert!(text.contains(words), "{words}: {text}");
    }
    world.publish("f", "{}");
    world.wait_for_dead_letters(1);
    world.flow("BROKEN", "b").schema(r#"{"n": "nonsense"}"#).insert(&world.sql);
    let text = fails(&world, &["status"]);
    for words in ["dead letters within 24 h: 1", "dead-letters list", "flows that cannot work: 1 (BROKEN)"] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let shown = document(&world, &["status"]);
    assert_eq!(shown["gateway"]["broker"]["connected"], true, "{shown}");
    assert_eq!(shown["database"]["dead_letters"]["counts"][0]["reason"], "validation_failed");
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM api_tokens", []), 0);

    drop(gateway);
    let text = fails(&world, &["status"]);
    assert!(text.contains("no gateway answers") && text.contains("2 enabled"), "{text}");
}

on_each_database!(status_names_faults_and_remedies);

#[test]
fn api_shows_the_same_status() {
    let served = Served::new(crate::commands::world(Backend::Sqlite));
    let reader = served.client("read");
    let shown = eventually("a connection", || {
        let shown = reader.read("/status");
        (shown["gateway"]["broker"]["connected"] == true).then_some(shown)
    });
    assert_eq!(shown["database"]["flows"]["enabled"], 0);
    let actors: Vec<&Value> = shown["gateway"]["actors"].as_array().unwrap().iter().collect();
    assert!(actors.iter().any(|actor| actor["actor"] == "router"), "{actors:?}");
}

#[test]
fn edits_by_the_api_are_in_the_next_status() {
    let served = Served::new(crate::commands::world(Backend::Sqlite));
    let admin = served.client("admin");
    let enabled = || admin.read("/status")["database"]["flows"]["enabled"].clone();
    assert_eq!(enabled(), 0);
    let flow = json!({"code": "F", "topic": "f", "action": "STORE_DB", "payload_schema": {"n": "number"}});
    let added = admin.call("POST", "/flows", &flow);
    assert_eq!((added.status, enabled()), (201, 1.into()), "{added:?}");
}

#[test]
fn status_works_without_the_database() {
    let mut world = crate::commands::world(Backend::Postgres);
    let file = world.directory().join("token");
    std::fs::write(&file, "a".repeat(40)).unwrap();
    world.set("ADMIN_TOKEN_FILE", file.to_str().unwrap());
    let proxy = world.reach_database_by_proxy();
    let served = Served::new(world);
    let client = served.admin.with_token(&"a".repeat(40));
    assert!(client.read("/status")["database"].is_object());
    drop(proxy);
    let shown = eventually("the loss of the database", || {
        let shown = client.read("/status");
        shown["database"].is_null().then_some(shown)
    });
    assert!(shown["problems"].to_string().contains("the database cannot be read"), "{shown}");
    assert!(shown["gateway"].is_object());
}

#[test]
fn status_says_that_no_gateway_runs() {
    let world = crate::commands::world(Backend::Sqlite);
    let text = fails(&world, &["status"]);
    assert!(text.contains("no gateway answers: ADMIN_BIND: is off"), "{text}");
    succeeds(&world, &["tokens", "list"]);
}
