//! Another client locks the row of a flow: the others of its lane go on, and it catches up.

use std::collections::HashSet;

use test_support::eventually;
use test_support::flows::DeadLetter;
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::oracle::Load;
use test_support::process::Gateway;
use test_support::sql::Sql;
use test_support::world::{Backend, SERVERS, World};

const FLOWS: usize = 4;
/// The flow whose row is locked, by its code and its number.
const LOCKED: &str = "flow0";
const LOCKED_ID: i64 = 1;

/// One lane for all flows.
fn world(backend: Backend) -> World {
    let mut world = World::with_broker(backend, Broker::with(&BrokerOptions::default()));
    world.set("LANES", "1").set("FLOW_LOCK_WAIT_SECONDS", "1").set("DRAIN_DEADLINE_SECONDS", "3600");
    world
}

/// Locks the flow's row until the session says ROLLBACK.
fn lock(world: &World) -> Sql {
    let session = world.another_session();
    session.run("BEGIN");
    session.run(&format!("SELECT id FROM flows WHERE id = {LOCKED_ID} FOR UPDATE"));
    session
}

/// Publishes to all flows, and waits until all but the locked one have `in_all` messages.
fn publish_past_the_lock(world: &World, load: &mut Load, count: usize, in_all: usize) {
    let messages = load.next(world, count);
    world.publish_all(messages);
    let sql = "SELECT COUNT(*) FROM data WHERE attribute_name = 'key' AND flow_code <> ?";
    let wanted = i64::try_from(in_all / FLOWS * (FLOWS - 1)).unwrap();
    eventually(&format!("{wanted} messages of the other flows"), || {
        (world.sql.count(sql, [LOCKED.into()]) >= wanted).then_some(())
    });
}

fn lagging(world: &World) -> Vec<i64> {
    let rows = world.sql.rows("SELECT flow_id FROM inbox_lagging", []);
    rows.iter().map(|row| row.try_get("", "flow_id").unwrap()).collect()
}

fn goes_on_after(backend: Backend, end: impl Fn(&mut Gateway)) {
    let world = world(backend);
    let mut load = Load::over(&world, FLOWS);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 200);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    let session = lock(&world);
    publish_past_the_lock(&world, &mut load, 2_000, 2_200);
    assert_eq!(lagging(&world), [LOCKED_ID]);

    end(&mut gateway);
    gateway = world.start_subscribed();
    publish_past_the_lock(&world, &mut load, 1_000, 3_200);
    assert_eq!(world.last_msg_id(LOCKED), Some(50));
    session.run("ROLLBACK");

    load.wait_until_stored(&world);
    eventually("nothing lags", || lagging(&world).is_empty().then_some(()));
    assert_eq!(gateway.stop(), Some(0));
    let (extra, resent) = (load.judge(&world), world.broker.resent_to(&world.name));
    assert!(extra.len() <= resent, "more repeated than the {resent} that the broker sent again: {extra:?}");
    assert_eq!(world.dead_letters(), []);
}

#[test]
fn locked_flow_waits_alone_in_order() {
    SERVERS.into_iter().for_each(waits_alone_and_gets_its_messages_in_order);
}

fn waits_alone_and_gets_its_messages_in_order(backend: Backend) {
    let world = world(backend);
    let mut load = Load::over(&world, FLOWS);
    let mut gateway = world.start_subscribed();
    for round in 1..=3 {
        let session = lock(&world);
        publish_past_the_lock(&world, &mut load, 1_000, round * 1_000);
        assert_eq!(lagging(&world), [LOCKED_ID], "round {round}");
        session.run("ROLLBACK");
        load.wait_until_stored(&world);
        eventually("nothing lags", || lagging(&world).is_empty().then_some(()));
    }
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
}

#[test]
fn lagging_flow_survives_gateway_kill() {
    for backend in SERVERS {
        goes_on_after(backend, Gateway::kill);
    }
}

#[test]
fn lagging_flow_does_not_block_shutdown() {
    goes_on_after(Backend::MariaDb, |gateway| assert_eq!(gateway.stop(), Some(0)));
}

#[test]
fn deleted_lagging_flow_gets_dead_letters() {
    for backend in SERVERS {
        let world = world(backend);
        let mut load = Load::over(&world, FLOWS);
        let mut gateway = world.start_subscribed();
        let session = lock(&world);
        publish_past_the_lock(&world, &mut load, 400, 400);
        assert_eq!(lagging(&world), [LOCKED_ID]);
        session.run(&format!("DELETE FROM flows WHERE id = {LOCKED_ID}"));
        session.run("COMMIT");

        let letters = world.wait_for_dead_letters(400 / FLOWS);
        eventually("nothing lags", || lagging(&world).is_empty().then_some(()));
        publish_past_the_lock(&world, &mut load, 400, 800);
        assert_eq!(gateway.stop(), Some(0));
        let is_of_it =
            |letter: &DeadLetter| letter.flow_id == Some(LOCKED_ID) && letter.reason == "flow_deleted";
        assert!(letters.iter().all(is_of_it), "{letters:?}");
        let payloads: HashSet<_> = letters.iter().map(|letter| letter.payload.clone()).collect();
        assert_eq!((letters.len(), payloads.len()), (400 / FLOWS, 400 / FLOWS));
        assert_eq!(world.stored(LOCKED), []);
    }
}
