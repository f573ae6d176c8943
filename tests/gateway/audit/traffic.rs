//! Real traffic leaves nothing wrong.

use test_support::oracle::Load;
use test_support::sink::Sink;
use test_support::world::{Backend, World};

fn every_kind_of_message_leaves_nothing_wrong(world: World) {
    let sink = Sink::new();
    world.flow("store", "store").schema(r#"{"v": "number"}"#).insert(&world.sql);
    world.flow("free", "free").insert(&world.sql);
    world.flow("post", "post").posts_to(&sink.url("/")).insert(&world.sql);
    world.flow("idle", "idle").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    for payload in [r#"{"v": 1, "w": "x"}"#, r#"{"v": "no number"}"#, r#"{"v": 2, "W": 1, "w": 2}"#] {
        world.publish("store", payload);
    }
    for payload in [r#"{"a": 1}"#, "{}", r#"{"a": 2}"#, "not JSON"] {
        world.publish("free", payload);
    }
    world.publish("post", "{}");
    sink.wait_for_delivered(1);
    world.wait_for_last_msg_id("free", 3);
    world.wait_for_last_msg_id("store", 2);
    world.wait_for_dead_letters(2);
    let expected = ["look dead_letters of store", "look gap of free", "look dead_letters"];
    assert_eq!(world.audit(), expected, "while the gateway runs");
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(world.audit(), expected, "when it has stopped");
}

fn what_is_being_written_is_no_defect(world: World) {
    let mut load = Load::over(&world, 3);
    let mut gateway = world.start_subscribed();
    for _ in 0..5 {
        let messages = load.next(&world, 1_000);
        world.publish_all(messages);
        let audit = world.audit_with(&[]);
        assert_eq!(audit.code, Some(0), "{:#}", audit.report["findings"]);
        assert!(audit.report["inbox"]["in_use"].as_bool().unwrap());
    }
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert!(load.judge(&world).is_empty(), "nothing twice");
}

fn killed_gateway_leaves_only_waiting_records(world: World) {
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    gateway.kill();
    let audit = world.audit_with(&[]);
    assert_eq!(audit.code, Some(0), "{:#}", audit.report["findings"]);
    assert_eq!(audit.report["inbox"]["in_use"], false);
}

macro_rules! on_each_database {
    ($($test:ident)*) => { $(
        mod $test {
            use super::*;
            #[test] fn on_mariadb() { super::$test(World::on(Backend::MariaDb)); }
            #[test] fn on_postgres() { super::$test(World::on(Backend::Postgres)); }
            #[test] fn on_sqlite() { super::$test(World::on(Backend::Sqlite)); }
        }
    )* };
}

on_each_database! {
    every_kind_of_message_leaves_nothing_wrong
    what_is_being_written_is_no_defect
    killed_gateway_leaves_only_waiting_records
}
