//! The guard of a running actor: sends its heartbeat and reports its exit to the supervisor.
//!
//! Actix does not report that an actor panicked: it ends the task and drops the actor. Each actor therefore holds an
//! [`ActorGuard`], whose `Drop` reports the exit.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Recipient};

use super::ActorId;
use super::mailbox::{ActorState, ExitReason, Mailbox};
use super::messages::ActorExited;

/// Interval between two heartbeats.
const BEAT: Duration = Duration::from_secs(1);

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Installs a panic hook that records the message of a panic for the exit report of the actor. Call once, at startup.
/// The previous hook still runs.
pub fn remember_panics() {
    let before = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        LAST_PANIC.set(Some(cause_of(panic)));
        before(panic);
    }));
}

fn cause_of(panic: &PanicHookInfo<'_>) -> String {
    let what = panic.payload_as_str().unwrap_or("no message");
    match panic.location() {
        Some(place) => format!("panicked at {}:{}: {what}", place.file(), place.line()),
        None => format!("panicked: {what}"),
    }
}

/// Held by an actor as long as it runs.
#[derive(Debug)]
pub struct ActorGuard {
    actor: ActorId,
    generation: u64,
    mailbox: Arc<Mailbox>,
    supervisor: Recipient<ActorExited>,
}

impl ActorGuard {
    /// Creates the guard for run number `generation` of `actor`.
    #[must_use]
    pub fn new(
        actor: ActorId,
        generation: u64,
        mailbox: Arc<Mailbox>,
        supervisor: Recipient<ActorExited>,
    ) -> Self {
        mailbox.beat();
        mailbox.set_state(ActorState::Starting);
        Self { actor, generation, mailbox, supervisor }
    }

    /// The actor's mailbox.
    #[must_use]
    pub fn mailbox(&self) -> &Arc<Mailbox> {
        &self.mailbox
    }

    /// Whether a newer generation has replaced this actor. A replaced actor that resumes must ignore its queued
    /// messages.
    #[must_use]
    pub fn is_superseded(&self) -> bool {
        self.mailbox.generation() != self.generation
    }

    /// Starts the heartbeat. It beats while the event loop runs, including while the actor waits for input or output.
    pub fn start_heartbeat<A: Actor<Context = Context<A>>>(&self, context: &mut Context<A>) {
        let mailbox = Arc::clone(&self.mailbox);
        mailbox.beat();
        context.run_interval(BEAT, move |_, _| {
            crash_point!(&format!("beat-{}", mailbox.name()));
            mailbox.beat();
        });
    }
}

impl Drop for ActorGuard {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() { ExitReason::Panic } else { ExitReason::Error };
        let cause = LAST_PANIC.take().filter(|_| reason == ExitReason::Panic);
        let cause = cause.unwrap_or_else(|| "stopped".to_owned());
        let (actor, generation) = (self.actor, self.generation);
        self.supervisor.do_send(ActorExited { actor, generation, reason, cause });
    }
}
