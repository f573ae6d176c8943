//! Brokers that send again after a lost connection, with packet identifiers and payloads made to be mistaken.
//!
//! A case lists the packets that the broker sends on each connection. Between two connections the line is cut, or the
//! gateway is killed too. All packets of a connection were received and acknowledged there; the packets of the next
//! connection show whether the broker got the acknowledgements.

use test_support::flows::Stored;
use test_support::mosquitto::Broker;
use test_support::scripted_broker::{Connection, ScriptedBroker};
use test_support::world::{Backend, World};

/// More than the rising identifiers that the gateway wants to see before it trusts them.
const PROVEN: u16 = 2_100;

/// A message of the one flow.
#[derive(Clone, Copy)]
struct Sent {
    id: u16,
    duplicate: bool,
    number: u32,
}

fn new(id: u16, number: u32) -> Sent {
    Sent { id, duplicate: false, number }
}

fn again(id: u16, number: u32) -> Sent {
    Sent { id, duplicate: true, number }
}

/// Packets of one connection.
struct Stretch {
    session_present: bool,
    messages: Vec<Sent>,
}

fn begun(messages: impl IntoIterator<Item = Sent>) -> Stretch {
    Stretch { session_present: false, messages: messages.into_iter().collect() }
}

fn resumed(messages: impl IntoIterator<Item = Sent>) -> Stretch {
    Stretch { session_present: true, messages: messages.into_iter().collect() }
}

/// The numbers in `data` when the broker has sent all this.
fn stored(stretches: &[Stretch], killed_in_between: bool) -> Vec<u32> {
    let broker = ScriptedBroker::new();
    let world = World::without_broker(Backend::Sqlite, Broker::shared());
    world.add_server("127.0.0.1", Some(broker.port()), Some(true), Some(true));
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start();
    for (index, stretch) in stretches.iter().enumerate() {
        if killed_in_between && index > 0 {
            gateway.kill();
            gateway = world.start();
        }
        send(&mut broker.accept(stretch.session_present), &world.topic("t"), &stretch.messages);
    }
    assert_eq!(gateway.stop(), Some(0), "with all that was acknowledged in the table");
    let number = |message: &Stored| message.value("number").unwrap().parse().unwrap();
    world.stored("any").iter().map(number).collect()
}

/// Sends all and waits for the acknowledgements.
fn send(connection: &mut Connection, topic: &str, messages: &[Sent]) {
    for window in messages.chunks(20) {
        for Sent { id, duplicate, number } in window {
            connection.publish(*id, *duplicate, topic, &format!(r#"{{"number": {number}}}"#));
        }
        for message in window {
            connection.await_puback(message.id);
        }
    }
}

/// Cut or killed in between, all of this is stored.
fn assert_stored(stretches: &[Stretch], expected: &[u32]) {
    for killed_in_between in [false, true] {
        assert_eq!(stored(stretches, killed_in_between), expected, "killed: {killed_in_between}");
    }
}

fn numbered(ids: std::ops::RangeInclusive<u16>) -> impl Iterator<Item = Sent> {
    ids.map(|id| new(id, u32::from(id)))
}

fn all_alike(ids: std::ops::RangeInclusive<u16>, sent: fn(u16, u32) -> Sent) -> impl Iterator<Item = Sent> {
    ids.map(move |id| sent(id, 7))
}

#[test]
fn equal_message_under_lowest_id_is_stored() {
    // One at a time, so each has the identifier 1. All were acknowledged; the last one is new, and was lost on the way.
    let before: Vec<_> = (0..30).map(|number| new(1, number)).collect();
    let expected: Vec<_> = (0..30).chain([29]).collect();
    assert_stored(&[begun(before), resumed([again(1, 29)])], &expected);
}

#[test]
fn equal_burst_under_reused_ids_is_stored() {
    let expected: Vec<_> = (1..=40).chain(1..=40).collect();
    let lost_on_the_way: Vec<_> = (1..=40).map(|id| again(id, u32::from(id))).collect();
    assert_stored(&[begun(numbered(1..=40)), resumed(lost_on_the_way)], &expected);
}

#[test]
fn equal_payloads_under_reused_ids_are_stored() {
    let expected = [7; 46];
    let lost_on_the_way = all_alike(15..=20, again);
    assert_stored(&[begun(all_alike(1..=40, new)), resumed(lost_on_the_way)], &expected);
}

#[test]
fn equal_payloads_under_rising_ids_stored_once() {
    let last = PROVEN;
    // Ten are sent again and again; behind them come five that were lost on the way, and new ones.
    let sent_again = || all_alike(last - 9..=last, again);
    let expected = vec![7; usize::from(last) + 5 + 3];
    let stretches = [
        begun(all_alike(1..=last, new)),
        resumed(sent_again().take(4)),
        resumed(
            sent_again()
                .chain(all_alike(last + 1..=last + 5, again))
                .chain(all_alike(last + 6..=last + 8, new)),
        ),
    ];
    assert_stored(&stretches, &expected);
}

#[test]
fn different_payloads_are_deduplicated_at_once() {
    let sent_again = || (31..=40).map(|id| again(id, u32::from(id)));
    let stretches = [
        begun(numbered(1..=40)),
        resumed(sent_again().take(4)),
        resumed(sent_again().skip(2).chain([again(41, 41), new(42, 42)])),
    ];
    assert_stored(&stretches, &(1..=42).collect::<Vec<_>>());
}

#[test]
fn new_session_has_no_redeliveries() {
    let last = u32::from(PROVEN);
    let expected: Vec<_> = (1..=last).chain(last - 9..=last).collect();
    // By chance the new session is where the old one was.
    let lost_on_the_way = || (PROVEN - 9..=PROVEN).map(|id| again(id, u32::from(id)));
    assert_stored(&[begun(numbered(1..=PROVEN)), begun([]), resumed(lost_on_the_way())], &expected);
}

#[test]
fn an_identifier_that_steps_back_ends_the_trust() {
    // As a killed broker that resumes from its last saved state.
    let fallen_back = || all_alike(1_000..=1_010, new);
    let lost_on_the_way = || all_alike(1_009..=1_010, again);
    let expected = vec![7; usize::from(PROVEN) + 11 + 2];
    assert_stored(
        &[begun(all_alike(1..=PROVEN, new)), resumed(fallen_back()), resumed(lost_on_the_way())],
        &expected,
    );
}
