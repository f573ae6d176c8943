//! Tables and texts of dead letters.

use serde_json::Value;

use crate::cli::output::{fields, table};
use crate::control::view::{LetterCountView, LetterSummaryView, LetterView};

pub(super) fn list_table(letters: &[LetterSummaryView]) -> String {
    let row = |letter: &LetterSummaryView| {
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

pub(super) fn count_table(counts: &[LetterCountView]) -> String {
    let row = |count: &LetterCountView| {
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
