//! The messages of one flow and its waiting state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::course::Course;
use super::window::{FlowLimit, PostWindow};
use super::{LOAD_DELAY, Moment};
use crate::domain::message::Offset;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::{Destination, LoadedItem, RowNumber, cost};
use crate::domain::posting::origin::Origin;

#[derive(Debug, Default)]
pub(super) struct FlowQueue {
    pub(super) place: WaitState,
    /// The time at which a parked, paced or held flow goes on.
    pub(super) parked_until: Option<Moment>,
    pub(super) table: TableRows,
    pub(super) load: Load,
    /// The highest sequence number in memory since the last load from the start. No row above it was in memory.
    pub(super) cursor: Option<i64>,
    /// Waiting messages in order, without those in flight.
    pub(super) waiting: VecDeque<QueueEntry>,
    /// Posts in flight, in the order of their start.
    pub(super) in_flight: Vec<PostInFlight>,
    /// Number of messages in flight.
    pub(super) posting: usize,
    /// Bytes of the messages in memory.
    pub(super) bytes: usize,
    /// Number of outcomes that are not written yet.
    pub(super) unflushed: usize,
    /// How many of them are failures.
    pub(super) unflushed_failures: usize,
    /// The highest offset of the own inbox that was ever in memory.
    pub(super) highest: Option<Offset>,
    /// The row of the own inbox with the highest offset that was in memory or announced.
    pub(super) latest: Option<RowNumber>,
    /// The row of the own inbox with the lowest number that was announced since the last load began.
    pub(super) lowest_announced: Option<RowNumber>,
    /// Whether the last attempt failed.
    pub(super) failing: bool,
    /// Earliest time of the next attempt.
    pub(super) retry_at: Option<Moment>,
    /// When the last failure was written.
    pub(super) failed_at: Option<Moment>,
    /// Consecutive messages whose content the endpoint rejected.
    pub(super) refused_in_a_row: u32,
    /// Number of messages at the head that were in the last rejected batch.
    pub(super) suspects: usize,
    /// The destination in the flow's row, if known.
    pub(super) destination: Option<Destination>,
    /// How messages are posted, by the destination of the last turn.
    pub(super) course: Option<Course>,
    /// Recent posts, which say how many messages should be in memory.
    pub(super) window: PostWindow,
    /// Earlier messages of the flow wait at another process.
    pub(super) is_behind: bool,
    /// The next attempt is due regardless of the table, because earlier failures concerned another destination.
    pub(super) is_due: bool,
    /// No message of the flow expires before this moment.
    pub(super) none_expires_before: Moment,
    /// Lowest number in the table at the last sweep, if memory held only higher ones.
    pub(super) suspect: Option<i64>,
}

/// The waiting state of a flow.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum WaitState {
    /// Waits for messages, for an answer or for its outcomes to be written, or is on hold.
    #[default]
    Idle,
    /// Waits for its turn to post.
    Ready,
    /// Waits because of its rate limit, or for more messages of a batch.
    Paced,
    /// Waits for its failures to be written.
    Flushing,
    /// Waits for its next attempt.
    Parked,
    /// Waits because the breaker of its origin is open.
    Held,
}

/// Rows of a flow that are in the table and not in memory. During a load: rows announced since it began. A greater
/// value includes the lesser ones.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TableRows {
    /// No rows.
    #[default]
    Nothing,
    /// Possibly some rows, all of them above the cursor.
    Above,
    /// Possibly some rows, anywhere.
    Anywhere,
}

/// Progress of the next load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Load {
    /// No load is needed.
    #[default]
    Idle,
    /// The load waits for its turn.
    Queued,
    /// The load is running.
    Running,
    /// The load is running, and its result must be discarded.
    Void,
}

/// The precondition of a flow's next load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// The flow needs no load now.
    Nothing,
    /// Delivered rows must be deleted from the table first.
    Flush,
    /// The flow should load.
    Load,
}

#[derive(Debug)]
pub(super) struct QueueEntry {
    pub(super) item: Arc<OutboxItem>,
    pub(super) bytes: usize,
    /// When the message was first in memory.
    pub(super) arrived_at: Moment,
    pub(super) expires_at: Moment,
}

/// A post in flight.
#[derive(Debug)]
pub(super) struct PostInFlight {
    /// Number of the post.
    pub(super) number: u64,
    pub(super) entries: Vec<QueueEntry>,
    pub(super) origin: Option<Origin>,
    /// Whether the last attempt of the flow had failed when the post began.
    pub(super) is_retry: bool,
}

impl FlowQueue {
    /// The message in memory with the lowest number.
    pub(super) fn first(&self) -> Option<&OutboxItem> {
        let heads = self.in_flight.iter().filter_map(|post| post.entries.first());
        heads.chain(self.waiting.front()).map(|entry| &*entry.item).min_by_key(|item| item.message_id)
    }

    pub(super) fn messages(&self) -> usize {
        self.waiting.len() + self.posting
    }

    /// Number of messages and bytes for the next load.
    pub(super) fn wanted(&self, limit: FlowLimit) -> (usize, usize) {
        // After a failure one message suffices to test the endpoint, and one to see whether others come first.
        let messages =
            if self.failing || self.is_behind { 1 } else { limit.messages.saturating_sub(self.messages()) };
        (messages, limit.bytes.saturating_sub(self.bytes))
    }

    /// Whether another post may start, as far as the flow decides it.
    pub(super) fn may_post(&self) -> bool {
        // The halves of a rejected batch are posted one after the other.
        let most = if self.suspects > 0 { 1 } else { self.course.as_ref().map_or(1, Course::max_in_flight) };
        !self.waiting.is_empty() && self.in_flight.len() < most
    }

    /// Whether the flow waits for a time or an event and holds no message in memory meanwhile.
    pub(super) fn waits_empty(&self) -> bool {
        matches!(self.place, WaitState::Flushing | WaitState::Parked | WaitState::Held) || self.is_on_hold()
    }

    /// Records that the table has unknown rows of the flow.
    pub(super) fn spill(&mut self) {
        self.table = TableRows::Anywhere;
    }

    /// Records a row of the own inbox that is in the table and not in memory.
    pub(super) fn spill_row(&mut self, row: RowNumber) {
        if self.lowest_announced.is_none_or(|lowest| row.message_id < lowest.message_id) {
            self.lowest_announced = Some(row);
        }
        let above = self.learn(row) && self.cursor.is_none_or(|cursor| row.message_id > cursor);
        self.table = self.table.max(if above { TableRows::Above } else { TableRows::Anywhere });
    }

    /// Records that memory is empty and the next load must begin at the start.
    pub(super) fn reset_cursor(&mut self) {
        self.spill();
        self.cursor = None;
        if self.load == Load::Running {
            self.load = Load::Void;
        }
    }

    /// Lets the flow wait before the next load. Messages above the cursor must wait too, so it begins at the start.
    pub(super) fn load_later(&mut self, now: Moment) {
        self.spill();
        self.retry_at = Some(now + LOAD_DELAY).filter(|_| self.messages() == 0);
    }

    pub(super) fn is_loading(&self) -> bool {
        matches!(self.load, Load::Running | Load::Void)
    }

    /// Records a row of the own inbox. Returns `false` if the flow's counter was set back, so that new rows may have
    /// lower numbers than earlier ones.
    fn learn(&mut self, row: RowNumber) -> bool {
        let Some(latest) = self.latest else {
            self.latest = Some(row);
            return true;
        };
        if row.inbox_offset > latest.inbox_offset {
            self.latest = Some(row);
        }
        rise_together(row, latest)
    }

    /// Whether a load should start now.
    ///
    /// A load above the cursor may run while rows below it are posted or deleted. A load from the start would read
    /// these rows again.
    pub(super) fn need(&self, limit: FlowLimit) -> Need {
        if self.table == TableRows::Nothing || self.waits_empty() {
            return Need::Nothing;
        }
        let goes_on = self.resume_after().is_some();
        let is_low = self.messages() <= limit.messages / 2 && self.bytes <= limit.bytes / 2;
        match (self.messages() == 0, goes_on) {
            (true, true) => Need::Load,
            (true, false) if self.unflushed == 0 => Need::Load,
            (true, false) => Need::Flush,
            (false, true) if is_low && !self.failing => Need::Load,
            (false, _) => Need::Nothing,
        }
    }

    /// The number above which the next load may continue; `None` if it must begin at the start.
    pub(super) fn resume_after(&self) -> Option<i64> {
        self.cursor.filter(|_| self.table == TableRows::Above)
    }

    /// Records that `item` was in memory. Returns `false` if the flow's counter was, or may have been, set back.
    pub(super) fn note(&mut self, item: &OutboxItem, own_inbox: &str) -> bool {
        self.cursor = self.cursor.max(Some(item.message_id));
        let row = RowNumber::from_item(item);
        if *item.key.inbox_id != *own_inbox {
            // Offsets of two inboxes are not comparable.
            return self.lowest_announced.is_none_or(|lowest| row.message_id < lowest.message_id);
        }
        self.highest = self.highest.max(Some(row.inbox_offset));
        // The announced row may have been committed after the load read the table.
        self.learn(row) && self.lowest_announced.is_none_or(|lowest| rise_together(row, lowest))
    }

    /// Whether `item` has the number after that of the last row of the own inbox. Otherwise another process may have
    /// numbered messages of the flow meanwhile, and its posts come first.
    pub(super) fn continues_with(&self, item: &OutboxItem) -> bool {
        let before = item.message_id.saturating_sub(1);
        before == 0 || self.latest.is_some_and(|latest| latest.message_id == before)
    }

    /// Whether `item` was in memory before. Rows of the own inbox are committed in the order of their offsets.
    pub(super) fn has_seen(&self, item: &OutboxItem, own_inbox: &str) -> bool {
        *item.key.inbox_id == *own_inbox && Some(item.key.inbox_offset) <= self.highest
    }
}

/// Whether the row with the higher offset has the higher number. Only a counter that was set back violates this.
fn rise_together(one: RowNumber, other: RowNumber) -> bool {
    one.inbox_offset.cmp(&other.inbox_offset) == one.message_id.cmp(&other.message_id)
}

/// Whether the attempt is in the future. A first attempt is always due, although the database may round its time up.
pub(super) fn is_not_due(loaded: &LoadedItem) -> bool {
    loaded.item.attempts > 0 && loaded.due_in > Duration::ZERO
}

impl QueueEntry {
    pub(super) fn new(item: OutboxItem, expires_at: Moment, now: Moment) -> Self {
        let bytes = cost(item.payload.as_bytes().len());
        Self { item: Arc::new(item), bytes, arrived_at: now, expires_at }
    }
}
