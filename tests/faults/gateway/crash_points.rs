//! The process dies at the very places where a message is in one hand and not yet in the other.

use crate::soak::verdict::{Posts, Verdict, judge};
use test_support::eventually;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::publisher::Message;
use test_support::sink::Sink;
use test_support::world::{Backend, World};

/// The process ends without a log line when it passes `point` for the time after `before`.
fn dies_once_at(backend: Backend, point: &str, before: usize) {
    let mut world = World::with_broker(backend, Broker::private());
    world.set("FAILPOINTS", &format!("{point}={before}*off->return"));
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    // At least one batch a round, so that the place is come to for certain.
    while gateway.is_running() {
        let messages = load.next(&world, 100);
        world.publish_all(messages);
    }
    assert_eq!(gateway.wait_for_exit().code(), None, "it was ended by a signal");
    world.settings.remove("FAILPOINTS");
    let mut gateway = world.start();
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0], "twice, at {point}");
}

#[test]
fn crash_before_append_loses_nothing() {
    dies_once_at(Backend::MariaDb, "intake-before-append", 299);
    dies_once_at(Backend::Postgres, "intake-before-append", 299);
    dies_once_at(Backend::Sqlite, "intake-before-append", 299);
}

#[test]
fn crash_before_puback_doubles_nothing() {
    dies_once_at(Backend::MariaDb, "intake-before-puback", 299);
    dies_once_at(Backend::Postgres, "intake-before-puback", 299);
    dies_once_at(Backend::Sqlite, "intake-before-puback", 299);
}

#[test]
fn an_end_before_the_commit_costs_no_number() {
    dies_once_at(Backend::MariaDb, "worker-before-commit", 4);
    dies_once_at(Backend::Postgres, "worker-before-commit", 4);
    dies_once_at(Backend::Sqlite, "worker-before-commit", 4);
}

#[test]
fn crash_before_watermark_doubles_nothing() {
    dies_once_at(Backend::MariaDb, "worker-after-commit", 4);
    dies_once_at(Backend::Postgres, "worker-after-commit", 4);
    dies_once_at(Backend::Sqlite, "worker-after-commit", 4);
}

/// The process ends at `point` with posts under way, and the next one does the rest.
fn dies_while_posting(point: &str, before: usize) -> Verdict {
    let sink = Sink::new();
    let mut world = World::with_broker(Backend::MariaDb, Broker::private());
    world.set("FAILPOINTS", &format!("{point}={before}*off->return"));
    world.flow("post", "t").posts_to(&sink.url("/post")).insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let topic = world.topic("t");
    world.publish_all((0..100).map(|key| Message::new(&topic, format!(r#"{{"key": {key}}}"#))));
    assert_eq!(gateway.wait_for_exit().code(), None, "it was ended by a signal");
    world.settings.remove("FAILPOINTS");
    let mut gateway = world.start();
    world.wait_for_last_msg_id("post", 100);
    let waiting = "SELECT COUNT(*) FROM outbox";
    eventually("an empty outbox", || (world.sql.count(waiting, []) == 0).then_some(()));
    assert_eq!(gateway.stop(), Some(0));
    let mut posts = Posts::of(&[(0, "post".to_owned())], 1);
    posts.take(&sink.take_requests());
    judge(&world, &["post".to_owned()], &mut posts, 100)
}

#[test]
fn crash_before_post_leaves_it_queued() {
    let verdict = dies_while_posting("delivery-post", 10);
    assert!(verdict.keeps_the_promise(), "{verdict:?}");
}

#[test]
fn crash_after_answer_reposts_same_key() {
    let verdict = dies_while_posting("delivery-answered", 10);
    assert!(verdict.keeps_the_promise(), "{verdict:?}");
    assert!(verdict.posted_again > 0, "the eleventh was answered, and nobody knew: {verdict:?}");
}

#[test]
fn crash_with_gathered_batch_loses_nothing() {
    dies_once_at(Backend::MariaDb, "router-dispatch", 4);
}
