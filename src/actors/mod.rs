//! The actor system: thin shells that receive, decide by plain code, and send.
//!
//! Each actor runs on an arbiter (a thread) of its own, is reached through its slot in the
//! [`Directory`], takes its messages in [`Envelope`]s that hold permits of its [`Mailbox`], and is
//! restarted from a factory by the [`SupervisorActor`](supervisor::SupervisorActor) when it panics or falls silent.

mod brokers;
pub mod delivery;
mod directory;
mod durations;
mod episode;
mod inbox_signal;
mod life;
mod mailbox;
pub mod messages;
pub mod mqtt;
pub mod registry;
mod report;
pub mod router;
pub mod supervisor;
mod thread;
mod watchdog;
pub mod worker;

use std::fmt;

pub use directory::{Directory, Slot};
pub use inbox_signal::InboxSignal;
pub use life::{ExitReason, Life, remember_panics};
pub use mailbox::{ActorState, Detail, Envelope, Handling, Mailbox, MailboxReport};
pub(crate) use report::kind_of;

use crate::domain::batch::Lane;

/// Tells the actors apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActorId {
    /// The broker connection.
    Mqtt,
    /// The flows.
    Registry,
    /// The inbox and its cursor.
    Router,
    /// The worker of a lane.
    Worker(Lane),
    /// The posts.
    Delivery,
}

/// The name in the log.
impl fmt::Display for ActorId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Mqtt => f.write_str("mqtt"),
            Self::Registry => f.write_str("flow-registry"),
            Self::Router => f.write_str("router"),
            Self::Worker(lane) => write!(f, "flow-worker-{lane}"),
            Self::Delivery => f.write_str("delivery"),
        }
    }
}
