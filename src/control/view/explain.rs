//! How the outcome of a message is shown.

use serde::Serialize;
use utoipa::ToSchema;

use crate::control::{ExplainedFlow, Explanation};
use crate::domain::batch::{ProcessError, Rejection};
use crate::domain::processing::TrialResult;

/// The outcome of a message.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplanationView {
    /// Its topic.
    pub topic: String,
    /// The flows, in the order of their ids.
    pub flows: Vec<ExplainedFlowView>,
    /// The dead letter of a payload that is invalid for every flow.
    pub dead_letter: Option<RejectionView>,
}

/// The outcome of a message in one flow.
#[derive(Debug, Serialize, ToSchema)]
pub struct ExplainedFlowView {
    /// Code of the flow.
    pub code: String,
    /// Its topic filter.
    pub filter: String,
    /// `matches`, `disabled`, `refused_by_broker`, `invalid_filter`, `near_miss` or `no_match`.
    pub verdict: &'static str,
    /// The verdict in a sentence.
    pub explanation: String,
    /// What the flow does with the payload, if it gets it.
    pub outcome: Option<MessageOutcomeView>,
}

/// What a flow does with a payload.
#[derive(Debug, Serialize, ToSchema)]
pub struct MessageOutcomeView {
    /// Sequence number that the message would get.
    pub message_id: Option<i64>,
    /// Number of rows of `data`.
    pub rows: usize,
    /// Whether the message would be posted.
    pub posted: bool,
    /// The dead letter that the message would become.
    pub dead_letter: Option<RejectionView>,
}

/// Why a message would become a dead letter.
#[derive(Debug, Serialize, ToSchema)]
pub struct RejectionView {
    /// The reason, a keyword.
    pub reason: String,
    /// The reason in a sentence.
    pub detail: String,
}

/// A message that was published.
#[derive(Debug, Serialize, ToSchema)]
pub struct PublishedView {
    /// Its topic.
    pub topic: String,
    /// Length of its payload.
    pub bytes: usize,
    /// Address of the broker that acknowledged it.
    pub broker: String,
}

impl ExplanationView {
    /// The document of an explanation.
    #[must_use]
    pub fn new(topic: &str, Explanation { flows, payload_rejection }: &Explanation) -> Self {
        Self {
            topic: topic.to_owned(),
            flows: flows.iter().map(ExplainedFlowView::new).collect(),
            dead_letter: payload_rejection.as_ref().map(RejectionView::new),
        }
    }
}

impl ExplainedFlowView {
    fn new(ExplainedFlow { flow, verdict, trial }: &ExplainedFlow) -> Self {
        Self {
            code: flow.definition.code.clone(),
            filter: flow.definition.topic.clone(),
            verdict: verdict.name(),
            explanation: verdict.to_string(),
            outcome: trial.as_ref().map(MessageOutcomeView::new),
        }
    }
}

impl MessageOutcomeView {
    fn new(TrialResult { result, rows, is_posted }: &TrialResult) -> Self {
        let none = |message_id, dead_letter| Self { message_id, rows: 0, posted: false, dead_letter };
        match result {
            Ok(done) => {
                Self { message_id: Some(done.message_id), rows: *rows, posted: *is_posted, dead_letter: None }
            }
            Err(ProcessError::Rejected(rejection)) => {
                none(rejection.message_id, Some(RejectionView::new(rejection)))
            }
            Err(ProcessError::Repeated { message_id, .. }) => none(Some(*message_id), None),
        }
    }
}

impl RejectionView {
    fn new(Rejection { reason, detail, .. }: &Rejection) -> Self {
        Self { reason: reason.to_string(), detail: detail.clone() }
    }
}
