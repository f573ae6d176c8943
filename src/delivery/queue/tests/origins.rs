//! Tests of origins that are not available.

use proptest::prelude::*;

use super::*;
use crate::domain::posting::breaker::BreakerState;

/// A queue of `flows` flows to one origin, each with the messages 1 and 2, whose breaker has just been opened.
fn opened(flows: i64) -> DeliveryQueue {
    let mut queue = queue(QueueLimits::default());
    queue.deliver((1..=flows).flat_map(|flow| [item(flow, 1, 0), item(flow, 2, 0)]).collect(), secs(0));
    for flow in 1..=5 {
        queue.next_item(secs(0)).unwrap();
        let failed = queue.end(flow, failure("no", true), secs(0), 0.99).unwrap();
        queue.flushed(&[failed], secs(0));
    }
    queue
}

/// Loads all flows that want it, with both of their messages.
fn load_all(queue: &mut DeliveryQueue, now: Moment) {
    while let Some(order) = queue.next_load(now) {
        let mut rows = loaded(vec![item(order.flow, 1, 0), item(order.flow, 2, 0)], true);
        rows.items.iter_mut().for_each(|row| row.age = now);
        queue.loaded(order.flow, rows, now);
    }
}

/// Posts that start until `end`, at the times at which the queue wakes. None of them ends.
fn posts_until(queue: &mut DeliveryQueue, end: Moment) -> Vec<(FlowId, Moment)> {
    let mut posts = Vec::new();
    let mut now = secs(0);
    while let Some(at) = queue.next_wake().filter(|at| *at <= end) {
        now = now.max(at);
        for _ in 0..2 {
            posts.extend(numbers(queue, now).into_iter().map(|(flow, _)| (flow, now)));
            load_all(queue, now);
        }
        now += Duration::from_millis(1);
    }
    posts
}

#[test]
fn repeated_failures_stop_all_flows() {
    let mut queue = opened(50);
    assert_eq!(numbers(&mut queue, secs(0)), []);
    assert_eq!((queue.messages, queue.bytes), (0, 0), "held flows need no memory");
    let events = queue.take_origin_events();
    assert!(matches!(&events[..], [OriginEvent { change: OriginChange::Opened { .. }, .. }]), "{events:?}");
    let states: Vec<_> = queue.failing_origins(secs(1)).iter().map(|found| found.state.as_str()).collect();
    assert_eq!(states, ["open"]);
}

#[test]
fn one_post_tests_a_dead_origin() {
    let mut queue = opened(50);
    let posts = posts_until(&mut queue, secs(90));
    assert_eq!(posts.len(), 1, "{posts:?}");
    assert!(matches!(queue.failing_origins(secs(1))[0].state, BreakerState::HalfOpen));
}

#[test]
fn answer_lets_all_flows_go_on() {
    let mut queue = opened(50);
    let (prober, at) = posts_until(&mut queue, secs(60))[0];
    let delivered = queue.was_posted(prober, at).unwrap();
    queue.flushed(&[delivered], at);
    let mut posted = Vec::new();
    for _ in 0..4 {
        load_all(&mut queue, at);
        for (flow, _) in numbers(&mut queue, at) {
            posted.push(flow);
            let delivered = queue.was_posted(flow, at).unwrap();
            queue.flushed(&[delivered], at);
        }
    }
    posted.sort_unstable();
    posted.dedup();
    assert_eq!(posted, (1..=50).collect::<Vec<_>>());
    assert_eq!(queue.failing_origins(at), []);
    let last = queue.take_origin_events().pop().unwrap();
    assert!(matches!(last.change, OriginChange::Closed { .. }), "{last:?}");
}

/// The posts of a queue that was asked to retry these flows, without the passing of time.
fn posts_on_request(queue: &mut DeliveryQueue, flows: &[FlowId], now: Moment) -> Vec<FlowId> {
    let ended = Pause::Ended { ago: Duration::from_millis(1) };
    queue.resume(&flows.iter().map(|flow| (*flow, ended)).collect(), now);
    load_all(queue, now);
    numbers(queue, now).into_iter().map(|(flow, _)| flow).collect()
}

#[test]
fn requested_retry_tests_the_origin_at_once() {
    for flow in [1, 50] {
        let mut queue = opened(50);
        assert_eq!(numbers(&mut queue, secs(0)), [], "flow 50 is held without an attempt of its own");
        // Before the first backoff of the flows that have failed is over.
        assert_eq!(posts_on_request(&mut queue, &[flow], Duration::from_millis(100)), [flow]);
        assert_eq!(posts_on_request(&mut queue, &[flow], secs(2)), [0; 0], "its probe is in flight");
        let failed = queue.end(flow, failure("no", true), secs(3), 0.99).unwrap();
        queue.flushed(&[failed], secs(3));
        let late = Pause::Ended { ago: secs(2) };
        queue.resume(&HashMap::from([(flow, late)]), secs(3));
        load_all(&mut queue, secs(3));
        assert_eq!(numbers(&mut queue, secs(3)), [], "a request counts once");
    }
}

#[test]
fn requested_retries_of_many_flows_make_one_probe() {
    let mut queue = opened(50);
    assert_eq!(numbers(&mut queue, secs(0)), []);
    let all: Vec<FlowId> = (1..=50).collect();
    assert_eq!(posts_on_request(&mut queue, &all, secs(1)).len(), 1);
}

/// The first flow has nothing to post any more. The probe is made by another one.
#[test]
fn requested_retry_without_rows_leaves_the_probe_to_others() {
    let mut queue = opened(10);
    assert_eq!(numbers(&mut queue, secs(0)), []);
    queue.resume(&HashMap::from([(1, Pause::Ended { ago: Duration::from_millis(1) })]), secs(1));
    while let Some(order) = queue.next_load(secs(1)) {
        queue.loaded(order.flow, loaded(Vec::new(), true), secs(1));
    }
    let wakes_at = queue.next_wake().unwrap();
    assert!(wakes_at <= secs(2), "{wakes_at:?}");
    let mut posts = Vec::new();
    for _ in 0..2 {
        posts.extend(numbers(&mut queue, wakes_at));
        load_all(&mut queue, wakes_at);
    }
    posts.extend(numbers(&mut queue, wakes_at));
    assert_eq!(posts.len(), 1, "{posts:?}");
}

#[test]
fn other_origins_are_not_affected() {
    let mut queue = opened(10);
    let elsewhere = OutboxItem { destination: "http://other/".into(), ..item(99, 1, 0) };
    queue.deliver(vec![elsewhere], secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [(99, 1)]);
}

#[test]
fn faults_of_one_path_open_nothing() {
    let mut queue = queue(QueueLimits::default());
    for flow in 1..=20 {
        queue.deliver(vec![item(flow, 1, 0)], secs(0));
        queue.next_item(secs(0)).unwrap();
        queue.has_failed(flow, "HTTP status 404", secs(0), 0.0).unwrap();
    }
    queue.deliver(vec![item(21, 1, 0)], secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [(21, 1)]);
    assert_eq!(queue.failing_origins(secs(0)), []);
}

#[test]
fn changed_url_leaves_a_dead_origin_at_once() {
    let mut queue = opened(10);
    assert_eq!(numbers(&mut queue, secs(0)), []);
    assert_eq!(follow(&mut queue, to("http://other/"), secs(1)), 1);
    load_all(&mut queue, secs(1));
    let post = queue.next_item(secs(1)).unwrap();
    assert_eq!((post.key.flow_id, &*post.destination.url), (1, "http://other/"));
}

/// Otherwise its breaker would be reported as open for ever.
#[test]
fn unused_origin_is_forgotten() {
    let mut queue = opened(5);
    for flow in 1..=5 {
        let found = FlowDestination { flow, code: String::new(), destination: to("http://other/") };
        queue.follow(vec![found], secs(1));
    }
    queue.take_origin_events();
    queue.forget_unused_origins(secs(300));
    assert_eq!(queue.failing_origins(secs(300)).len(), 1, "a flow may come back");
    queue.forget_unused_origins(secs(3600));
    assert_eq!(queue.failing_origins(secs(3600)), []);
    let changes: Vec<_> = queue.take_origin_events().into_iter().map(|event| event.change).collect();
    assert_eq!(changes, [OriginChange::Forgotten]);
}

/// The failures of the origin count as the attempts of its messages, or the outbox would grow for ever.
#[test]
fn held_messages_expire() {
    let mut queue = opened(10);
    assert_eq!(numbers(&mut queue, secs(0)), []);
    let mut given_up = Vec::new();
    let mut now = secs(0);
    while let Some(at) = queue.next_wake().filter(|at| *at < secs(200)) {
        now = now.max(at);
        load_all(&mut queue, now);
        while let Some(turn) = queue.next_turn(now) {
            match turn {
                Turn::Post(post) => {
                    let failed = queue.ended(post.id, failure("no", true), now, 0.5);
                    queue.flushed(&failed, now);
                    given_up.extend(failed.into_iter().filter(Outcome::removes_row));
                }
                Turn::GiveUp { outcomes, .. } => {
                    queue.flushed(&outcomes, now);
                    given_up.extend(outcomes);
                }
            }
        }
        now += Duration::from_millis(1);
        if given_up.len() >= 20 {
            break;
        }
    }
    assert!(given_up.len() >= 20, "{}", given_up.len());
    let without_attempt = given_up.iter().filter(|outcome| {
        matches!(outcome, Outcome::GivenUp { detail, .. } if detail.starts_with("given up: http://localhost has not"))
    });
    assert!(without_attempt.count() > 0);
}

proptest! {
    /// A flow whose messages vanish does not stop the probes.
    #[test]
    fn some_held_flow_always_probes(empty in proptest::collection::btree_set(1..=10_i64, 0..9)) {
        let mut queue = opened(10);
        numbers(&mut queue, secs(0));
        let (mut now, mut probes) = (secs(0), 0);
        while let Some(at) = queue.next_wake().filter(|at| *at < secs(90)) {
            now = now.max(at);
            prop_assert_eq!(numbers(&mut queue, now), vec![]);
            while let Some(order) = queue.next_load(now) {
                let rows = if empty.contains(&order.flow) { Vec::new() } else { vec![item(order.flow, 1, 0)] };
                queue.loaded(order.flow, loaded(rows, true), now);
            }
            for (flow, _) in numbers(&mut queue, now) {
                probes += 1;
                let failed = queue.end(flow, failure("no", true), now, 0.99).unwrap();
                queue.flushed(&[failed], now);
            }
            now += Duration::from_millis(1);
        }
        // After 8, 16 and 32 seconds.
        prop_assert!((2..=4).contains(&probes), "{}", probes);
    }
}
