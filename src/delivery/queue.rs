//! Decides which message is posted when: a pure state machine without clock and I/O.
//!
//! ```text
//!  deliver ──room──▶ waiting ──next_post──▶ in flight ──posted───▶ Delivered ─┐
//!     │                 ▲                       │                             ├─ flushed ─▶ row gone
//!     │ no room         │ loaded                └─failed──▶ GivenUp, or ──────┘
//!     ▼                 │                                   Failed ── flushed ─▶ parked
//!  spilled ── half of its memory is free ── next_load                              │
//!     ▲                                                                            │
//!     └─────────── from the start, when the backoff is over ───────────────────────┘
//! ```
//!
//! * **Order.** A flow has at most one post in flight. A failed message is retried before its successors.
//! * **Bounded memory.** A flow without room is *spilled*: its messages stay in the table and are loaded as memory
//!   drains. A flow that waits for its next attempt holds no message in memory.
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
//! * **Destinations.** A flow posts to the destination in its row, if known; otherwise to the destination recorded with
//!   each message. A flow on hold posts nothing and holds no message in memory.
//! * **Fairness.** Flows take turns, one message each. Flows whose last attempt failed may hold only a part of the
//!   posts in flight, so that hanging endpoints do not starve the others. A flow that still has messages loads only if
//!   there is room for a whole load.

mod destinations;
mod flow;
mod limits;
#[cfg(test)]
mod tests;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use self::flow::{FlowQueue, Load, Need, QueueEntry, TableRows, WaitState, is_not_due};
use self::limits::MIN_RETRY_DELAY;
pub use self::limits::{LoadOrder, MAX_REFUSED_IN_A_ROW, QueueLimits, RetryRule};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message::FlowId;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::{CommittedRows, LoadedFlow, Outcome, Remainder, RowNumber, WaitingFlow};

/// A point in time, as the duration since an origin chosen by the caller.
pub type Moment = Duration;

/// All undelivered messages, by flow.
#[derive(Debug)]
pub struct DeliveryQueue {
    own_inbox: Arc<str>,
    limits: QueueLimits,
    rule: RetryRule,
    flows: HashMap<FlowId, FlowQueue>,
    /// Flows that are ready to post, in turn: flows in order, and flows whose last attempt failed.
    fresh: VecDeque<FlowId>,
    retrying: VecDeque<FlowId>,
    retry_has_turn: bool,
    /// Flows that wait for a load, in turn.
    unloaded: VecDeque<FlowId>,
    /// The load in progress.
    loading: Option<LoadOrder>,
    parked: BTreeSet<(Moment, FlowId)>,
    messages: usize,
    bytes: usize,
    posts: usize,
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
            flows: HashMap::new(),
            fresh: VecDeque::new(),
            retrying: VecDeque::new(),
            retry_has_turn: false,
            unloaded: VecDeque::new(),
            loading: None,
            parked: BTreeSet::new(),
            messages: 0,
            bytes: 0,
            posts: 0,
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
        let entry = QueueEntry::new(item, now + self.rule.max_age);
        let has_room = self.has_room(&entry);
        let Some(queue) = self.flows.get_mut(&entry.item.key.flow_id) else {
            return;
        };
        if queue.table != TableRows::Nothing || queue.is_loading() || !has_room {
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
            queue.messages() == 0
                || (queue.messages() < self.limits.flow_messages
                    && queue.bytes + entry.bytes <= self.limits.flow_bytes)
        });
        in_all && in_flow
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
            let unknown = queue.lowest_message_id().is_none_or(|lowest| found.lowest_message_id < lowest);
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
        self.fresh.clear();
        self.retrying.clear();
        self.parked.clear();
        let flows: Vec<FlowId> = self.flows.keys().copied().collect();
        for flow in flows {
            self.evict(flow);
            let Some(queue) = self.flows.get_mut(&flow) else {
                continue;
            };
            queue.retry_at = None;
            if matches!(queue.place, WaitState::Ready | WaitState::Parked) {
                queue.place = WaitState::Idle;
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
        self.flows.values().any(|queue| queue.failing)
    }

    /// Time at which the first message of `flow` in memory was numbered, in microseconds since 1970.
    #[must_use]
    pub fn oldest_at_us(&self, flow: FlowId) -> Option<i64> {
        let queue = self.flows.get(&flow)?;
        let first = queue.in_flight.as_ref().or(queue.waiting.front())?;
        Some(first.item.created_at_us)
    }

    /// The next time at which the queue must be asked without an event.
    #[must_use]
    pub fn next_wake(&self) -> Option<Moment> {
        self.parked.first().map(|(at, _)| *at)
    }

    /// The next message to post, if one may be posted now.
    pub fn next_post(&mut self, now: Moment) -> Option<Arc<OutboxItem>> {
        self.wake(now);
        if self.stopped
            || self.posts >= self.limits.posts
            || self.unflushed + self.posts >= self.limits.unflushed
        {
            return None;
        }
        let flow = self.next_ready()?;
        let queue = self.flows.get_mut(&flow)?;
        let mut entry = queue.waiting.pop_front()?;
        queue.address(&mut entry.item);
        let item = Arc::clone(&entry.item);
        queue.in_flight = Some(entry);
        queue.place = WaitState::Posting;
        self.posts += 1;
        self.retries += usize::from(queue.failing);
        Some(item)
    }

    fn next_ready(&mut self) -> Option<FlowId> {
        let retry = self.retries < self.limits.retries
            && !self.retrying.is_empty()
            && (self.retry_has_turn || self.fresh.is_empty());
        self.retry_has_turn = !retry;
        if retry { self.retrying.pop_front() } else { self.fresh.pop_front() }
    }

    /// Records that the endpoint accepted the message of `flow` in flight.
    pub fn posted(&mut self, flow: FlowId, now: Moment) -> Option<Outcome> {
        let entry = self.take_in_flight(flow)?;
        let queue = self.flows.get_mut(&flow)?;
        queue.failing = false;
        queue.is_due = false;
        queue.refused_in_a_row = 0;
        queue.place = WaitState::Idle;
        self.advance(flow, now);
        Some(Outcome::Delivered { key: entry.item.key.clone() })
    }

    /// Records that the endpoint rejected the content of the message of `flow` in flight. A retry would fail the same
    /// way.
    pub fn refused(&mut self, flow: FlowId, error: String, now: Moment, random_unit: f64) -> Option<Outcome> {
        let queue = self.flows.get_mut(&flow)?;
        if queue.refused_in_a_row >= MAX_REFUSED_IN_A_ROW {
            return self.failed(flow, error, now, random_unit);
        }
        queue.refused_in_a_row += 1;
        self.given_up(flow, DeadLetterReason::EndpointRefused, error, now)
    }

    /// Gives up the message of `flow` in flight: it becomes a dead letter.
    pub fn given_up(
        &mut self,
        flow: FlowId,
        reason: DeadLetterReason,
        detail: String,
        now: Moment,
    ) -> Option<Outcome> {
        let entry = self.take_in_flight(flow)?;
        Some(self.give_up(&entry, reason, detail, now))
    }

    fn give_up(
        &mut self,
        entry: &QueueEntry,
        reason: DeadLetterReason,
        detail: String,
        now: Moment,
    ) -> Outcome {
        let key = entry.item.key.clone();
        if let Some(queue) = self.flows.get_mut(&key.flow_id) {
            queue.place = WaitState::Idle;
        }
        self.advance(key.flow_id, now);
        Outcome::GivenUp { key, reason, detail }
    }

    /// Records that the post of `flow` in flight failed. `random_unit`, from 0 to below 1, spreads the next attempts.
    pub fn failed(&mut self, flow: FlowId, error: String, now: Moment, random_unit: f64) -> Option<Outcome> {
        let entry = self.take_in_flight(flow)?;
        let queue = self.flows.get_mut(&flow)?;
        queue.failing = true;
        queue.is_due = queue.posts_elsewhere_than(&entry.item);
        let key = entry.item.key.clone();
        let attempts = entry.item.attempts.saturating_add(1);
        if now >= entry.expires_at {
            let detail = format!("given up at attempt {attempts}: {error}");
            return Some(self.give_up(&entry, DeadLetterReason::OutboxExpired, detail, now));
        }
        queue.place = WaitState::Flushing;
        self.evict(flow);
        let backoff = self.rule.backoff.delay(attempts, random_unit);
        let retry_in = backoff.min(entry.expires_at.saturating_sub(now)).max(MIN_RETRY_DELAY);
        Some(Outcome::Failed { key, attempts, retry_in, error })
    }

    /// Ends the post of `flow`, whose outcome must then be written.
    fn take_in_flight(&mut self, flow: FlowId) -> Option<QueueEntry> {
        let queue = self.flows.get_mut(&flow)?;
        let entry = queue.in_flight.take()?;
        queue.bytes -= entry.bytes;
        queue.unflushed += 1;
        self.messages -= 1;
        self.bytes -= entry.bytes;
        self.posts -= 1;
        self.retries -= usize::from(queue.failing);
        self.unflushed += 1;
        Some(entry)
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
                queue.place = WaitState::Idle;
                queue.retry_at = (!queue.is_due).then_some(now + *retry_in);
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
            let Some(queue) = self.flows.get_mut(&flow) else {
                continue;
            };
            queue.load = Load::Idle;
            match queue.need(&self.limits) {
                Need::Nothing => continue,
                Need::Flush => {
                    self.flush_is_urgent = true;
                    continue;
                }
                Need::Load => {}
            }
            let wanted = queue.wanted(&self.limits);
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

    /// Records the result of the load of `flow`.
    pub fn loaded(&mut self, flow: FlowId, loaded: LoadedFlow, now: Moment) {
        self.loading = None;
        let Some(queue) = self.flows.get_mut(&flow) else {
            return;
        };
        if std::mem::take(&mut queue.load) == Load::Void {
            return self.advance(flow, now);
        }
        queue.destination = queue.destination.take().or(loaded.destination);
        if queue.is_on_hold() {
            queue.spill();
            return self.advance(flow, now);
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
                }
                break;
            }
            if !queue.note(&loaded.item, &self.own_inbox) {
                queue.table = TableRows::Anywhere;
            }
            let expires_at = now + self.rule.max_age.saturating_sub(loaded.age);
            let earliest = self.rule.none_expires_before().max(queue.none_expires_before);
            let entry = QueueEntry::new(loaded.item, expires_at.max(earliest));
            queue.bytes += entry.bytes;
            self.messages += 1;
            self.bytes += entry.bytes;
            queue.waiting.push_back(entry);
        }
        self.advance(flow, now);
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
        while let Some(&(at, flow)) = self.parked.first().filter(|(at, _)| *at <= now) {
            self.parked.remove(&(at, flow));
            if let Some(queue) = self.flows.get_mut(&flow) {
                queue.place = WaitState::Idle;
            }
            self.advance(flow, now);
        }
    }

    /// Moves a flow to its next waiting place.
    fn advance(&mut self, flow: FlowId, now: Moment) {
        let Some(queue) = self.flows.get_mut(&flow) else {
            return;
        };
        if queue.place == WaitState::Idle && !queue.is_on_hold() {
            queue.retry_at = queue.retry_at.filter(|at| *at > now);
            if let Some(at) = queue.retry_at {
                queue.place = WaitState::Parked;
                self.parked.insert((at, flow));
            } else if !queue.waiting.is_empty() {
                queue.place = WaitState::Ready;
                let ring = if queue.failing { &mut self.retrying } else { &mut self.fresh };
                ring.push_back(flow);
            }
        }
        if queue.load == Load::Idle {
            match queue.need(&self.limits) {
                Need::Nothing => {}
                Need::Flush => self.flush_is_urgent = true,
                Need::Load => {
                    queue.load = Load::Queued;
                    self.unloaded.push_back(flow);
                }
            }
        }
    }
}

fn three_quarters(limit: usize) -> usize {
    limit - limit / 4
}
