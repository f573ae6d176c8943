//! Tests of the queue against an in-memory table and endpoint.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]

mod destinations;
mod model;
mod options;
mod origins;
mod others;

use std::collections::{HashMap, VecDeque};
use std::slice;

use super::*;
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message::FlowId;
use crate::domain::outbox::{OutboxKey, OutboxPayload};
use crate::domain::outbox_work::{Destination, FlowDestination, HoldReason, LoadedItem, Pause, cost};
use crate::domain::posting::attempts::RecentAttempts;
use crate::domain::retry::Backoff;

const OWN: &str = "own";

const LIMITS: QueueLimits = QueueLimits {
    messages: 8,
    bytes: 8 * 712,
    flow_messages: 4,
    flow_bytes: 4 * 712,
    posts: 2,
    retries: 1,
    unflushed: 6,
};

/// The position of a row in the index: flow, number, offset.
type RowPlace = (FlowId, i64, u64);

fn rule() -> RetryRule {
    let backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_mins(1) };
    RetryRule { backoff, max_age: Duration::from_secs(100), waits_for_others: false }
}

/// The queue of flows with one message in flight.
trait SinglePosts {
    fn next_post(&mut self, now: Moment) -> Option<QueuedPost>;
    fn next_item(&mut self, now: Moment) -> Option<Arc<OutboxItem>>;
    fn end(&mut self, flow: FlowId, result: PostResult, now: Moment, unit: f64) -> Option<Outcome>;

    fn was_posted(&mut self, flow: FlowId, now: Moment) -> Option<Outcome> {
        self.end(flow, PostResult::Delivered, now, 0.0)
    }

    fn was_refused(&mut self, flow: FlowId, now: Moment) -> Option<Outcome> {
        self.end(flow, PostResult::Refused("HTTP status 422".to_owned()), now, 0.0)
    }

    fn has_failed(&mut self, flow: FlowId, error: &str, now: Moment, unit: f64) -> Option<Outcome> {
        self.end(flow, failure(error, false), now, unit)
    }
}

impl SinglePosts for DeliveryQueue {
    fn next_post(&mut self, now: Moment) -> Option<QueuedPost> {
        match self.next_turn(now)? {
            Turn::Post(post) => Some(post),
            Turn::GiveUp { outcomes, .. } => panic!("{outcomes:?}"),
        }
    }

    fn next_item(&mut self, now: Moment) -> Option<Arc<OutboxItem>> {
        self.next_post(now).map(|post| Arc::clone(&post.items[0]))
    }

    fn end(&mut self, flow: FlowId, result: PostResult, now: Moment, unit: f64) -> Option<Outcome> {
        let post = self.flows[&flow].in_flight[0].id(flow);
        self.ended(post, result, now, unit).pop()
    }
}

fn failure(error: &str, blames_origin: bool) -> PostResult {
    PostResult::Failed(PostFailure { error: error.to_owned(), retry_after: None, blames_origin })
}

fn queue(limits: QueueLimits) -> DeliveryQueue {
    DeliveryQueue::new(OWN.into(), limits, rule())
}

fn item(flow: FlowId, number: i64, bytes: usize) -> OutboxItem {
    item_of(OWN, flow, number, bytes)
}

fn item_of(inbox: &str, flow: FlowId, number: i64, bytes: usize) -> OutboxItem {
    OutboxItem {
        key: OutboxKey { inbox_id: inbox.into(), inbox_offset: number.unsigned_abs(), flow_id: flow },
        message_id: number,
        flow_code: "flow".into(),
        destination: "http://localhost/".into(),
        topic: String::new(),
        payload: OutboxPayload::Loaded(vec![0; bytes]),
        attempts: 0,
        recent_attempts: RecentAttempts::default(),
        created_at_us: 0,
    }
}

fn item_at((flow, number, offset): RowPlace, bytes: usize) -> OutboxItem {
    let mut item = item(flow, number, bytes);
    item.key.inbox_offset = offset;
    item
}

fn loaded(items: Vec<OutboxItem>, complete: bool) -> LoadedFlow {
    let items = items
        .into_iter()
        .map(|item| LoadedItem { item, age: Duration::ZERO, due_in: Duration::ZERO })
        .collect();
    LoadedFlow {
        items,
        remainder: if complete { Remainder::Nothing } else { Remainder::Above },
        destination: None,
        is_behind: false,
    }
}

fn secs(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn numbers(queue: &mut DeliveryQueue, now: Moment) -> Vec<(FlowId, i64)> {
    std::iter::from_fn(|| queue.next_item(now)).map(|item| (item.key.flow_id, item.message_id)).collect()
}

#[test]
fn flows_take_turns_with_one_post_each() {
    let mut queue = queue(QueueLimits::default());
    queue.deliver(vec![item(1, 1, 0), item(1, 2, 0), item(2, 1, 0)], secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [(1, 1), (2, 1)]);
    queue.was_posted(1, secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [(1, 2)]);
}

#[test]
fn failed_flow_holds_no_memory_until_its_retry() {
    let mut queue = queue(QueueLimits::default());
    queue.deliver(vec![item(1, 1, 0), item(1, 2, 0)], secs(0));
    queue.next_item(secs(0)).unwrap();
    let failed = queue.has_failed(1, "refused", secs(0), 0.0).unwrap();
    assert_eq!((queue.messages, queue.bytes), (0, 0));
    assert_eq!(queue.next_load(secs(0)), None);
    queue.flushed(&[failed], secs(1));
    assert_eq!(queue.next_load(secs(1)), None);
    let due = queue.next_wake().unwrap();
    let order = queue.next_load(due).unwrap();
    assert_eq!((order.flow, order.max_messages), (1, 1));
}

#[test]
fn late_announcements_of_loaded_rows_are_skipped() {
    let mut queue = queue(QueueLimits::default());
    queue.spill([1], secs(0));
    queue.next_load(secs(0)).unwrap();
    queue.loaded(1, loaded(vec![item(1, 1, 0), item(1, 2, 0)], true), secs(0));
    queue.deliver(vec![item(1, 2, 0), item(1, 3, 0)], secs(0));
    assert_eq!(queue.flows[&1].messages(), 3);
}

#[test]
fn rows_announced_during_a_load_load_next() {
    let mut queue = queue(QueueLimits::default());
    queue.spill([1], secs(0));
    queue.next_load(secs(0)).unwrap();
    queue.deliver(vec![item(1, 1, 0)], secs(0));
    queue.loaded(1, loaded(Vec::new(), true), secs(0));
    assert_eq!(queue.next_load(secs(0)).unwrap().flow, 1);
}

#[test]
fn delivered_rows_in_the_table_block_loads() {
    let mut queue = queue(QueueLimits::default());
    queue.deliver(vec![item(1, 1, 0)], secs(0));
    queue.next_item(secs(0)).unwrap();
    queue.spill([1], secs(0));
    let delivered = queue.was_posted(1, secs(0)).unwrap();
    assert_eq!(queue.next_load(secs(0)), None);
    queue.flushed(&[delivered], secs(0));
    assert_eq!(queue.next_load(secs(0)).unwrap().flow, 1);
}

#[test]
fn retry_time_survives_a_restart() {
    let mut queue = queue(QueueLimits::default());
    queue.spill([1], secs(0));
    queue.next_load(secs(0)).unwrap();
    let mut rows = loaded(vec![item(1, 1, 0), item(1, 2, 0)], true);
    rows.items[0].item.attempts = 3;
    rows.items[0].due_in = secs(7);
    queue.loaded(1, rows, secs(10));
    assert_eq!(numbers(&mut queue, secs(16)), []);
    assert_eq!(queue.next_wake(), Some(secs(17)));
    assert_eq!(queue.next_load(secs(17)).unwrap().flow, 1);
}

#[test]
fn expired_message_has_one_attempt() {
    let mut queue = queue(QueueLimits::default());
    let later = secs(100);
    queue.spill([1], later);
    queue.next_load(later).unwrap();
    let mut rows = loaded(vec![item(1, 1, 0), item(1, 2, 0)], true);
    rows.items[0].age = secs(500);
    queue.loaded(1, rows, later);
    assert_eq!(numbers(&mut queue, later), [(1, 1)]);
    let outcome = queue.has_failed(1, "HTTP status 500", later, 0.0).unwrap();
    let Outcome::GivenUp { detail, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(detail, "given up at attempt 1: HTTP status 500");
    assert_eq!(numbers(&mut queue, later), [(1, 2)]);
}

#[test]
fn messages_that_aged_in_an_outage_are_retried() {
    let mut queue = queue(QueueLimits::default());
    queue.spill([1], secs(0));
    queue.next_load(secs(0)).unwrap();
    let mut rows = loaded(vec![item(1, 1, 0)], true);
    rows.items[0].age = secs(500);
    queue.loaded(1, rows, secs(1));
    queue.next_item(secs(1)).unwrap();
    let outcome = queue.has_failed(1, "no", secs(99), 0.0).unwrap();
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
}

#[test]
fn old_backlog_expires_an_hour_after_start() {
    let rule = RetryRule { max_age: Duration::from_hours(24), ..rule() };
    assert_eq!(rule.none_expires_before(), Duration::from_hours(1));
}

#[test]
fn last_attempt_is_made_at_expiry() {
    let mut queue = queue(QueueLimits::default());
    queue.deliver(vec![item(1, 1, 0)], secs(0));
    queue.next_item(secs(0)).unwrap();
    let at = secs(100).saturating_sub(Duration::from_millis(50));
    let Some(Outcome::Failed { retry_in, .. }) = queue.has_failed(1, "no", at, 0.9) else { panic!() };
    assert_eq!(retry_in, Duration::from_millis(50));
}

#[test]
fn hanging_endpoints_do_not_block_others() {
    let limits = QueueLimits { posts: 4, retries: 2, ..QueueLimits::default() };
    let mut queue = queue(limits);
    for flow in 1..=4 {
        queue.spill([flow], secs(0));
        queue.next_load(secs(0)).unwrap();
        let mut rows = loaded(vec![item(flow, 1, 0)], true);
        rows.items[0].item.attempts = 1;
        rows.items[0].due_in = secs(1);
        queue.loaded(flow, rows, secs(0));
    }
    for _ in 1..=4 {
        let order = queue.next_load(secs(1)).unwrap();
        queue.loaded(order.flow, loaded(vec![item(order.flow, 1, 0)], true), secs(1));
    }
    queue.deliver((5..=8).map(|flow| item(flow, 1, 0)).collect(), secs(1));
    let posts = numbers(&mut queue, secs(1));
    assert_eq!(posts.iter().filter(|(flow, _)| *flow <= 4).count(), 2);
    assert_eq!(posts.iter().filter(|(flow, _)| *flow > 4).count(), 2);
}

#[test]
fn sweeps_find_unannounced_rows() {
    let mut queue = queue(QueueLimits::default());
    queue.swept(
        &[WaitingFlow { flow: 1, rows: 1, lowest_message_id: 1, oldest_age: Duration::ZERO }],
        secs(0),
    );
    assert_eq!(queue.next_load(secs(0)).unwrap().flow, 1);
    queue.loaded(1, loaded(vec![item(1, 5, 0)], true), secs(0));
    let forgotten = WaitingFlow { flow: 1, rows: 2, lowest_message_id: 4, oldest_age: Duration::ZERO };
    queue.swept(&[forgotten], secs(60));
    assert_eq!(queue.flows[&1].table, TableRows::Nothing, "it may just have been deleted");
    queue.swept(&[forgotten], secs(120));
    assert_eq!(queue.flows[&1].table, TableRows::Anywhere);
}

#[test]
fn lost_lease_clears_memory() {
    let mut queue = queue(QueueLimits::default());
    queue.deliver(vec![item(1, 1, 0), item(1, 2, 0), item(2, 1, 0)], secs(0));
    queue.next_item(secs(0)).unwrap();
    queue.reload_all(secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), []);
    let delivered = queue.was_posted(1, secs(0)).unwrap();
    queue.flushed(&[delivered], secs(0));
    assert_eq!(queue.next_load(secs(0)).unwrap().flow, 2);
}

/// A queue with messages 1 to 4 of flow 1 in memory, 5 and 6 in the table, and room for 4.
fn overfull_queue() -> DeliveryQueue {
    let mut queue = queue(LIMITS);
    queue.deliver((1..=6).map(|number| item(1, number, 0)).collect(), secs(0));
    assert_eq!(queue.flows[&1].messages(), 4);
    queue
}

/// Posts the next message of flow 1 successfully.
fn post_one(queue: &mut DeliveryQueue) -> Outcome {
    queue.next_item(secs(0)).unwrap();
    queue.was_posted(1, secs(0)).unwrap()
}

#[test]
fn next_load_starts_early_above_the_cursor() {
    let mut queue = overfull_queue();
    assert_eq!(queue.next_load(secs(0)), None);
    post_one(&mut queue);
    assert_eq!(queue.next_load(secs(0)), None, "more than half is there");
    post_one(&mut queue);
    let order = queue.next_load(secs(0)).unwrap();
    assert_eq!((order.flow, order.after, order.max_messages), (1, Some(4), 2));
    post_one(&mut queue);
    queue.loaded(1, loaded(vec![item(1, 5, 0), item(1, 6, 0)], true), secs(0));
    assert_eq!(queue.flows[&1].table, TableRows::Nothing);
    queue.deliver(vec![item(1, 6, 0), item(1, 7, 0)], secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [(1, 4)]);
    let waiting: Vec<_> = queue.flows[&1].waiting.iter().map(|entry| entry.item.message_id).collect();
    assert_eq!(waiting, [5, 6, 7]);
}

#[test]
fn failure_during_a_load_voids_it() {
    let mut queue = overfull_queue();
    post_one(&mut queue);
    let delivered = post_one(&mut queue);
    queue.next_item(secs(0)).unwrap();
    queue.next_load(secs(0)).unwrap();
    let failed = queue.has_failed(1, "no", secs(0), 0.0).unwrap();
    queue.loaded(1, loaded(vec![item(1, 5, 0), item(1, 6, 0)], true), secs(0));
    assert_eq!((queue.messages, queue.bytes), (0, 0));
    queue.flushed(&[delivered, failed], secs(0));
    assert_eq!(queue.next_load(secs(60)), None, "the first outcome is not written");
    queue.flushed(&[Outcome::Delivered { key: item(1, 1, 0).key }], secs(60));
    let order = queue.next_load(secs(60)).unwrap();
    assert_eq!((order.after, order.max_messages), (None, 1));
}

#[test]
fn rows_announced_during_a_continued_load_follow() {
    let mut queue = overfull_queue();
    post_one(&mut queue);
    post_one(&mut queue);
    queue.next_load(secs(0)).unwrap();
    queue.deliver(vec![item(1, 7, 0)], secs(0));
    queue.loaded(1, loaded(vec![item(1, 5, 0), item(1, 6, 0)], true), secs(0));
    post_one(&mut queue);
    post_one(&mut queue);
    assert_eq!(queue.next_load(secs(0)).unwrap().after, Some(6));
}

#[test]
fn failed_load_resumes_at_the_same_cursor() {
    let mut queue = overfull_queue();
    post_one(&mut queue);
    post_one(&mut queue);
    let order = queue.next_load(secs(0)).unwrap();
    queue.load_failed(1, secs(0));
    assert_eq!(queue.next_load(secs(0)), Some(order));
}

/// After a counter was set back, new rows have lower numbers than earlier ones, so a load above the cursor misses them.
#[test]
fn counter_set_back_restarts_loads_after_a_flush() {
    type Announce<'a> = &'a dyn Fn(&mut DeliveryQueue);
    let late = item_at((1, 1, 7), 0);
    let as_items: Announce = &|queue| queue.deliver(vec![late.clone()], secs(0));
    let as_rows: Announce =
        &|queue| queue.committed(&CommittedRows::from_items(slice::from_ref(&late)), secs(0));
    for announce in [as_items, as_rows] {
        let mut queue = overfull_queue();
        announce(&mut queue);
        let delivered: Vec<_> = (1..=4).map(|_| post_one(&mut queue)).collect();
        assert_eq!(queue.next_load(secs(0)), None);
        assert!(queue.flush_is_urgent());
        queue.flushed(&delivered, secs(0));
        assert_eq!(queue.next_load(secs(0)).unwrap().after, None);
    }
}

#[test]
fn rows_below_the_cursor_are_recognised() {
    let mut queue = queue(LIMITS);
    queue.deliver(vec![item(1, 9, 0)], secs(0));
    // Set back to 0; what comes now rises again, and the last two have no room.
    queue
        .deliver((1..=5).map(|number| item_at((1, number, 9 + number.unsigned_abs()), 0)).collect(), secs(0));
    for _ in 1..=4 {
        post_one(&mut queue);
    }
    assert_eq!(queue.next_load(secs(0)), None);
    assert!(queue.flush_is_urgent());
}

#[test]
fn load_revealing_a_set_back_restarts() {
    let mut queue = queue(LIMITS);
    queue.spill([1], secs(0));
    queue.next_load(secs(0)).unwrap();
    let rows = vec![item_at((1, 1, 5), 0), item_at((1, 2, 6), 0), item_at((1, 100, 3), 0)];
    queue.loaded(1, loaded(rows, true), secs(0));
    assert_eq!(queue.flows[&1].table, TableRows::Anywhere);
}

/// The load was read before the row was committed, and ends above it.
#[test]
fn load_restarts_for_announced_rows_below_its_end() {
    // Rows of the load, and rows announced during the load. All numbers rise with the offsets among the announced
    // rows, and from the last loaded row to the last announced one.
    let foreign = OutboxItem { message_id: 4, ..item_of("other", 1, 1, 0) };
    for (brings, announced) in [
        (vec![item_at((1, 3, 7), 0), item_at((1, 4, 5), 0)], vec![(1, 4, 8), (1, 5, 9)]),
        (vec![item_at((1, 3, 7), 0), item_at((1, 4, 5), 0)], vec![(1, 3, 7), (1, 4, 8), (1, 5, 9)]),
        (vec![foreign], vec![(1, 4, 8), (1, 5, 9)]),
    ] {
        let mut queue = queue(LIMITS);
        queue.spill([1], secs(0));
        queue.next_load(secs(0)).unwrap();
        queue.deliver(announced.into_iter().map(|place| item_at(place, 0)).collect(), secs(0));
        queue.loaded(1, loaded(brings, true), secs(0));
        assert_eq!(queue.flows[&1].table, TableRows::Anywhere);
    }
}

#[test]
fn load_continues_above_rows_announced_meanwhile() {
    let mut queue = queue(LIMITS);
    queue.spill([1], secs(0));
    queue.next_load(secs(0)).unwrap();
    queue.deliver((2..=4).map(|number| item(1, number, 0)).collect(), secs(0));
    queue.loaded(1, loaded((1..=3).map(|number| item(1, number, 0)).collect(), true), secs(0));
    assert_eq!(queue.flows[&1].resume_after(), Some(3));
}

#[test]
fn load_cut_within_a_number_restarts() {
    let mut queue = queue(LIMITS);
    queue.spill([1], secs(0));
    queue.next_load(secs(0)).unwrap();
    let found = LoadedFlow { remainder: Remainder::Same, ..loaded(vec![item(1, 1, 0)], false) };
    queue.loaded(1, found, secs(0));
    post_one(&mut queue);
    assert_eq!(queue.next_load(secs(0)), None);
}

#[test]
fn claimed_rows_restart_the_next_load() {
    let mut queue = overfull_queue();
    let mut delivered = vec![post_one(&mut queue), post_one(&mut queue)];
    queue.next_load(secs(0)).unwrap();
    queue.spill([1], secs(0));
    queue.loaded(1, loaded(vec![item(1, 5, 0), item(1, 6, 0)], true), secs(0));
    delivered.extend((3..=6).map(|_| post_one(&mut queue)));
    assert_eq!(queue.next_load(secs(0)), None);
    queue.flushed(&delivered, secs(0));
    assert_eq!(queue.next_load(secs(0)).unwrap().after, None);
}

fn to(url: &str) -> Destination {
    Destination::Url(url.into())
}

fn follow(queue: &mut DeliveryQueue, destination: Destination, now: Moment) -> usize {
    let found = FlowDestination { flow: 1, code: "flow".to_owned(), destination };
    queue.follow(vec![found], now).len()
}

#[test]
fn consecutive_refusals_delay_the_flow() {
    let mut queue = queue(QueueLimits::default());
    let refuse = |queue: &mut DeliveryQueue, number| {
        queue.deliver(vec![item(1, number, 0)], secs(0));
        queue.next_item(secs(0)).unwrap();
        let outcome = queue.was_refused(1, secs(0)).unwrap();
        queue.flushed(std::slice::from_ref(&outcome), secs(0));
        outcome
    };
    let limit = i64::from(MAX_REFUSED_IN_A_ROW);
    for number in 1..limit {
        assert!(refuse(&mut queue, number).removes_row());
    }
    queue.deliver(vec![item(1, limit, 0)], secs(0));
    queue.next_item(secs(0)).unwrap();
    let taken = queue.was_posted(1, secs(0)).unwrap();
    queue.flushed(&[taken], secs(0));
    for number in 1..=limit {
        assert!(refuse(&mut queue, limit + number).removes_row());
    }
    assert!(!refuse(&mut queue, 2 * limit + 1).removes_row());
    assert_eq!(numbers(&mut queue, secs(0)), []);
}
