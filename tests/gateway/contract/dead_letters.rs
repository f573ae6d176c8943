//! Dead letters are worked with by commands.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use test_support::eventually;
use test_support::process::binary;
use test_support::publisher::Message;
use test_support::sink::Sink;
use test_support::world::{Backend, World, text_of};

/// Inserts dead letters of a flow, each with its own value of `n`, from 10,001 on.
pub(crate) fn insert_letters(world: &World, flow: i64, count: i64) {
    let now = chrono::Utc::now().format("%Y-%m-%d %H:%M:%S");
    for from in (1..=count).step_by(500) {
        let row = |n: i64| {
            format!(
                "('{now}', '{now}', '0123456789abcdef0123456789abcdef', {n}, 't', '{{\"n\":{}}}', 11, {flow}, \
                 'f', 'flow_disabled')",
                10_000 + n
            )
        };
        let to = count.min(from + 499);
        let rows: Vec<String> = (from..=to).map(row).collect();
        world.sql.run(&format!(
            "INSERT INTO dead_letters (occurred_at, received_at, inbox_id, inbox_offset, topic, payload, \
             payload_bytes, flow_id, flow_code, reason) VALUES {}",
            rows.join(", ")
        ));
    }
}

/// A migrated world with the flow `f`, and its id.
fn flow(world: &World) -> i64 {
    assert!(world.command(&["migrate"]).status.success());
    world.flow("f", "t").insert(&world.sql);
    world.sql.count("SELECT id FROM flows", [])
}

fn document(world: &World, arguments: &[&str], code: i32) -> Value {
    let output = world.command(&[&["dead-letters", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{}", text_of(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn letters_left(world: &World) -> i64 {
    world.sql.count("SELECT COUNT(*) FROM dead_letters", [])
}

/// Asserts that the numbers `1..=last` are stored, each once.
fn assert_each_stored_once(world: &World, last: i64) {
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM data", []), last);
    assert_eq!(world.sql.count("SELECT COUNT(DISTINCT last_msg_id) FROM data", []), last);
    assert_eq!(world.sql.count("SELECT MAX(last_msg_id) FROM data", []), last);
    assert_eq!(world.sql.count("SELECT last_msg_id FROM flows", []), last);
}

fn start_replay(world: &World) -> Child {
    Command::new(binary())
        .args(["dead-letters", "replay", "--flow", "f", "--yes"])
        .current_dir(world.directory())
        .env_clear()
        .envs(&world.settings)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a replay of `letters` letters `kills` times, at places spread over it, and finishes it.
fn kill_replay(world: &World, letters: i64, kills: i64) {
    let flow = flow(world);
    insert_letters(world, flow, letters);
    for kill in 1..=kills {
        let mut replay = start_replay(world);
        let left = letters - letters * kill / (kills + 1);
        eventually("progress", || (letters_left(world) <= left).then_some(()));
        let _ = replay.kill();
        replay.wait().unwrap();
        let stored = world.sql.count("SELECT COUNT(*) FROM data", []);
        assert_eq!(stored + letters_left(world), letters, "each letter is in one of the tables");
    }
    assert!(start_replay(world).wait().unwrap().success());
    assert_eq!(letters_left(world), 0);
    assert_each_stored_once(world, letters);
    assert_eq!(world.sql.count("SELECT COUNT(DISTINCT attribute_value) FROM data", []), letters);
}

fn killed_replay_loses_and_repeats_nothing(world: World) {
    kill_replay(&world, 2_000, 3);
}

fn two_replays_at_once_store_each_letter_once(world: World) {
    let flow = flow(&world);
    insert_letters(&world, flow, 2_000);
    let (mut first, mut second) = (start_replay(&world), start_replay(&world));
    assert!(first.wait().unwrap().success() && second.wait().unwrap().success());
    assert_eq!(letters_left(&world), 0);
    assert_each_stored_once(&world, 2_000);
}

fn replay_beside_live_traffic_keeps_numbers_consecutive(world: World) {
    const LIVE: i64 = 1_000;
    let flow = flow(&world);
    insert_letters(&world, flow, LIVE);
    let _gateway = world.start_subscribed();
    let mut replay = start_replay(&world);
    for n in (0..LIVE).step_by(50) {
        let topic = world.topic("t");
        world.publish_all((n..n + 50).map(|n| Message::new(&topic, format!(r#"{{"n":{n}}}"#))));
    }
    assert!(replay.wait().unwrap().success());
    let all = || world.sql.count("SELECT COUNT(*) FROM data", []);
    eventually("all messages", || (all() == 2 * LIVE).then_some(()));
    assert_each_stored_once(&world, 2 * LIVE);
    assert_eq!(letters_left(&world), 0);
}

fn refused_post_is_delivered_after_its_replay(world: World) {
    let sink = Sink::new();
    sink.answer_with(400);
    assert!(world.command(&["migrate"]).status.success());
    world.flow("f", "t").posts_to(&sink.url("/")).insert(&world.sql);
    let mut gateway = world.start_subscribed();
    world.publish("t", r#"{"n":1}"#);
    world.wait_for_dead_letters(1);
    let key = |request: &test_support::sink::Request| request.header("idempotency-key").map(str::to_owned);
    let first = key(&sink.requests()[0]);
    sink.answer_with(200);

    let replayed = document(&world, &["replay", "--reason", "endpoint_refused", "--yes"], 0);
    assert_eq!(replayed["outcomes"][0]["outcome"], "posted");
    // A start reads the outbox at once, a running gateway once a minute.
    gateway.kill();
    let _gateway = world.start();
    let delivered = sink.wait_for_delivered(1);
    assert_eq!(key(&delivered[0]), first);
    eventually("an empty outbox", || (world.sql.count("SELECT COUNT(*) FROM outbox", []) == 0).then_some(()));
    assert_eq!(world.sql.count("SELECT last_msg_id FROM flows", []), 1);
}

fn letters_are_listed_shown_and_discarded(world: World) {
    let flow = flow(&world);
    insert_letters(&world, flow, 3);
    world.sql.run("UPDATE flows SET enabled = FALSE");

    let listed = document(&world, &["list", "--limit", "2"], 0);
    assert_eq!((&listed["dead_letters"][0]["id"], &listed["next_after"]), (&3.into(), &2.into()));
    let listed = document(&world, &["list", "--after", "2"], 0);
    assert_eq!(listed["dead_letters"].as_array().unwrap().len(), 1);
    let counts = document(&world, &["list", "--counts"], 0);
    assert_eq!(counts["counts"][0]["count"], 3);
    let shown = document(&world, &["show", "2"], 0);
    assert_eq!(shown["dead_letter"]["payload"], r#"{"n":10002}"#);
    assert_eq!(document(&world, &["show", "9"], 1)["error"]["kind"], "not_found");

    let unconfirmed = document(&world, &["replay", "--flow", "f"], 1);
    assert_eq!(unconfirmed["error"]["problems"][0]["field"], "--yes");
    let rehearsed = document(&world, &["replay", "--flow", "f", "--dry-run"], 1);
    assert_eq!(rehearsed["outcomes"][0]["reason"], "flow_disabled");
    let refused = document(&world, &["replay", "1"], 1);
    assert_eq!((&refused["letters"], &refused["outcomes"][0]["outcome"]), (&1.into(), &"refused".into()));

    let exported = world.command(&["dead-letters", "export", "--topic", "t"]);
    let lines = String::from_utf8(exported.stdout).unwrap();
    let ids: Vec<i64> = lines
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["id"].as_i64().unwrap())
        .collect();
    assert_eq!(ids, [1, 2, 3]);
    assert_eq!(document(&world, &["discard", "2", "--yes"], 0)["discarded"], 1);
    assert_eq!(document(&world, &["discard", "--all", "--yes"], 0)["discarded"], 2);
    assert_eq!(letters_left(&world), 0);
}

fn settings_delete_old_rows(mut world: World) {
    let flow = flow(&world);
    insert_letters(&world, flow, 5);
    let row = "INSERT INTO data (received_at, flow_code, attribute_name, attribute_value, last_msg_id)";
    for at in ["2020-01-01 00:00:00", "2999-01-01 00:00:00"] {
        world.sql.run(&format!("{row} VALUES ('{at}', 'f', 'a', '1', 1)"));
    }
    world.set("DEAD_LETTERS_MAX_ROWS", "2").set("DATA_MAX_AGE_SECONDS", "86400");
    let gateway = world.start();
    gateway.wait_for_line("Deleted 3 dead letters beyond DEAD_LETTERS_MAX_ROWS");
    gateway.wait_for_line("Deleted 1 rows of data beyond DATA_MAX_AGE_SECONDS");
    assert_eq!(world.sql.count("SELECT MIN(id) FROM dead_letters", []), 4);
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM data", []), 1);
}

on_each_database!(
    settings_delete_old_rows,
    killed_replay_loses_and_repeats_nothing,
    two_replays_at_once_store_each_letter_once,
    replay_beside_live_traffic_keeps_numbers_consecutive,
    refused_post_is_delivered_after_its_replay,
    letters_are_listed_shown_and_discarded,
);

fn kill_large_replay(backend: Backend) {
    kill_replay(&World::on(backend), 10_000, 20);
}

#[test]
#[ignore = "takes minutes; run by scripts/faults"]
fn many_kills_lose_and_repeat_nothing_on_mariadb() {
    kill_large_replay(Backend::MariaDb);
}

#[test]
#[ignore = "takes minutes; run by scripts/faults"]
fn many_kills_lose_and_repeat_nothing_on_postgres() {
    kill_large_replay(Backend::Postgres);
}

#[test]
#[ignore = "takes minutes; run by scripts/faults"]
fn many_kills_lose_and_repeat_nothing_on_sqlite() {
    kill_large_replay(Backend::Sqlite);
}
