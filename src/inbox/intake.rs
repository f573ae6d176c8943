//! Passes messages from the broker's callback into the inbox.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, SecondsFormat, Utc};

use crate::actors::InboxSignal;
use crate::domain::broker::BrokerConnection;
use crate::domain::message::Publication;
use crate::domain::redelivery::InFlight;
use crate::inbox::{AppendError, Inbox, RetainedMemory};
use crate::mqtt::{Incoming, MqttEvent};

/// Receives messages in the broker's callback. The return of the callback acknowledges the message, so it returns only
/// after the inbox has stored the message.
pub struct Intake {
    inbox: Inbox,
    signal: InboxSignal,
    client_id: String,
    /// The broker of the connection.
    server: Mutex<Option<String>>,
    retained: Mutex<Option<RetainedMemory>>,
    /// The current or recent refusal by the inbox.
    refusal: Mutex<Option<RefusalPeriod>>,
    /// Consecutive messages that the broker had sent before.
    recognised: AtomicU64,
}

/// Records in the inbox how a connection event affects the session, before anything is subscribed.
pub(super) fn track_session(inbox: &Inbox, client_id: &str, event: &MqttEvent) {
    let kept = match event {
        MqttEvent::Connected(BrokerConnection { session_kept: false, .. }) => inbox.begin_session(),
        // No CONNACK arrived: the broker may be restarting, or the CONNACK was lost after a new session began.
        MqttEvent::Unanswered { server, .. } => inbox.invalidate_session(&session_name(client_id, server)),
        MqttEvent::Failed { reason_code, server, .. } if *reason_code < 0 => {
            inbox.invalidate_session(&session_name(client_id, server))
        }
        MqttEvent::Connected(_)
        | MqttEvent::Lost { .. }
        | MqttEvent::Left { .. }
        | MqttEvent::Failed { .. }
        | MqttEvent::Stuck { .. } => Ok(()),
    };
    if let Err(error) = kept {
        log::error!("Cannot record in the inbox that the broker's session may be a new one: {error}");
    }
}

/// Name under which the inbox distinguishes the sessions at several brokers.
fn session_name(client_id: &str, server: &str) -> String {
    format!("{client_id}@{server}")
}

/// Minimum interval between two log lines about waiting messages.
const REFUSAL_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A refusal by the inbox that lasts or has just ended.
struct RefusalPeriod {
    since: DateTime<Utc>,
    began: Instant,
    last: Instant,
    logged_at: Instant,
}

impl Intake {
    /// Creates an intake for messages to this client id, which stores them in `inbox` and raises `signal`. With a
    /// memory of retained messages it skips those that repeat the last one of their topic.
    #[must_use]
    pub fn new(
        inbox: Inbox,
        signal: InboxSignal,
        client_id: impl Into<String>,
        retained: Option<RetainedMemory>,
    ) -> Self {
        Self {
            inbox,
            signal,
            client_id: client_id.into(),
            server: Mutex::default(),
            retained: Mutex::new(retained),
            refusal: Mutex::default(),
            recognised: AtomicU64::new(0),
        }
    }

    /// Handles input from the broker connection.
    pub fn on_incoming(&self, incoming: Incoming<'_>) {
        match incoming {
            Incoming::ConnectionBegins { server, in_flight_bounded } => {
                self.switch_broker(server);
                let in_flight = if in_flight_bounded { InFlight::Bounded } else { InFlight::Unbounded };
                self.inbox.begin_connection(in_flight);
                // The previous connection may have ended without a new message, which would have triggered the log
                // line.
                self.log_recognised();
            }
            Incoming::Message(publication) => self.on_message(publication),
        }
    }

    /// Records the broker of the connection. Another broker has sent none of the messages received so far.
    fn switch_broker(&self, server: &str) {
        let mut known = self.server.lock().unwrap_or_else(PoisonError::into_inner);
        if known.as_deref() == Some(server) {
            return;
        }
        *known = Some(server.to_owned());
        if let Err(error) = self.inbox.set_broker_session(&session_name(&self.client_id, server)) {
            log::error!("Cannot record in the inbox that the broker has changed: {error}");
        }
    }

    /// Stores a message, however long it takes. Does not return if the message cannot be stored.
    pub fn on_message(&self, publication: &Publication<'_>) {
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
        self.signal.raise();
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
        let now = Instant::now();
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        let is_new = refusal.is_none();
        let refusal = refusal.get_or_insert_with(|| RefusalPeriod {
            since: Utc::now(),
            began: now,
            last: now,
            logged_at: now,
        });
        refusal.last = now;
        if is_new || refusal.logged_at.elapsed() >= REFUSAL_LOG_INTERVAL {
            refusal.logged_at = now;
            let since = refusal.since.to_rfc3339_opts(SecondsFormat::Millis, true);
            let since = since.as_str();
            log::error!(since; "The inbox takes no message, so the broker holds them: {error}");
        }
    }

    /// Logs the end of a refusal once no message had to wait for a while. A full inbox accepts single messages
    /// meanwhile.
    fn log_recovery(&self) {
        let mut refusal = self.refusal.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(refusal) = refusal.take_if(|_| self.inbox.refusal().is_none()) {
            let since = refusal.since.to_rfc3339_opts(SecondsFormat::Millis, true);
            let lasted_ms = refusal.last.duration_since(refusal.began).as_millis();
            log::info!(since = since.as_str(), lasted_ms; "The inbox takes messages again");
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::thread;

    use super::*;
    use crate::actors::Slot;
    use crate::domain::message::{DeliveryFacts, Offset};
    use crate::domain::redelivery::MIN_RISING_IDS;
    use crate::inbox::{FsyncPolicy, InboxOptions, KeepPolicy};

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
        Arc::new(Intake::new(inbox.clone(), InboxSignal::new(Slot::new("router", 1)), "gateway", None))
    }

    fn begins(server: &str) -> Incoming<'_> {
        Incoming::ConnectionBegins { server, in_flight_bounded: true }
    }

    /// Hands a message over on its own thread, which reports the end of the inbox after the callback has returned.
    fn hand_over(intake: &Arc<Intake>) -> mpsc::Receiver<Offset> {
        let (returns, returned) = mpsc::channel();
        let intake = Arc::clone(intake);
        thread::spawn(move || {
            let delivery = DeliveryFacts::default();
            intake.on_message(&Publication {
                topic: "t",
                payload: &[1; 10_000],
                delivery: &delivery,
                unfit: None,
            });
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
        while early.is_none() && intake.refusal.lock().unwrap().is_none() {
            early = returned.try_recv().ok();
            thread::yield_now();
        }
        inbox.release(before).unwrap();

        assert_eq!(early.unwrap_or_else(|| returned.recv().unwrap()), before + 1);
    }

    fn numbered(packet_id: u16, duplicate: bool) -> DeliveryFacts {
        DeliveryFacts { qos: 1, packet_id, duplicate, ..DeliveryFacts::default() }
    }

    /// Whether the last of many equal messages is recognised on the connection after this event.
    fn is_recognised_after(event: &MqttEvent) -> bool {
        is_recognised_at("broker:1883", event)
    }

    fn is_recognised_at(next_server: &str, event: &MqttEvent) -> bool {
        let dir = tempfile::tempdir().unwrap();
        let inbox = open(&dir);
        let intake = intake(&inbox);
        intake.on_incoming(begins("broker:1883"));
        let last = u16::try_from(MIN_RISING_IDS).unwrap() + 1;
        for packet_id in 1..=last {
            let delivery = numbered(packet_id, false);
            intake.on_message(&Publication { topic: "t", payload: b"{}", delivery: &delivery, unfit: None });
        }
        track_session(&inbox, "gateway", event);
        intake.on_incoming(begins(next_server));
        let delivery = numbered(last, true);
        let before = inbox.next_offset();
        intake.on_message(&Publication { topic: "t", payload: b"{}", delivery: &delivery, unfit: None });
        inbox.next_offset() == before
    }

    #[test]
    fn new_session_forgets_earlier_messages() {
        assert!(is_recognised_after(&connected(true)));
        assert!(!is_recognised_after(&connected(false)));
    }

    fn connected(session_kept: bool) -> MqttEvent {
        let server = "broker:1883".into();
        MqttEvent::Connected(BrokerConnection { server, session_kept, ..BrokerConnection::default() })
    }

    #[test]
    fn another_broker_shares_no_history() {
        assert!(!is_recognised_at("another:1883", &connected(true)));
    }

    #[test]
    fn failed_attempt_elsewhere_changes_nothing() {
        assert!(is_recognised_after(&failed("another:1883", -1)));
    }

    fn failed(server: &str, reason_code: i32) -> MqttEvent {
        let server = server.to_owned();
        MqttEvent::Failed { server, reason_code, reason: String::new(), retry_in: Duration::ZERO }
    }

    #[test]
    fn redeliveries_are_logged_by_the_next_connect() {
        let dir = tempfile::tempdir().unwrap();
        let intake = intake(&open(&dir));
        intake.recognised.store(3, Ordering::Relaxed);
        intake.on_incoming(begins("broker:1883"));
        assert_eq!(intake.recognised.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn unanswered_connect_invalidates_the_filter() {
        assert!(is_recognised_after(&failed("broker:1883", 135)), "the broker has answered");
        assert!(!is_recognised_after(&failed("broker:1883", -1)));
        let (server, reason) = ("broker:1883".to_owned(), String::new());
        let unanswered = MqttEvent::Unanswered { server, reason, retry_in: Duration::ZERO };
        assert!(!is_recognised_after(&unanswered));
    }
}
