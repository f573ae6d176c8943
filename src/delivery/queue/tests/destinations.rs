//! Tests of flows whose rows are edited, disabled or deleted while posts wait.

use super::*;

/// Fails the first post of flow 1, which then waits for its next attempt with a second message behind it.
fn failed_once() -> DeliveryQueue {
    let mut queue = queue(QueueLimits::default());
    queue.deliver(vec![item(1, 1, 0), item(1, 2, 0)], secs(0));
    queue.next_item(secs(0)).unwrap();
    let failed = queue.has_failed(1, "no", secs(0), 0.0).unwrap();
    queue.flushed(&[failed], secs(0));
    queue
}

fn load_both(queue: &mut DeliveryQueue, now: Moment) {
    let mut rows = loaded(vec![item(1, 1, 0), item(1, 2, 0)], true);
    rows.items[0].item.attempts = 1;
    rows.items[0].due_in = secs(60);
    queue.next_load(now).expect("a load");
    queue.loaded(1, rows, now);
}

#[test]
fn destination_survives_an_earlier_reading() {
    let mut queue = queue(QueueLimits::default());
    queue.spill([1], secs(0));
    assert!(queue.next_load(secs(0)).unwrap().wants_destination);
    // The rows of the flow came after the table was read.
    queue.follow(Vec::new(), secs(0));
    let rows = LoadedFlow { destination: Some(to("http://other/")), ..loaded(vec![item(1, 1, 0)], true) };
    queue.loaded(1, rows, secs(0));
    queue.follow(Vec::new(), secs(0));
    assert_eq!(&*queue.next_item(secs(0)).unwrap().destination.url, "http://other/");
}

#[test]
fn changed_url_is_tried_at_once() {
    let mut queue = failed_once();
    assert_eq!(follow(&mut queue, to("http://localhost/"), secs(0)), 0, "it is where it was");
    assert_eq!(queue.next_load(secs(0)), None);
    assert_eq!(follow(&mut queue, to("http://other/"), secs(0)), 1);
    load_both(&mut queue, secs(0));
    assert_eq!(&*queue.next_item(secs(0)).unwrap().destination.url, "http://other/");
    // The new destination has failed as well, and the flow waits as usual.
    queue.has_failed(1, "no", secs(0), 0.0).unwrap();
    assert_eq!(follow(&mut queue, to("http://other/"), secs(0)), 0, "told once");
    assert_eq!(queue.next_item(secs(0)).map(|item| item.message_id), None);
}

#[test]
fn resumed_flow_posts_everything_held() {
    let mut queue = failed_once();
    let hold = || Destination::OnHold(HoldReason::Disabled);
    assert_eq!((follow(&mut queue, hold(), secs(0)), follow(&mut queue, hold(), secs(1))), (1, 0));
    queue.deliver(vec![item(1, 3, 0)], secs(1));
    queue.spill([1], secs(1));
    assert_eq!((queue.next_load(secs(200)), queue.next_wake(), queue.messages), (None, None, 0));
    // A message that grew old on hold is retried as long as a new one.
    assert_eq!(follow(&mut queue, to("http://localhost/"), secs(200)), 1);
    load_both(&mut queue, secs(200));
    assert_eq!(numbers(&mut queue, secs(200)), [(1, 1)]);
    let outcome = queue.has_failed(1, "no", secs(250), 0.0).unwrap();
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
}

#[test]
fn pause_that_ended_after_the_failure_is_a_retry() {
    let mut queue = failed_once();
    let ended = |ago| HashMap::from([(1, Pause::Ended { ago: secs(ago) })]);
    queue.resume(&ended(3), secs(2));
    assert_eq!(queue.next_load(secs(0)), None, "it ended before the failure");
    queue.resume(&HashMap::from([(1, Pause::Ongoing)]), secs(2));
    assert_eq!(queue.next_load(secs(0)), None);
    let now = Duration::from_millis(100);
    queue.resume(&HashMap::from([(1, Pause::Ended { ago: Duration::from_millis(50) })]), now);
    load_both(&mut queue, now);
    assert_eq!(numbers(&mut queue, now), [(1, 1)]);
    let failed = queue.has_failed(1, "no", secs(2), 0.0).unwrap();
    queue.flushed(&[failed], secs(2));
    queue.resume(&ended(2), secs(2));
    assert_eq!(queue.next_load(secs(2)), None, "a request counts once");
}

#[test]
fn change_seen_by_a_load_is_reported() {
    for changed in [to("http://other/"), Destination::OnHold(HoldReason::Disabled), Destination::Deleted] {
        let mut queue = failed_once();
        let due = queue.next_wake().unwrap();
        assert!(queue.next_load(due).unwrap().wants_destination);
        let rows = LoadedFlow { destination: Some(changed.clone()), ..loaded(vec![item(1, 1, 0)], true) };
        queue.loaded(1, rows, due);
        assert_eq!(numbers(&mut queue, due), []);
        assert_eq!(follow(&mut queue, changed, due), 1);
    }
}

#[test]
fn deleted_flow_is_known_while_rows_wait() {
    let mut queue = failed_once();
    assert_eq!(follow(&mut queue, Destination::Deleted, secs(0)), 1);
    assert!(queue.flows[&1].is_deleted());
    load_both(&mut queue, secs(0));
    let Some(Turn::GiveUp { outcomes, .. }) = queue.next_turn(secs(0)) else { panic!() };
    let all = outcomes
        .iter()
        .all(|outcome| matches!(outcome, Outcome::GivenUp { reason: DeadLetterReason::FlowDeleted, .. }));
    assert_eq!((outcomes.len(), all), (2, true));
    queue.follow(Vec::new(), secs(0));
    assert!(queue.flows[&1].is_deleted(), "the rows are there until the outcomes are written");
    queue.flushed(&outcomes, secs(0));
    queue.follow(Vec::new(), secs(0));
    assert!(!queue.flows[&1].is_deleted());
}
