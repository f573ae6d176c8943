//! A panicking actor is restarted. Endless panics end the process.

use crate::soak::verdict::{Posts, judge};
use test_support::eventually;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::publisher::Message;
use test_support::sink::Sink;
use test_support::world::{Backend, World};

/// Exit code of a spent restart budget.
const BUDGET_SPENT: i32 = 3;

fn panics_once(backend: Backend, point: &str) {
    let mut world = World::on(backend);
    // The fifth time round, so that there is something before it.
    world.set("FAILPOINTS", &format!("{point}=4*off->1*panic(made to panic)->off"));
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    for _ in 0..8 {
        let messages = load.next(&world, 200);
        world.publish_all(messages);
        // At least one batch a round, so the fifth comes for certain.
        load.wait_until_stored(&world);
    }
    gateway.wait_for_line("made to panic");
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0], "nothing twice at {point}");
}

#[test]
fn panic_before_batch_loses_nothing() {
    panics_once(Backend::MariaDb, "worker-batch");
    panics_once(Backend::Postgres, "worker-batch");
    panics_once(Backend::Sqlite, "worker-batch");
}

#[test]
fn panic_before_commit_loses_nothing() {
    panics_once(Backend::MariaDb, "worker-before-commit");
    panics_once(Backend::Postgres, "worker-before-commit");
    panics_once(Backend::Sqlite, "worker-before-commit");
}

#[test]
fn panic_after_commit_doubles_nothing() {
    panics_once(Backend::MariaDb, "worker-after-commit");
    panics_once(Backend::Postgres, "worker-after-commit");
    panics_once(Backend::Sqlite, "worker-after-commit");
}

/// Panics in an actor that is no worker, once; `before` times it came by.
fn panics_elsewhere(point: &str, before: usize) {
    let mut world = World::on(Backend::MariaDb);
    world.set("FAILPOINTS", &format!("{point}={before}*off->1*panic(made to panic)->off"));
    let mut load = Load::over(&world, 4);
    let mark = world.broker.mark();
    let mut gateway = world.start();
    world.wait_for_flows(mark);
    let messages = load.next(&world, 1_000);
    world.publish_all(messages);
    gateway.wait_for_line("made to panic");
    let messages = load.next(&world, 1_000);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0], "nothing twice at {point}");
}

#[test]
fn router_panic_rereads_its_batch() {
    // Both lanes have messages, so there is a second batch for certain, and more only by chance.
    panics_elsewhere("router-dispatch", 1);
}

#[test]
fn idle_router_panic_resumes_at_lanes() {
    panics_elsewhere("beat-router", 1);
}

#[test]
fn router_panic_during_drain_is_replaced() {
    let mut world = World::on(Backend::MariaDb);
    world.set("FAILPOINTS", "router-drain=1*panic(made to panic)->off");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let other = world.another_session();
    other.run("BEGIN");
    other.rows("SELECT * FROM inbox_offsets FOR UPDATE", []);
    let messages = load.next(&world, 1_000);
    world.publish_all(messages);
    gateway.signal("TERM");
    gateway.wait_for_line("made to panic");
    other.run("COMMIT");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    assert_eq!(gateway.count_lines("Drained"), 1);
    assert_eq!(gateway.count_lines("Not drained"), 0);
    // Messages that were still at the broker at the end.
    let mut gateway = world.start_subscribed();
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// A broker of MQTT 3.1.1 names no subscription, so only the table shows the flow of a retained message.
#[test]
fn flow_added_without_router_loses_nothing() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    assert!(world.command(&["migrate"]).status.success());
    world.sql.execute("UPDATE mqtt_servers SET protocol_version = ?", ["3.1.1".into()]);
    // The delay of the restarts grows, and the sixth leaves time for a reload.
    world.set("FAILPOINTS", "beat-router=1*off->6*panic(made to panic)->off").set("RESTART_BUDGET", "20");
    world.flow("first", "first").insert(&world.sql);
    let retained = Message { retained: true, ..Message::new(&world.topic("added"), "{\"n\": 1}") };
    world.publish_all([retained]);
    let mut gateway = world.start_subscribed();
    gateway.wait_for_line("made to panic; restarting it in 3200 ms");
    world.flow("added", "added").insert(&world.sql);
    gateway.signal("HUP");
    world.wait_for_stored("added", 1);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn registry_panic_loses_nothing() {
    panics_elsewhere("registry-settled", 1);
}

#[test]
fn link_panic_at_connect_is_repeated() {
    panics_elsewhere("mqtt-event", 0);
}

#[test]
fn later_link_panic_disturbs_no_actor() {
    panics_elsewhere("beat-mqtt", 1);
}

#[test]
fn delivery_panic_keeps_order_and_keys() {
    for point in ["delivery-post", "beat-delivery"] {
        let sink = Sink::new();
        let mut world = World::on(Backend::MariaDb);
        world.set("FAILPOINTS", &format!("{point}=1*off->1*panic(made to panic)->off"));
        world.flow("post", "t").posts_to(&sink.url("/post")).insert(&world.sql);
        let mut gateway = world.start_subscribed();
        let topic = world.topic("t");
        let message = |key: u64| Message::new(&topic, format!(r#"{{"key": {key}}}"#));
        world.publish_all((0..100).map(message));
        gateway.wait_for_line("made to panic");
        world.publish_all((100..200).map(message));
        world.wait_for_last_msg_id("post", 200);
        let waiting = "SELECT COUNT(*) FROM outbox";
        eventually("an empty outbox", || (world.sql.count(waiting, []) == 0).then_some(()));
        assert_eq!(gateway.stop(), Some(0));
        let mut posts = Posts::of(&[(0, "post".to_owned())], 1);
        posts.take(&sink.take_requests());
        let verdict = judge(&world, &["post".to_owned()], &mut posts, 200);
        assert!(verdict.keeps_the_promise(), "{point}: {verdict:?}");
    }
}

#[test]
fn endless_panics_spend_budget_without_loss() {
    let mut world = World::on(Backend::MariaDb);
    world.set("FAILPOINTS", "worker-batch=10*panic(made to panic)->off");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    assert_eq!(gateway.wait_for_exit().code(), Some(BUDGET_SPENT));
    world.settings.remove("FAILPOINTS");
    let mut gateway = world.start_subscribed();
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn exit_within_transaction_does_not_panic() {
    for backend in [Backend::MariaDb, Backend::Postgres] {
        let mut world = World::on(backend);
        world.set("DRAIN_DEADLINE_SECONDS", "1");
        let mut load = Load::over(&world, 4);
        let mut gateway = world.start_subscribed();
        let other = world.another_session();
        other.run("BEGIN");
        other.rows("SELECT * FROM inbox_offsets FOR UPDATE", []);
        let messages = load.next(&world, 100);
        world.publish_all(messages);
        eventually("a transaction that waits", || world.waits_for_a_lane().then_some(()));
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(gateway.count_lines("Not drained within the deadline"), 1);
        assert_eq!(gateway.count_lines("Panic in thread"), 0, "{}", gateway.stderr());
        other.run("ROLLBACK");
        let mut gateway = world.start_subscribed();
        load.wait_until_stored(&world);
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(load.judge(&world), [0; 0]);
    }
}
