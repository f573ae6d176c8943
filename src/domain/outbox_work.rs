//! What passes between the delivery of outbox rows and the table they are in.

use std::time::Duration;

use super::message::FlowId;
use super::outbox::{OutboxItem, OutboxKey};

/// What a message counts in bounds of memory: its payload, and roughly what goes with it.
#[must_use]
pub fn cost(payload_bytes: usize) -> usize {
    const OVERHEAD_BYTES: usize = 512;
    payload_bytes.saturating_add(OVERHEAD_BYTES)
}

/// What the table held of one flow, from its lowest number on.
#[derive(Debug, Clone)]
pub struct LoadedFlow {
    /// The rows, by rising number.
    pub items: Vec<LoadedItem>,
    /// No further row of the flow was there.
    pub complete: bool,
}

/// A row as it was read. Durations are by the database's clock.
#[derive(Debug, Clone)]
pub struct LoadedItem {
    /// The message.
    pub item: OutboxItem,
    /// Time since it was numbered.
    pub age: Duration,
    /// Time until its next attempt is due; zero when it is due.
    pub due_in: Duration,
}

/// The rows of one flow, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingFlow {
    /// The flow.
    pub flow: FlowId,
    /// How many rows it has.
    pub rows: u64,
    /// Number of the first of them.
    pub lowest_message_id: i64,
}

/// What became of a message, to be written to the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint took it: its row goes.
    Delivered {
        /// Its key.
        key: OutboxKey,
    },
    /// The attempt failed: its row stays.
    Failed {
        /// Its key.
        key: OutboxKey,
        /// Attempts that failed, this one included.
        attempts: u32,
        /// Time until the next one.
        retry_in: Duration,
        /// Why it failed.
        error: String,
    },
    /// The attempt failed, and the message is too old for another: its row becomes a dead letter.
    Expired {
        /// Its key.
        key: OutboxKey,
        /// Why, for people.
        detail: String,
    },
}

impl Outcome {
    /// Key of the message.
    #[must_use]
    pub fn key(&self) -> &OutboxKey {
        match self {
            Self::Delivered { key } | Self::Failed { key, .. } | Self::Expired { key, .. } => key,
        }
    }

    /// Whether the row is gone afterwards.
    #[must_use]
    pub fn removes_row(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }
}
