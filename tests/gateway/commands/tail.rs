//! `mqtt-gateway tail` against the real gateway.

use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStdout, ExitStatus};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::Duration;

use serde_json::Value;
use test_support::eventually;
use test_support::http::admin_of;
use test_support::net::free_port;
use test_support::process::Gateway;
use test_support::sink::Sink;
use test_support::world::{Backend, World};

use super::{document, fails, succeeds};

/// Far more than anything here takes.
const PATIENCE: Duration = Duration::from_mins(1);

/// A running `tail`. Both outputs are read all the time, unless a test takes standard output.
struct Tail {
    process: Child,
    out: Receiver<String>,
    notices: Receiver<String>,
}

impl Tail {
    /// Starts it, and returns when it follows the gateway.
    fn start(world: &World, arguments: &[&str]) -> Self {
        let (mut tail, stdout) = Self::start_unread(world, arguments);
        tail.out = lines_of(stdout);
        tail
    }

    fn start_unread(world: &World, arguments: &[&str]) -> (Self, ChildStdout) {
        let mut process = world.spawn(&[&["tail"], arguments].concat());
        let stdout = process.stdout.take().unwrap();
        let notices = lines_of(process.stderr.take().unwrap());
        let tail = Self { process, out: channel().1, notices };
        tail.notice("Connected to http://");
        (tail, stdout)
    }

    fn line(&self) -> String {
        self.out.recv_timeout(PATIENCE).expect("a line")
    }

    fn document(&self) -> Value {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}"))
    }

    /// Waits for a notice that contains `text`.
    fn notice(&self, text: &str) -> String {
        loop {
            let notice = self.notices.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("no notice {text}"));
            if notice.contains(text) {
                return notice;
            }
        }
    }

    fn wait_for_end(&mut self) -> ExitStatus {
        eventually("the end of tail", || self.process.try_wait().unwrap())
    }
}

impl Drop for Tail {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn lines_of(output: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = channel();
    thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}

/// Starts the gateway with an API at a port of this test.
fn start(world: &mut World) -> Gateway {
    world.set("ADMIN_BIND", &format!("127.0.0.1:{}", free_port()));
    let gateway = world.start_subscribed();
    admin_of(&gateway);
    gateway
}

fn each_outcome_is_shown(mut world: World) {
    let sink = Sink::new();
    world.flow("stores", "s").schema(r#"{"n": "int"}"#).insert(&world.sql);
    world.flow("posts", "p").posts_to(&sink.url("/in?key=secret")).insert(&world.sql);
    world.flow("keyed", "k").insert(&world.sql);
    world.sql.run("UPDATE flows SET message_key = '/n' WHERE code = 'keyed'");
    let _gateway = start(&mut world);
    let tail = Tail::start(&world, &["--json"]);
    let shown = |topic: &str, payload: &str| {
        world.publish(topic, payload);
        let event = tail.document();
        assert_eq!(
            (&event["topic"], &event["payload"], &event["payload_bytes"]),
            (&world.topic(topic).into(), &payload.into(), &payload.len().into())
        );
        assert!(event["duration_ms"].as_f64().unwrap() > 0.0, "{event}");
        event
    };
    let part = |event: &Value, names: &[&str]| {
        names.iter().map(|name| event[*name].to_string()).collect::<Vec<_>>().join(" ")
    };
    let stored = shown("s", r#"{"n": 1}"#);
    assert_eq!(part(&stored, &["outcome", "flow", "message_id"]), r#""stored" "stores" 1"#);
    let dead = shown("s", r#"{"n": "one"}"#);
    assert_eq!(
        part(&dead, &["outcome", "flow", "message_id", "reason"]),
        r#""dead" "stores" null "validation_failed""#
    );
    assert!(dead["detail"].as_str().unwrap().contains("expected int"), "{dead}");
    let posted = shown("p", r#"{"n": 2}"#);
    assert_eq!(part(&posted, &["outcome", "message_id", "status", "attempts"]), r#""posted" 1 200 1"#);
    assert!(!posted.to_string().contains("secret"), "{posted}");
    assert_eq!(part(&shown("k", r#"{"n": 3}"#), &["outcome", "message_id"]), r#""stored" 1"#);
    assert_eq!(part(&shown("k", r#"{"n": 3}"#), &["outcome", "message_id"]), r#""repeated" 1"#);
    assert_eq!(
        part(&shown("s", "no JSON"), &["outcome", "flow", "reason"]),
        r#""dead" null "payload_not_json""#
    );
    assert_eq!(document(&world, &["tokens", "list"])["tokens"], serde_json::json!([]));
}

#[test]
fn refused_post_is_shown_as_dead() {
    let mut world = super::world(Backend::Sqlite);
    let sink = Sink::new();
    sink.answer_with(422);
    world.flow("posts", "p").posts_to(&sink.url("/")).insert(&world.sql);
    let _gateway = start(&mut world);
    let tail = Tail::start(&world, &["posts"]);
    world.publish("p", r#"{"n": 2}"#);
    let line = tail.line();
    assert!(line.contains(" dead letter  posts        #1  endpoint_refused: HTTP status 422"), "{line}");
    world.wait_for_dead_letters(1);
}

#[test]
fn flow_and_outcome_choose_what_is_shown() {
    let mut world = super::world(Backend::Sqlite);
    world.flow("a", "a").insert(&world.sql);
    world.flow("b", "b").schema(r#"{"n": "int"}"#).insert(&world.sql);
    let _gateway = start(&mut world);
    let of_b = Tail::start(&world, &["b", "--outcome", "stored,posted"]);
    let dead = Tail::start(&world, &["--outcome", "dead"]);
    for (topic, payload) in [("a", r#"{"n": 1}"#), ("b", "{}"), ("b", r#"{"n": 2}"#)] {
        world.publish(topic, payload);
    }
    let line = of_b.line();
    let expected = format!("    stored       b            #1  {}  n=2", world.topic("b"));
    assert!(line.ends_with(&expected), "{line}");
    assert!(dead.line().contains("    dead letter  b            validation_failed: "));
}

#[test]
fn hostile_messages_are_escaped_and_cut() {
    let mut world = super::world(Backend::Sqlite);
    world.flow("any", "#").insert(&world.sql);
    let _gateway = start(&mut world);
    let tails = [Tail::start(&world, &[]), Tail::start(&world, &["--json"])];
    let large = format!(r#"{{"v": "{}"}}"#, "x".repeat(1 << 20));
    let hostile = "{\"v\": \"\u{202e}\u{9b}2J\", \"\u{200f}w\": \"\\u001b[2J\"}";
    let messages = [("t\u{202e}x", hostile), ("t", "\u{1b}[2J\u{7}\u{200f}\r\n"), ("t", large.as_str())];
    for (topic, payload) in messages {
        world.publish(topic, payload);
        for tail in &tails {
            let line = tail.line();
            let is_hostile = |c: char| c.is_control() || matches!(c, '\u{202e}' | '\u{200f}');
            assert!(!line.contains(is_hostile), "{line:?}");
            assert!(line.len() < 4_096, "{line}");
        }
    }
    world.publish("t", &large);
    assert!(tails[0].line().ends_with(&format!("({} bytes)", large.len())));
    let event = tails[1].document();
    assert_eq!((&event["payload_is_cut"], &event["payload_bytes"]), (&true.into(), &large.len().into()));
}

#[test]
fn tail_follows_a_restarted_gateway() {
    let mut world = super::world(Backend::Sqlite);
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = start(&mut world);
    let tail = Tail::start(&world, &["any"]);
    world.publish("t", r#"{"n": 1}"#);
    assert!(tail.line().ends_with("n=1"));
    assert_eq!(gateway.stop(), Some(0));
    tail.notice(" lost: ");
    let _gateway = world.start_subscribed();
    tail.notice(" again. Messages in between are not shown");
    world.publish("t", r#"{"n": 2}"#);
    assert!(tail.line().ends_with("n=2"));
}

#[test]
fn closed_output_ends_tail() {
    let mut world = super::world(Backend::Sqlite);
    world.flow("any", "t").insert(&world.sql);
    let _gateway = start(&mut world);
    let (mut tail, stdout) = Tail::start_unread(&world, &[]);
    drop(stdout);
    world.publish("t", "{}");
    assert_eq!(tail.wait_for_end().code(), Some(0));
}

#[test]
fn given_token_is_used() {
    let mut world = super::world(Backend::Sqlite);
    world.flow("any", "t").insert(&world.sql);
    let gateway = start(&mut world);
    let url = format!("http://{}", admin_of(&gateway));
    let token = document(&world, &["tokens", "add", "me", "--scope", "read"])["token"]["token"].clone();
    let file = world.directory().join("token");
    std::fs::write(&file, format!("{}\n", token.as_str().unwrap())).unwrap();
    let tail = Tail::start(&world, &["--url", &url, "--token-file", file.to_str().unwrap(), "--json"]);
    world.publish("t", "{}");
    assert_eq!(tail.document()["flow"], "any");
    std::fs::write(&file, "mqg_wrong").unwrap();
    let text = fails(&world, &["tail", "--url", &url, "--token-file", file.to_str().unwrap()]);
    assert!(text.contains("error: gateway: ") && text.contains("token"), "{text}");
    assert!(!text.contains("mqg_wrong"), "{text}");
}

#[test]
fn errors_name_culprit_and_remedy() {
    let mut world = super::world(Backend::Sqlite);
    succeeds(&world, &["flows", "list"]);
    world.set("ADMIN_BIND", &format!("127.0.0.1:{}", free_port()));
    let text = fails(&world, &["tail", "missing"]);
    assert!(text.contains("there is no flow \"missing\""), "{text}");
    let text = fails(&world, &["tail"]);
    assert!(text.contains("no gateway answers: ") && text.contains("start the gateway"), "{text}");
    for (bind, problem) in [("off", "ADMIN_BIND: is off"), ("127.0.0.1:0", "ADMIN_BIND: has port 0")] {
        world.set("ADMIN_BIND", bind);
        let text = fails(&world, &["tail"]);
        assert!(text.contains(problem) && text.contains("--url"), "{text}");
    }
    assert_eq!(world.command(&["tail", "--outcome", "lost"]).status.code(), Some(2));
}

on_each_database!(each_outcome_is_shown);
