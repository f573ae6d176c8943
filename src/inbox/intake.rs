//! Decides whether a message from the broker is stored, skipped because it is known, or made to wait.

mod refusal_log;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use chrono::Utc;

use self::refusal_log::RefusalLog;
use super::{AppendError, Inbox, RetainedMemory};
use crate::domain::condition::ClockReading;
use crate::domain::message::Publication;
use crate::domain::redelivery::{InFlight, SessionEvidence};

/// Receives messages in the broker's callback. The return of the callback acknowledges the message, so it returns only
/// after the inbox has stored the message.
pub struct Intake {
    inbox: Inbox,
    client_id: String,
    /// The broker of the connection.
    server: Mutex<Option<String>>,
    retained: Mutex<Option<RetainedMemory>>,
    /// The current or recent refusal by the inbox.
    refusal: Mutex<RefusalLog>,
    /// Origin of the times of `refusal`.
    born: Instant,
    /// Consecutive messages that the broker had sent before.
    recognised: AtomicU64,
}

impl Intake {
    /// Creates an intake for messages to this client id. With a memory of retained messages it skips those that repeat
    /// the last one of their topic.
    #[must_use]
    pub fn new(inbox: Inbox, client_id: impl Into<String>, retained: Option<RetainedMemory>) -> Self {
        Self {
            inbox,
            client_id: client_id.into(),
            server: Mutex::default(),
            retained: Mutex::new(retained),
            refusal: Mutex::default(),
            born: Instant::now(),
            recognised: AtomicU64::new(0),
        }
    }

    /// Records that a connection to this broker begins.
    pub fn begin_connection(&self, server: &str, in_flight: InFlight) {
        self.switch_broker(server);
        self.inbox.begin_connection(in_flight);
        // The previous connection may have ended without a new message, which would have triggered the log line.
        self.log_recognised();
    }

    /// Records what a connection event says about the session, before anything is subscribed.
    pub fn note_session(&self, evidence: SessionEvidence<'_>) {
        let kept = match evidence {
            SessionEvidence::Unchanged => Ok(()),
            SessionEvidence::New => self.inbox.begin_session(),
            SessionEvidence::Uncertain { server } => {
                self.inbox.invalidate_session(&self.session_name(server))
            }
        };
        if let Err(error) = kept {
            log::error!("Cannot record in the inbox that the broker's session may be a new one: {error}");
        }
    }

    /// Name under which the inbox distinguishes the sessions at several brokers.
    fn session_name(&self, server: &str) -> String {
        format!("{}@{server}", self.client_id)
    }

    /// Records the broker of the connection. Another broker has sent none of the messages received so far.
    fn switch_broker(&self, server: &str) {
        let mut known = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() == Some(server) {
            return;
        }
        *known = Some(server.to_owned());
        if let Err(error) = self.inbox.set_broker_session(&self.session_name(server)) {
            log::error!("Cannot record in the inbox that the broker has changed: {error}");
        }
    }

    /// Stores a message, however long it takes, and calls `stored`. Does not return if the message cannot be stored.
    pub fn on_message(&self, publication: &Publication<'_>, stored: impl FnOnce()) {
        if self.inbox.is_redelivered(publication) {
            self.recognised.fetch_add(1, Ordering::Relaxed);
            log::debug!("Sent again by the broker: packet {}", publication.delivery.packet_id);
            return;
        }
        self.log_recognised();
        let mut memory = self.retained.lock().unwrap_or_else(PoisonError::into_inner);
        let retained = memory.as_mut().filter(|_| publication.delivery.retained);
        if retained.as_ref().is_some_and(|memory| memory.is_repeat(publication.topic, publication.payload)) {
            return;
        }
        crash_point!("intake-before-append");
        let received_at_us = Utc::now().timestamp_micros();
        if self.inbox.append_blocking(publication, received_at_us, &|error| self.log_refusal(error)).is_err()
        {
            // A return would acknowledge a message that is not stored. The process exits because of the error.
            loop {
                std::thread::park();
            }
        }
        stored();
        if let Some(Err(error)) =
            retained.map(|memory| memory.remember(publication.topic, publication.payload))
        {
            log::warn!("Cannot record a retained message; its repetitions will be stored again: {error}");
        }
        self.log_recovery();
        crash_point!("intake-before-puback");
    }

    /// Logs the number of redelivered messages once all of them have arrived.
    fn log_recognised(&self) {
        if self.recognised.load(Ordering::Relaxed) > 0 {
            let messages = self.recognised.swap(0, Ordering::Relaxed);
            log::info!(messages; "The broker redelivered messages that the inbox already has; they were skipped");
        }
    }

    fn log_refusal(&self, error: &AppendError) {
        let now = ClockReading { monotonic: self.born.elapsed(), unix_us: Utc::now().timestamp_micros() };
        let reported = self.refusal.lock().unwrap_or_else(PoisonError::into_inner).refused(now);
        if let Some(since) = reported.as_deref() {
            log::error!(since; "The inbox takes no message, so the broker holds them: {error}");
        }
    }

    /// Logs the end of a refusal once no message had to wait for a while. A full inbox accepts single messages
    /// meanwhile.
    fn log_recovery(&self) {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((since, lasted)) = refusal.resolve_if(|| self.inbox.refusal().is_none()) {
            let (since, lasted_ms) = (since.as_str(), lasted.as_millis());
            log::info!(since, lasted_ms; "The inbox takes messages again");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::super::{FsyncPolicy, InboxOptions, KeepPolicy};
    use super::*;
    use crate::domain::message::{DeliveryFacts, Offset};
    use crate::domain::redelivery::MIN_RISING_IDS;

    fn open(dir: &tempfile::TempDir) -> Inbox {
        let options = InboxOptions {
            keep: KeepPolicy::NONE,
            dir: dir.path().to_path_buf(),
            max_bytes: 1024 * 1024,
            segment_bytes: 100_000,
            fsync: FsyncPolicy::Never,
            lanes: 1,
            max_payload_bytes: 100_000,
        };
        Inbox::open(options).unwrap().0
    }

    fn intake(inbox: &Inbox) -> Arc<Intake> {
        Arc::new(Intake::new(inbox.clone(), "gateway", None))
    }

    /// Hands a message over on its own thread, which reports the end of the inbox after the callback has returned.
    fn hand_over(intake: &Arc<Intake>) -> mpsc::Receiver<Offset> {
        let (returns, returned) = mpsc::channel();
        let intake = Arc::clone(intake);
        thread::spawn(move || {
            let delivery = DeliveryFacts::default();
            let publication =
                Publication { topic: "t", payload: &[1; 10_000], delivery: &delivery, unfit: None };
            intake.on_message(&publication, || {});
            returns.send(intake.inbox.next_offset())
        });
        returned
    }

    #[test]
    fn callback_returns_after_the_inbox_write() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(&dir);
        let intake = intake(&inbox);
        let delivery = DeliveryFacts::default();
        while inbox
            .append(&Publication { topic: "t", payload: &[0; 10_000], delivery: &delivery, unfit: None }, 1)
            .is_ok()
        {}
        let before = inbox.next_offset();

        let returned = hand_over(&intake);
        // The thread reports before it waits; a thread that returns reports nothing or has ended.
        let mut early = None;
        while early.is_none() && !intake.refusal.lock().unwrap().is_open() {
            early = returned.try_recv().ok();
            thread::yield_now();
        }
        inbox.release(before).unwrap();

        assert_eq!(early.unwrap_or_else(|| returned.recv().unwrap()), before + 1);
    }

    fn numbered(packet_id: u16, duplicate: bool) -> DeliveryFacts {
        DeliveryFacts { qos: 1, packet_id, duplicate, ..DeliveryFacts::default() }
    }

    fn take_in(intake: &Intake, payload: &[u8], delivery: &DeliveryFacts) {
        intake.on_message(&Publication { topic: "t", payload, delivery, unfit: None }, || {});
    }

    /// Whether the last of many equal messages is recognised on the connection after this evidence.
    fn recognises_after(evidence: SessionEvidence<'_>) -> bool {
        recognises_at("broker:1883", evidence)
    }

    fn recognises_at(next_server: &str, evidence: SessionEvidence<'_>) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(&dir);
        let intake = intake(&inbox);
        intake.begin_connection("broker:1883", InFlight::Bounded);
        let last = u16::try_from(MIN_RISING_IDS).unwrap() + 1;
        for packet_id in 1..=last {
            take_in(&intake, b"{}", &numbered(packet_id, false));
        }
        intake.note_session(evidence);
        intake.begin_connection(next_server, InFlight::Bounded);
        let before = inbox.next_offset();
        take_in(&intake, b"{}", &numbered(last, true));
        inbox.next_offset() == before
    }

    #[test]
    fn new_session_forgets_earlier_messages() {
        assert!(recognises_after(SessionEvidence::Unchanged));
        assert!(!recognises_after(SessionEvidence::New));
    }

    #[test]
    fn another_broker_shares_no_history() {
        assert!(!recognises_at("another:1883", SessionEvidence::Unchanged));
    }

    #[test]
    fn failed_attempt_elsewhere_changes_nothing() {
        assert!(recognises_after(SessionEvidence::Uncertain { server: "another:1883" }));
    }

    #[test]
    fn uncertain_session_invalidates_the_filter() {
        assert!(!recognises_after(SessionEvidence::Uncertain { server: "broker:1883" }));
    }

    #[test]
    fn redeliveries_are_logged_by_the_next_connect() {
        let dir = tempfile::tempdir().unwrap();
        let intake = intake(&open(&dir));
        intake.recognised.store(3, Ordering::Relaxed);
        intake.begin_connection("broker:1883", InFlight::Bounded);
        assert_eq!(intake.recognised.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn repeated_retained_message_is_acknowledged_unstored() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(&dir);
        let memory = RetainedMemory::open(dir.path()).unwrap();
        let intake = Intake::new(inbox.clone(), "gateway", Some(memory));
        let retained = DeliveryFacts { retained: true, ..DeliveryFacts::default() };
        let stored = |payload: &[u8], delivery: &DeliveryFacts| {
            let before = inbox.next_offset();
            take_in(&intake, payload, delivery);
            inbox.next_offset() > before
        };
        assert!(stored(b"1", &retained));
        assert!(!stored(b"1", &retained));
        assert!(stored(b"1", &DeliveryFacts::default()), "published again");
        assert!(stored(b"2", &retained));
    }

    #[test]
    fn router_is_woken_after_the_append() {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(&dir);
        let mut next_offset = 0;
        let delivery = DeliveryFacts::default();
        let publication = Publication { topic: "t", payload: b"{}", delivery: &delivery, unfit: None };
        let before = inbox.next_offset();
        intake(&inbox).on_message(&publication, || next_offset = inbox.next_offset());
        assert_eq!(next_offset, before + 1);
    }
}
