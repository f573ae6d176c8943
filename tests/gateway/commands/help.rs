//! Help, and errors before there is a database to work on.

use std::fs;

use test_support::mosquitto::Broker;
use test_support::world::{Backend, World, text_of};

use super::{document, fails, succeeds};

#[test]
fn wrong_usage_and_settings_exit_with_code_2() {
    let mut world = World::without_broker(Backend::Sqlite, Broker::shared());
    for arguments in [
        &["flows"][..],
        &["flows", "show"],
        &["flows", "validate"],
        &["flows", "add", "TEMP", "--action", "STORE_DB"],
        &["flows", "add", "TEMP", "--topic", "t"],
        &["servers", "show", "x"],
        &["servers", "add", "--port", "1883"],
        &["dead-letters", "replay", "--yes"],
        &["dead-letters", "discard", "--text", ""],
        &["status", "--url", "https://127.0.0.1"],
    ] {
        assert_eq!(world.command(arguments).status.code(), Some(2), "{arguments:?}");
    }
    world.set("DATABASE_URL", "nonsense");
    let output = world.command(&["flows", "list"]);
    assert_eq!(output.status.code(), Some(2), "{}", text_of(&output));
}

#[test]
fn missing_tables_are_named_with_the_remedy() {
    let mut world = World::without_broker(Backend::Sqlite, Broker::shared());
    let text = fails(&world, &["flows", "list"]);
    assert!(text.contains("error: schema: lacks: ") && text.contains("mqtt-gateway migrate"), "{text}");
    world.set("DATABASE_URL", "sqlite:missing.db");
    let error = document(&world, &["flows", "list"])["error"].clone();
    assert_eq!(
        (&error["kind"], &error["message"]),
        (&"not_found".into(), &"there is no database \"missing.db\"".into())
    );
    assert!(!world.directory().join("missing.db").exists());
}

#[test]
fn completions_and_man_pages_name_the_commands() {
    let world = World::without_broker(Backend::Sqlite, Broker::shared());
    assert!(succeeds(&world, &["generate", "completions", "bash"]).contains("flows"));
    succeeds(&world, &["generate", "man", "man"]);
    let page = |name: &str| fs::read_to_string(world.directory().join("man").join(name)).unwrap();
    assert!(page("mqtt-gateway.1").contains("explain"));
    assert!(page("mqtt-gateway-flows-add.1").contains("topic"));
    assert!(!world.directory().join("man/mqtt-gateway-generate.1").exists());
}
