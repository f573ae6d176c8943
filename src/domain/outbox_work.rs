//! What passes between the delivery of outbox rows and the table they are in.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::dead_letter::DeadLetterReason;
use super::flow::EndpointError;
use super::message::{FlowId, Offset};
use super::outbox::{OutboxItem, OutboxKey};

/// What a message counts in bounds of memory: its payload, and roughly what goes with it.
#[must_use]
pub fn cost(payload_bytes: usize) -> usize {
    const OVERHEAD_BYTES: usize = 512;
    payload_bytes.saturating_add(OVERHEAD_BYTES)
}

/// What the table held of one flow, from its lowest number on or from the one after a given one.
#[derive(Debug, Clone)]
pub struct LoadedFlow {
    /// The rows, by rising number.
    pub items: Vec<LoadedItem>,
    /// What was there besides.
    pub remainder: Remainder,
}

/// What follows the rows of a load.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remainder {
    /// Nothing.
    Nothing,
    /// Rows with higher numbers.
    Above,
    /// A row with the number of the last: a counter was set back, and has been there before.
    Same,
}

/// Where a row stands: in its inbox, and in its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowNumber {
    /// The place of the message in the inbox.
    pub inbox_offset: Offset,
    /// Its number within the flow.
    pub message_id: i64,
}

impl RowNumber {
    /// Where the row of `item` stands.
    #[must_use]
    pub fn from_item(item: &OutboxItem) -> Self {
        Self { inbox_offset: item.key.inbox_offset, message_id: item.message_id }
    }
}

/// Rows of one flow that were committed and not handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedRows {
    /// The flow.
    pub flow: FlowId,
    /// The first of them.
    pub first: RowNumber,
    /// The last of them.
    pub last: RowNumber,
}

impl CommittedRows {
    /// The rows of these items, which are in order within each flow.
    #[must_use]
    pub fn from_items(items: &[OutboxItem]) -> Vec<Self> {
        let mut found: BTreeMap<FlowId, Self> = BTreeMap::new();
        for item in items {
            let (flow, row) = (item.key.flow_id, RowNumber::from_item(item));
            found.entry(flow).or_insert(Self { flow, first: row, last: row }).last = row;
        }
        found.into_values().collect()
    }
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
    /// Time since the oldest of them was numbered.
    pub oldest_age: Duration,
}

/// A flow whose messages wait, as its row is now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowDestination {
    /// The flow.
    pub flow: FlowId,
    /// Its code; empty if it was deleted.
    pub code: String,
    /// Where its messages go.
    pub destination: Destination,
}

/// Where the messages of a flow go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// To this URL.
    Url(Arc<str>),
    /// Nowhere for now: they wait.
    OnHold(HoldReason),
    /// To the dead letters: the flow was deleted.
    Deleted,
}

/// Why the messages of a flow wait, whatever its endpoint says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldReason {
    /// The flow is disabled.
    Disabled,
    /// It has no URL that can be posted to.
    Url(EndpointError),
}

/// As the end of a sentence about the flow, with the remedy.
impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("it is disabled; enable it, or delete it"),
            Self::Url(error) => write!(f, "{error}; mend endpoint_url, or delete the flow"),
        }
    }
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
    /// There is no other attempt: its row becomes a dead letter.
    GivenUp {
        /// Its key.
        key: OutboxKey,
        /// The cause.
        reason: DeadLetterReason,
        /// Why, for people.
        detail: String,
    },
}

impl Outcome {
    /// Key of the message.
    #[must_use]
    pub fn key(&self) -> &OutboxKey {
        match self {
            Self::Delivered { key } | Self::Failed { key, .. } | Self::GivenUp { key, .. } => key,
        }
    }

    /// Whether the row is gone afterwards.
    #[must_use]
    pub fn removes_row(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }
}
