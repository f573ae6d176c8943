#![allow(clippy::unwrap_used)]

use super::super::queue::{PostId, PostResult, QueueLimits, QueuedPost, RetryRule};
use super::*;
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message::FlowId;
use crate::domain::outbox::{OutboxKey, OutboxPayload};
use crate::domain::outbox_work::{Destination, FlowDestination, LoadedFlow, LoadedItem, Remainder};
use crate::domain::posting::attempts::RecentAttempts;

const RENEW: Duration = Duration::from_secs(15);
const LEASE: Duration = Duration::from_mins(1);

const fn secs(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn item(flow_id: FlowId, message_id: i64) -> OutboxItem {
    OutboxItem {
        key: OutboxKey { inbox_id: "own".into(), inbox_offset: message_id.unsigned_abs(), flow_id },
        message_id,
        flow_code: "flow".into(),
        destination: "http://localhost/".into(),
        topic: String::new(),
        payload: OutboxPayload::Loaded(Vec::new()),
        attempts: 0,
        recent_attempts: RecentAttempts::default(),
        created_at_us: 0,
    }
}

fn waiting(flow: FlowId) -> WaitingFlow {
    WaitingFlow { flow, rows: 1, lowest_message_id: 1, oldest_age: Duration::ZERO }
}

fn loaded(item: OutboxItem) -> LoadedFlow {
    let item = LoadedItem { item, age: Duration::ZERO, due_in: Duration::ZERO };
    LoadedFlow { items: vec![item], remainder: Remainder::Nothing, destination: None, is_behind: false }
}

/// A delivery without its actor: the table's work and the queue.
struct Delivery {
    work: TableWork,
    queue: DeliveryQueue,
    in_flight: Vec<PostId>,
}

impl Delivery {
    fn new() -> Self {
        let backoff = Backoff { base: secs(1), max: secs(60) };
        let rule = RetryRule { backoff, max_age: secs(100), waits_for_others: false };
        Self {
            work: TableWork::new(RENEW, LEASE),
            queue: DeliveryQueue::new("own".into(), QueueLimits::default(), rule),
            in_flight: Vec::new(),
        }
    }

    /// A delivery that has swept an empty table at second 0.
    fn ready() -> Self {
        let mut delivery = Self::new();
        delivery.work.connected(secs(0));
        assert_eq!(delivery.work.next_task(secs(0)), Some(MaintenanceTask::Renewal));
        delivery.work.task_ended();
        assert!(!delivery.work.lease_begun(&mut delivery.queue, secs(0)), "no lease was lost");
        let sweep = delivery.work.next_task(secs(0)).unwrap();
        delivery.work.task_ended();
        assert!(delivery.work.swept(sweep, 0, &[], &mut delivery.queue, secs(0)));
        delivery
    }

    fn deliver(&mut self, item: OutboxItem, now: Moment) {
        self.work.deliver(&mut self.queue, vec![item], now);
    }

    fn next_post(&mut self, now: Moment) -> Option<i64> {
        let Turn::Post(QueuedPost { id, items, .. }) = self.work.next_turn(&mut self.queue, now)? else {
            return None;
        };
        self.in_flight.push(id);
        Some(items[0].message_id)
    }

    fn next_flush(&mut self, now: Moment) -> Option<usize> {
        assert!(self.work.begin(now));
        self.work.next_flush(&self.queue, false, now).map(|outcomes| outcomes.len())
    }

    fn posted(&mut self, flow: FlowId, now: Moment) {
        let index = self.in_flight.iter().position(|post| post.flow == flow).unwrap();
        let post = self.in_flight.remove(index);
        let outcomes = self.queue.ended(post, PostResult::Delivered, now, 0.0);
        for outcome in outcomes {
            self.work.add(outcome);
        }
    }

    /// All maintenance tasks that start at this time, each ended at once.
    fn tasks(&mut self, now: Moment) -> Vec<MaintenanceTask> {
        assert!(self.work.begin(now));
        std::iter::from_fn(|| {
            let task = self.work.next_task(now);
            self.work.task_ended();
            task
        })
        .collect()
    }
}

#[test]
fn nothing_starts_before_the_connection() {
    let mut delivery = Delivery::new();
    assert!(!delivery.work.begin(secs(9)));
    assert_eq!(delivery.work.next_wake(), None);
}

#[test]
fn messages_wait_for_the_first_sweep() {
    let mut delivery = Delivery::new();
    delivery.work.connected(secs(0));
    delivery.work.lease_begun(&mut delivery.queue, secs(0));
    delivery.deliver(item(1, 2), secs(0));
    assert_eq!((delivery.next_post(secs(0)), delivery.work.is_ready()), (None, false));
    assert_eq!(delivery.work.next_load(&mut delivery.queue, secs(0)), None);
    delivery.work.swept(MaintenanceTask::ThoroughSweep, 0, &[waiting(1)], &mut delivery.queue, secs(0));
    let order = delivery.work.next_load(&mut delivery.queue, secs(0)).unwrap();
    delivery.queue.loaded(order.flow, loaded(item(1, 1)), secs(0));
    assert_eq!(delivery.next_post(secs(0)), Some(1));
}

#[test]
fn lost_lease_stops_posts_until_reloaded() {
    let mut delivery = Delivery::ready();
    delivery.deliver(item(1, 1), secs(1));
    assert!(delivery.work.lease_begun(&mut delivery.queue, secs(40)));
    assert_eq!(delivery.next_post(secs(40)), None);
    assert_eq!(delivery.tasks(secs(0)), [MaintenanceTask::ThoroughSweep]);
    let order = delivery.work.next_load(&mut delivery.queue, secs(40)).unwrap();
    assert_eq!((order.flow, order.after), (1, None), "all rows are read again");
    delivery.queue.loaded(1, loaded(item(1, 1)), secs(40));
    assert_eq!(delivery.next_post(secs(40)), Some(1));
}

#[test]
fn no_post_starts_near_the_end_of_the_lease() {
    let mut delivery = Delivery::ready();
    delivery.deliver(item(1, 1), secs(1));
    assert_eq!(delivery.next_post(secs(45)), None);
    delivery.work.want(MaintenanceTask::Renewal);
    delivery.work.next_task(secs(50)).unwrap();
    delivery.work.lease_renewed();
    assert_eq!(delivery.next_post(secs(94)), Some(1), "a renewal counts from its beginning");
    delivery.deliver(item(2, 1), secs(94));
    assert_eq!(delivery.next_post(secs(95)), None);
}

#[test]
fn renewal_after_the_lease_may_have_begun_another() {
    let delivery = Delivery::ready();
    assert!(delivery.work.holds_lease(secs(44)));
    assert!(!delivery.work.holds_lease(secs(45)), "an answer may have been lost since");
}

#[test]
fn unannounced_rows_are_posted_before_later_ones() {
    let mut delivery = Delivery::ready();
    delivery.work.search_rows();
    // This one began before.
    delivery.work.swept(MaintenanceTask::ThoroughSweep, 0, &[], &mut delivery.queue, secs(1));
    delivery.deliver(item(1, 2), secs(1));
    assert_eq!(delivery.next_post(secs(1)), None);
    delivery.work.next_load(&mut delivery.queue, secs(1)).unwrap();
    delivery.queue.loaded(1, loaded(item(1, 1)), secs(1));
    assert_eq!(delivery.next_post(secs(1)), Some(1));
    assert_eq!(delivery.tasks(secs(1)), [MaintenanceTask::FollowRows, MaintenanceTask::ThoroughSweep]);
    delivery.work.swept(MaintenanceTask::ThoroughSweep, 0, &[], &mut delivery.queue, secs(1));
    delivery.deliver(item(2, 1), secs(1));
    assert_eq!(delivery.next_post(secs(1)), Some(1), "from memory again");
}

#[test]
fn outcomes_flush_before_the_next_read() {
    let mut delivery = Delivery::ready();
    delivery.deliver(item(1, 1), secs(1));
    delivery.next_post(secs(1));
    delivery.posted(1, secs(1));
    // Rows that may lie below those in memory are read from the start, after the outcomes are written.
    delivery.queue.spill([1], secs(1));
    assert_eq!(delivery.work.next_load(&mut delivery.queue, secs(1)), None);
    assert_eq!(delivery.next_flush(secs(1)), Some(1), "at once");
    assert_eq!(delivery.work.next_load(&mut delivery.queue, secs(1)), None);
    delivery.work.flushed();
    delivery.queue.flushed(&[Outcome::Delivered { key: item(1, 1).key }], secs(1));
    assert!(delivery.work.next_load(&mut delivery.queue, secs(1)).is_some());
}

#[test]
fn few_outcomes_flush_after_a_delay() {
    let mut delivery = Delivery::ready();
    let outcome = |number| Outcome::Delivered { key: item(1, number).key };
    delivery.work.add(outcome(1));
    assert_eq!(delivery.next_flush(secs(1)), None);
    let due = secs(1) + FLUSH_DELAY;
    assert_eq!(delivery.work.next_wake(), Some(due));
    delivery.work.add(outcome(2));
    assert_eq!(delivery.next_flush(due), Some(2));
    delivery.work.add(outcome(3));
    assert_eq!(delivery.next_flush(secs(9)), None, "one write runs at a time");
}

#[test]
fn full_batch_and_drain_flush_at_once() {
    let mut delivery = Delivery::ready();
    let outcome = |number| Outcome::Delivered { key: item(1, number).key };
    (1..).take(FLUSH_AT).for_each(|number| delivery.work.add(outcome(number)));
    assert_eq!(delivery.next_flush(secs(1)), Some(FLUSH_AT));
    delivery.work.flushed();
    delivery.work.add(outcome(0));
    let flushed = delivery.work.next_flush(&delivery.queue, true, secs(1));
    assert_eq!(flushed, Some(vec![outcome(0)]));
}

#[test]
fn failed_flush_keeps_the_order() {
    let mut delivery = Delivery::ready();
    let outcome = |number| Outcome::Delivered { key: item(1, number).key };
    delivery.work.add(outcome(1));
    let first = delivery.work.next_flush(&delivery.queue, true, secs(1)).unwrap();
    delivery.work.add(outcome(2));
    delivery.work.flush_failed(first);
    let again = delivery.work.next_flush(&delivery.queue, true, secs(1));
    assert_eq!(again, Some(vec![outcome(1), outcome(2)]));
}

#[test]
fn maintenance_recurs_at_its_intervals() {
    use MaintenanceTask::{FollowRows, Renewal, RoutineSweep};
    let mut delivery = Delivery::ready();
    assert_eq!(delivery.work.next_wake(), Some(FOLLOW_INTERVAL));
    let tasks = [0, 1, 15, 30, 60].map(|second| delivery.tasks(secs(second)));
    let renewal = vec![Renewal, FollowRows];
    assert_eq!(
        tasks,
        [vec![], vec![FollowRows], renewal.clone(), renewal, vec![Renewal, FollowRows, RoutineSweep]]
    );
}

#[test]
fn one_maintenance_task_runs_at_a_time() {
    let mut delivery = Delivery::ready();
    delivery.work.want(MaintenanceTask::RoutineSweep);
    delivery.work.want(MaintenanceTask::ThoroughSweep);
    assert_eq!(delivery.work.next_task(secs(0)), Some(MaintenanceTask::ThoroughSweep));
    delivery.work.want(MaintenanceTask::Renewal);
    assert_eq!(delivery.work.next_task(secs(0)), None);
    delivery.work.task_ended();
    assert_eq!(delivery.tasks(secs(0)), [MaintenanceTask::Renewal], "the routine sweep was included");
}

#[test]
fn unreachable_table_does_not_stop_known_posts() {
    let mut delivery = Delivery::ready();
    delivery.deliver(item(1, 1), secs(1));
    let delay = delivery.work.failed(1.0);
    assert!(delivery.work.pause());
    assert!(!delivery.work.pause(), "one recovery runs at a time");
    delivery.deliver(item(2, 1), secs(1));
    assert_eq!([delivery.next_post(secs(1)), delivery.next_post(secs(1))], [Some(1); 2]);
    delivery.posted(1, secs(1));
    assert!(!delivery.work.begin(secs(1)), "the connections are being replaced");
    assert_eq!(delivery.work.next_wake(), Some(secs(1) + FOLLOW_INTERVAL));
    delivery.work.resume_at(secs(1) + delay);
    assert!(!delivery.work.begin(secs(1)));
    assert_eq!(delivery.work.next_wake(), Some(secs(1) + delay));
    assert!(delivery.work.begin(secs(1) + delay));
}

#[test]
fn failures_back_off_until_a_success() {
    let mut work = TableWork::new(RENEW, LEASE);
    let delays: Vec<u128> = (0..8).map(|_| work.failed(1.0).as_millis()).collect();
    assert_eq!(delays, [200, 400, 800, 1_600, 3_200, 6_400, 10_000, 10_000]);
    assert!(work.is_failing() && work.succeeded());
    assert!(!work.is_failing() && !work.succeeded());
    assert_eq!(work.failed(1.0).as_millis(), 200);
}

#[test]
fn messages_of_a_deleted_flow_become_dead_letters() {
    let mut delivery = Delivery::ready();
    delivery.deliver(item(1, 1), secs(1));
    let destination = Destination::Deleted;
    delivery.queue.follow(vec![FlowDestination { flow: 1, code: String::new(), destination }], secs(1));
    assert_eq!(delivery.next_post(secs(1)), None);
    let outcomes = delivery.work.next_flush(&delivery.queue, true, secs(1)).unwrap();
    assert!(matches!(&outcomes[..], [Outcome::GivenUp { reason: DeadLetterReason::FlowDeleted, .. }]));
}
