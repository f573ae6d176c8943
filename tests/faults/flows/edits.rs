//! Other edits in the midst of the stream: the locked row is the truth, and ids go on from it.

use super::{Stream, dead, edit};
use crate::backlog;
use test_support::mosquitto::LogMark;
use test_support::world::World;

/// Waits until the gateway has left the flow's topic.
fn wait_until_unsubscribed(world: &World, mark: LogMark, topic: &str) {
    world.broker.wait_for_unsubscription(mark, &world.name, &world.topic(topic));
}

#[test]
fn reenabled_flow_continues_its_ids() {
    let world = backlog::world();
    let mut steady = Stream::new(&world, "steady", "t");
    let sleepy = Stream::new(&world, "sleepy", "t");
    let mut gateway = world.start_subscribed();
    let (mut of_sleepy, mut asleep) = (Vec::new(), Vec::new());
    for sign in ["sign0", "sign1"] {
        of_sleepy.extend(steady.published..steady.published + 300);
        steady.publish(&world, "t", 300);
        steady.assert_all_from(&world, 1);
        world.wait_for_last_msg_id("sleepy", i64::try_from(of_sleepy.len()).unwrap());

        // The row counts at once, before any reload.
        backlog::hold(&world);
        steady.publish(&world, "t", 300);
        edit(&world, "sleepy", "enabled = FALSE");
        backlog::release(&world);
        steady.assert_all_from(&world, 1);
        asleep.extend((steady.published - 300..steady.published).map(|n| format!(r#"{{"n": {n}}}"#)));
        world.wait_for_dead_letters(asleep.len());

        edit(&world, "sleepy", "enabled = TRUE");
        // The reload that takes up this flow takes up the other as well.
        let mark = world.broker.mark();
        world.flow(sign, sign).insert(&world.sql);
        world.wait_for_filters(mark, &[&world.topic(sign)]);
    }
    assert_eq!(gateway.stop(), Some(0));
    let expected: Vec<(i64, i64)> = (1..).zip(of_sleepy).collect();
    assert_eq!(sleepy.stored(&world), expected);
    assert_eq!(dead(&world, "flow_disabled"), asleep);
}

#[test]
fn recreated_flow_counts_from_new_row() {
    let world = backlog::world();
    let mut first = Stream::new(&world, "phoenix", "t");
    let mut gateway = world.start_subscribed();
    first.publish(&world, "t", 300);
    first.assert_all_from(&world, 1);

    let mark = world.broker.mark();
    world.sql.run("DELETE FROM flows WHERE code = 'phoenix'");
    wait_until_unsubscribed(&world, mark, "t");
    world.sql.run("DELETE FROM data");
    let mark = world.broker.mark();
    world.flow("phoenix", "t").continues_from(1_000).insert(&world.sql);
    world.wait_for_filters(mark, &[&world.topic("t")]);
    let mut second = Stream { code: "phoenix", published: 0 };
    second.publish(&world, "t", 300);
    second.assert_all_from(&world, 1_001);
    assert_eq!(gateway.stop(), Some(0));
}

/// In one batch with messages of the old row, whose ids stay unused.
#[test]
fn deleted_flow_takes_no_successor_id() {
    let world = backlog::world();
    let mut stream = Stream::new(&world, "phoenix", "t");
    let mut steady = Stream::new(&world, "steady", "t");
    let mut gateway = world.start_subscribed();
    backlog::hold(&world);
    stream.publish(&world, "t", 100);
    steady.next(&world, "t", 100);
    // Within the transaction that keeps the gateway out: it sees both or neither.
    world.sql.run("DELETE FROM flows WHERE code = 'phoenix'");
    let mark = world.broker.mark();
    world.flow("phoenix", "again").continues_from(7).insert(&world.sql);
    backlog::release(&world);
    world.wait_for_filters(mark, &[&world.topic("again")]);
    steady.assert_all_from(&world, 1);
    let mut second = Stream { code: "phoenix", published: 0 };
    second.publish(&world, "again", 50);
    second.assert_all_from(&world, 8);
    assert_eq!(gateway.stop(), Some(0));
    let waited: Vec<String> = (0..100).map(|n| format!(r#"{{"n": {n}}}"#)).collect();
    assert_eq!(dead(&world, "flow_deleted"), waited);
}

#[test]
fn hand_set_counter_is_continued() {
    let world = backlog::world();
    let mut stream = Stream::new(&world, "counted", "t");
    let mut gateway = world.start_subscribed();
    stream.publish(&world, "t", 300);
    stream.assert_all_from(&world, 1);
    backlog::hold(&world);
    stream.publish(&world, "t", 400);
    edit(&world, "counted", "last_msg_id = 10000");
    backlog::release(&world);
    stream.publish(&world, "t", 300);
    world.wait_for_last_msg_id("counted", 10_700);
    assert_eq!(gateway.stop(), Some(0));
    let expected: Vec<(i64, i64)> = (1..=300).chain(10_001..=10_700).zip(0..).collect();
    assert_eq!(stream.stored(&world), expected);
}

#[test]
fn schema_edit_in_stream_leaves_no_gap() {
    let world = backlog::world();
    let mut stream = Stream::new(&world, "strict", "t");
    let mut gateway = world.start_subscribed();
    stream.publish(&world, "t", 300);
    stream.assert_all_from(&world, 1);
    backlog::hold(&world);
    stream.publish(&world, "t", 300);
    edit(&world, "strict", r#"payload_schema = '{"n": "string"}'"#);
    backlog::release(&world);
    // The three hundred that waited are judged by the row as it is now.
    world.wait_for_dead_letters(300);
    edit(&world, "strict", r#"payload_schema = '{"n": "int"}'"#);
    stream.publish(&world, "t", 300);
    world.wait_for_last_msg_id("strict", 600);
    assert_eq!(gateway.stop(), Some(0));
    let expected: Vec<(i64, i64)> = (1..).zip((0..300).chain(600..900)).collect();
    assert_eq!(stream.stored(&world), expected);
    let letters = world.dead_letters();
    assert!(letters.iter().all(|letter| letter.reason == letters[0].reason));
    assert!(
        letters
            .iter()
            .map(|letter| letter.payload.clone())
            .eq((300..600).map(|n| format!(r#"{{"n": {n}}}"#).into_bytes()))
    );
}
