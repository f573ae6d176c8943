//! The messages of one flow, and what the flow waits for.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use super::Moment;
use crate::domain::message::Offset;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::{LoadedItem, cost};

#[derive(Debug, Default)]
pub(super) struct FlowQueue {
    pub(super) place: Place,
    pub(super) table: Table,
    /// In order. What is in flight is not among them.
    pub(super) waiting: VecDeque<Entry>,
    pub(super) in_flight: Option<Entry>,
    /// Bytes of all of them.
    pub(super) bytes: usize,
    /// Outcomes decided and not yet written.
    pub(super) unsettled: usize,
    /// The highest offset of our own inbox that was ever in memory.
    pub(super) highest: Option<Offset>,
    /// The last attempt failed.
    pub(super) failing: bool,
    /// No attempt before.
    pub(super) retry_at: Option<Moment>,
    /// Lowest number in the table at the last sweep, where memory knew only higher ones.
    pub(super) suspect: Option<i64>,
}

/// What a flow waits for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// For messages, or for the writing of what became of earlier ones.
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
    /// For its turn to load.
    Unloaded,
    /// For the table.
    Loading,
}

/// What the table has of a flow that memory has not.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Table {
    /// Nothing.
    #[default]
    Nothing,
    /// Maybe something.
    Rows,
    /// What is being loaded, and `more` that was announced since that began.
    Loading { more: bool },
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

    /// The table has rows that memory has not.
    pub(super) fn spill(&mut self) {
        self.table = match self.table {
            Table::Loading { .. } => Table::Loading { more: true },
            Table::Nothing | Table::Rows => Table::Rows,
        };
    }

    /// Remembers that `item` was in memory.
    pub(super) fn note(&mut self, item: &OutboxItem, own_inbox: &str) {
        if *item.key.inbox_id == *own_inbox {
            self.highest = self.highest.max(Some(item.key.inbox_offset));
        }
    }

    /// Whether `item` was in memory before: rows of our own inbox are committed by rising offset.
    pub(super) fn has_had(&self, item: &OutboxItem, own_inbox: &str) -> bool {
        *item.key.inbox_id == *own_inbox && Some(item.key.inbox_offset) <= self.highest
    }
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
