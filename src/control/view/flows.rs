//! How flows and their edits are shown.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::json_or_text;
use crate::control::{CheckedFlow, EditedFlow};
use crate::domain::flow_definition::FlowRecord;
use crate::domain::problem::Problem;
use crate::domain::redaction::{shown_options, shown_url};

/// A flow, with the names of its columns.
#[derive(Debug, Serialize, ToSchema)]
pub struct FlowView {
    /// Unique name.
    pub code: String,
    /// Text for people.
    pub description: String,
    /// MQTT topic filter.
    pub topic: String,
    /// `STORE_DB` or `POST_ENDPOINT`.
    pub action: String,
    /// JSON, or a text that is none.
    pub payload_schema: Option<Value>,
    /// URL that messages are posted to. Secrets are shown as `***`.
    pub endpoint_url: Option<String>,
    /// Options. Secrets are shown as `***`.
    pub options: Option<Value>,
    /// Place of the producer's key.
    pub message_key: Option<String>,
    /// Whether the flow is enabled. NULL counts as no.
    pub enabled: Option<bool>,
    /// Last sequence number.
    pub last_msg_id: Option<i64>,
}

/// A flow, and how many posts wait.
#[derive(Debug, Serialize, ToSchema)]
pub struct FlowDetailsView {
    /// The flow.
    #[serde(flatten)]
    pub flow: FlowView,
    /// Number of its posts that wait in the outbox.
    pub waiting_posts: u64,
}

/// Whether a flow can work.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct FlowVerdictView {
    /// Code of the flow.
    pub code: String,
    /// Whether it can work.
    pub ok: bool,
    /// Its problems, errors first.
    pub problems: Vec<Problem>,
}

/// An edit of a flow that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct EditedFlowView {
    /// Code of the flow.
    pub code: String,
    /// Whether the row was changed at all.
    pub changed: bool,
    /// Sequence number of the first message that the edit concerns.
    pub counts_from: i64,
    /// Warnings about the flow as it is now.
    pub problems: Vec<Problem>,
}

/// A flow that was removed.
#[derive(Debug, Serialize, ToSchema)]
pub struct RemovedFlowView {
    /// Code of the flow.
    pub code: String,
    /// Its last sequence number.
    pub last_msg_id: Option<i64>,
    /// Number of its waiting posts, which become dead letters.
    pub waiting_posts: u64,
}

impl FlowView {
    /// The document of a row.
    #[must_use]
    pub fn new(flow: &FlowRecord) -> Self {
        let FlowRecord { definition, last_msg_id, .. } = flow;
        Self {
            code: definition.code.clone(),
            description: definition.description.clone(),
            topic: definition.topic.clone(),
            action: definition.action.clone(),
            payload_schema: definition.payload_schema.as_deref().map(json_or_text),
            endpoint_url: present(definition.endpoint_url.as_deref()).map(shown_url),
            options: present(definition.options.as_deref()).map(shown_options),
            message_key: definition.message_key.clone(),
            enabled: definition.enabled,
            last_msg_id: *last_msg_id,
        }
    }
}

impl FlowVerdictView {
    /// The document of a check.
    #[must_use]
    pub fn new(CheckedFlow { flow, problems }: &CheckedFlow) -> Self {
        Self {
            code: flow.definition.code.clone(),
            ok: !problems.iter().any(Problem::is_error),
            problems: problems.clone(),
        }
    }
}

impl EditedFlowView {
    /// The document of an edit.
    #[must_use]
    pub fn new(edited: &EditedFlow) -> Self {
        let EditedFlow { code, changed, counts_from, warnings } = edited;
        Self { code: code.clone(), changed: *changed, counts_from: *counts_from, problems: warnings.clone() }
    }
}

fn present(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}
