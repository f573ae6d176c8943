//! What is read where it is, at the moment of the question, and costs nothing before.

use std::fmt;
use std::time::{Duration, SystemTime};

use super::metrics::Histogram;

/// The parts that can be read. Nothing here may wait: whoever asks is a stranger on the network.
pub trait Snapshot: Send + Sync + fmt::Debug {
    /// Every actor.
    fn actors(&self) -> Vec<ActorReading>;
    /// How long every actor, and the supervisor above them, has given no sign of life.
    fn silences(&self) -> Vec<(String, Duration)>;
    /// The inbox.
    fn inbox(&self) -> InboxReading;
    /// The outbox; none before the table was counted.
    fn outbox(&self) -> Option<OutboxReading>;
}

/// One actor and its mailbox.
#[derive(Debug, Clone)]
pub struct ActorReading {
    /// Name of the actor, as in the log.
    pub actor: String,
    /// What it says of itself, and all that it might.
    pub state: &'static str,
    /// All that it might say.
    pub states: &'static [&'static str],
    /// Messages waiting or in hand.
    pub depth: usize,
    /// Permits in all.
    pub capacity: usize,
    /// Age of the oldest message in hand.
    pub age: Duration,
    /// Messages ever sent to it.
    pub received: u64,
    /// Messages handled.
    pub handled: u64,
    /// Of those, the ones that failed.
    pub failed: u64,
    /// Restarts by reason.
    pub restarts: Vec<(&'static str, u64)>,
    /// Time between sending and handling, in seconds.
    pub waits: Histogram,
    /// Time that a handling took, in seconds.
    pub handles: Histogram,
}

/// The inbox.
#[derive(Debug, Clone, Default)]
pub struct InboxReading {
    /// Bytes that it takes.
    pub bytes: u64,
    /// Bytes of finished segments, which are not among them.
    pub kept_bytes: u64,
    /// Bytes that it may take.
    pub max_bytes: u64,
    /// Records that are not yet done.
    pub uncommitted_records: u64,
    /// When the oldest of them was received; none if there are none.
    pub oldest_uncommitted: Option<SystemTime>,
    /// Records that were appended since the start.
    pub appended: u64,
    /// Why it takes no message, and since when.
    pub refusal: Option<InboxRefusal>,
}

/// Why the inbox takes no message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InboxRefusal {
    /// It is full; else the disk refuses.
    pub is_full: bool,
    /// Since when.
    pub since: SystemTime,
}

/// The outbox.
#[derive(Debug, Clone, Copy, Default)]
pub struct OutboxReading {
    /// Messages that wait.
    pub depth: u64,
    /// Age of the oldest of them.
    pub oldest_age: Duration,
    /// Age at which one becomes a dead letter.
    pub max_age: Duration,
}
