//! Rows that another client has locked.

use std::sync::atomic::{AtomicBool, Ordering};

use mqtt_gateway::domain::batch::lane_of;

use test_support::eventually;
use test_support::oracle::Load;
use test_support::sql::Sql;
use test_support::world::{Backend, SERVERS, World};

const LANES: u32 = 2;
const FLOWS: usize = 8;

#[test]
fn deadlocks_again_and_again_cost_nothing() {
    let world = World::on(Backend::MariaDb);
    let mut load = Load::over(&world, FLOWS);
    let mut gateway = world.start_subscribed();
    let other = world.another_session();
    let over = AtomicBool::new(false);
    let deadlocks = || {
        let row = &world.sql.rows("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'", [])[0];
        row.try_get::<String>("", "Value").unwrap().parse::<u64>().unwrap()
    };
    std::thread::scope(|scope| {
        scope.spawn(|| collide(&other, &over));
        let before = deadlocks();
        eventually("twenty deadlocks", || {
            let messages = load.next(&world, 40);
            world.publish_all(messages);
            (deadlocks() >= before + 20).then_some(())
        });
        over.store(true, Ordering::SeqCst);
    });
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
}

/// Locks the flows from the last to the first, and has written so much that the server ends the gateway's
/// transaction instead.
fn collide(session: &Sql, over: &AtomicBool) {
    let rows = vec!["(UTC_TIMESTAMP(), 'never committed')"; 100].join(", ");
    while !over.load(Ordering::SeqCst) {
        session.run("BEGIN");
        session.run(&format!("INSERT INTO data (received_at, flow_code) VALUES {rows}"));
        for flow in (1..=FLOWS).rev() {
            // Fails if this session is the deadlock's victim. The next statements are then a transaction of their own.
            let _ = session.try_run(&format!("SELECT id FROM flows WHERE id = {flow} FOR UPDATE"));
        }
        session.run("ROLLBACK");
    }
}

#[test]
fn locked_flow_blocks_no_other_lane() {
    SERVERS.into_iter().for_each(assert_lock_blocks_no_other_lane);
}

fn assert_lock_blocks_no_other_lane(backend: Backend) {
    let world = World::on(backend);
    let mut load = Load::over(&world, FLOWS);
    let id = |code: &str| world.sql.count("SELECT id FROM flows WHERE code = ?", [code.into()]);
    let lane = |code: &str| lane_of(id(code), LANES);
    let others: Vec<String> =
        (0..FLOWS).map(|flow| format!("flow{flow}")).filter(|c| lane(c) != lane("flow0")).collect();
    assert!(!others.is_empty());
    let mut gateway = world.start_subscribed();
    let other = world.another_session();
    other.run("BEGIN");
    other.run(&format!("SELECT id FROM flows WHERE id = {} FOR UPDATE", id("flow0")));
    for round in 1..=3 {
        let messages = load.next(&world, 10 * FLOWS);
        world.publish_all(messages);
        for code in &others {
            world.wait_for_stored(code, 10 * round);
        }
        assert_eq!(world.stored("flow0"), []);
    }
    other.run("ROLLBACK");
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
}

#[test]
fn altered_table_is_awaited() {
    SERVERS.into_iter().for_each(an_altered_table_is_waited_for);
}

fn an_altered_table_is_waited_for(backend: Backend) {
    let (lock, unlock, waiting) = match backend {
        Backend::Postgres => (
            "BEGIN; LOCK TABLE data IN ACCESS EXCLUSIVE MODE",
            "ROLLBACK",
            "SELECT pid FROM pg_stat_activity WHERE usename = ? AND wait_event_type = 'Lock'",
        ),
        Backend::MariaDb | Backend::Sqlite => (
            "LOCK TABLES data WRITE",
            "UNLOCK TABLES",
            "SELECT id FROM information_schema.processlist WHERE user = ? AND state LIKE '%metadata lock%'",
        ),
    };
    let world = World::on(backend);
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let other = world.another_session();
    other.run(lock);
    let messages = load.next(&world, 400);
    world.publish_all(messages);
    eventually("somebody who waits for the table", || {
        (!world.sql.rows(waiting, [world.name.as_str().into()]).is_empty()).then_some(())
    });
    other.run(unlock);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn other_sqlite_writer_is_awaited() {
    let world = World::on(Backend::Sqlite);
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    world.sql.run("BEGIN IMMEDIATE");
    let messages = load.next(&world, 400);
    world.publish_all(messages);
    gateway.wait_for_line("Database refuses, nothing is lost");
    world.sql.run("ROLLBACK");
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
}
