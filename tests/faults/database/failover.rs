//! Several servers hold the database, and another one becomes writable.

use test_support::eventually;
use test_support::mariadb::{MariaDbServer, ReplicatedPair};
use test_support::mosquitto::Broker;
use test_support::net;
use test_support::oracle::Load;
use test_support::postgres::PostgresServer;
use test_support::process::Gateway;
use test_support::sink::Sink;
use test_support::sql::Sql;
use test_support::world::{World, text_of};

use super::ApiClient;

/// A world on the primary of a pair, whose gateway knows both servers; the replica has all tables.
fn replicated(ports: impl FnOnce(&ReplicatedPair) -> [u16; 2]) -> (World, ReplicatedPair) {
    let pair = ReplicatedPair::start();
    let mut world = World::on_server(&pair.primary, Broker::shared());
    world.reach_database_at_one_of(&ports(&pair));
    (world, pair)
}

fn primary_first(pair: &ReplicatedPair) -> [u16; 2] {
    [pair.primary.port, pair.replica.port]
}

fn wait_for_switch(gateway: &Gateway, to: &MariaDbServer, from: &MariaDbServer) {
    let line = format!("Database: using 127.0.0.1:{}, since 127.0.0.1:{}", to.port, from.port);
    gateway.wait_for_line(&line);
}

/// Publishes in small batches, so that transactions are under way all the time.
fn publish(world: &World, load: &mut Load, count: usize) {
    for _ in 0..count / 100 {
        let messages = load.next(world, 100);
        world.publish_all(messages);
    }
}

fn finish(world: &World, load: &Load, mut gateway: Gateway) {
    load.wait_until_stored(world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(world), [0; 0], "no message is there twice");
    assert_eq!(world.dead_letters(), []);
    assert!(!gateway.stderr().contains("restarted"), "a failover is no reason to restart anything");
}

#[test]
fn promoted_replica_gets_missing_commits_once() {
    let (mut world, mut pair) = replicated(primary_first);
    // The missing commits are in segments that were finished long before the promotion.
    world.set("INBOX_SEGMENT_BYTES", "65536");
    let mut load = Load::over(&world, 4).of_bytes(200);
    let gateway = world.start_subscribed();
    publish(&world, &mut load, 1_000);
    load.wait_until_stored(&world);
    pair.wait_until_caught_up();
    pair.hold_replica();
    publish(&world, &mut load, 2_000);
    load.wait_until_stored(&world);
    publish(&world, &mut load, 2_000);
    pair.primary.kill();
    publish(&world, &mut load, 1_000);
    gateway.wait_for_line("no server of the list can be used");
    pair.promote_replica();
    wait_for_switch(&gateway, &pair.replica, &pair.primary);
    world.look_at_mariadb(&pair.replica.url());
    publish(&world, &mut load, 1_000);
    gateway.wait_for_line("The database went back");
    gateway.wait_for_line("numbers assigned again: flow");
    finish(&world, &load, gateway);
}

#[test]
fn a_planned_switchover_is_followed() {
    let (mut world, pair) = replicated(primary_first);
    let mut load = Load::over(&world, 4);
    let gateway = world.start_subscribed();
    publish(&world, &mut load, 1_000);
    world.sql.run("SET GLOBAL read_only = 1");
    publish(&world, &mut load, 1_000);
    pair.wait_until_caught_up();
    pair.promote_replica();
    wait_for_switch(&gateway, &pair.replica, &pair.primary);
    world.look_at_mariadb(&pair.replica.url());
    publish(&world, &mut load, 1_000);
    finish(&world, &load, gateway);
}

#[test]
fn posts_go_on_after_a_failover() {
    let (mut world, mut pair) = replicated(primary_first);
    // No reload follows the failover, either.
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "86400");
    let sink = Sink::new();
    world.flow("posted", "posted").posts_to(&sink.url("/")).insert(&world.sql);
    // A post that waits has the delivery read its table.
    sink.answer_with(503);
    let mut gateway = world.start_subscribed();
    world.publish("posted", r#"{"n": 1}"#);
    eventually("an attempt", || (!sink.requests().is_empty()).then_some(()));
    pair.wait_until_caught_up();
    pair.primary.kill();
    // A switch needs a writable server, and the delivery finds it by itself.
    gateway.wait_for_line_that("the delivery's word", &|line| line.contains("Outbox: "));
    pair.promote_replica();
    wait_for_switch(&gateway, &pair.replica, &pair.primary);
    sink.answer_with(200);
    world.look_at_mariadb(&pair.replica.url());
    world.publish("posted", r#"{"n": 2}"#);
    sink.wait_for_delivered(2);
    let mark = world.broker.mark();
    world.flow("new", "new").insert(&world.sql);
    gateway.signal("HUP");
    world.wait_for_filters(mark, &[&world.topic("new")]);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn api_follows_a_failover() {
    let (mut world, mut pair) = replicated(primary_first);
    world.set("ADMIN_BIND", "127.0.0.1:0");
    world.flow("edited", "edited").insert(&world.sql);
    let mut load = Load::over(&world, 4);
    let gateway = world.start_subscribed();
    let api = ApiClient::new(&world, &gateway);
    assert_eq!(api.status(), 200);
    pair.wait_until_caught_up();
    pair.primary.kill();
    publish(&world, &mut load, 500);
    gateway.wait_for_line("no server of the list can be used");
    pair.promote_replica();
    wait_for_switch(&gateway, &pair.replica, &pair.primary);
    assert_eq!(api.status(), 200);
    let edit = api.send("PATCH /api/v1/flows/edited", r#"{"description": "after the failover"}"#);
    assert_eq!(edit.status, 200, "{}", edit.body);
    world.look_at_mariadb(&pair.replica.url());
    let edited = "SELECT COUNT(*) FROM flows WHERE description = 'after the failover'";
    assert_eq!(world.sql.count(edited, []), 1);
    finish(&world, &load, gateway);
}

#[test]
fn the_first_server_that_takes_writes_is_used() {
    let (world, pair) = replicated(|pair| [pair.replica.port, pair.primary.port]);
    let mut load = Load::over(&world, 4);
    let output = text_of(&world.command(&["check"]));
    for line in [
        format!("ok   server 127.0.0.1:{} is there and read-only", pair.replica.port),
        format!("ok   server 127.0.0.1:{} takes writes", pair.primary.port),
        format!("ok   database {} at 127.0.0.1:{} as {}", world.name, pair.primary.port, world.name),
    ] {
        assert!(output.contains(&line), "{line} in {output}");
    }
    let gateway = world.start_subscribed();
    wait_for_switch(&gateway, &pair.primary, &pair.replica);
    publish(&world, &mut load, 500);
    finish(&world, &load, gateway);
}

#[test]
fn absent_or_read_only_postgres_is_skipped() {
    let (read_only, writable) = (PostgresServer::new(), PostgresServer::new());
    let mut world = World::on_postgres_server(&writable, Broker::shared());
    let admin = Sql::open(&format!("{}/postgres", read_only.url()));
    admin.run(&format!("CREATE USER {} PASSWORD 'x'", world.name));
    admin.run(&format!("CREATE DATABASE {}", world.name));
    admin.run("ALTER SYSTEM SET default_transaction_read_only = on");
    admin.run("SELECT pg_reload_conf()");
    let nobody = net::free_port();
    world.reach_database_at_one_of(&[nobody, read_only.port, writable.port]);
    let mut load = Load::over(&world, 4);
    let gateway = world.start_subscribed();
    let line = gateway.wait_for_line("Database: using");
    assert!(line.contains(&format!("using 127.0.0.1:{}, since 127.0.0.1:{nobody}", writable.port)), "{line}");
    assert!(line.contains(&format!("127.0.0.1:{} takes no writes", read_only.port)), "{line}");
    publish(&world, &mut load, 500);
    finish(&world, &load, gateway);
}
