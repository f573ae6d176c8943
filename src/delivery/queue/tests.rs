//! The queue against a table and an endpoint that exist only here.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::domain::message::FlowId;
use crate::domain::outbox::{OutboxKey, OutboxPayload};
use crate::domain::outbox_work::{LoadedItem, cost};
use crate::domain::retry::Backoff;

const OWN: &str = "own";

fn rule() -> RetryRule {
    let backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_mins(1) };
    RetryRule { backoff, max_age: Duration::from_secs(100) }
}

fn queue(limits: Limits) -> DeliveryQueue {
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
        url: "http://localhost/".into(),
        topic: String::new(),
        payload: OutboxPayload::Loaded(vec![0; bytes]),
        attempts: 0,
        created_at_us: 0,
    }
}

fn loaded(items: Vec<OutboxItem>, complete: bool) -> LoadedFlow {
    let items = items
        .into_iter()
        .map(|item| LoadedItem { item, age: Duration::ZERO, due_in: Duration::ZERO })
        .collect();
    LoadedFlow { items, complete }
}

fn secs(seconds: u64) -> Moment {
    Duration::from_secs(seconds)
}

fn numbers(queue: &mut DeliveryQueue, now: Moment) -> Vec<(FlowId, i64)> {
    std::iter::from_fn(|| queue.next_post(now)).map(|item| (item.key.flow_id, item.message_id)).collect()
}

#[test]
fn a_flow_has_one_post_in_flight_and_flows_take_turns() {
    let mut queue = queue(Limits::default());
    queue.deliver(vec![item(1, 1, 0), item(1, 2, 0), item(2, 1, 0)], secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [(1, 1), (2, 1)]);
    queue.posted(1, secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), [(1, 2)]);
}

#[test]
fn a_failed_flow_holds_no_memory_and_is_loaded_when_its_attempt_is_due() {
    let mut queue = queue(Limits::default());
    queue.deliver(vec![item(1, 1, 0), item(1, 2, 0)], secs(0));
    queue.next_post(secs(0)).unwrap();
    let failed = queue.failed(1, "refused".into(), secs(0), 0.0).unwrap();
    assert_eq!((queue.messages, queue.bytes), (0, 0));
    assert_eq!(queue.next_load(secs(0)), None);
    queue.settled(&[failed], secs(1));
    assert_eq!(queue.next_load(secs(1)), None);
    let due = queue.next_wake().unwrap();
    let order = queue.next_load(due).unwrap();
    assert_eq!((order.flow, order.max_messages), (1, 1));
}

#[test]
fn what_a_load_has_seen_is_not_taken_again_when_it_is_announced_late() {
    let mut queue = queue(Limits::default());
    queue.spill([1], secs(0));
    queue.next_load(secs(0)).unwrap();
    queue.loaded(1, loaded(vec![item(1, 1, 0), item(1, 2, 0)], true), secs(0));
    queue.deliver(vec![item(1, 2, 0), item(1, 3, 0)], secs(0));
    assert_eq!(queue.flows[&1].messages(), 3);
}

#[test]
fn what_is_announced_during_a_load_is_loaded_next() {
    let mut queue = queue(Limits::default());
    queue.spill([1], secs(0));
    queue.next_load(secs(0)).unwrap();
    queue.deliver(vec![item(1, 1, 0)], secs(0));
    queue.loaded(1, loaded(Vec::new(), true), secs(0));
    assert_eq!(queue.next_load(secs(0)).unwrap().flow, 1);
}

#[test]
fn no_load_begins_while_a_delivered_row_is_still_in_the_table() {
    let mut queue = queue(Limits::default());
    queue.deliver(vec![item(1, 1, 0)], secs(0));
    queue.next_post(secs(0)).unwrap();
    queue.spill([1], secs(0));
    let delivered = queue.posted(1, secs(0)).unwrap();
    assert_eq!(queue.next_load(secs(0)), None);
    queue.settled(&[delivered], secs(0));
    assert_eq!(queue.next_load(secs(0)).unwrap().flow, 1);
}

#[test]
fn an_attempt_that_is_not_due_is_waited_for_after_a_restart() {
    let mut queue = queue(Limits::default());
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
fn an_old_message_has_one_attempt_and_then_makes_room_for_the_next() {
    let mut queue = queue(Limits::default());
    let later = secs(100);
    queue.spill([1], later);
    queue.next_load(later).unwrap();
    let mut rows = loaded(vec![item(1, 1, 0), item(1, 2, 0)], true);
    rows.items[0].age = secs(500);
    queue.loaded(1, rows, later);
    assert_eq!(numbers(&mut queue, later), [(1, 1)]);
    let outcome = queue.failed(1, "HTTP status 500".into(), later, 0.0).unwrap();
    let Outcome::Expired { detail, .. } = outcome else { panic!("{outcome:?}") };
    assert_eq!(detail, "given up at attempt 1: HTTP status 500");
    assert_eq!(numbers(&mut queue, later), [(1, 2)]);
}

#[test]
fn what_became_too_old_while_nobody_could_post_it_is_tried_as_long_as_a_new_message() {
    let mut queue = queue(Limits::default());
    queue.spill([1], secs(0));
    queue.next_load(secs(0)).unwrap();
    let mut rows = loaded(vec![item(1, 1, 0)], true);
    rows.items[0].age = secs(500);
    queue.loaded(1, rows, secs(1));
    queue.next_post(secs(1)).unwrap();
    let outcome = queue.failed(1, "no".into(), secs(99), 0.0).unwrap();
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
}

#[test]
fn a_backlog_that_is_too_old_is_given_up_an_hour_after_the_start() {
    let rule = RetryRule { max_age: Duration::from_hours(24), ..rule() };
    assert_eq!(rule.none_expires_before(), Duration::from_hours(1));
}

#[test]
fn the_last_attempt_is_made_when_the_message_expires() {
    let mut queue = queue(Limits::default());
    queue.deliver(vec![item(1, 1, 0)], secs(0));
    queue.next_post(secs(0)).unwrap();
    let at = secs(100).saturating_sub(Duration::from_millis(50));
    let Some(Outcome::Failed { retry_in, .. }) = queue.failed(1, "no".into(), at, 0.9) else { panic!() };
    assert_eq!(retry_in, Duration::from_millis(50));
}

#[test]
fn endpoints_that_hang_leave_posts_to_the_others() {
    let limits = Limits { posts: 4, retries: 2, ..Limits::default() };
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
fn a_row_that_nobody_announced_is_found_by_the_sweeps() {
    let mut queue = queue(Limits::default());
    queue.swept(&[WaitingFlow { flow: 1, rows: 1, lowest_message_id: 1 }], secs(0));
    assert_eq!(queue.next_load(secs(0)).unwrap().flow, 1);
    queue.loaded(1, loaded(vec![item(1, 5, 0)], true), secs(0));
    let forgotten = WaitingFlow { flow: 1, rows: 2, lowest_message_id: 4 };
    queue.swept(&[forgotten], secs(60));
    assert_eq!(queue.flows[&1].table, Table::Nothing, "it may just have been deleted");
    queue.swept(&[forgotten], secs(120));
    assert_eq!(queue.flows[&1].table, Table::Rows);
}

#[test]
fn after_a_lost_lease_nothing_that_waited_is_posted_from_memory() {
    let mut queue = queue(Limits::default());
    queue.deliver(vec![item(1, 1, 0), item(1, 2, 0), item(2, 1, 0)], secs(0));
    queue.next_post(secs(0)).unwrap();
    queue.reload_all(secs(0));
    assert_eq!(numbers(&mut queue, secs(0)), []);
    let delivered = queue.posted(1, secs(0)).unwrap();
    queue.settled(&[delivered], secs(0));
    assert_eq!(queue.next_load(secs(0)).unwrap().flow, 2);
}

/// What may happen next.
#[derive(Debug, Clone)]
enum Event {
    /// A worker commits rows; the announcement travels.
    Commit {
        flow: FlowId,
        rows: usize,
        bytes: usize,
    },
    /// An announcement arrives, or only the word that there is one.
    Announce {
        as_spilled: bool,
    },
    /// An announcement is lost with its worker.
    LoseAnnouncement,
    /// Posts begin.
    Post,
    /// A post ends.
    End {
        which: usize,
        well: bool,
    },
    /// What has ended is written, or the database refuses.
    Settle {
        well: bool,
    },
    /// A load begins, reads the table, or comes back.
    BeginLoad,
    ReadTable,
    EndLoad {
        well: bool,
    },
    Sweep,
    LoseLease,
    Crash,
    Pass {
        seconds: u64,
    },
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        6 => (1..4_i64, 1..5_usize, 0..400_usize)
            .prop_map(|(flow, rows, bytes)| Event::Commit { flow, rows, bytes }),
        6 => proptest::bool::weighted(0.2).prop_map(|as_spilled| Event::Announce { as_spilled }),
        1 => Just(Event::LoseAnnouncement),
        6 => Just(Event::Post),
        9 => (0..8_usize, proptest::bool::weighted(0.8)).prop_map(|(which, well)| Event::End { which, well }),
        4 => proptest::bool::weighted(0.9).prop_map(|well| Event::Settle { well }),
        3 => Just(Event::BeginLoad),
        3 => Just(Event::ReadTable),
        3 => proptest::bool::weighted(0.9).prop_map(|well| Event::EndLoad { well }),
        1 => Just(Event::Sweep),
        1 => Just(Event::LoseLease),
        1 => Just(Event::Crash),
        3 => (0..30_u64).prop_map(|seconds| Event::Pass { seconds }),
    ]
}

const LIMITS: Limits = Limits {
    messages: 8,
    bytes: 8 * 712,
    flow_messages: 4,
    flow_bytes: 4 * 712,
    posts: 2,
    retries: 1,
    unsettled: 6,
};

/// The queue of a world, where messages soon are too old.
fn impatient_queue() -> DeliveryQueue {
    DeliveryQueue::new(OWN.into(), LIMITS, RetryRule { max_age: secs(10), ..rule() })
}

#[derive(Clone)]
struct Row {
    bytes: usize,
    attempts: u32,
    due: Moment,
    committed: Moment,
}

struct World {
    queue: DeliveryQueue,
    now: Moment,
    table: BTreeMap<(FlowId, i64), Row>,
    next_number: HashMap<FlowId, i64>,
    announcements: VecDeque<(FlowId, Vec<i64>)>,
    in_flight: Vec<(FlowId, i64)>,
    outcomes: Vec<Outcome>,
    load: Option<(LoadOrder, Option<LoadedFlow>)>,
    /// Ended well or given up, since the process started.
    ended: HashSet<(FlowId, i64)>,
    /// Ended well or given up, ever.
    ever_ended: HashSet<(FlowId, i64)>,
    /// The highest number posted, by flow, since order could last be broken.
    last_posted: HashMap<FlowId, i64>,
    /// Announcements were lost: their rows come out of order.
    order_broken: bool,
}

impl World {
    fn new() -> Self {
        Self {
            queue: impatient_queue(),
            now: secs(0),
            table: BTreeMap::new(),
            next_number: HashMap::new(),
            announcements: VecDeque::new(),
            in_flight: Vec::new(),
            outcomes: Vec::new(),
            load: None,
            ended: HashSet::new(),
            ever_ended: HashSet::new(),
            last_posted: HashMap::new(),
            order_broken: false,
        }
    }

    fn happen(&mut self, event: &Event) {
        match *event {
            Event::Commit { flow, rows, bytes } => self.commit(flow, rows, bytes),
            Event::Announce { as_spilled } => self.announce(as_spilled),
            Event::LoseAnnouncement => {
                self.order_broken |= self.announcements.pop_front().is_some();
            }
            Event::Post => self.post(),
            Event::End { which, well } => self.end(which, well),
            Event::Settle { well: true } => self.settle(),
            Event::Settle { well: false } => {}
            Event::BeginLoad => {
                if let Some(order) = self.queue.next_load(self.now) {
                    assert!(self.load.is_none(), "two loads at a time");
                    self.load = Some((order, None));
                }
            }
            Event::ReadTable => self.read_table(),
            Event::EndLoad { well } => self.end_load(well),
            Event::Sweep => self.sweep(),
            Event::LoseLease => self.queue.reload_all(self.now),
            Event::Crash => self.crash(),
            Event::Pass { seconds } => self.now += secs(seconds),
        }
        self.check_bounds();
    }

    fn commit(&mut self, flow: FlowId, rows: usize, bytes: usize) {
        let next = self.next_number.entry(flow).or_insert(1);
        let numbers: Vec<i64> = (*next..).take(rows).collect();
        *next += i64::try_from(rows).unwrap();
        for number in &numbers {
            let row = Row { bytes, attempts: 0, due: self.now, committed: self.now };
            self.table.insert((flow, *number), row);
        }
        self.announcements.push_back((flow, numbers));
    }

    fn announce(&mut self, as_spilled: bool) {
        let Some((flow, numbers)) = self.announcements.pop_front() else {
            return;
        };
        if as_spilled {
            return self.queue.spill([flow], self.now);
        }
        let items = numbers.iter().map(|number| {
            // A row that was loaded and deleted meanwhile is announced all the same.
            let bytes = self.table.get(&(flow, *number)).map_or(0, |row| row.bytes);
            item(flow, *number, bytes)
        });
        self.queue.deliver(items.collect(), self.now);
    }

    fn post(&mut self) {
        while let Some(post) = self.queue.next_post(self.now) {
            let (flow, number) = (post.key.flow_id, post.message_id);
            assert!(self.in_flight.iter().all(|(other, _)| *other != flow), "two in flight in flow {flow}");
            assert!(!self.ended.contains(&(flow, number)), "flow {flow} message {number} posted again");
            let last = self.last_posted.entry(flow).or_insert(number);
            assert!(self.order_broken || number >= *last, "flow {flow}: {number} after {last}");
            *last = number;
            self.in_flight.push((flow, number));
        }
    }

    fn end(&mut self, which: usize, well: bool) {
        if self.in_flight.is_empty() {
            return;
        }
        let (flow, number) = self.in_flight.remove(which % self.in_flight.len());
        let outcome = if well {
            self.queue.posted(flow, self.now)
        } else {
            self.queue.failed(flow, "no".into(), self.now, 0.5)
        };
        let outcome = outcome.expect("it was in flight");
        if outcome.removes_row() {
            self.ended.insert((flow, number));
            self.ever_ended.insert((flow, number));
        }
        self.outcomes.push(outcome);
    }

    fn settle(&mut self) {
        let outcomes = std::mem::take(&mut self.outcomes);
        for outcome in &outcomes {
            let key = outcome.key();
            let place = (key.flow_id, i64::try_from(key.inbox_offset).unwrap());
            match outcome {
                Outcome::Failed { attempts, retry_in, .. } => {
                    let row = self.table.get_mut(&place).unwrap();
                    row.attempts = *attempts;
                    row.due = self.now + *retry_in;
                }
                Outcome::Delivered { .. } | Outcome::Expired { .. } => {
                    self.table.remove(&place);
                }
            }
        }
        self.queue.settled(&outcomes, self.now);
    }

    fn read_table(&mut self) {
        let Some((order, found @ None)) = &mut self.load else {
            return;
        };
        let mut bytes = 0;
        let rows: Vec<_> = self.table.range((order.flow, 0)..(order.flow + 1, 0)).collect();
        let items: Vec<_> = rows
            .iter()
            .enumerate()
            .take_while(|(index, (_, row))| {
                bytes += cost(row.bytes);
                *index == 0 || (*index < order.max_messages && bytes <= order.max_bytes)
            })
            .map(|(_, ((flow, number), row))| {
                let mut item = item(*flow, *number, row.bytes);
                item.attempts = row.attempts;
                LoadedItem {
                    item,
                    age: self.now.saturating_sub(row.committed),
                    due_in: row.due.saturating_sub(self.now),
                }
            })
            .collect();
        *found = Some(LoadedFlow { complete: items.len() == rows.len(), items });
    }

    fn end_load(&mut self, well: bool) {
        match self.load.take() {
            Some((order, Some(found))) if well => self.queue.loaded(order.flow, found, self.now),
            Some((order, _)) => self.queue.load_failed(order.flow, self.now),
            None => {}
        }
    }

    fn sweep(&mut self) {
        let mut found: BTreeMap<FlowId, WaitingFlow> = BTreeMap::new();
        for (flow, number) in self.table.keys() {
            let first = WaitingFlow { flow: *flow, rows: 0, lowest_message_id: *number };
            found.entry(*flow).or_insert(first).rows += 1;
        }
        let found: Vec<_> = found.into_values().collect();
        self.queue.swept(&found, self.now);
    }

    /// Memory is gone, posts in flight may or may not have arrived, the table stays.
    fn crash(&mut self) {
        self.queue = impatient_queue();
        self.announcements.clear();
        self.in_flight.clear();
        self.outcomes.clear();
        self.load = None;
        self.ended.clear();
        self.last_posted.clear();
        self.order_broken = false;
        self.sweep();
    }

    fn check_bounds(&self) {
        let queue = &self.queue;
        assert!(queue.messages <= LIMITS.messages);
        assert!(queue.bytes <= LIMITS.bytes + cost(400));
        assert!(queue.posts <= LIMITS.posts && queue.retries <= LIMITS.retries);
        assert!(queue.unsettled <= LIMITS.unsettled);
        assert_eq!(queue.posts, self.in_flight.len());
        assert_eq!(queue.unsettled, self.outcomes.len());
        assert_eq!(queue.messages, queue.flows.values().map(FlowQueue::messages).sum::<usize>());
        assert_eq!(queue.bytes, queue.flows.values().map(|flow| flow.bytes).sum::<usize>());
    }

    /// Time passes until the queue wants to be asked, and no longer.
    fn sleep(&mut self) {
        self.now = self.now.max(self.queue.next_wake().unwrap_or(self.now));
    }

    /// All is well from now on: how it must end. Nothing but a lost announcement needs a sweep.
    fn run_out(&mut self) {
        while !self.announcements.is_empty() {
            self.happen(&Event::Announce { as_spilled: false });
        }
        for _ in 0..500 {
            for event in [
                Event::Post,
                Event::End { which: 0, well: true },
                Event::Settle { well: true },
                Event::BeginLoad,
                Event::ReadTable,
                Event::EndLoad { well: true },
            ] {
                self.happen(&event);
            }
            if self.order_broken {
                self.happen(&Event::Sweep);
            }
            self.sleep();
        }
        assert!(self.table.is_empty(), "left behind: {:?}", self.table.keys());
        assert!(self.queue.is_quiet());
        let all = self.next_number.iter().flat_map(|(flow, next)| (1..*next).map(|number| (*flow, number)));
        for message in all {
            assert!(self.ever_ended.contains(&message), "never posted: {message:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    #[test]
    fn every_message_is_posted_in_order_within_bounds_whatever_happens(
        events in proptest::collection::vec(event(), 1..150)
    ) {
        let mut world = World::new();
        for event in &events {
            world.happen(event);
        }
        world.run_out();
    }
}
