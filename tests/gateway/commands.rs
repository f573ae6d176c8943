//! The tasks of an operator, by commands alone.

/// Makes a test on each database of each function that takes a `World`. Its tables have been migrated.
macro_rules! on_each_database {
    ($($test:ident),* $(,)?) => {
        mod mariadb {
            use test_support::world::Backend;
            $(#[test] fn $test() { super::$test(crate::commands::world(Backend::MariaDb)); })*
        }
        mod postgres {
            use test_support::world::Backend;
            $(#[test] fn $test() { super::$test(crate::commands::world(Backend::Postgres)); })*
        }
        mod sqlite {
            use test_support::world::Backend;
            $(#[test] fn $test() { super::$test(crate::commands::world(Backend::Sqlite)); })*
        }
    };
}

mod as_code;
mod drift;
mod edits;
mod explain;
mod file_tests;
mod flows;
mod help;
mod history;
mod noticed;
mod rehearsal;
mod servers;
mod tail;

use serde_json::Value;
use test_support::world::{Backend, World, text_of};

pub(super) fn world(backend: Backend) -> World {
    let world = World::on(backend);
    succeeds(&world, &["migrate"]);
    world
}

/// Runs a command that succeeds, and returns what it printed.
pub(super) fn succeeds(world: &World, arguments: &[&str]) -> String {
    let output = world.command(arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text_of(&output));
    text_of(&output)
}

/// Runs a command that fails with exit code 1, and returns what it printed.
pub(super) fn fails(world: &World, arguments: &[&str]) -> String {
    let output = world.command(arguments);
    assert_eq!(output.status.code(), Some(1), "{arguments:?}: {}", text_of(&output));
    text_of(&output)
}

/// The document of a command with `--json`, whatever its exit code.
pub(super) fn document(world: &World, arguments: &[&str]) -> Value {
    let output = world.command(&[arguments, &["--json"]].concat());
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text_of(&output)))
}

/// Adds a flow that stores numbers, with a topic below the prefix of the test.
fn add_temp(world: &World, rest_of_topic: &str) -> String {
    let topic = world.topic(rest_of_topic);
    let schema = r#"{"value": "number"}"#;
    succeeds(world, &["flows", "add", "TEMP", "--topic", &topic, "--action", "STORE_DB", "--schema", schema])
}
