//! The actor system: thin shells that receive messages, decide with pure functions, and send messages.
//!
//! Each actor runs on its own arbiter (a thread) and is addressed through its [`Slot`] in the [`Directory`].
//! Messages travel in [`Envelope`]s that hold permits of the actor's [`Mailbox`].
//! The [`SupervisorActor`](supervisor::SupervisorActor) restarts an actor that panics or stops its heartbeat.

mod actor_guard;
pub mod delivery;
mod directory;
mod durations;
mod inbox_signal;
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

pub use actor_guard::{ActorGuard, remember_panics};
pub use directory::{Directory, Slot};
pub use inbox_signal::InboxSignal;
pub use mailbox::{ActorState, Detail, Envelope, ExitReason, Handling, Mailbox, MailboxReport};
pub(crate) use report::kind_of;

use crate::domain::batch::Lane;

/// Identifies an actor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ActorId {
    /// Holds the broker connection.
    Mqtt,
    /// Loads the flows and assigns subscriptions.
    Registry,
    /// Reads the inbox and its cursor.
    Router,
    /// Writes the batches of a lane.
    Worker(Lane),
    /// Posts messages to endpoints.
    Delivery,
}

/// The actor's name in the log.
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
