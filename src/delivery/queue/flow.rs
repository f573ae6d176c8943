//! The messages of one flow, and what the flow waits for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::{Limits, Moment};
use crate::domain::message::Offset;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::{Destination, LoadedItem, RowNumber, cost};

#[derive(Debug, Default)]
pub(super) struct FlowQueue {
    pub(super) place: Place,
    pub(super) table: Table,
    pub(super) load: Load,
    /// The highest number that was in memory since the last load from the start: no row above it was.
    pub(super) cursor: Option<i64>,
    /// In order. What is in flight is not among them.
    pub(super) waiting: VecDeque<Entry>,
    pub(super) in_flight: Option<Entry>,
    /// Bytes of all of them.
    pub(super) bytes: usize,
    /// Outcomes decided and not yet written.
    pub(super) unsettled: usize,
    /// The highest offset of our own inbox that was ever in memory.
    pub(super) highest: Option<Offset>,
    /// The row of our own inbox with the highest offset that memory or an announcement told of.
    pub(super) latest: Option<RowNumber>,
    /// The row of our own inbox with the lowest number that was announced since the last load began.
    pub(super) lowest_announced: Option<RowNumber>,
    /// The last attempt failed.
    pub(super) failing: bool,
    /// No attempt before.
    pub(super) retry_at: Option<Moment>,
    /// Messages that the endpoint has refused for what is in them, since it last took one.
    pub(super) refused_in_a_row: u32,
    /// Where its row says that it posts, as far as that was told.
    pub(super) destination: Option<Destination>,
    /// Where its last post went.
    pub(super) posted_to: Option<Arc<str>>,
    /// The next attempt is due, whatever the table says: failures before were at another place.
    pub(super) is_due: bool,
    /// Its messages are not given up before this moment.
    pub(super) none_expires_before: Moment,
    /// Lowest number in the table at the last sweep, where memory knew only higher ones.
    pub(super) suspect: Option<i64>,
}

/// What a flow waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// For messages, for the writing of what became of earlier ones, or on hold.
    #[default]
    Idle,
    /// For its turn to post.
    Ready,
    /// For the endpoint.
    Posting,
    /// For the writing of its failure.
    Settling,
    /// For its next attempt.
    Parked,
}

/// What the table has of a flow that memory has not; while a load is under way, what was announced
/// since it began. The greater includes the lesser.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Table {
    /// Nothing.
    #[default]
    Nothing,
    /// Maybe something, and all of it is above the cursor.
    Above,
    /// Maybe something, wherever.
    Anywhere,
}

/// How far the next load has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Load {
    /// None is to be made.
    #[default]
    Idle,
    /// It waits for its turn.
    Queued,
    /// It is under way.
    UnderWay,
    /// It is under way, and what it brings is of no use any more.
    Void,
}

/// What keeps a flow from loading.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// That it needs nothing, or has to post or to wait first.
    Nothing,
    /// That rows are still in the table that are delivered.
    Settlement,
    /// Nothing: it should load.
    Load,
}

#[derive(Debug)]
pub(super) struct Entry {
    pub(super) item: Arc<OutboxItem>,
    pub(super) bytes: usize,
    pub(super) expires_at: Moment,
}

impl FlowQueue {
    pub(super) fn lowest_message_id(&self) -> Option<i64> {
        self.in_flight.as_ref().or(self.waiting.front()).map(|entry| entry.item.message_id)
    }

    pub(super) fn messages(&self) -> usize {
        self.waiting.len() + usize::from(self.in_flight.is_some())
    }

    /// The table has rows that memory has not, and there is no telling which.
    pub(super) fn spill(&mut self) {
        self.table = Table::Anywhere;
    }

    /// The table has a row that memory has not, and that our own inbox brought.
    pub(super) fn spill_row(&mut self, row: RowNumber) {
        if self.lowest_announced.is_none_or(|lowest| row.message_id < lowest.message_id) {
            self.lowest_announced = Some(row);
        }
        let above = self.learn(row) && self.cursor.is_none_or(|cursor| row.message_id > cursor);
        self.table = self.table.max(if above { Table::Above } else { Table::Anywhere });
    }

    /// Memory is empty, and the next load is to begin at the start.
    pub(super) fn forget_place(&mut self) {
        self.spill();
        self.cursor = None;
        if self.load == Load::UnderWay {
            self.load = Load::Void;
        }
    }

    pub(super) fn is_loading(&self) -> bool {
        matches!(self.load, Load::UnderWay | Load::Void)
    }

    /// Takes notice of a row of our own inbox. False if its flow's counter was set back: then there are
    /// rows with lower numbers than those before them.
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

    /// Whether a load should be made now.
    ///
    /// One that goes on above the cursor may be made while rows below it are posted or deleted. One from
    /// the start would see those again.
    pub(super) fn need(&self, limits: &Limits) -> Need {
        let waits = matches!(self.place, Place::Settling | Place::Parked) || self.is_on_hold();
        if self.table == Table::Nothing || waits {
            return Need::Nothing;
        }
        let goes_on = self.place_to_go_on().is_some();
        let is_low = self.messages() <= limits.flow_messages / 2 && self.bytes <= limits.flow_bytes / 2;
        match (self.messages() == 0, goes_on) {
            (true, true) => Need::Load,
            (true, false) if self.unsettled == 0 => Need::Load,
            (true, false) => Need::Settlement,
            (false, true) if is_low && !self.failing => Need::Load,
            (false, _) => Need::Nothing,
        }
    }

    /// The number after which the next load may go on, unless it has to begin at the start.
    pub(super) fn place_to_go_on(&self) -> Option<i64> {
        self.cursor.filter(|_| self.table == Table::Above)
    }

    /// Remembers that `item` was in memory. False if its flow's counter was set back, or may have been.
    pub(super) fn note(&mut self, item: &OutboxItem, own_inbox: &str) -> bool {
        self.cursor = self.cursor.max(Some(item.message_id));
        let row = RowNumber::from_item(item);
        if *item.key.inbox_id != *own_inbox {
            // Offsets of two inboxes do not compare.
            return self.lowest_announced.is_none_or(|lowest| row.message_id < lowest.message_id);
        }
        self.highest = self.highest.max(Some(row.inbox_offset));
        // The announced row may have been committed after the load read the table.
        self.learn(row) && self.lowest_announced.is_none_or(|lowest| rise_together(row, lowest))
    }

    /// Whether `item` was in memory before: rows of our own inbox are committed by rising offset.
    pub(super) fn has_had(&self, item: &OutboxItem, own_inbox: &str) -> bool {
        *item.key.inbox_id == *own_inbox && Some(item.key.inbox_offset) <= self.highest
    }
}

/// Whether the row with the higher offset has the higher number, as it has unless a counter was set back.
fn rise_together(one: RowNumber, other: RowNumber) -> bool {
    one.inbox_offset.cmp(&other.inbox_offset) == one.message_id.cmp(&other.message_id)
}

/// A first attempt is always due: what the database's clock says of it may be rounded up.
pub(super) fn is_not_due(loaded: &LoadedItem) -> bool {
    loaded.item.attempts > 0 && loaded.due_in > Duration::ZERO
}

impl Entry {
    pub(super) fn new(item: OutboxItem, expires_at: Moment) -> Self {
        let bytes = cost(item.payload.as_bytes().len());
        Self { item: Arc::new(item), bytes, expires_at }
    }
}
