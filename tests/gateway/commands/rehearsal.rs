//! `flows test`: the real transaction of a message, rolled back.

use std::thread;

use serde_json::{Value, json};
use test_support::publisher::Message;
use test_support::sink::Sink;
use test_support::world::{Backend, SERVERS, World};

use super::{add_temp, document, fails, succeeds};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const OTHER: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";

/// Rows of the tables that messages are written to.
fn rows_of_messages(world: &World) -> i64 {
    let count = |table: &str| world.sql.count(&format!("SELECT COUNT(*) FROM {table}"), []);
    ["data", "outbox", "dead_letters", "message_keys"].map(count).iter().sum()
}

fn rows(rehearsal: &Value) -> Vec<(&str, &str)> {
    let rows = rehearsal["rows"].as_array().unwrap().iter();
    rows.map(|row| (row["attribute_name"].as_str().unwrap(), row["attribute_value"].as_str().unwrap()))
        .collect()
}

fn a_rehearsal_changes_nothing(world: World) {
    world.flow("T", "+/t").schema(r#"{"v": "number"}"#).continues_from(41).insert(&world.sql);
    let topic = world.topic("kitchen/t");
    let command = ["flows", "test", "T", "--payload", r#"{"v": 1.50, "unit": "°C", "on": true}"#];
    let text = succeeds(&world, &[&command[..], &["--topic", &topic]].concat());
    for words in [
        "matches\nThe message would be stored as number 42, in 3 rows of data:\n",
        "  v = 1.50\n  unit = °C\n  on = True\n",
        "Nothing was changed.\n",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
    let rehearsal = document(&world, &command);
    assert_eq!(rehearsal["topic"], world.topic("example/t"));
    assert_eq!((&rehearsal["message_id"], &rehearsal["ok"]), (&json!(42), &json!(true)));
    assert_eq!(rows(&rehearsal), [("v", "1.50"), ("unit", "°C"), ("on", "True")]);
    let example = document(&world, &["flows", "test", "T"]);
    assert_eq!((&example["payload"], rows(&example)), (&json!(r#"{"v":1.5}"#), vec![("v", "1.5")]));
    let bad = fails(&world, &["flows", "test", "T", "--payload", r#"{"v": "warm"}"#]);
    assert!(
        bad.contains("dead letter, validation_failed: field \"v\": expected number, got string"),
        "{bad}"
    );
    let invalid = fails(&world, &["flows", "test", "T", "--payload", "{"]);
    assert!(invalid.contains("would become a dead letter, payload_not_json: "), "{invalid}");
    assert_eq!((rows_of_messages(&world), world.last_msg_id("T")), (0, Some(41)));
}

fn what_is_missing_is_named(world: World) {
    add_temp(&world, "t");
    let elsewhere = fails(&world, &["flows", "test", "TEMP", "--topic", "elsewhere"]);
    assert!(
        elsewhere.contains("does not match\nIt gets no such message. If it did, the message would be stored"),
        "{elsewhere}"
    );
    let schema = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema"}"#;
    let no_example = fails(&world, &["flows", "test", "TEMP", "--schema", schema]);
    assert!(no_example.contains("error: --payload: the schema of the flow gives no example"), "{no_example}");
    let no_file = fails(&world, &["flows", "test", "TEMP", "--payload", "/does/not/exist"]);
    assert!(no_file.contains("cannot read the file"), "{no_file}");
    assert!(fails(&world, &["flows", "test", "temp"]).contains("did you mean \"TEMP\"?"));
    assert!(fails(&world, &["flows", "test", "TEMP", "--topic", "a/#"]).contains("no wildcards"));
}

/// A trigger that refuses the value `refused` and doubles every other.
fn add_site_rules(world: &World) {
    world.sql.run(match world.backend {
        Backend::MariaDb => {
            "CREATE TRIGGER site BEFORE INSERT ON data FOR EACH ROW BEGIN \
             IF NEW.attribute_value = 'refused' THEN \
             SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'not this value'; END IF; \
             SET NEW.attribute_value = CONCAT(NEW.attribute_value, NEW.attribute_value); END"
        }
        Backend::Postgres => {
            "CREATE FUNCTION site() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             IF NEW.attribute_value = 'refused' THEN RAISE 'not this value'; END IF; \
             NEW.attribute_value := NEW.attribute_value || NEW.attribute_value; RETURN NEW; END $$; \
             CREATE TRIGGER site BEFORE INSERT ON data FOR EACH ROW EXECUTE FUNCTION site()"
        }
        Backend::Sqlite => {
            "CREATE TRIGGER site AFTER INSERT ON data BEGIN \
             SELECT RAISE(ABORT, 'not this value') WHERE NEW.attribute_value = 'refused'; \
             UPDATE data SET attribute_value = attribute_value || attribute_value WHERE id = NEW.id; END"
        }
    });
}

fn rules_of_the_site_are_applied(world: World) {
    world.flow("T", "t").insert(&world.sql);
    add_site_rules(&world);
    let rehearse = |payload: &str| document(&world, &["flows", "test", "T", "--payload", payload]);
    assert_eq!(rows(&rehearse(r#"{"v": "ab"}"#)), [("v", "abab")]);
    let refused = rehearse(r#"{"v": "refused"}"#);
    assert_eq!((&refused["message_id"], &refused["ok"]), (&json!(null), &json!(false)));
    let letter = &refused["dead_letter"];
    assert_eq!(letter["reason"], "refused_by_database");
    assert!(letter["detail"].as_str().unwrap().contains("not this value"), "{letter}");
    assert_eq!((rows_of_messages(&world), world.last_msg_id("T")), (0, None));

    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"v": "refused"}"#);
    world.publish("t", r#"{"v": "ab"}"#);
    assert_eq!(world.wait_for_stored("T", 1)[0].value("v"), Some("abab"));
    let written = world.wait_for_dead_letters(1).remove(0);
    assert_eq!((&letter["reason"], &letter["detail"]), (&json!(written.reason), &json!(written.detail)));
}

#[test]
fn check_constraints_are_reported() {
    for backend in SERVERS {
        let world = super::world(backend);
        world.flow("T", "t").insert(&world.sql);
        world.sql.run("ALTER TABLE data ADD CONSTRAINT no_blue CHECK (attribute_value <> 'blue')");
        let text = fails(&world, &["flows", "test", "T", "--payload", r#"{"v": "blue"}"#]);
        assert!(text.contains("dead letter, refused_by_database: ") && text.contains("no_blue"), "{text}");
        succeeds(&world, &["flows", "test", "T", "--payload", r#"{"v": "red"}"#]);
    }
}

#[test]
fn deferred_constraints_are_checked() {
    let world = super::world(Backend::Postgres);
    world.flow("T", "t").insert(&world.sql);
    world.sql.run(
        "CREATE TABLE colours (name VARCHAR(10) PRIMARY KEY); INSERT INTO colours VALUES ('red'); \
         ALTER TABLE data ADD CONSTRAINT known FOREIGN KEY (attribute_value) REFERENCES colours \
         DEFERRABLE INITIALLY DEFERRED",
    );
    let letter = document(&world, &["flows", "test", "T", "--payload", r#"{"v": "blue"}"#]);
    assert_eq!(letter["dead_letter"]["reason"], "refused_by_database", "{letter}");
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"v": "blue"}"#);
    world.publish("t", r#"{"v": "red"}"#);
    world.wait_for_stored("T", 1);
    assert_eq!(world.wait_for_dead_letters(1)[0].reason, "refused_by_database");
}

fn known_keys_are_named(world: World) {
    world.flow("T", "t").insert(&world.sql);
    world.sql.run("UPDATE flows SET message_key = '/id'");
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"id": "a"}"#);
    world.wait_for_stored("T", 1);
    let text = succeeds(&world, &["flows", "test", "T", "--payload", r#"{"id": "a"}"#]);
    assert!(text.contains("would be dropped: its key was seen before, in message 1."), "{text}");
    let command = ["flows", "test", "T", "--payload", r#"{"id": "b"}"#];
    for _ in 0..2 {
        assert_eq!(document(&world, &command)["message_id"], 2, "a rehearsal remembers no key");
    }
    let by_property = |value: &str| {
        let property = format!("id={value}");
        let draft = ["--message-key", "property:id", "--property", &property];
        document(&world, &[&command[..], &draft].concat())["message_id"].clone()
    };
    assert_eq!(by_property("a"), 2);
    assert_eq!(rows_of_messages(&world), 2);
}

fn a_post_is_shown_and_not_sent(world: World) {
    let sink = Sink::new();
    let url = sink.url("/in?token=s3cret-1").replace("http://", "http://me:s3cret-2@");
    world.flow("POST", "t").posts_to(&url).continues_from(6).insert(&world.sql);
    let options = json!({"delivery": {"method": "PUT", "signing_secrets": [SECRET, OTHER],
        "headers": {"X-Key": "s3cret-3"}, "auth": {"type": "bearer", "token": "s3cret-4"}}});
    succeeds(&world, &["flows", "edit", "POST", "--options", &options.to_string()]);
    let payload = "{ \"v\": 1.50 }";
    let command = ["flows", "test", "POST", "--payload", payload, "--topic", &world.topic("t")];
    let (text, rehearsal) = (succeeds(&world, &command), document(&world, &command));
    assert!(text.contains("would be posted as number 7:\n  PUT http://***@127.0.0.1:"), "{text}");
    assert!(text.contains("posts to the address 127.0.0.1 are allowed"), "{text}");
    for shown in [&text, &rehearsal.to_string()] {
        assert!(!shown.contains("s3cret") && !shown.contains("MfKQ9r8G"), "{shown}");
    }
    let request = &rehearsal["request"];
    assert_eq!((&request["method"], &request["body"]), (&json!("PUT"), &json!(payload)));
    assert_eq!((rows_of_messages(&world), world.last_msg_id("POST")), (0, Some(6)));
    assert!(sink.requests().is_empty());

    let _gateway = world.start_subscribed();
    world.publish("t", payload);
    let sent = sink.wait_for_delivered(1).remove(0);
    assert_eq!(String::from_utf8_lossy(&sent.body), request["body"].as_str().unwrap());
    let shown: Vec<(&str, &str)> = request["headers"].as_array().unwrap().iter().map(header).collect();
    // The HTTP client adds these when it sends.
    let added = ["accept", "accept-encoding", "content-length", "date"];
    let sent_names = sent.headers.iter().map(|(name, _)| name.as_str()).filter(|name| !added.contains(name));
    let mut sent_names: Vec<&str> = sent_names.collect();
    sent_names.sort_unstable();
    assert_eq!(shown.iter().map(|(name, _)| *name).collect::<Vec<_>>(), sent_names);
    for (name, value) in shown {
        match name {
            "authorization" | "x-key" => assert_eq!(value, "***"),
            "idempotency-key" | "webhook-id" => assert!(value.starts_with("rehearsal-0-"), "{value}"),
            "webhook-timestamp" => assert!(value.parse::<u64>().is_ok()),
            "webhook-signature" => {
                assert_eq!(value, "v1,*** v1,***");
                let signatures = sent.header(name).unwrap().split(' ');
                let is_whole = |signature: &str| signature.starts_with("v1,") && signature.len() == 47;
                assert_eq!(signatures.map(is_whole).collect::<Vec<_>>(), [true; 2]);
            }
            _ => assert_eq!(Some(value), sent.header(name), "{name}"),
        }
    }
}

fn header(header: &Value) -> (&str, &str) {
    (header["name"].as_str().unwrap(), header["value"].as_str().unwrap())
}

fn posts_that_cannot_be_sent_are_faults(world: World) {
    world.flow("META", "t").posts_to("http://169.254.169.254/").insert(&world.sql);
    let text = fails(&world, &["flows", "test", "META"]);
    assert!(text.contains("would be posted as number 1:"), "{text}");
    assert!(text.contains("the address 169.254.169.254 is refused: it is link-local"), "{text}");
    let other = ["flows", "test", "META", "--endpoint-url", "http://127.0.0.1:9/"];
    assert!(succeeds(&world, &other).contains("http://127.0.0.1:9/"));
    let options = r#"{"delivery": {"auth": {"type": "bearer", "token": "env:NO_SUCH_VARIABLE"}}}"#;
    let unreadable = fails(&world, &[&other[..], &["--options", options]].concat());
    assert!(unreadable.contains("It could not be sent from here: "), "{unreadable}");
    let both = document(
        &world,
        &[&other[..], &["--action", "STORE_DB", "--options", r#"{"also_post": true}"#]].concat(),
    );
    assert_eq!((both["rows"].as_array().unwrap().len(), &both["request"]["method"]), (1, &json!("POST")));
}

fn a_full_outbox_is_reported(mut world: World) {
    let sink = Sink::new();
    sink.answer_with(500);
    world.set("OUTBOX_MAX_ROWS_PER_FLOW", "1");
    world.flow("POST", "t").posts_to(&sink.url("/")).insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("t", "{}");
    world.wait_for_last_msg_id("POST", 1);
    let text = fails(&world, &["flows", "test", "POST"]);
    assert!(text.contains("would become a dead letter with number 2, outbox_full: "), "{text}");
}

fn a_disabled_flow_says_what_it_would_do(world: World) {
    world.flow("OFF", "t").enabled(None).insert(&world.sql);
    let text = fails(&world, &["flows", "test", "OFF"]);
    assert!(text.contains("matches, but the flow is disabled: its column enabled is NULL"), "{text}");
    assert!(text.contains("dead letter, flow_disabled: ") && text.contains("--enabled"), "{text}");
    let enabled = succeeds(&world, &["flows", "test", "OFF", "--enabled"]);
    assert!(enabled.contains("Flow OFF, not saved") && enabled.contains("number 1"), "{enabled}");
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM flows WHERE enabled IS NULL", []), 1);
}

fn an_edit_is_tried_before_it_is_made(world: World) {
    add_temp(&world, "t");
    let before = document(&world, &["flows", "show", "TEMP"]);
    let rehearse = |arguments: &[&str]| {
        let command = ["flows", "test", "TEMP", "--payload", r#"{"value": "warm"}"#];
        document(&world, &[&command, arguments].concat())
    };
    assert_eq!(rehearse(&[])["dead_letter"]["reason"], "validation_failed");
    assert_eq!(rows(&rehearse(&["--schema", r#"{"value": "string"}"#])), [("value", "warm")]);
    let moved = rehearse(&["--schema", "{}", "--filter", "else/where"]);
    assert_eq!((&moved["topic"], &moved["filter"]), (&json!("else/where"), &json!("else/where")));
    assert_eq!(rehearse(&["--schema", r#"{"value": "nomber"}"#])["error"]["kind"], "invalid");
    assert_eq!(rehearse(&["--action", "POST_ENDPOINT"])["error"]["kind"], "invalid");
    if world.backend != Backend::Sqlite {
        world
            .sql
            .run("ALTER TABLE flows ADD CONSTRAINT no_put CHECK (description <> '' OR message_key IS NULL)");
        let refused = rehearse(&["--message-key", "/id"]);
        let problem = refused["error"]["problems"][0]["problem"].as_str().unwrap();
        assert!(problem.contains("changing the flow: ") && problem.contains("no_put"), "{problem}");
    }
    assert_eq!(document(&world, &["flows", "show", "TEMP"]), before);
}

fn a_flow_is_tried_before_it_is_added(world: World) {
    add_temp(&world, "t");
    let new = ["flows", "test", "NEW", "--new", "--filter", "new/+", "--schema", r#"{"v": "number"}"#];
    let rehearse = |arguments: &[&str]| document(&world, &[&new, arguments].concat());
    let stored = rehearse(&["--action", "STORE_DB", "--payload", r#"{"v": 2}"#]);
    assert_eq!((&stored["message_id"], rows(&stored)), (&json!(1), vec![("v", "2")]));
    let letter = rehearse(&["--action", "STORE_DB", "--payload", r#"{"v": "warm"}"#]);
    assert_eq!(letter["dead_letter"]["reason"], "validation_failed");
    let posted = rehearse(&["--action", "POST_ENDPOINT", "--endpoint-url", "http://127.0.0.1:9/"]);
    assert_eq!((&posted["message_id"], &posted["request"]["method"]), (&json!(1), &json!("POST")));
    assert_eq!(rehearse(&["--action", "POST_ENDPOINT"])["error"]["kind"], "invalid");
    let known = ["flows", "test", "TEMP", "--new", "--filter", "new/+", "--action", "STORE_DB"];
    assert!(fails(&world, &known).contains("TEMP"), "its code is used up");

    assert_eq!((world.sql.count("SELECT COUNT(*) FROM flows", []), rows_of_messages(&world)), (1, 0));
    succeeds(&world, &["flows", "add", "NEW", "--topic", "new", "--action", "STORE_DB"]);
}

fn numbers_stay_consecutive_beside_rehearsals(world: World) {
    const MESSAGES: usize = 500;
    add_temp(&world, "t");
    let _gateway = world.start_subscribed();
    let topic = world.topic("t");
    thread::scope(|scope| {
        let (settings, directory) = (&world.settings, world.directory());
        let rehearsals = scope.spawn(move || {
            for _ in 0..10 {
                let output = test_support::world::command(&["flows", "test", "TEMP"], settings, directory);
                assert_eq!(output.status.code(), Some(0), "{}", test_support::world::text_of(&output));
            }
        });
        world.publish_all((0..MESSAGES).map(|n| Message::new(&topic, format!(r#"{{"value": {n}}}"#))));
        rehearsals.join().unwrap();
    });
    let stored = world.wait_for_stored("TEMP", MESSAGES);
    let ids: Vec<i64> = stored.iter().map(|message| message.id).collect();
    assert_eq!(ids, (1..=i64::try_from(MESSAGES).unwrap()).collect::<Vec<_>>());
    assert!(world.dead_letters().is_empty());
}

#[test]
fn a_locked_flow_is_not_waited_for_without_end() {
    for backend in SERVERS {
        let world = super::world(backend);
        add_temp(&world, "t");
        let other = world.another_session();
        other.run("BEGIN");
        other.run("UPDATE flows SET description = 'edited'");
        let text = fails(&world, &["flows", "test", "TEMP"]);
        assert!(text.contains("another session holds the row"), "{text}");
        other.run("ROLLBACK");
        succeeds(&world, &["flows", "test", "TEMP"]);
    }
}

on_each_database!(
    a_rehearsal_changes_nothing,
    what_is_missing_is_named,
    rules_of_the_site_are_applied,
    known_keys_are_named,
    a_post_is_shown_and_not_sent,
    posts_that_cannot_be_sent_are_faults,
    a_full_outbox_is_reported,
    a_disabled_flow_says_what_it_would_do,
    an_edit_is_tried_before_it_is_made,
    a_flow_is_tried_before_it_is_added,
    numbers_stay_consecutive_beside_rehearsals,
);
