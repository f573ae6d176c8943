//! A server that takes a statement and says nothing more, as one does whose host has vanished.

use test_support::eventually;
use test_support::oracle::Load;
use test_support::proxy::{Act, Proxy, Sign};
use test_support::sink::Sink;
use test_support::world::{Backend, SERVERS, World};

/// Silence is borne for two seconds, not for a minute.
fn impatient(backend: Backend) -> (World, Proxy) {
    let mut world = World::on(backend);
    world.set("FAILPOINTS", "answer-timeout=return(2000)");
    let proxy = world.reach_database_by_proxy();
    (world, proxy)
}

#[test]
fn unanswered_outbox_statement_reconnects() {
    SERVERS.into_iter().for_each(posts_go_on);
}

fn posts_go_on(backend: Backend) {
    let (world, proxy) = impatient(backend);
    let sink = Sink::new();
    world.flow("post", "post").posts_to(&sink.url("/")).insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let failed = || sink.requests().iter().filter(|request| request.status == 500).count();
    for statement in ["LENGTH(payload)", "DELETE FROM outbox", "UPDATE outbox SET attempts"] {
        // A failed post is read from the table for its next attempt.
        sink.answer_with(500);
        let (posted, failures) = (sink.delivered().len(), failed());
        let stalled = proxy.at(Sign::Statement(statement), 1).before(Act::Stall);
        world.publish("post", r#"{"a": 1}"#);
        eventually("an attempt that fails", || (failed() > failures).then_some(()));
        sink.answer_with(200);
        stalled.wait();
        sink.wait_for_delivered(posted + 1);
        eventually("an empty outbox", || {
            (world.sql.count("SELECT COUNT(*) FROM outbox", []) == 0).then_some(())
        });
        assert_eq!(sink.delivered().len(), posted + 1, "{statement}");
    }
    assert_eq!(gateway.stop(), Some(0));
}

/// A search for expired keys that never ended would leave all later ones in the table.
#[test]
fn unanswered_key_cleanup_reconnects() {
    SERVERS.into_iter().for_each(the_house_is_kept);
}

fn the_house_is_kept(backend: Backend) {
    let (world, proxy) = impatient(backend);
    world.flow("any", "t").insert(&world.sql);
    let stalled = proxy.at(Sign::Statement("FROM message_keys"), 1).before(Act::Stall);
    let mut gateway = world.start_subscribed();
    stalled.wait();
    gateway.wait_for_line("forgetting keys of messages");
    gateway.wait_for_line("The tables can be accessed again: forgetting keys of messages goes on");
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn unanswered_reload_reconnects() {
    SERVERS.into_iter().for_each(flows_are_read);
}

fn flows_are_read(backend: Backend) {
    let (world, proxy) = impatient(backend);
    world.flow("first", "first").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    for (number, statement) in
        ["information_schema", "MAX(last_msg_id)", "FROM flows"].into_iter().enumerate()
    {
        let stalled = proxy.at(Sign::Statement(statement), 1).before(Act::Stall);
        stalled.wait();
        let (code, mark) = (format!("new{number}"), world.broker.mark());
        world.flow(&code, &code).insert(&world.sql);
        world.wait_for_filters(mark, &[&world.topic(&code)]);
    }
    gateway.wait_for_line("Error reloading flows: no answer from the database");
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn unanswered_search_for_edits_reconnects() {
    SERVERS.into_iter().for_each(edits_are_found);
}

fn edits_are_found(backend: Backend) {
    let (mut world, proxy) = impatient(backend);
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "86400");
    world.flow("first", "first").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let stalled = proxy.at(Sign::Statement("FROM flow_revision"), 2).before(Act::Stall);
    stalled.wait();
    let mark = world.broker.mark();
    world.flow("late", "late").insert(&world.sql);
    world.wait_for_filters(mark, &[&world.topic("late")]);
    assert_eq!(gateway.stop(), Some(0));
}

/// Without heartbeats a copy of the inbox would be admitted.
#[test]
fn unanswered_heartbeat_reconnects() {
    SERVERS.into_iter().for_each(heartbeats_go_on);
}

fn heartbeats_go_on(backend: Backend) {
    const BEAT: Sign = Sign::Statement("UPDATE gateway_starts SET beats");
    let (world, proxy) = impatient(backend);
    let stalled = proxy.at(BEAT, 1).before(Act::Stall);
    let mut gateway = world.start_subscribed();
    stalled.wait();
    let beats = || world.sql.count("SELECT MAX(beats) FROM gateway_starts", []);
    let before = beats();
    eventually("another heartbeat", || (beats() > before).then_some(()));
    proxy.at(BEAT, 1).before(Act::Stall).wait();
    std::fs::remove_dir_all(world.inbox_directory()).unwrap();
    gateway.wait_for_line("was removed or replaced");
    assert_eq!(gateway.wait_for_exit().code(), Some(1));
}

#[test]
fn unanswered_start_reconnects() {
    SERVERS.into_iter().for_each(the_start_goes_on);
}

fn the_start_goes_on(backend: Backend) {
    let (world, proxy) = impatient(backend);
    let mut load = Load::over(&world, 4);
    let stalled = proxy.at(Sign::Statement("FROM mqtt_servers"), 1).before(Act::Stall);
    let mut gateway = world.start_subscribed();
    stalled.wait();
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// The server keeps the locks of the silent session until it closes the session, after 20 s.
#[test]
#[ignore = "takes half a minute; run by scripts/faults"]
fn unanswered_lane_statement_reconnects() {
    SERVERS.into_iter().for_each(lanes_go_on);
}

fn lanes_go_on(backend: Backend) {
    let (world, proxy) = impatient(backend);
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    for statement in ["FROM inbox_offsets", "INSERT INTO data", "COMMIT"] {
        let stalled = proxy.at(Sign::Statement(statement), 1).after(Act::HoldAnswer);
        let messages = load.next(&world, 200);
        world.publish_all(messages);
        stalled.wait();
        load.wait_until_stored(&world);
    }
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
