//! Stuck handlers, full mailboxes, restarts.

use crate::logs::page::assert_quoted;
use crate::logs::{assert_one_object_a_line, assert_since, await_again, await_record, number, text};
use test_support::mosquitto::Broker;
use test_support::publisher::Message;
use test_support::sink::Sink;
use test_support::world::{Backend, World};

/// Exit code of a spent restart budget.
const BUDGET_SPENT: i32 = 3;

/// Well above the five seconds after which a handler counts as stuck, well below the thirty after which its actor is
/// replaced.
const LONG: &str = "sleep(12000)";

#[test]
fn blocked_worker_is_logged_with_batch() {
    let mut world = World::on(Backend::MariaDb);
    world.set("FAILPOINTS", &format!("worker-before-commit={LONG}"));
    let flow = world.flow("slow", "t").insert(&world.sql);
    let gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    let (topic, id) = (world.topic("t"), format!("flow_id {flow}"));
    let told = [("actor", "flow-worker-"), ("in_hand", topic.as_str()), ("message", "its thread is blocked")];
    let first = await_record(&gateway, "Handler stuck: ", &told);
    assert_since(&first, 5_000);
    assert!(text(&first, "in_hand").starts_with("ProcessBatch: 1 messages of the inbox from "), "{first:?}");
    assert!(text(&first, "in_hand").contains(&id), "{first:?}");
    await_again(&gateway, &first, "Handler stuck: ");
    let over = await_record(&gateway, "Handler goes on: ", &[("actor", text(&first, "actor"))]);
    assert!(number(&over, "lasted_ms") >= 12_000.0, "{over:?}");
    assert_one_object_a_line(&gateway);
    assert_quoted(
        "Handler stuck",
        &[
            "Handler stuck: flow-worker-",
            "its thread is blocked, in hand: ProcessBatch: ",
            "Handler goes on: ",
        ],
    );
}

#[test]
fn worker_waiting_for_row_is_logged() {
    let world = World::on(Backend::MariaDb);
    world.flow("held", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_stored("held", 1);
    let other = world.another_session();
    other.run("BEGIN");
    other.run("SELECT * FROM inbox_offsets FOR UPDATE");
    world.publish("t", r#"{"a": 2}"#);
    let told =
        [("actor", "flow-worker-"), ("in_hand", "ProcessBatch"), ("message", "it waits for an answer")];
    let stuck = await_record(&gateway, "Handler stuck: ", &told);
    assert_since(&stuck, 5_000);
    let refused = await_record(&gateway, "Database refuses, nothing is lost", &[]);
    assert!(refused["retry_in_ms"].is_u64(), "{refused:?}");
    other.run("ROLLBACK");
    await_record(&gateway, "Handler goes on: ", &[("actor", text(&stuck, "actor"))]);
    world.wait_for_stored("held", 2);
    assert_eq!(gateway.stop(), Some(0));
    assert_one_object_a_line(&gateway);
    assert_quoted("Handler stuck", &["it waits for an answer, in hand: ProcessBatch: "]);
}

#[test]
fn silent_actor_is_logged_and_replaced() {
    let mut world = World::on(Backend::MariaDb);
    world.set("FAILPOINTS", "beat-router=2*off->1*sleep(40000)->off");
    world.flow("any", "t").insert(&world.sql);
    let gateway = world.start_subscribed();
    let told = [("actor", "router"), ("message", "its thread is blocked, in hand: nothing")];
    let stuck = await_record(&gateway, "Handler stuck: ", &told);
    assert!(number(&stuck, "silent_ms") < 30_000.0, "long before it is replaced: {stuck:?}");
    let ended = await_record(&gateway, "Actor router ended: no sign of life for ", &[("reason", "silent")]);
    assert_eq!((ended["spent"].as_u64(), ended["budget"].as_u64()), (Some(1), Some(5)), "{ended:?}");
    await_record(&gateway, "Handler given up with its actor: router was stuck for ", &[]);
    let back = await_record(&gateway, "Actor router is back after ", &[("reason", "silent")]);
    assert_since(&back, 100);
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_stored("any", 1);
    assert_one_object_a_line(&gateway);
    assert_quoted("Handler stuck", &["its thread is blocked, in hand: nothing"]);
    assert_quoted(
        "Actor restarted",
        &["Actor router ended: no sign of life for ", "Actor router is back after "],
    );
}

#[test]
fn frozen_supervisor_is_logged_by_another_thread() {
    let mut world = World::on(Backend::MariaDb);
    world.set("FAILPOINTS", &format!("beat-supervisor=10*off->1*{LONG}->off"));
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let told = [("actor", "supervisor"), ("in_hand", "Tick"), ("message", "its thread is blocked")];
    let stuck = await_record(&gateway, "Handler stuck: ", &told);
    assert_since(&stuck, 5_000);
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_stored("any", 1);
    await_again(&gateway, &stuck, "Handler stuck: ");
    await_record(&gateway, "Handler goes on: ", &[("actor", "supervisor")]);
    assert_eq!(gateway.stop(), Some(0));
    assert_quoted("Handler stuck", &["Handler stuck: supervisor since "]);
}

#[test]
fn panic_is_logged_with_place_and_budget() {
    let mut world = World::on(Backend::MariaDb);
    world.set("FAILPOINTS", "worker-batch=1*panic(two\nlines)->off");
    let flow = world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    let panicked = await_record(&gateway, "Panic in thread ", &[("target", "panic")]);
    assert!(text(&panicked, "place").contains(".rs:"), "{panicked:?}");
    let ended = await_record(&gateway, "Actor flow-worker-", &[("reason", "panic"), ("spent", "1")]);
    assert!(text(&ended, "message").contains("ended: panicked at "), "{ended:?}");
    assert!(
        text(&ended, "cause").starts_with("panicked at ") && text(&ended, "cause").ends_with("two\nlines")
    );
    assert!(
        text(&ended, "message").contains("two\nlines; restarting it in 100 ms, restart 1 of 5 within 60 s")
    );
    let in_hand = text(&ended, "in_hand");
    let whose = format!("flow_id {flow}, first topic {:?}", world.topic("t"));
    assert!(in_hand.starts_with("ProcessBatch: 1 messages of the inbox "), "{in_hand}");
    assert!(in_hand.ends_with(&whose), "{in_hand}");
    let actor = text(&ended, "actor");
    await_record(
        &gateway,
        &format!("Actor {actor} is back after "),
        &[("actor", actor), ("state", "running")],
    );
    world.wait_for_stored("any", 1);
    await_record(&gateway, "mailbox", &[("actor", actor), ("restarts", "1"), ("failed", "1")]);
    assert_eq!(gateway.stop(), Some(0));
    assert_one_object_a_line(&gateway);
    assert_quoted(
        "Actor restarted",
        &["Panic in thread ", "ended: panicked at ", "restart 1 of 5 within 60 s"],
    );
}

#[test]
fn spent_restart_budget_logs_exit_code() {
    let mut world = World::on(Backend::MariaDb);
    world.set("FAILPOINTS", "worker-batch=10*panic(made to panic)->off").set("RESTART_BUDGET", "2");
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    assert_eq!(gateway.wait_for_exit().code(), Some(BUDGET_SPENT));
    let spent = "the restart budget (2 within 60 s) is spent, giving up with exit code 3";
    await_record(&gateway, "Actor flow-worker-", &[("message", spent), ("budget", "2")]);
    assert_one_object_a_line(&gateway);
    assert_quoted("Restart budget spent", &["is spent, giving up with exit code 3"]);
}

/// Uses the delivery, because the workers fill its mailbox with committed messages.
#[test]
fn full_mailbox_is_logged_with_actor() {
    // More than it takes, also if it handles some before it stands still.
    const MESSAGES: usize = 12_000;
    let sink = Sink::new();
    let mut world = World::with_broker(Backend::MariaDb, Broker::private());
    world.flow("post", "t").posts_to(&sink.url("/")).insert(&world.sql);
    // The broker keeps them for the session, so that they come at once.
    assert_eq!(world.start_subscribed().stop(), Some(0));
    let topic = world.topic("t");
    let message = |n| Message::new(&topic, format!(r#"{{"n": {n}}}"#));
    world.publish_all((0..MESSAGES).map(message));
    // A fast machine would have handed all of them over before the first beat, which comes after a second.
    world.set("FAILPOINTS", "beat-delivery=1*sleep(25000)->off;worker-batch=2*sleep(2500)->off");
    let gateway = world.start();
    let told = [("actor", "delivery"), ("in_hand", "nothing"), ("capacity", "8192")];
    let full = await_record(&gateway, "Mailbox over 80 % full: ", &told);
    assert!(number(&full, "depth") > 0.8 * 8_192.0, "{full:?}");
    await_again(&gateway, &full, "Mailbox over 80 % full: ");
    let room = await_record(&gateway, "Mailbox has room again: ", &[("actor", "delivery")]);
    assert!(number(&room, "lasted_ms") > 0.0, "{room:?}");
    assert_one_object_a_line(&gateway);
    assert_quoted(
        "Mailbox over 80 % full",
        &["Mailbox over 80 % full: delivery has ", "Mailbox has room again: delivery has "],
    );
}

#[test]
fn every_actor_has_its_line_the_supervisor_too() {
    let world = World::on(Backend::Sqlite);
    world.flow("any", "t").insert(&world.sql);
    let gateway = world.start_subscribed();
    for actor in ["supervisor", "mqtt", "flow-registry", "router", "flow-worker-0", "delivery"] {
        let line = await_record(&gateway, "mailbox", &[("actor", actor), ("state", "running")]);
        for field in ["depth", "capacity", "high_water", "received", "handled", "failed", "restarts"]
            .iter()
            .chain(&["wait_p99_ms", "handle_p99_ms", "age_ms"])
        {
            assert!(line[*field].is_number(), "{field}: {line:?}");
        }
        assert_since(&line, 0);
    }
}
