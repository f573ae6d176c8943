//! How dead letters and the results of replays are shown.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::json_or_text;
use crate::control::time_text::shown_time;
use crate::domain::dead_letter::{DeadLetter, DeadLetterReason, ReplayOutcome, ReplayedLetter};
use crate::domain::flow_definition::FlowRecord;
use crate::store::{LetterCount, LetterSummary};

/// A row of the list, with the names of its columns.
#[derive(Debug, Serialize, ToSchema)]
pub struct LetterSummaryView {
    /// Key of the row.
    pub id: i64,
    /// When the message became a dead letter.
    pub occurred_at: String,
    /// Code of the flow at that time.
    pub flow_code: Option<String>,
    /// The reason, a keyword.
    pub reason: String,
    /// Its topic.
    pub topic: String,
    /// Its sequence number, if it had one.
    pub message_id: Option<i64>,
    /// Length of the whole payload.
    pub payload_bytes: u64,
    /// The reason in a sentence.
    pub detail: Option<String>,
}

/// The number of dead letters of a flow with a reason.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LetterCountView {
    /// Code of the flow.
    pub flow_code: Option<String>,
    /// The reason, a keyword.
    pub reason: String,
    /// Number of rows.
    pub count: u64,
}

/// A whole dead letter, with the names of its columns, except for the two forms of the payload.
#[derive(Debug, Serialize, ToSchema)]
pub struct LetterView {
    /// Key of the row.
    pub id: i64,
    /// When the message became a dead letter.
    pub occurred_at: String,
    /// When the gateway received it.
    pub received_at: String,
    /// The inbox that received it.
    pub inbox_id: String,
    /// Its place in that inbox.
    pub inbox_offset: u64,
    /// Key of the flow.
    pub flow_id: Option<i64>,
    /// Code of the flow at that time.
    pub flow_code: Option<String>,
    /// Its sequence number, if it had one.
    pub message_id: Option<i64>,
    /// Its topic.
    pub topic: String,
    /// The reason, a keyword.
    pub reason: String,
    /// The reason in a sentence.
    pub detail: Option<String>,
    /// The remedy.
    pub remedy: Option<&'static str>,
    /// Why it cannot be replayed.
    pub not_replayable: Option<String>,
    /// Its last failed attempts to post.
    pub recent_attempts: Option<Value>,
    /// Length of the whole payload.
    pub payload_bytes: u64,
    /// The payload, if it is UTF-8.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload: Option<String>,
    /// The payload, if it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub payload_base64: Option<String>,
}

impl LetterSummaryView {
    /// The document of a row.
    #[must_use]
    pub fn new(letter: &LetterSummary) -> Self {
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

impl LetterCountView {
    /// The document of a count.
    #[must_use]
    pub fn new(count: &LetterCount) -> Self {
        let LetterCount { flow_code, reason, rows } = count.clone();
        Self { flow_code, reason, count: rows }
    }
}

impl LetterView {
    /// The document of a dead letter whose flow is known, or known to be removed.
    #[must_use]
    pub fn with_flow(letter: &DeadLetter, flow: Option<&FlowRecord>) -> Self {
        let view = Self::new(letter);
        let is_removed = letter.flow_id.is_some() && flow.is_none();
        // The remedy of its reason is about the flow.
        let remedy = if is_removed { Some(DeadLetterReason::FlowDeleted.remedy()) } else { view.remedy };
        Self { remedy, ..view }
    }

    /// The document of a dead letter.
    #[must_use]
    pub fn new(letter: &DeadLetter) -> Self {
        let payload = String::from_utf8(letter.payload.clone());
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
            remedy: DeadLetterReason::from_name(&letter.reason).map(DeadLetterReason::remedy),
            not_replayable: letter.check_replayable().err().map(|cause| cause.to_string()),
            recent_attempts: letter.recent_attempts.as_deref().map(json_or_text),
            payload_bytes: letter.payload_bytes,
            payload_base64: payload.is_err().then(|| STANDARD.encode(&letter.payload)),
            payload: payload.ok(),
        }
    }
}

/// Outcomes of a replay by name and reason.
#[derive(Debug, Default)]
pub struct ReplayTally {
    letters: u64,
    replayed: u64,
    counts: BTreeMap<(&'static str, Option<&'static str>), TallyRow>,
}

/// A kind of outcome, with the first letter that had it.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct TallyRow {
    /// What became of the message.
    pub outcome: &'static str,
    /// The reason of a dead letter that was refused again.
    pub reason: Option<&'static str>,
    /// Number of outcomes.
    pub count: u64,
    /// Key of the first dead letter with it.
    pub first_id: i64,
    /// Its detail.
    pub detail: Option<String>,
}

impl ReplayTally {
    /// Counts the outcomes of a step.
    pub fn add(&mut self, letters: &[ReplayedLetter]) {
        self.letters += letters.len() as u64;
        for letter in letters {
            self.replayed += u64::from(letter.outcomes.iter().any(ReplayOutcome::is_replayed));
            for outcome in &letter.outcomes {
                self.add_outcome(letter.id, outcome);
            }
        }
    }

    fn add_outcome(&mut self, id: i64, outcome: &ReplayOutcome) {
        let (name, reason) = (outcome.as_str(), outcome.reason());
        let row = self.counts.entry((name, reason)).or_insert_with(|| TallyRow {
            outcome: name,
            reason,
            count: 0,
            first_id: id,
            detail: outcome.detail(),
        });
        row.count += 1;
    }

    /// Number of dead letters. A letter for several flows has several outcomes.
    #[must_use]
    pub fn letters(&self) -> u64 {
        self.letters
    }

    /// Number of dead letters that are gone by the replay, for one flow at least.
    #[must_use]
    pub fn replayed(&self) -> u64 {
        self.replayed
    }

    /// The outcomes, sorted.
    #[must_use]
    pub fn rows(&self) -> Vec<TallyRow> {
        self.counts.values().cloned().collect()
    }

    /// Whether all letters were replayed. A missing letter counts as a failure if it was asked for by its id.
    #[must_use]
    pub fn is_success(&self, by_ids: bool) -> bool {
        let fails = |row: &TallyRow| match row.outcome {
            "refused" | "not_replayable" => true,
            "gone" => by_ids,
            _ => false,
        };
        !self.counts.values().any(fails)
    }
}
