//! From the broker's callback into the inbox.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::Utc;

use crate::actors::InboxSignal;
use crate::domain::message::Publication;
use crate::domain::redelivery::InFlight;
use crate::inbox::{AppendError, Inbox, RetainedMemory};
use crate::mqtt::{Incoming, MqttEvent};

/// What happens to a message in the broker's callback. When it returns, the broker is told that
/// the message is received; so it returns only when the message is in the inbox.
pub struct Intake {
    inbox: Inbox,
    signal: InboxSignal,
    retained: Mutex<Option<RetainedMemory>>,
    /// When it was said last that the inbox takes nothing.
    complained: Mutex<Option<Instant>>,
    /// Messages in a row that the broker had sent before.
    recognised: AtomicU64,
}

/// What an event of the connection says about the session, told to the inbox before anybody subscribes.
pub(super) fn judge_session(inbox: &Inbox, event: &MqttEvent) {
    match event {
        MqttEvent::Connected { session_kept: false, .. } => {
            if let Err(error) = inbox.begin_session() {
                log::error!("The inbox cannot keep that the broker has begun a new session: {error}");
            }
        }
        // No answer of the broker's: it may be restarting, or the answer got lost.
        MqttEvent::Failed { reason_code, .. } if *reason_code < 0 => inbox.doubt_session(),
        MqttEvent::Connected { .. } | MqttEvent::Lost { .. } | MqttEvent::Failed { .. } => {}
    }
}

/// An inbox at its bound takes a message whenever one is done: that it waits is said once in this time.
const COMPLAINT: Duration = Duration::from_secs(10);

impl Intake {
    /// Takes messages into `inbox` and raises `signal`; with a memory of retained messages it passes
    /// over those that repeat the topic's last one.
    #[must_use]
    pub fn new(inbox: Inbox, signal: InboxSignal, retained: Option<RetainedMemory>) -> Self {
        Self {
            inbox,
            signal,
            retained: Mutex::new(retained),
            complained: Mutex::default(),
            recognised: AtomicU64::new(0),
        }
    }

    /// Takes in whatever the broker connection brings.
    pub fn on_incoming(&self, incoming: Incoming<'_>) {
        match incoming {
            Incoming::ConnectionBegins { in_flight_bounded } => {
                let in_flight = if in_flight_bounded { InFlight::Bounded } else { InFlight::Unbounded };
                self.inbox.begin_connection(in_flight);
            }
            Incoming::Message(publication) => self.on_message(publication),
        }
    }

    /// Takes a message in, however long that takes; does not return when it cannot be taken.
    pub fn on_message(&self, publication: &Publication<'_>) {
        if self.inbox.recognises(publication) {
            self.recognised.fetch_add(1, Ordering::Relaxed);
            log::debug!("Sent again by the broker: packet {}", publication.delivery.packet_id);
            return;
        }
        self.tell_recognised();
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

    /// Says, once all has come again that would, how much that was.
    fn tell_recognised(&self) {
        if self.recognised.load(Ordering::Relaxed) > 0 {
            let messages = self.recognised.swap(0, Ordering::Relaxed);
            log::info!(messages; "The broker has sent messages again that were in the inbox already: not taken twice");
        }
    }

    fn complain(&self, error: &AppendError) {
        let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
        if complained.is_none_or(|at| at.elapsed() >= COMPLAINT) {
            *complained = Some(Instant::now());
            log::error!("The inbox takes no message, so the broker holds them: {error}");
        }
    }
}
