//! The data exchanged between the delivery queue and the table `outbox`.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::dead_letter::DeadLetterReason;
use super::flow::EndpointError;
use super::flow_options::UnusableOptions;
use super::message::{FlowId, Offset};
use super::outbox::{OutboxItem, OutboxKey};
use super::posting::attempts::{Attempt, RecentAttempts};
use super::posting::destination::PostDestination;

/// Returns the memory of a queued message in bytes: its payload and an estimated overhead.
#[must_use]
pub fn cost(payload_bytes: usize) -> usize {
    const OVERHEAD_BYTES: usize = 512;
    payload_bytes.saturating_add(OVERHEAD_BYTES)
}

/// A load to perform: rows of `flow` by rising sequence number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoadOrder {
    /// The flow.
    pub flow: FlowId,
    /// Load only rows with higher numbers; `None` for all rows.
    pub after: Option<i64>,
    /// Maximum number of rows.
    pub max_messages: usize,
    /// Maximum bytes by [`cost`], but at least one row.
    pub max_bytes: usize,
    /// The flow's row must be read, because its destination is unknown.
    pub wants_destination: bool,
    /// Whether the load ends before the first row that follows a row of another process.
    pub waits_for_others: bool,
}

/// Outbox rows of one flow, from the lowest or from a given sequence number on.
#[derive(Debug, Clone)]
pub struct LoadedFlow {
    /// The rows, in ascending order of their sequence numbers.
    pub items: Vec<LoadedItem>,
    /// The rows that were not loaded.
    pub remainder: Remainder,
    /// The destination in the flow's row, if it was asked for.
    pub destination: Option<Destination>,
    /// No row was loaded, because another process has a message of the flow with a lower number. It must be posted
    /// first.
    pub is_behind: bool,
}

/// The rows of a flow that follow the loaded rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remainder {
    /// No rows.
    Nothing,
    /// Rows with higher sequence numbers.
    Above,
    /// A row with the same sequence number as the last loaded row, because the counter was set back.
    Same,
}

/// The position of a row in its inbox and in its flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowNumber {
    /// Offset of the message in the inbox.
    pub inbox_offset: Offset,
    /// Its sequence number within the flow.
    pub message_id: i64,
}

impl RowNumber {
    /// The position of `item`.
    #[must_use]
    pub fn from_item(item: &OutboxItem) -> Self {
        Self { inbox_offset: item.key.inbox_offset, message_id: item.message_id }
    }
}

/// Committed rows of one flow that were not passed to the delivery queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommittedRows {
    /// The flow.
    pub flow: FlowId,
    /// The first row.
    pub first: RowNumber,
    /// The last row.
    pub last: RowNumber,
}

impl CommittedRows {
    /// Groups items by flow. The items of each flow must be in order.
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

/// A loaded row. Durations refer to the clock of the database.
#[derive(Debug, Clone)]
pub struct LoadedItem {
    /// The message.
    pub item: OutboxItem,
    /// Its age: the time since its sequence number was assigned, or since the last [`Pause`] of its flow.
    pub age: Duration,
    /// Time until the next attempt; zero if it is due.
    pub due_in: Duration,
}

/// Statistics of the outbox rows of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WaitingFlow {
    /// The flow.
    pub flow: FlowId,
    /// Number of rows.
    pub rows: u64,
    /// The lowest sequence number.
    pub lowest_message_id: i64,
    /// The age of the oldest row, as in [`LoadedItem`].
    pub oldest_age: Duration,
}

/// A time in which the posts of a flow had no destination. Durations refer to the clock of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pause {
    /// It lasts.
    Ongoing,
    /// It has ended.
    Ended {
        /// Time since its end.
        ago: Duration,
    },
}

impl Pause {
    /// The age of a message of a flow whose last pause is `pause`, if it was numbered `since` ago. No message ages
    /// during a pause.
    #[must_use]
    pub fn counted_age(pause: Option<Self>, since: Duration) -> Duration {
        match pause {
            None => since,
            Some(Self::Ongoing) => Duration::ZERO,
            Some(Self::Ended { ago }) => since.min(ago),
        }
    }
}

/// The current destination of a flow with outbox rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowDestination {
    /// The flow.
    pub flow: FlowId,
    /// Its code; empty if the flow was deleted.
    pub code: String,
    /// The destination of its messages.
    pub destination: Destination,
}

/// The destination of the messages of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Destination {
    /// An HTTP endpoint.
    Url(PostDestination),
    /// None at present; the messages stay in the outbox.
    OnHold(HoldReason),
    /// The table `dead_letters`, because the flow was deleted.
    Deleted,
}

/// The cause why a flow is not delivered at present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HoldReason {
    /// The flow is disabled.
    Disabled,
    /// The URL is missing or unusable.
    Url(EndpointError),
    /// The options are unusable.
    Options(UnusableOptions),
}

/// Formats the cause and the remedy as the end of a sentence about the flow.
impl fmt::Display for HoldReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Disabled => f.write_str("it is disabled; enable it, or delete it"),
            Self::Url(error) => write!(f, "{error}; correct endpoint_url, or delete the flow"),
            Self::Options(error) => write!(f, "{error}; correct the options, or delete the flow"),
        }
    }
}

/// The outcome of a delivery attempt, to be written to the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// The endpoint accepted the message; its row is deleted.
    Delivered {
        /// Its key.
        key: OutboxKey,
    },
    /// The attempt failed; the row stays for a retry.
    Failed {
        /// Its key.
        key: OutboxKey,
        /// Number of failed attempts, this one included.
        attempts: u32,
        /// Time until the next attempt.
        retry_in: Duration,
        /// Description of the failure.
        error: String,
        /// The last attempts; empty to leave those in the row.
        recent_attempts: RecentAttempts,
    },
    /// No further attempt is made; the row becomes a dead letter.
    GivenUp {
        /// Its key.
        key: OutboxKey,
        /// The cause.
        reason: DeadLetterReason,
        /// Text for operators.
        detail: String,
        /// The last attempts; empty to keep the attempts of the row.
        recent_attempts: RecentAttempts,
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

    /// Adds the beginning of the endpoint's answer to a failure.
    #[must_use]
    pub fn with_answer(mut self, text: &str) -> Self {
        if let Self::Failed { error, .. } | Self::GivenUp { detail: error, .. } = &mut self
            && !text.is_empty()
        {
            error.push_str(": ");
            error.push_str(text);
        }
        self
    }

    /// Adds an attempt at `item` to a failure.
    #[must_use]
    pub fn with_attempt(mut self, item: &OutboxItem, attempt: Attempt) -> Self {
        if let Self::Failed { recent_attempts, .. } | Self::GivenUp { recent_attempts, .. } = &mut self {
            *recent_attempts = item.recent_attempts.clone().with(attempt);
        }
        self
    }

    /// Whether this outcome deletes the row.
    #[must_use]
    pub fn removes_row(&self) -> bool {
        !matches!(self, Self::Failed { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> OutboxKey {
        OutboxKey { inbox_id: "a".into(), inbox_offset: 1, flow_id: 1 }
    }

    #[test]
    fn age_counts_from_the_end_of_the_pause() {
        let [minute, hour] = [Duration::from_mins(1), Duration::from_hours(1)];
        let ended = |ago| Some(Pause::Ended { ago });
        assert_eq!(Pause::counted_age(None, hour), hour);
        assert_eq!(Pause::counted_age(Some(Pause::Ongoing), hour), Duration::ZERO);
        assert_eq!(Pause::counted_age(ended(minute), hour), minute);
        assert_eq!(Pause::counted_age(ended(hour), minute), minute, "numbered after the pause");
    }

    #[test]
    fn dead_letter_has_the_answer() {
        let given_up = |detail: &str| Outcome::GivenUp {
            key: key(),
            reason: DeadLetterReason::EndpointRefused,
            detail: detail.to_owned(),
            recent_attempts: RecentAttempts::default(),
        };
        assert_eq!(given_up("HTTP status 422").with_answer("no"), given_up("HTTP status 422: no"));
        let delivered = Outcome::Delivered { key: key() };
        assert_eq!(delivered.clone().with_answer("x"), delivered);
    }
}
