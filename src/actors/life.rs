//! One life of an actor: its heartbeat, and the word to the supervisor when it ends.
//!
//! Actix does not say that an actor panicked: its task ends and its value is dropped. So the
//! value holds a [`Life`], and the drop of that is the news.

use std::cell::RefCell;
use std::panic::PanicHookInfo;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, AsyncContext, Context, Recipient};

use super::ActorId;
use super::mailbox::{ActorState, Mailbox};
use super::messages::ActorExited;

/// Time between two beats.
const BEAT: Duration = Duration::from_secs(1);

/// Why an actor had to be restarted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitReason {
    /// It panicked.
    Panic,
    /// It ended by itself.
    Error,
    /// It gave no sign of life.
    Silent,
}

impl ExitReason {
    /// All of them, in order.
    pub const ALL: [Self; 3] = [Self::Panic, Self::Error, Self::Silent];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Panic => "panic",
            Self::Error => "error",
            Self::Silent => "silent",
        }
    }
}

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Keeps what a panic said, so that the end of its actor can be reported with its cause. Call
/// once, at the start; what was set to hear of panics before still does.
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

/// Held by an actor as long as it lives.
#[derive(Debug)]
pub struct Life {
    actor: ActorId,
    generation: u64,
    mailbox: Arc<Mailbox>,
    supervisor: Recipient<ActorExited>,
}

impl Life {
    /// The `generation`th life of `actor`.
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

    /// Whether the actor was given up. One that stood still and wakes up has messages left that are not for it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.mailbox.generation() != self.generation
    }

    /// Beats as long as the actor takes its turns, also while it waits for input or output.
    pub fn keep_beating<A: Actor<Context = Context<A>>>(&self, context: &mut Context<A>) {
        let mailbox = Arc::clone(&self.mailbox);
        mailbox.beat();
        context.run_interval(BEAT, move |_, _| {
            crash_point!(&format!("beat-{}", mailbox.name()));
            mailbox.beat();
        });
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let reason = if std::thread::panicking() { ExitReason::Panic } else { ExitReason::Error };
        let cause = LAST_PANIC.take().filter(|_| reason == ExitReason::Panic);
        let cause = cause.unwrap_or_else(|| "stopped".to_owned());
        let (actor, generation) = (self.actor, self.generation);
        self.supervisor.do_send(ActorExited { actor, generation, reason, cause });
    }
}
