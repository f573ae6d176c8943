//! State of actors, inbox and outbox, read on demand.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::metrics::Histogram;
use crate::domain::message::FlowId;
use crate::domain::row_waits::RowWait;

/// Source of the current state. Methods must not block, because remote clients trigger the calls.
pub trait Snapshot: Send + Sync + fmt::Debug {
    /// Returns the state of every actor.
    fn actors(&self) -> Vec<ActorReading>;
    /// Returns the time since the last heartbeat of every actor.
    fn silences(&self) -> Vec<(String, Duration)>;
    /// Returns the state of the inbox.
    fn inbox(&self) -> InboxReading;
    /// Returns the waits of all lanes for rows, also short ones.
    fn row_waits(&self) -> Vec<RowWaitReading>;
    /// Returns the state of the outbox; none until its table has been counted.
    fn outbox(&self) -> Option<OutboxReading>;
}

/// State of one actor and its mailbox.
#[derive(Debug, Clone)]
pub struct ActorReading {
    /// Name of the actor, as in the log.
    pub actor: String,
    /// Current state of the actor.
    pub state: &'static str,
    /// Since when it has this state.
    pub since: SystemTime,
    /// All possible states.
    pub states: Vec<&'static str>,
    /// Messages waiting or being handled.
    pub depth: usize,
    /// Capacity of the mailbox in messages.
    pub capacity: usize,
    /// Age of the oldest message being handled.
    pub age: Duration,
    /// Messages sent to the actor since the start.
    pub received: u64,
    /// Messages handled.
    pub handled: u64,
    /// Handled messages that failed.
    pub failed: u64,
    /// Restarts by reason.
    pub restarts: Vec<(&'static str, u64)>,
    /// Time between sending and handling, in seconds.
    pub waits: Histogram,
    /// Handling time, in seconds.
    pub handles: Histogram,
}

/// An actor that waits for rows.
#[derive(Debug, Clone)]
pub struct RowWaitReading {
    /// Name of the actor.
    pub actor: String,
    /// The wait.
    pub wait: RowWait,
}

/// State of the inbox.
#[derive(Debug, Clone, Default)]
pub struct InboxReading {
    /// Bytes of unfinished segments.
    pub bytes: u64,
    /// Bytes of retained finished segments, not included in `bytes`.
    pub kept_bytes: u64,
    /// Maximum of `bytes`.
    pub max_bytes: u64,
    /// Records not yet committed to the database.
    pub uncommitted_records: u64,
    /// Receive time of the oldest uncommitted record; none if all are committed.
    pub oldest_uncommitted: Option<SystemTime>,
    /// Records appended since the start.
    pub appended: u64,
    /// Reason for refusing messages; none if the inbox accepts them.
    pub refusal: Option<InboxRefusal>,
}

/// Reason for refusing messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxRefusal {
    /// True if the inbox is full, false if the disk refuses writes.
    pub is_full: bool,
    /// Time at which the refusal began.
    pub since: SystemTime,
}

/// State of the outbox.
#[derive(Debug, Clone, Default)]
pub struct OutboxReading {
    /// Messages waiting to be posted.
    pub depth: u64,
    /// Age of the oldest waiting message.
    pub oldest_age: Duration,
    /// Age at which a message becomes a dead letter.
    pub max_age: Duration,
    /// The flows with waiting messages.
    pub flows: Vec<FlowOutboxReading>,
}

/// The waiting messages of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlowOutboxReading {
    /// The flow.
    pub flow: FlowId,
    /// Its messages waiting to be posted.
    pub depth: u64,
    /// Age of the oldest of them.
    pub oldest_age: Duration,
}
