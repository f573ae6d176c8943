//! A flow is disabled or deleted while its messages wait: they become dead letters, and it is unsubscribed at once.

use super::{Stream, dead};
use test_support::eventually;
use test_support::mosquitto::{Broker, LogMark};
use test_support::process::Gateway;
use test_support::publisher::Message;
use test_support::world::{Backend, SERVERS, World, text_of};

const MESSAGES: i64 = 50;

/// No reload comes by itself.
fn world(backend: Backend) -> World {
    let mut world = World::with_broker(backend, Broker::private());
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "86400");
    world
}

/// Stops the flow while messages of it and of another one are in the inbox and nowhere else.
struct Scene {
    flow_id: i64,
    stopped: Stream,
    steady: Stream,
    gateway: Gateway,
    mark: LogMark,
}

fn stop_with_a_backlog(world: &World, change: &str) -> Scene {
    let mut stopped = Stream::new(world, "stopped", "stopped");
    let mut steady = Stream::new(world, "steady", "steady");
    let flow_id = world.sql.count("SELECT id FROM flows WHERE code = 'stopped'", []);
    let gateway = world.start_subscribed();
    for (stream, topic) in [(&mut stopped, "stopped"), (&mut steady, "steady")] {
        stream.publish(world, topic, MESSAGES);
        stream.assert_all_from(world, 1);
    }
    let lock = world.another_session();
    lock.run("BEGIN");
    lock.run("SELECT next_offset FROM inbox_offsets FOR UPDATE");
    let mark = world.broker.mark();
    stopped.publish(world, "stopped", MESSAGES);
    steady.publish(world, "steady", MESSAGES);
    world.sql.run(change);
    lock.run("ROLLBACK");
    Scene { flow_id, stopped, steady, gateway, mark }
}

/// The second fifty, and nothing else.
fn assert_dead(world: &World, flow_id: i64, reason: &str) {
    let letters = world.wait_for_dead_letters(usize::try_from(MESSAGES).unwrap());
    assert!(letters.iter().all(|letter| letter.flow_id == Some(flow_id)), "{letters:?}");
    let waited: Vec<String> = (MESSAGES..2 * MESSAGES).map(|n| format!(r#"{{"n": {n}}}"#)).collect();
    assert_eq!(dead(world, reason), waited);
}

#[test]
fn disabled_backlog_becomes_replayable_dead_letters() {
    for backend in SERVERS {
        let world = world(backend);
        let change = "UPDATE flows SET enabled = FALSE WHERE code = 'stopped'";
        let Scene { flow_id, stopped, steady, mut gateway, mark } = stop_with_a_backlog(&world, change);
        assert_dead(&world, flow_id, "flow_disabled");
        steady.assert_all_from(&world, 1);
        world.broker.wait_for_unsubscription(mark, &world.name, &world.topic("stopped"));
        assert_eq!(world.last_msg_id("stopped"), Some(MESSAGES));
        let code = "SELECT COUNT(*) FROM dead_letters WHERE flow_code = 'stopped'";
        assert_eq!(world.sql.count(code, []), MESSAGES);

        world.sql.run("UPDATE flows SET enabled = TRUE WHERE code = 'stopped'");
        let mark = world.broker.mark();
        gateway.signal("HUP");
        world.wait_for_filters(mark, &[&world.topic("stopped")]);
        let letters = world.dead_letters().into_iter();
        world.publish_all(letters.map(|letter| Message::new(&letter.topic, letter.payload)));
        stopped.assert_all_from(&world, 1);
        assert_eq!(gateway.stop(), Some(0));
        assert_dead(&world, flow_id, "flow_disabled");
    }
}

#[test]
fn deleted_backlog_becomes_dead_letters() {
    for backend in SERVERS {
        let world = world(backend);
        let change = "DELETE FROM flows WHERE code = 'stopped'";
        let Scene { flow_id, stopped, steady, mut gateway, mark } = stop_with_a_backlog(&world, change);
        assert_dead(&world, flow_id, "flow_deleted");
        steady.assert_all_from(&world, 1);
        world.broker.wait_for_unsubscription(mark, &world.name, &world.topic("stopped"));
        assert_eq!(gateway.stop(), Some(0));
        let before: Vec<(i64, i64)> = (1..=MESSAGES).zip(0..).collect();
        assert_eq!(stopped.stored(&world), before);
        assert_dead(&world, flow_id, "flow_deleted");
    }
}

#[test]
fn large_dead_letter_table_warns_once() {
    let mut world = World::on(Backend::MariaDb);
    world.set("DEAD_LETTERS_WARN_ROWS", "2");
    let _strict = Stream::new(&world, "strict", "t");
    let mut gateway = world.start_subscribed();
    let refused = |count: usize| {
        world.publish_all((0..count).map(|_| Message::new(&world.topic("t"), "{}")));
    };
    refused(3);
    let said = "The table dead_letters has up to 3 rows, more than DEAD_LETTERS_WARN_ROWS=2";
    gateway.wait_for_line(said);
    let checked = world.command(&["check"]);
    assert!(text_of(&checked).contains(&format!("warn schema {said}")), "{}", text_of(&checked));
    refused(1);
    world.wait_for_dead_letters(4);
    let loaded = gateway.count_lines("Flows loaded");
    world.flow("sign", "sign").insert(&world.sql);
    eventually("two reloads", || (gateway.count_lines("Flows loaded") > loaded).then_some(()));
    assert_eq!(gateway.count_lines("The table dead_letters has"), 1);
    assert_eq!(gateway.stop(), Some(0));
}
