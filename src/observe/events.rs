//! The outcomes of messages as they happen: lines of the log, and events for listeners.
//!
//! ```text
//! worker: results of a committed batch ──┐               ┌─▶ log, target `messages`, level DEBUG
//!                                        ├──▶ Events ────┼─▶ kept events of a flow ──▶ FlowTail
//! delivery: answers, dead letters ───────┘               └─▶ ring of events ──▶ Listener, Listener, …
//! ```
//!
//! No sender waits: the ring overwrites its oldest event, and a listener that was too slow learns how many it has
//! missed.
//! Without a listener and without the log level, a batch costs the reads of two counters and of the level.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use chrono::Utc;
use log::Level;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tokio::sync::broadcast::{Receiver, Sender};

use super::flow_tails::{FlowTail, FlowTails};
use crate::domain::batch::{Batch, ProcessError, ProcessResult};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message_event::{MESSAGES, MessageEvent, MessageOutcome, record_of};
use crate::domain::outbox::OutboxItem;

/// Events that a slow listener may be behind. Each has some hundred bytes, at most 4 KiB.
const MAX_BEHIND: usize = 4_096;

/// Distributes the events of this process.
#[derive(Debug)]
pub struct Events {
    ring: Sender<Arc<MessageEvent>>,
    listeners: Arc<AtomicUsize>,
    tails: Arc<FlowTails>,
}

impl Default for Events {
    fn default() -> Self {
        Self { ring: Sender::new(MAX_BEHIND), listeners: Arc::default(), tails: Arc::default() }
    }
}

impl Events {
    /// Whether anything listens to all messages, or the log wants lines for them.
    #[must_use]
    pub fn are_wanted(&self) -> bool {
        self.listeners.load(Relaxed) > 0 || log::log_enabled!(target: MESSAGES, Level::Debug)
    }

    /// As [`Self::are_wanted`], for a message of this flow.
    #[must_use]
    pub fn want(&self, flow: &str) -> bool {
        self.are_wanted() || self.tails.want(flow)
    }

    /// Begins to listen. Earlier events are not heard.
    #[must_use]
    pub fn listen(&self) -> Listener {
        let events = self.ring.subscribe();
        self.listeners.fetch_add(1, Relaxed);
        Listener { events, listeners: Arc::clone(&self.listeners) }
    }

    /// Begins to listen, unless there are `max_listeners` already.
    #[must_use]
    pub fn listen_within(&self, max_listeners: usize) -> Option<Listener> {
        // Two callers at the same moment may exceed the limit by one.
        (self.listeners.load(Relaxed) < max_listeners).then(|| self.listen())
    }

    /// Emits the committed results of a batch.
    pub fn emit_results(&self, batch: &Batch, results: &[Result<ProcessResult, ProcessError>]) {
        if self.tails.are_open() {
            self.tails.add_results(batch, results, now_us());
        }
        if !self.are_wanted() {
            return;
        }
        let now_us = now_us();
        for result in results {
            let record = record_of(result, &batch.entries);
            let event = record.and_then(|record| MessageEvent::from_result(result, record, now_us));
            if let Some(event) = event {
                self.emit_to_listeners(event);
            }
        }
    }

    /// Emits a post that `endpoint`, a URL without secrets, has accepted.
    pub fn emit_posted(&self, item: &OutboxItem, endpoint: impl FnOnce() -> String, status: u16) {
        if self.want(&item.flow_code) {
            self.emit(MessageEvent::posted(item, endpoint(), status, now_us()));
        }
    }

    /// Emits an event.
    pub fn emit(&self, event: MessageEvent) {
        self.tails.add(&event);
        self.emit_to_listeners(event);
    }

    /// Opens a tail of the flow with this code.
    #[must_use]
    pub fn tail(&self, flow: String) -> FlowTail {
        self.tails.open(flow)
    }

    fn emit_to_listeners(&self, event: MessageEvent) {
        log_message(&event);
        if self.listeners.load(Relaxed) > 0 {
            // An error means that the last listener has just left.
            let _ = self.ring.send(Arc::new(event));
        }
    }
}

/// The event of a post that becomes a dead letter once its outcome is committed.
pub(crate) fn dead_post(item: &OutboxItem, reason: DeadLetterReason, detail: &str) -> MessageEvent {
    MessageEvent::dead_post(item, reason, detail, now_us())
}

/// Receives the events from its creation on.
#[derive(Debug)]
pub struct Listener {
    events: Receiver<Arc<MessageEvent>>,
    listeners: Arc<AtomicUsize>,
}

/// An item that a listener hears.
#[derive(Debug, Clone, PartialEq)]
pub enum Heard {
    /// An event.
    Event(Arc<MessageEvent>),
    /// The listener was too slow: it has missed this number of events, of all flows.
    Missed(u64),
}

impl Listener {
    /// Waits for the next event; `None` when the gateway has ended.
    pub async fn next(&mut self) -> Option<Heard> {
        match self.events.recv().await {
            Ok(event) => Some(Heard::Event(event)),
            Err(RecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(RecvError::Closed) => None,
        }
    }

    /// The next event, if there is one already.
    pub fn try_next(&mut self) -> Option<Heard> {
        match self.events.try_recv() {
            Ok(event) => Some(Heard::Event(event)),
            Err(TryRecvError::Lagged(missed)) => Some(Heard::Missed(missed)),
            Err(TryRecvError::Empty | TryRecvError::Closed) => None,
        }
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.listeners.fetch_sub(1, Relaxed);
    }
}

/// Logs a message. Dead letters are logged as errors where they are made.
fn log_message(event: &MessageEvent) {
    if !log::log_enabled!(target: MESSAGES, Level::Debug) || event.outcome == MessageOutcome::Dead {
        return;
    }
    let MessageEvent { payload_bytes, duration_ms, .. } = *event;
    let (topic, flow) = (event.topic.as_str(), event.flow.as_deref().unwrap_or_default());
    let message_id = event.message_id.unwrap_or_default();
    match event.outcome {
        MessageOutcome::Posted => {
            let endpoint = event.endpoint.as_deref().unwrap_or_default();
            let (status, attempts) = (event.status.unwrap_or_default(), event.attempts.unwrap_or_default());
            log::debug!(
                target: MESSAGES, flow, message_id, topic, payload_bytes, duration_ms, endpoint, status, attempts;
                "Posted message {message_id} of flow {flow}"
            );
        }
        MessageOutcome::Repeated => log::debug!(
            target: MESSAGES, flow, message_id, topic, payload_bytes, duration_ms;
            "Dropped a message: flow {flow} already has message {message_id} with the same key"
        ),
        MessageOutcome::Stored | MessageOutcome::Dead => log::debug!(
            target: MESSAGES, flow, message_id, topic, payload_bytes, duration_ms;
            "Stored message {message_id} of flow {flow}"
        ),
    }
}

fn now_us() -> i64 {
    Utc::now().timestamp_micros()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::domain::batch::{BatchEntry, Scope};
    use crate::domain::flow::Action;
    use crate::domain::message::{Body, DeliveryFacts, Record};

    fn batch() -> Batch {
        let record = Record {
            offset: 5,
            received_at_us: now_us(),
            topic: "t".to_owned(),
            body: Body::Whole(b"{}".to_vec()),
            delivery: DeliveryFacts::default(),
        };
        let entry = BatchEntry { record: Arc::new(record), flows: vec![1], reports_invalid_payload: false };
        let scope = Scope::Lane { max_deferred: 0 };
        Batch { lane: 0, epoch: 1, scope, from: 5, next: 6, entries: vec![entry] }
    }

    fn stored(message_id: i64) -> [Result<ProcessResult, ProcessError>; 1] {
        [Ok(ProcessResult { flow_code: "F".into(), message_id, action: Action::StoreDb, inbox_offset: 5 })]
    }

    fn heard_id(heard: &Heard) -> Option<i64> {
        match heard {
            Heard::Event(event) => event.message_id,
            Heard::Missed(_) => None,
        }
    }

    #[test]
    fn nothing_is_wanted_without_listener() {
        let events = Events::default();
        assert!(!events.are_wanted());
        let listener = events.listen();
        assert!(events.are_wanted());
        assert!(events.listen_within(1).is_none() && events.listen_within(2).is_some());
        drop(listener);
        assert!(!events.are_wanted());
        events.emit_results(&batch(), &stored(1));
        assert_eq!(events.listen().try_next(), None);
    }

    #[tokio::test]
    async fn every_listener_hears_every_event() {
        let events = Events::default();
        let mut listeners = [events.listen(), events.listen()];
        events.emit_results(&batch(), &stored(7));
        for listener in &mut listeners {
            assert_eq!(listener.next().await.as_ref().and_then(heard_id), Some(7));
            assert_eq!(listener.try_next(), None);
        }
        drop(events);
        assert_eq!(listeners[0].next().await, None);
    }

    #[test]
    fn slow_listener_learns_what_it_has_missed() {
        let events = Events::default();
        let mut listener = events.listen();
        let emitted = 3 * MAX_BEHIND as u64 + 17;
        for message_id in (1..).take(3 * MAX_BEHIND + 17) {
            events.emit_results(&batch(), &stored(message_id));
        }
        let heard: Vec<Heard> = std::iter::from_fn(|| listener.try_next()).collect();
        let missed: u64 = heard
            .iter()
            .map(|heard| match heard {
                Heard::Missed(missed) => *missed,
                Heard::Event(_) => 0,
            })
            .sum();
        let ids: Vec<i64> = heard.iter().filter_map(heard_id).collect();
        assert_eq!(missed + ids.len() as u64, emitted);
        assert_eq!(ids.len(), MAX_BEHIND);
        assert_eq!(ids.last().copied().map(i64::unsigned_abs), Some(emitted), "the latest are kept");
    }
}
