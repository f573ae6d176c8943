//! Clock jumps of an hour under load: nothing stalls, and `received_at` follows the clock.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};

use super::wall_clock::WallClock;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::proxy::{How, Proxy};
use test_support::sink::Sink;
use test_support::world::{Backend, World};

const HOUR: i64 = 3600;

fn received_at(text: &str) -> DateTime<Utc> {
    NaiveDateTime::parse_from_str(text, "%Y-%m-%d %H:%M:%S%.f").unwrap().and_utc()
}

#[test]
fn clock_jumps_are_exactly_once() {
    let mut world = World::with_broker(Backend::MariaDb, Broker::private());
    let proxy = Proxy::to_mqtt(world.broker.address);
    world.reach_broker_at(proxy.address());
    let clock = WallClock::in_world(&mut world);
    let mut load = Load::over(&world, 4);
    let sink = Sink::new();
    world.flow("posted", "posted").posts_to(&sink.url("/")).insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let mut posts = 0;
    for ahead in [0, HOUR, 0, -HOUR, HOUR, -HOUR, 0] {
        clock.move_by(ahead);
        let messages = load.next(&world, 500);
        world.publish_all(messages);
        world.publish("posted", format!(r#"{{"ahead": {ahead}}}"#));
        posts += 1;
        load.wait_until_stored(&world);
        // The lease on the outbox uses the database's time: it stays, and no post is held back.
        sink.wait_for_delivered(posts);

        let last = world.stored("flow0").pop().unwrap();
        let off = received_at(&last.received_at) - Utc::now() - TimeDelta::seconds(ahead);
        assert!(off.abs() < TimeDelta::minutes(10), "received {off} off with the clock {ahead} s ahead");

        // The client library reads the clock when it connects. Not each time: frequent losses would be taken for a
        // second client with the same id.
        if ahead == -HOUR {
            let mark = world.broker.mark();
            proxy.cut(How::Rst);
            world.wait_for_flows(mark);
        }
    }
    assert_eq!(gateway.count_lines("\"level\":\"ERROR\""), 0, "no trouble");
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(sink.wait_for_delivered(posts).len(), posts, "each was posted once");
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM outbox", []), 0);
    assert!(world.dead_letters().is_empty(), "nothing was too old to be posted");
}

#[test]
fn edit_after_clock_set_back_applies() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    let clock = WallClock::in_world(&mut world);
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start_subscribed();
    for (number, ahead) in [(1, HOUR), (2, -HOUR)] {
        clock.move_by(ahead);
        let mark = world.broker.mark();
        let code = format!("late{number}");
        world.flow(&code, &code).insert(&world.sql);
        world.wait_for_filters(mark, &[&world.topic(&code)]);
        let messages = load.next(&world, 100);
        world.publish_all(messages);
        load.wait_until_stored(&world);
    }
    assert_eq!(gateway.stop(), Some(0), "the deadlines of the shutdown, too");
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn start_with_earlier_clock_works() {
    let mut world = World::with_broker(Backend::MariaDb, Broker::private());
    let clock = WallClock::in_world(&mut world);
    let mut load = Load::over(&world, 2);
    let sink = Sink::new();
    world.flow("posted", "posted").posts_to(&sink.url("/")).insert(&world.sql);
    for (turn, ahead) in [HOUR, -HOUR, HOUR].into_iter().enumerate() {
        clock.move_by(ahead);
        let mut gateway = world.start_subscribed();
        let messages = load.next(&world, 200);
        world.publish_all(messages);
        world.publish("posted", r#"{"a": 1}"#);
        load.wait_until_stored(&world);
        sink.wait_for_delivered(turn + 1);
        gateway.kill();
    }
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 200);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
