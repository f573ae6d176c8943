//! The outcome of a message, as it is shown while it happens.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::batch::{BatchEntry, ProcessError, ProcessResult};
use super::condition::timestamp;
use super::dead_letter::DeadLetterReason;
use super::flow::Action;
use super::message::{Body, Offset, Record};
use super::outbox::OutboxItem;

/// Log target of the lines for messages.
pub const MESSAGES: &str = "messages";

/// Maximum bytes of a topic, of a payload and of a detail in an event.
pub const MAX_EVENT_TEXT_BYTES: usize = 1024;

named_enum! {
    /// The outcome of a message.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
    #[serde(rename_all = "snake_case")]
    pub enum MessageOutcome {
        /// Its rows are committed.
        Stored = "stored",
        /// The endpoint has accepted it.
        Posted = "posted",
        /// It is a dead letter.
        Dead = "dead",
        /// Its key was seen before, and it was dropped.
        Repeated = "repeated",
    }
}

/// The outcome of one message in one flow. All texts are bounded.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct MessageEvent {
    /// Its outcome.
    pub outcome: MessageOutcome,
    /// When, as RFC 3339 in UTC.
    pub time: String,
    /// Code of the flow; `None` if the message has no flow, or its flow was deleted.
    pub flow: Option<String>,
    /// Its sequence number in the flow. A repeated message has the number of the first message with its key.
    pub message_id: Option<i64>,
    /// Its topic.
    pub topic: String,
    /// Size of its payload.
    pub payload_bytes: u64,
    /// Its payload, or the beginning of it.
    pub payload: String,
    /// Whether `payload` is only the beginning.
    pub payload_is_cut: bool,
    /// Milliseconds from its receipt; for a post of a message from the table, from its sequence number.
    pub duration_ms: f64,
    /// The endpoint that has accepted it, without secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub endpoint: Option<String>,
    /// The status with which the endpoint answered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Number of attempts to post it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Why it is a dead letter, as a keyword.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Why it is a dead letter, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl MessageEvent {
    /// The event of a committed result. `None` for a message that waits to be posted.
    #[must_use]
    pub fn from_result(
        result: &Result<ProcessResult, ProcessError>,
        record: &Record,
        now_us: i64,
    ) -> Option<Self> {
        let payload = match &record.body {
            Body::Whole(bytes) => (bytes.as_slice(), bytes.len() as u64),
            Body::Head { head, unfit } => (head.as_slice(), unfit.length),
        };
        let of = |outcome, flow, message_id| Self {
            flow,
            message_id,
            ..Self::new(outcome, &record.topic, payload, record.received_at_us, now_us)
        };
        match result {
            Ok(ProcessResult { action: Action::PostEndpoint, .. }) => None,
            Ok(ProcessResult { flow_code, message_id, action: Action::StoreDb, .. }) => {
                Some(of(MessageOutcome::Stored, Some(flow_code.to_string()), Some(*message_id)))
            }
            Err(ProcessError::Repeated { flow_code, message_id, .. }) => {
                Some(of(MessageOutcome::Repeated, Some(flow_code.to_string()), Some(*message_id)))
            }
            Err(ProcessError::Rejected(rejection)) => {
                let code = rejection.flow.as_ref().and_then(|(_, code)| code.as_deref());
                let event = of(MessageOutcome::Dead, code.map(str::to_owned), rejection.message_id);
                Some(event.with_reason(rejection.reason, &rejection.detail))
            }
        }
    }

    /// The event of a post that `endpoint`, a URL without secrets, has accepted.
    #[must_use]
    pub fn posted(item: &OutboxItem, endpoint: String, status: u16, now_us: i64) -> Self {
        Self {
            endpoint: Some(endpoint),
            status: Some(status),
            attempts: Some(item.attempts.saturating_add(1)),
            ..Self::from_item(MessageOutcome::Posted, item, now_us)
        }
    }

    /// The event of a post that became a dead letter.
    #[must_use]
    pub fn dead_post(item: &OutboxItem, reason: DeadLetterReason, detail: &str, now_us: i64) -> Self {
        Self::from_item(MessageOutcome::Dead, item, now_us).with_reason(reason, detail)
    }

    fn from_item(outcome: MessageOutcome, item: &OutboxItem, now_us: i64) -> Self {
        let payload = item.payload.as_bytes();
        let length = payload.len() as u64;
        Self {
            flow: Some(item.flow_code.to_string()),
            message_id: Some(item.message_id),
            ..Self::new(outcome, &item.topic, (payload, length), item.created_at_us, now_us)
        }
    }

    /// The event without a flow. `payload` may be the beginning; its length is that of the whole.
    fn new(
        outcome: MessageOutcome,
        topic: &str,
        (payload, payload_bytes): (&[u8], u64),
        received_at_us: i64,
        now_us: i64,
    ) -> Self {
        let (shown, is_cut) = beginning(payload);
        Self {
            outcome,
            time: timestamp(now_us),
            flow: None,
            message_id: None,
            topic: beginning(topic.as_bytes()).0,
            payload_bytes,
            payload: shown,
            payload_is_cut: is_cut || payload_bytes > payload.len() as u64,
            duration_ms: milliseconds_between(received_at_us, now_us),
            endpoint: None,
            status: None,
            attempts: None,
            reason: None,
            detail: None,
        }
    }

    fn with_reason(self, reason: DeadLetterReason, detail: &str) -> Self {
        let detail = beginning(detail.as_bytes()).0;
        Self { reason: Some(reason.to_string()), detail: Some(detail), ..self }
    }
}

/// Which events a listener wants.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// Only events of the flow with this code.
    pub flow: Option<String>,
    /// Only these outcomes; all if empty.
    pub outcomes: Vec<MessageOutcome>,
}

impl EventFilter {
    /// Whether the listener wants this event.
    #[must_use]
    pub fn matches(&self, event: &MessageEvent) -> bool {
        let is_of_flow = self.flow.is_none() || self.flow == event.flow;
        is_of_flow && (self.outcomes.is_empty() || self.outcomes.contains(&event.outcome))
    }
}

/// Finds the record of a result in its batch.
#[must_use]
pub fn record_of<'a>(
    result: &Result<ProcessResult, ProcessError>,
    entries: &'a [BatchEntry],
) -> Option<&'a Record> {
    let offset: Offset = match result {
        Ok(ProcessResult { inbox_offset, .. }) | Err(ProcessError::Repeated { inbox_offset, .. }) => {
            *inbox_offset
        }
        Err(ProcessError::Rejected(rejection)) => rejection.inbox_offset,
    };
    let index = entries.binary_search_by_key(&offset, |entry| entry.record.offset).ok()?;
    entries.get(index).map(|entry| &*entry.record)
}

/// The beginning of a text, up to whole characters, and whether it is cut. Bytes that are no UTF-8 are replaced.
fn beginning(bytes: &[u8]) -> (String, bool) {
    let is_inside = |at: usize| bytes.get(at).is_some_and(|byte| byte & 0b1100_0000 == 0b1000_0000);
    let mut end = bytes.len().min(MAX_EVENT_TEXT_BYTES);
    // A character has at most four bytes.
    for _ in 0..3 {
        end -= usize::from(end > 0 && is_inside(end));
    }
    let shown = String::from_utf8_lossy(bytes.get(..end).unwrap_or_default());
    (shown.into_owned(), end < bytes.len())
}

/// With a fraction: most messages take less than a few milliseconds. Zero if the clock was set back.
#[allow(clippy::cast_precision_loss, reason = "a message does not take 285 years")]
fn milliseconds_between(begin_us: i64, end_us: i64) -> f64 {
    end_us.saturating_sub(begin_us).max(0) as f64 / 1e3
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use proptest::prelude::*;

    use super::super::batch::Rejection;
    use super::super::message::{DeliveryFacts, Unfit, UnfitReason};
    use super::*;

    const NOW_US: i64 = 5_250;

    fn record(offset: Offset, body: Body) -> Record {
        Record {
            offset,
            received_at_us: 4_000,
            topic: "a/b".to_owned(),
            body,
            delivery: DeliveryFacts::default(),
        }
    }

    #[allow(clippy::unnecessary_wraps, reason = "a batch has results")]
    fn result(action: Action) -> Result<ProcessResult, ProcessError> {
        Ok(ProcessResult { flow_code: "F".into(), message_id: 7, action, inbox_offset: 3 })
    }

    #[test]
    fn stored_message_has_its_payload_and_duration() {
        let record = record(3, Body::Whole(b"{\"v\": 1}".to_vec()));
        let event = MessageEvent::from_result(&result(Action::StoreDb), &record, NOW_US).unwrap();
        assert_eq!(event.outcome, MessageOutcome::Stored);
        assert_eq!((event.flow.as_deref(), event.message_id), (Some("F"), Some(7)));
        assert_eq!(
            (event.payload.as_str(), event.payload_bytes, event.payload_is_cut),
            ("{\"v\": 1}", 8, false)
        );
        assert_eq!(event.time, "1970-01-01T00:00:00.005Z");
        assert!((event.duration_ms - 1.25).abs() < 1e-9, "{event:?}");
        assert_eq!(MessageEvent::from_result(&result(Action::PostEndpoint), &record, NOW_US), None);
    }

    #[test]
    fn unfit_message_has_the_size_of_the_whole() {
        let unfit = Unfit { reason: UnfitReason::TooLarge, length: 9_000_000, sha256: [0; 32] };
        let record = record(3, Body::Head { head: vec![b'x'; 10], unfit });
        let rejection = Rejection {
            flow: None,
            message_id: None,
            inbox_offset: 3,
            topic: "a/b".to_owned(),
            reason: DeadLetterReason::PayloadTooLarge,
            detail: "too large".to_owned(),
        };
        let rejected = Err(ProcessError::Rejected(rejection));
        let event = MessageEvent::from_result(&rejected, &record, NOW_US).unwrap();
        assert_eq!((event.payload_bytes, event.payload_is_cut), (9_000_000, true));
        assert_eq!((event.flow, event.reason.as_deref()), (None, Some("payload_too_large")));
    }

    #[test]
    fn results_find_their_records() {
        let entry = |offset| BatchEntry {
            record: Arc::new(record(offset, Body::Whole(Vec::new()))),
            flows: vec![1],
            reports_invalid_payload: false,
        };
        let entries = [entry(1), entry(3), entry(9)];
        assert_eq!(record_of(&result(Action::StoreDb), &entries).map(|record| record.offset), Some(3));
        assert_eq!(record_of(&result(Action::StoreDb), &entries[..1]), None);
    }

    #[test]
    fn filters_choose_by_flow_and_outcome() {
        let record = record(3, Body::Whole(Vec::new()));
        let event = MessageEvent::from_result(&result(Action::StoreDb), &record, NOW_US).unwrap();
        let matches = |flow: Option<&str>, outcomes: &[MessageOutcome]| {
            EventFilter { flow: flow.map(str::to_owned), outcomes: outcomes.to_vec() }.matches(&event)
        };
        assert!(matches(None, &[]) && matches(Some("F"), &[MessageOutcome::Dead, MessageOutcome::Stored]));
        assert!(!matches(Some("G"), &[]) && !matches(None, &[MessageOutcome::Dead]));
    }

    proptest! {
        #[test]
        fn beginnings_are_bounded_and_whole(text in "[a-zé€🦀]{0,600}") {
            let (shown, is_cut) = beginning(text.as_bytes());
            prop_assert!(shown.len() <= MAX_EVENT_TEXT_BYTES && text.starts_with(&shown));
            prop_assert_eq!(is_cut, shown.len() < text.len());
            prop_assert!(!is_cut || shown.len() + 4 > MAX_EVENT_TEXT_BYTES);
        }

        #[test]
        fn any_bytes_can_be_shown(bytes in proptest::collection::vec(any::<u8>(), 0..2000)) {
            prop_assert!(beginning(&bytes).0.len() <= 3 * MAX_EVENT_TEXT_BYTES);
        }

        #[test]
        fn events_are_read_as_they_are_written(topic: String, payload: Vec<u8>) {
            let record = Record { topic, ..record(3, Body::Whole(payload)) };
            let event = MessageEvent::from_result(&result(Action::StoreDb), &record, NOW_US).unwrap();
            let text = serde_json::to_string(&event).unwrap();
            prop_assert_eq!(serde_json::from_str::<MessageEvent>(&text).unwrap(), event);
        }
    }
}
