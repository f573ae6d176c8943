//! From the broker's callback into the inbox.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::actors::InboxSignal;
use crate::domain::message::Publication;
use crate::inbox::{AppendError, Inbox, RetainedMemory};

/// What happens to a message in the broker's callback. When it returns, the broker is told that
/// the message is received; so it returns only when the message is in the inbox.
pub struct Intake {
    inbox: Inbox,
    signal: InboxSignal,
    retained: Mutex<Option<RetainedMemory>>,
    /// When it was said last that the inbox takes nothing.
    complained: Mutex<Option<Instant>>,
}

/// An inbox at its bound takes a message whenever one is done: that it waits is said once in this time.
const COMPLAINT: Duration = Duration::from_secs(10);

impl Intake {
    /// Takes messages into `inbox` and raises `signal`; with a memory of retained messages it passes
    /// over those that repeat the topic's last one.
    #[must_use]
    pub fn new(inbox: Inbox, signal: InboxSignal, retained: Option<RetainedMemory>) -> Self {
        Self { inbox, signal, retained: Mutex::new(retained), complained: Mutex::default() }
    }

    /// Takes a message in, however long that takes; does not return when it cannot be taken.
    pub fn on_message(&self, publication: &Publication<'_>) {
        let mut memory = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let retained = memory.as_mut().filter(|_| publication.delivery.retained);
        if retained.as_ref().is_some_and(|memory| memory.is_repeat(publication.topic, publication.payload)) {
            return;
        }
        crash_point!("intake-before-append");
        let received_at_us = Utc::now().timestamp_micros();
        if self.inbox.append_blocking(publication, received_at_us, &|error| self.complain(error)).is_err() {
            // To return would acknowledge a message that is nowhere. The process ends over this.
            loop {
                std::thread::park();
            }
        }
        self.signal.raise();
        if let Some(Err(error)) =
            retained.map(|memory| memory.remember(publication.topic, publication.payload))
        {
            log::warn!("Cannot remember a retained message, it will be taken again: {error}");
        }
        crash_point!("intake-before-puback");
    }

    fn complain(&self, error: &AppendError) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            *complained = Some(Instant::now());
            log::error!("The inbox takes no message, so the broker holds them: {error}");
        }
    }
}
