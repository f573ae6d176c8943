//! Tests of the options of a flow: parallel posts, rate and batches.

use proptest::prelude::*;

use super::*;
use crate::domain::flow_options::FlowOptions;
use crate::domain::posting::destination::PostDestination;

/// A queue with `count` messages of flow 1 with these options.
fn with_options(options: &str, count: i64) -> DeliveryQueue {
    let mut queue = queue(QueueLimits::default());
    queue.deliver((1..=count).map(|number| item_with(options, number)).collect(), secs(0));
    queue
}

fn item_with(options: &str, number: i64) -> OutboxItem {
    let options = format!(r#"{{"delivery": {options}}}"#);
    let options = FlowOptions::parse(Some(&options)).unwrap().delivery();
    OutboxItem {
        destination: PostDestination { options, ..item(1, 1, 0).destination },
        ..item(1, number, 100)
    }
}

fn numbers_of(post: &QueuedPost) -> Vec<i64> {
    post.items.iter().map(|item| item.message_id).collect()
}

fn next(queue: &mut DeliveryQueue, now: Moment) -> Vec<i64> {
    queue.next_post(now).map(|post| numbers_of(&post)).unwrap_or_default()
}

#[test]
fn parallel_flow_has_several_posts_in_flight() {
    let mut queue = with_options(r#"{"order": "none", "max_in_flight": 3}"#, 5);
    let posts: Vec<QueuedPost> = std::iter::from_fn(|| queue.next_post(secs(0))).collect();
    assert_eq!(posts.iter().flat_map(numbers_of).collect::<Vec<_>>(), [1, 2, 3]);
    queue.ended(posts[1].id, PostResult::Delivered, secs(0), 0.0);
    assert_eq!(next(&mut queue, secs(0)), [4]);
}

#[test]
fn failure_pauses_a_parallel_flow() {
    let mut queue = with_options(r#"{"order": "none", "max_in_flight": 2}"#, 5);
    let posts = [queue.next_post(secs(0)).unwrap(), queue.next_post(secs(0)).unwrap()];
    let failed = queue.ended(posts[0].id, failure("no", false), secs(0), 0.5);
    queue.flushed(&failed, secs(0));
    assert!(queue.next_post(secs(0)).is_none());
    let delivered = queue.ended(posts[1].id, PostResult::Delivered, secs(0), 0.0);
    assert_eq!(queue.next_load(secs(1)), None, "the row is not deleted yet");
    queue.flushed(&delivered, secs(1));
    assert_eq!(queue.next_load(secs(1)).map(|order| order.after), Some(None));
}

#[test]
fn rate_spaces_the_posts() {
    let mut queue = with_options(r#"{"rate_per_second": 2}"#, 3);
    assert_eq!(next(&mut queue, secs(1)), [1]);
    queue.was_posted(1, secs(1)).unwrap();
    assert!(next(&mut queue, secs(1)).is_empty());
    assert_eq!(queue.next_wake(), Some(Duration::from_millis(1500)));
    assert_eq!(next(&mut queue, Duration::from_millis(1500)), [2]);
}

#[test]
fn batch_takes_what_waits() {
    let mut queue = with_options(r#"{"batch": {"max_messages": 3}}"#, 5);
    assert_eq!(next(&mut queue, secs(0)), [1, 2, 3]);
    assert!(queue.next_post(secs(0)).is_none(), "one batch at a time");
    let post = queue.flows[&1].in_flight[0].id(1);
    assert_eq!(queue.ended(post, PostResult::Delivered, secs(0), 0.0).len(), 3);
    assert_eq!(next(&mut queue, secs(0)), [4, 5]);
}

#[test]
fn batch_respects_its_bytes() {
    let mut queue = with_options(r#"{"batch": {"max_messages": 9, "max_bytes": 250}}"#, 5);
    assert_eq!(next(&mut queue, secs(0)), [1, 2]);
    let mut queue = with_options(r#"{"batch": {"max_messages": 9, "max_bytes": 99}}"#, 5);
    assert_eq!(next(&mut queue, secs(0)), [1], "one message may be larger");
}

#[test]
fn incomplete_batch_waits_for_its_delay() {
    let options = r#"{"batch": {"max_messages": 3, "max_delay_ms": 5000}}"#;
    let mut queue = with_options(options, 2);
    assert_eq!((next(&mut queue, secs(4)), queue.next_wake()), (vec![], Some(secs(5))));
    assert_eq!(next(&mut queue, secs(5)), [1, 2]);
    let mut queue = with_options(options, 2);
    assert!(next(&mut queue, secs(1)).is_empty());
    queue.deliver(vec![item_with(options, 3)], secs(1));
    assert_eq!(next(&mut queue, secs(1)), [1, 2, 3], "complete");
}

/// Posts everything to an endpoint that rejects a batch with one of `wrong` in it.
fn post_all(queue: &mut DeliveryQueue, wrong: &[i64]) -> (Vec<i64>, Vec<i64>, usize) {
    let (mut taken, mut refused, mut posts) = (Vec::new(), Vec::new(), 0);
    while let Some(post) = queue.next_post(secs(0)) {
        posts += 1;
        let is_wrong = numbers_of(&post).iter().any(|number| wrong.contains(number));
        let result = if is_wrong { PostResult::Refused("no".to_owned()) } else { PostResult::Delivered };
        for (outcome, number) in queue.ended(post.id, result, secs(0), 0.0).iter().zip(numbers_of(&post)) {
            let list = if matches!(outcome, Outcome::Delivered { .. }) { &mut taken } else { &mut refused };
            list.push(number);
        }
    }
    (taken, refused, posts)
}

#[test]
fn rejected_batch_is_halved() {
    let mut queue = with_options(r#"{"batch": {"max_messages": 64}}"#, 64);
    let (taken, refused, posts) = post_all(&mut queue, &[40]);
    assert_eq!((taken.len(), refused), (63, vec![40]));
    assert!(posts <= 10, "{posts}");
}

#[test]
fn order_survives_a_rejected_batch() {
    let mut queue = with_options(r#"{"batch": {"max_messages": 8}}"#, 30);
    let (taken, refused, _) = post_all(&mut queue, &[3, 4, 20]);
    assert_eq!(taken, (1..=30).filter(|number| ![3, 4, 20].contains(number)).collect::<Vec<_>>());
    assert_eq!(refused, [3, 4, 20]);
}

proptest! {
    #[test]
    fn only_wrong_messages_are_refused(
        max in 1..20_usize, count in 1..60_i64, wrong in proptest::collection::btree_set(1..60_i64, 0..9),
    ) {
        let mut queue = with_options(&format!(r#"{{"batch": {{"max_messages": {max}}}}}"#), count);
        let wrong: Vec<i64> = wrong.into_iter().filter(|number| *number <= count).collect();
        let (taken, refused, _) = post_all(&mut queue, &wrong);
        prop_assert_eq!(taken, (1..=count).filter(|number| !wrong.contains(number)).collect::<Vec<_>>());
        prop_assert_eq!(refused, wrong);
    }
}

#[test]
fn slow_flows_leave_memory_to_others() {
    let limits = QueueLimits { messages: 400, flow_messages: 64, ..QueueLimits::default() };
    let mut queue = queue(limits);
    for flow in 1..=40 {
        queue.deliver((1..=64).map(|number| item(flow, number, 0)).collect(), secs(0));
    }
    assert!(queue.messages <= 300, "{}", queue.messages);
    let full = queue.flows.values().filter(|flow| flow.messages() > 2).count();
    assert!((3..=4).contains(&full), "{full} flows have more than their share");
    assert!(queue.flows[&40].messages() >= 2);
}
