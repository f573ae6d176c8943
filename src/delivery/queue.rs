//! Decides which message is posted when: a pure state machine without clock and I/O.
//!
//! ```text
//!  deliver ──room──▶ waiting ──next_turn──▶ in flight ──ended──▶ Delivered ─┐
//!     │                 ▲                       │                           ├─ flushed ─▶ row gone
//!     │ no room         │ loaded                ├───────▶ GivenUp ──────────┘
//!     ▼                 │                       └───────▶ Failed ── flushed ─▶ parked, or held
//!  spilled ── half of its memory is free ── next_load                              │
//!     ▲                                                                            │
//!     └─────────── from the start, when the backoff or the breaker is over ────────┘
//! ```
//!
//! * **Order.** A flow has one post in flight, unless its options say otherwise. A failed message is retried before its
//!   successors. A rejected batch is posted again in halves, so that one wrong message is found.
//! * **Bounded memory.** A flow without room is *spilled*: its messages stay in the table and are loaded as memory
//!   drains. A flow that waits for its next attempt or for its origin holds no message in memory.
//! * **Nothing is forgotten.** A spilled flow takes no message from memory until a load has reached the end of its rows
//!   with nothing announced meanwhile. Until then it loads again.
//! * **Nothing is posted twice** (by this process, while its lease holds). A load continues above the *cursor*, the
//!   highest sequence number that was in memory. Otherwise it begins at the start, and only when no row of the flow is
//!   in memory or delivered but not yet deleted. A late announcement of loaded rows is skipped, because the offsets of
//!   a flow rise.
//! * **Loads run ahead.** A load above the cursor runs while earlier messages are still posted and deleted. This is
//!   correct because sequence numbers rise in commit order. The next load begins at the start after any event that
//!   breaks that order: rows that changed hands or were never announced, a failure or a lost lease (both drop the
//!   memory), or a counter that was set back. A later row with a lower or equal number reveals a counter set back. Rows
//!   announced during a load are compared with the loaded rows, because they may lie below its end.
//! * **One process posts a flow.** A message whose number does not follow the last one shows that another process has
//!   numbered messages of the flow. The flow then loads from the table, and waits while others have earlier rows.
//! * **Destinations.** A flow posts to the destination in its row, if known; otherwise to the destination recorded with
//!   each message. A flow on hold posts nothing and holds no message in memory.
//! * **Fairness.** Flows take turns, one post each. Flows whose last attempt failed may hold only a part of the
//!   posts in flight, so that hanging endpoints do not starve the others. A flow that still has messages loads only if
//!   there is room for a whole load. When memory is scarce, a flow holds what it posts in two seconds.
//! * **Origins.** While the breaker of an origin is open, one flow at a time tests it, and its other flows are held.

mod course;
mod destinations;
mod flow;
mod limits;
mod origins;
mod pace;
mod posts;
#[cfg(test)]
mod tests;
mod window;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::flow::{FlowQueue, Load, Need, QueueEntry, TableRows, WaitState, is_not_due};
use self::limits::MIN_RETRY_DELAY;
pub use self::limits::{MAX_REFUSED_IN_A_ROW, QueueLimits, RetryRule};
use self::origins::FailingOrigins;
pub use self::origins::{OriginChange, OriginEvent, OriginStatus};
pub use self::posts::{PostFailure, PostId, PostResult, QueuedPost, Turn};
use self::window::FlowLimit;
use crate::domain::message::FlowId;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::{
    CommittedRows, LoadOrder, LoadedFlow, Outcome, Remainder, RowNumber, WaitingFlow,
};
pub use crate::domain::posting::Moment;

/// Delay before the table is read again for a flow that must not post yet.
const LOAD_DELAY: Duration = Duration::from_secs(1);

/// All undelivered messages, by flow.
#[derive(Debug)]
pub struct DeliveryQueue {
    own_inbox: Arc<str>,
    limits: QueueLimits,
    rule: RetryRule,
    flows: BTreeMap<FlowId, FlowQueue>,
    /// Flows that are ready to post, in turn: flows in order, and flows whose last attempt failed.
    fresh: VecDeque<FlowId>,
    retrying: VecDeque<FlowId>,
    retry_has_turn: bool,
    /// Flows that wait for a load, in turn.
    unloaded: VecDeque<FlowId>,
    /// The load in progress.
    loading: Option<LoadOrder>,
    parked: BTreeSet<(Moment, FlowId)>,
    origins: FailingOrigins,
    messages: usize,
    bytes: usize,
    posts: usize,
    /// Number of messages in flight.
    posting: usize,
    /// Number of the last post.
    last_post: u64,
    retries: usize,
    unflushed: usize,
    /// A flow waits only for its outcomes to be written.
    flush_is_urgent: bool,
    stopped: bool,
}

impl DeliveryQueue {
    /// Creates an empty queue for the process that owns `own_inbox`.
    #[must_use]
    pub fn new(own_inbox: Arc<str>, limits: QueueLimits, rule: RetryRule) -> Self {
        Self {
            own_inbox,
            limits,
            rule,
            flows: BTreeMap::new(),
            fresh: VecDeque::new(),
            retrying: VecDeque::new(),
            retry_has_turn: false,
            unloaded: VecDeque::new(),
            loading: None,
            parked: BTreeSet::new(),
            origins: FailingOrigins::default(),
            messages: 0,
            bytes: 0,
            posts: 0,
            posting: 0,
            last_post: 0,
            retries: 0,
            unflushed: 0,
            flush_is_urgent: false,
            stopped: false,
        }
    }

    /// Adds messages whose rows were just committed, in order for each flow.
    pub fn deliver(&mut self, items: Vec<OutboxItem>, now: Moment) {
        for item in items {
            let flow = item.key.flow_id;
            if !self.flows.entry(flow).or_default().has_seen(&item, &self.own_inbox) {
                self.deliver_one(item, now);
                self.advance(flow, now);
            }
        }
    }

    fn deliver_one(&mut self, item: OutboxItem, now: Moment) {
        let entry = QueueEntry::new(item, now + self.rule.max_age, now);
        let has_room = self.has_room(&entry);
        let Some(queue) = self.flows.get_mut(&entry.item.key.flow_id) else {
            return;
        };
        let is_next = !self.rule.waits_for_others || queue.continues_with(&entry.item);
        if queue.table != TableRows::Nothing || queue.is_loading() || !has_room || !is_next {
            return queue.spill_row(RowNumber::from_item(&entry.item));
        }
        // After a counter was set back, a later row reveals that it is below the cursor.
        queue.note(&entry.item, &self.own_inbox);
        queue.bytes += entry.bytes;
        self.messages += 1;
        self.bytes += entry.bytes;
        queue.waiting.push_back(entry);
    }

    fn has_room(&self, entry: &QueueEntry) -> bool {
        let reserved = self.loading.map_or((0, 0), |order| (order.max_messages, order.max_bytes));
        let messages = self.messages + reserved.0;
        let bytes = self.bytes + reserved.1 + entry.bytes;
        let in_all =
            messages < three_quarters(self.limits.messages) && bytes <= three_quarters(self.limits.bytes);
        let in_flow = self.flows.get(&entry.item.key.flow_id).is_none_or(|queue| {
            let limit = self.limit_of(queue);
            queue.messages() == 0
                || (queue.messages() < limit.messages && queue.bytes + entry.bytes <= limit.bytes)
        });
        in_all && in_flow
    }

    fn limit_of(&self, queue: &FlowQueue) -> FlowLimit {
        let limits = &self.limits;
        if 2 * self.messages > limits.messages || 2 * self.bytes > limits.bytes {
            queue.window.scarce_limit(limits)
        } else {
            FlowLimit { messages: limits.flow_messages, bytes: limits.flow_bytes }
        }
    }

    /// Records rows of the own inbox that were committed but not handed over.
    pub fn committed(&mut self, rows: &[CommittedRows], now: Moment) {
        for rows in rows {
            let queue = self.flows.entry(rows.flow).or_default();
            queue.spill_row(rows.first);
            queue.spill_row(rows.last);
            self.advance(rows.flow, now);
        }
    }

    /// Records that the table has unknown rows of these flows.
    pub fn spill(&mut self, flows: impl IntoIterator<Item = FlowId>, now: Moment) {
        for flow in flows {
            self.flows.entry(flow).or_default().spill();
            self.advance(flow, now);
        }
    }

    /// Compares the queue with the rows that a sweep found, and spills flows with unannounced rows: a worker may have
    /// ended between its commit and its announcement. The sweep's data is slightly old, so a busy flow is spilled only
    /// if the previous sweep found the same row.
    pub fn swept(&mut self, waiting: &[WaitingFlow], now: Moment) {
        for found in waiting {
            let queue = self.flows.entry(found.flow).or_default();
            let unknown = queue.first().is_none_or(|first| found.lowest_message_id < first.message_id);
            let before = queue.suspect.replace(found.lowest_message_id);
            let idle = queue.messages() == 0 && queue.unflushed == 0;
            if unknown && (idle || before == Some(found.lowest_message_id)) {
                queue.spill();
                self.advance(found.flow, now);
            }
        }
    }

    /// Drops all waiting messages from memory and reloads every flow, because rows may have changed hands.
    pub fn reload_all(&mut self, now: Moment) {
        let flows: Vec<FlowId> = self.flows.keys().copied().collect();
        for flow in flows {
            self.unplace(flow);
            self.evict(flow);
            if let Some(queue) = self.flows.get_mut(&flow) {
                queue.retry_at = None;
            }
            self.advance(flow, now);
        }
    }

    /// Starts no further posts and loads.
    pub fn stop(&mut self) {
        self.stopped = true;
    }

    /// Whether no post is in flight and all outcomes are written.
    #[must_use]
    pub fn is_quiet(&self) -> bool {
        self.posts == 0 && self.unflushed == 0
    }

    /// Whether a flow waits only for its outcomes to be written.
    #[must_use]
    pub fn flush_is_urgent(&self) -> bool {
        self.flush_is_urgent
    }

    /// Whether the last attempt at any endpoint failed.
    #[must_use]
    pub fn is_failing(&self) -> bool {
        self.origins.is_any_open() || self.flows.values().any(|queue| queue.failing)
    }

    /// Time at which the first message of `flow` in memory was numbered, in microseconds since 1970.
    #[must_use]
    pub fn oldest_at_us(&self, flow: FlowId) -> Option<i64> {
        self.flows.get(&flow)?.first().map(|first| first.created_at_us)
    }

    /// The next time at which the queue must be asked without an event.
    #[must_use]
    pub fn next_wake(&self) -> Option<Moment> {
        let parked = self.parked.first().map(|(at, _)| *at);
        parked.into_iter().chain(self.origins.next_wake()).min()
    }

    /// Records that these outcomes are written to the table.
    pub fn flushed(&mut self, outcomes: &[Outcome], now: Moment) {
        self.flush_is_urgent = false;
        for outcome in outcomes {
            let flow = outcome.key().flow_id;
            let Some(queue) = self.flows.get_mut(&flow) else {
                continue;
            };
            queue.unflushed -= 1;
            self.unflushed -= 1;
            if let Outcome::Failed { retry_in, .. } = outcome {
                queue.unflushed_failures -= 1;
                queue.failed_at = Some(now);
                queue.retry_at = queue.retry_at.max(Some(now + *retry_in)).filter(|_| !queue.is_due);
                if queue.unflushed_failures == 0 && queue.place == WaitState::Flushing {
                    queue.place = WaitState::Idle;
                }
            }
            self.advance(flow, now);
        }
    }

    /// The next load, if one may start now. One load runs at a time.
    pub fn next_load(&mut self, now: Moment) -> Option<LoadOrder> {
        self.wake(now);
        let messages = self.limits.messages.saturating_sub(self.messages);
        let bytes = self.limits.bytes.saturating_sub(self.bytes);
        if self.stopped || self.loading.is_some() || messages == 0 || bytes == 0 {
            return None;
        }
        while let Some(flow) = self.unloaded.pop_front() {
            let Some(limit) = self.flows.get(&flow).map(|queue| self.limit_of(queue)) else {
                continue;
            };
            let Some(queue) = self.flows.get_mut(&flow) else {
                continue;
            };
            queue.load = Load::Idle;
            match queue.need(limit) {
                Need::Nothing => continue,
                Need::Flush => {
                    self.flush_is_urgent = true;
                    continue;
                }
                Need::Load => {}
            }
            let wanted = queue.wanted(limit);
            if queue.messages() > 0 && (wanted.0 > messages || wanted.1 > bytes) {
                // The flow has enough messages, and other flows may need the remaining room more.
                continue;
            }
            let after = queue.resume_after();
            let order = LoadOrder {
                flow,
                after,
                max_messages: wanted.0.min(messages),
                max_bytes: wanted.1.min(bytes),
                wants_destination: queue.destination.is_none(),
                waits_for_others: self.rule.waits_for_others,
            };
            queue.load = Load::Running;
            queue.table = TableRows::Nothing;
            queue.lowest_announced = None;
            queue.cursor = after;
            self.loading = Some(order);
            return Some(order);
        }
        None
    }

    /// Records the result of the load of `flow`. Returns whether the flow begins to wait for another process.
    pub fn loaded(&mut self, flow: FlowId, loaded: LoadedFlow, now: Moment) -> bool {
        self.loading = None;
        let Some(queue) = self.flows.get_mut(&flow) else {
            return false;
        };
        let is_void = std::mem::take(&mut queue.load) == Load::Void;
        let begins_to_wait = loaded.is_behind && !queue.is_behind && !is_void;
        if !is_void {
            self.take_loaded(flow, loaded, now);
        }
        self.advance(flow, now);
        begins_to_wait
    }

    fn take_loaded(&mut self, flow: FlowId, loaded: LoadedFlow, now: Moment) {
        let Some(queue) = self.flows.get_mut(&flow) else {
            return;
        };
        let has_rows = !loaded.items.is_empty() || loaded.is_behind;
        let destination = loaded.destination.filter(|_| has_rows && queue.destination.is_none());
        if let Some(destination) = destination {
            if queue.goes_elsewhere(None, &destination) {
                // The next call of `follow` reports the change, and then the flow loads again.
                return queue.load_later(now);
            }
            queue.destination = Some(destination);
        }
        queue.is_behind = loaded.is_behind;
        if loaded.is_behind {
            return queue.load_later(now);
        }
        if queue.is_on_hold() {
            queue.spill();
            return;
        }
        queue.table = queue.table.max(match loaded.remainder {
            Remainder::Nothing => TableRows::Nothing,
            Remainder::Above => TableRows::Above,
            Remainder::Same => TableRows::Anywhere,
        });
        if loaded.items.is_empty() && queue.messages() == 0 {
            queue.failing = false;
        }
        for loaded in loaded.items {
            if is_not_due(&loaded) && !queue.is_due {
                // The message waits in the table, and so does every successor.
                queue.table = TableRows::Anywhere;
                if queue.messages() == 0 {
                    queue.failing = true;
                    queue.retry_at = Some(now + loaded.due_in);
                    queue.failed_at = queue.failed_at.or(Some(now));
                }
                break;
            }
            if !queue.note(&loaded.item, &self.own_inbox) {
                queue.table = TableRows::Anywhere;
            }
            let expires_at = now + self.rule.max_age.saturating_sub(loaded.age);
            let earliest = self.rule.none_expires_before().max(queue.none_expires_before);
            let entry = QueueEntry::new(loaded.item, expires_at.max(earliest), now);
            queue.bytes += entry.bytes;
            self.messages += 1;
            self.bytes += entry.bytes;
            queue.waiting.push_back(entry);
        }
    }

    /// Records that the load of `flow` failed and must be repeated.
    pub fn load_failed(&mut self, flow: FlowId, now: Moment) {
        let after = self.loading.take().and_then(|order| order.after);
        if let Some(queue) = self.flows.get_mut(&flow) {
            queue.load = Load::Idle;
            queue.table =
                queue.table.max(if after.is_some() { TableRows::Above } else { TableRows::Anywhere });
            self.advance(flow, now);
        }
    }

    /// Frees the memory of the waiting messages, which stay in the table.
    fn evict(&mut self, flow: FlowId) {
        let Some(queue) = self.flows.get_mut(&flow) else {
            return;
        };
        for entry in queue.waiting.drain(..) {
            queue.bytes -= entry.bytes;
            self.messages -= 1;
            self.bytes -= entry.bytes;
        }
        queue.reset_cursor();
    }

    fn wake(&mut self, now: Moment) {
        while let Some(&(_, flow)) = self.parked.first().filter(|(at, _)| *at <= now) {
            self.unplace(flow);
            self.advance(flow, now);
        }
        self.wake_probers(now);
    }

    /// Lets a flow wait until `at`.
    fn park(&mut self, flow: FlowId, at: Moment, place: WaitState) {
        if let Some(queue) = self.flows.get_mut(&flow) {
            queue.place = place;
            queue.parked_until = Some(at);
            self.parked.insert((at, flow));
        }
    }

    /// Takes a flow from where it waits for its turn, a time or its origin.
    fn unplace(&mut self, flow: FlowId) {
        let Some(queue) = self.flows.get_mut(&flow) else {
            return;
        };
        match queue.place {
            WaitState::Idle | WaitState::Flushing => return,
            WaitState::Ready => {
                self.fresh.retain(|ready| *ready != flow);
                self.retrying.retain(|ready| *ready != flow);
            }
            WaitState::Held => self.origins.release(flow),
            WaitState::Paced | WaitState::Parked => {}
        }
        queue.place = WaitState::Idle;
        if let Some(at) = queue.parked_until.take() {
            self.parked.remove(&(at, flow));
        }
    }

    /// Moves a flow to its next waiting place.
    fn advance(&mut self, flow: FlowId, now: Moment) {
        let Some(queue) = self.flows.get_mut(&flow) else {
            return;
        };
        if queue.place == WaitState::Paced && queue.paced_until(now).is_none() {
            self.unplace(flow);
        }
        let Some(queue) = self.flows.get_mut(&flow) else {
            return;
        };
        if queue.place == WaitState::Idle && !queue.is_on_hold() {
            queue.retry_at = queue.retry_at.filter(|at| *at > now);
            if let Some(at) = queue.retry_at {
                self.park(flow, at, WaitState::Parked);
            } else if queue.may_post() {
                queue.place = WaitState::Ready;
                let ring = if queue.failing { &mut self.retrying } else { &mut self.fresh };
                ring.push_back(flow);
            }
        }
        self.queue_load(flow);
    }

    fn queue_load(&mut self, flow: FlowId) {
        let Some(limit) = self.flows.get(&flow).map(|queue| self.limit_of(queue)) else {
            return;
        };
        let Some(queue) = self.flows.get_mut(&flow).filter(|queue| queue.load == Load::Idle) else {
            return;
        };
        match queue.need(limit) {
            Need::Nothing => {}
            Need::Flush => self.flush_is_urgent = true,
            Need::Load => {
                queue.load = Load::Queued;
                self.unloaded.push_back(flow);
            }
        }
    }
}

fn three_quarters(limit: usize) -> usize {
    limit - limit / 4
}
