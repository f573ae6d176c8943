//! Edits beside other sessions, of tables as their users made them.

use std::thread;

use test_support::eventually;
use test_support::world::{Backend, SERVERS, World};

use super::{add_temp, document, fails, succeeds};

fn refused_edits_change_nothing(world: World) {
    add_temp(&world, "t");
    let before = document(&world, &["flows", "show", "TEMP"]);
    let refusals = [
        (vec!["--topic", "a/#/b"], "error: topic: '#' must be the last level"),
        (vec!["--topic", "a\n"], "U+000A"),
        (vec!["--schema", r#"{"value": "nomber"}"#], "error: payload_schema:"),
        (vec!["--schema", "/does/not/exist"], "cannot read the file"),
        (vec!["--action", "post"], "STORE_DB stores the messages"),
        (vec!["--action", "POST_ENDPOINT"], "the flow has no endpoint_url"),
        (vec!["--action", "POST_ENDPOINT", "--endpoint-url", "http://169.254.169.254/"], "is refused"),
        (vec!["--options", r#"{"delivry": {}}"#], "unknown field"),
        (vec!["--message-key", "id"], "neither a JSON pointer"),
    ];
    for (arguments, words) in refusals {
        let text = fails(&world, &[&["flows", "edit", "TEMP"], &arguments[..]].concat());
        assert!(text.contains(words), "{arguments:?}: {text}");
    }
    let again = fails(&world, &["flows", "add", "TEMP", "--topic", "x", "--action", "STORE_DB"]);
    assert!(again.contains("error: code: another flow has the code \"TEMP\""), "{again}");
    assert_eq!(document(&world, &["flows", "show", "TEMP"]), before);
}

fn other_columns_stay(world: World) {
    world.sql.run("ALTER TABLE flows ADD COLUMN owner VARCHAR(20)");
    world.flow("T", "t").continues_from(41).insert(&world.sql);
    world.sql.run("UPDATE flows SET owner = 'Ann', description = 'mine'");
    let text = succeeds(&world, &["flows", "edit", "T", "--message-key", "/id"]);
    assert!(text.contains("It counts from sequence number 42."), "{text}");
    let unchanged = succeeds(&world, &["flows", "edit", "T", "--message-key", "/id"]);
    assert!(unchanged.contains("Flow T is unchanged"), "{unchanged}");
    succeeds(&world, &["flows", "edit", "T", "--message-key", ""]);
    let kept = "SELECT COUNT(*) FROM flows WHERE owner = 'Ann' AND description = 'mine' AND last_msg_id = 41 \
                AND message_key IS NULL";
    assert_eq!(world.sql.count(kept, []), 1);
}

fn columns_of_other_types_are_edited(world: World) {
    match world.backend {
        Backend::MariaDb => {
            world.sql.run("ALTER TABLE flows MODIFY enabled BIT(1), MODIFY payload_schema TEXT");
        }
        Backend::Postgres => {
            world.sql.run("ALTER TABLE flows ALTER enabled TYPE INTEGER USING enabled::INTEGER");
            world.sql.run("ALTER TABLE flows ALTER payload_schema TYPE TEXT, ALTER options TYPE JSONB");
        }
        Backend::Sqlite => {}
    }
    add_temp(&world, "t");
    succeeds(&world, &["flows", "edit", "TEMP", "--options", r#"{"delivery": {"method": "PUT"}}"#]);
    succeeds(&world, &["flows", "disable", "TEMP"]);
    assert_eq!(document(&world, &["flows", "show", "TEMP"])["flow"]["enabled"], false);
    succeeds(&world, &["flows", "enable", "TEMP"]);
    let flow = document(&world, &["flows", "show", "TEMP"])["flow"].clone();
    assert_eq!((&flow["enabled"], &flow["payload_schema"]["value"]), (&true.into(), &"number".into()));
    assert_eq!(flow["options"]["delivery"]["method"], "PUT");
    let mark = world.broker.mark();
    let _gateway = world.start();
    world.wait_for_filters(mark, &[&world.topic("t")]);
    world.publish("t", r#"{"value": 1}"#);
    world.wait_for_stored("TEMP", 1);
}

#[test]
fn an_edit_does_not_undo_another_one() {
    for backend in SERVERS {
        let world = super::world(backend);
        add_temp(&world, "t");
        let other = world.another_session();
        other.run("BEGIN");
        other.run("UPDATE flows SET topic = 'other' WHERE code = 'TEMP'");
        let text = thread::scope(|scope| {
            let (settings, directory) = (&world.settings, world.directory());
            let edit = scope.spawn(move || {
                let arguments = ["flows", "edit", "TEMP", "--topic", "mine"];
                test_support::world::command(&arguments, settings, directory)
            });
            eventually("the edit waits for the row", || waits_for_a_row(&world).then_some(()));
            other.run("COMMIT");
            let output = edit.join().unwrap();
            assert_eq!(output.status.code(), Some(1));
            test_support::world::text_of(&output)
        });
        assert!(text.contains("flow \"TEMP\" was changed by another session meanwhile"), "{text}");
        assert_eq!(world.sql.count("SELECT COUNT(*) FROM flows WHERE topic = 'other'", []), 1);
    }
}

pub(super) fn waits_for_a_row(world: &World) -> bool {
    let sql = if world.backend == Backend::Postgres {
        "SELECT pid FROM pg_stat_activity WHERE usename = ? AND wait_event_type = 'Lock'"
    } else {
        "SELECT id FROM information_schema.processlist WHERE user = ? AND info LIKE 'SELECT%FOR UPDATE%'"
    };
    !world.sql.rows(sql, [world.name.as_str().into()]).is_empty()
}

#[test]
fn values_that_the_database_refuses_are_named() {
    for backend in SERVERS {
        let world = super::world(backend);
        let topic = "x".repeat(300);
        let text = fails(&world, &["flows", "add", "LONG", "--topic", &topic, "--action", "STORE_DB"]);
        assert!(text.starts_with("error: row: adding the flow: "), "{text}");
        assert_eq!(world.sql.count("SELECT COUNT(*) FROM flows", []), 0);
    }
}

on_each_database!(refused_edits_change_nothing, other_columns_stay, columns_of_other_types_are_edited);
