//! How dead letters are shown.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;

use crate::cli::output::{fields, table};
use crate::cli::time_argument::shown_time;
use crate::domain::dead_letter::{DeadLetter, DeadLetterReason};
use crate::store::{LetterCount, LetterSummary};

/// A row of the list. The names are those of the columns.
#[derive(Debug, Serialize)]
pub(super) struct SummaryView {
    id: i64,
    occurred_at: String,
    flow_code: Option<String>,
    reason: String,
    topic: String,
    message_id: Option<i64>,
    payload_bytes: u64,
    detail: Option<String>,
}

/// The number of dead letters of a flow with a reason.
#[derive(Debug, Serialize)]
pub(super) struct CountView {
    flow_code: Option<String>,
    reason: String,
    count: u64,
}

/// A whole dead letter. The names are those of the columns, except for the two forms of the payload.
#[derive(Debug, Serialize)]
pub(super) struct LetterView {
    id: i64,
    occurred_at: String,
    received_at: String,
    inbox_id: String,
    inbox_offset: u64,
    flow_id: Option<i64>,
    flow_code: Option<String>,
    message_id: Option<i64>,
    topic: String,
    reason: String,
    detail: Option<String>,
    remedy: Option<&'static str>,
    /// Why it cannot be replayed.
    not_replayable: Option<String>,
    recent_attempts: Option<Value>,
    payload_bytes: u64,
    /// The payload, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload: Option<String>,
    /// The payload, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    payload_base64: Option<String>,
}

impl SummaryView {
    pub(super) fn new(letter: &LetterSummary) -> Self {
        Self {
            id: letter.id,
            occurred_at: shown_time(letter.occurred_at_us),
            flow_code: letter.flow_code.clone(),
            reason: letter.reason.clone(),
            topic: letter.topic.clone(),
            message_id: letter.message_id,
            payload_bytes: letter.payload_bytes,
            detail: letter.detail.clone(),
        }
    }
}

impl LetterView {
    pub(super) fn new(letter: &DeadLetter) -> Self {
        let payload = String::from_utf8(letter.payload.clone());
        let attempts = letter.recent_attempts.as_deref();
        Self {
            id: letter.id,
            occurred_at: shown_time(letter.occurred_at_us),
            received_at: shown_time(letter.received_at_us),
            inbox_id: letter.inbox_id.clone(),
            inbox_offset: letter.inbox_offset,
            flow_id: letter.flow_id,
            flow_code: letter.flow_code.clone(),
            message_id: letter.message_id,
            topic: letter.topic.clone(),
            reason: letter.reason.clone(),
            detail: letter.detail.clone(),
            remedy: DeadLetterReason::parse(&letter.reason).map(DeadLetterReason::remedy),
            not_replayable: letter.check_replayable().err().map(|cause| cause.to_string()),
            recent_attempts: attempts
                .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))),
            payload_bytes: letter.payload_bytes,
            payload_base64: payload.is_err().then(|| STANDARD.encode(&letter.payload)),
            payload: payload.ok(),
        }
    }
}

pub(super) fn count_views(counts: &[LetterCount]) -> Vec<CountView> {
    let view = |count: &LetterCount| CountView {
        flow_code: count.flow_code.clone(),
        reason: count.reason.clone(),
        count: count.rows,
    };
    counts.iter().map(view).collect()
}

pub(super) fn list_table(letters: &[SummaryView]) -> String {
    let row = |letter: &SummaryView| {
        vec![
            letter.id.to_string(),
            letter.occurred_at.clone(),
            letter.flow_code.clone().unwrap_or_default(),
            letter.reason.clone(),
            letter.topic.clone(),
            letter.detail.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = letters.iter().map(row).collect();
    table(&["ID", "DEAD SINCE", "FLOW", "REASON", "TOPIC", "DETAIL"], &rows)
}

pub(super) fn count_table(counts: &[CountView]) -> String {
    let row = |count: &CountView| {
        vec![count.flow_code.clone().unwrap_or_default(), count.reason.clone(), count.count.to_string()]
    };
    let rows: Vec<Vec<String>> = counts.iter().map(row).collect();
    table(&["FLOW", "REASON", "COUNT"], &rows)
}

pub(super) fn show_text(letter: &LetterView) -> String {
    let number = |number: Option<i64>| number.map(|number| number.to_string()).unwrap_or_default();
    let (form, payload) = match (&letter.payload, &letter.payload_base64) {
        (Some(text), _) => ("payload", text.clone()),
        (None, bytes) => ("payload (base64)", bytes.clone().unwrap_or_default()),
    };
    let attempts = letter.recent_attempts.as_ref().map(Value::to_string).unwrap_or_default();
    let mut shown = vec![
        ("id", letter.id.to_string()),
        ("dead since", letter.occurred_at.clone()),
        ("received", letter.received_at.clone()),
        ("inbox, offset", format!("{}, {}", letter.inbox_id, letter.inbox_offset)),
        ("flow", letter.flow_code.clone().unwrap_or_default()),
        ("flow id", number(letter.flow_id)),
        ("sequence number", number(letter.message_id)),
        ("topic", letter.topic.clone()),
        ("reason", letter.reason.clone()),
        ("detail", letter.detail.clone().unwrap_or_default()),
        ("remedy", letter.remedy.unwrap_or_default().to_owned()),
        ("not replayable", letter.not_replayable.clone().unwrap_or_default()),
        ("recent attempts", attempts),
        ("payload bytes", letter.payload_bytes.to_string()),
        (form, payload),
    ];
    shown.retain(|(_, value)| !value.is_empty());
    fields(&shown)
}
