//! A flow as its row defines it, unparsed.

use std::fmt;

use serde_json::Value;

use super::message::FlowId;

/// The columns of a flow that people write, as they are. Without a derived `Debug`, because URL and options may contain
/// secrets.
#[derive(Clone, Default, PartialEq, Eq, Hash)]
pub struct FlowDefinition {
    /// Unique name.
    pub code: String,
    /// Text for people.
    pub description: String,
    /// Topic filter.
    pub topic: String,
    /// Action, see [`Action::parse`](super::flow::Action::parse).
    pub action: String,
    /// JSON text of the schema.
    pub payload_schema: Option<String>,
    /// URL of the endpoint.
    pub endpoint_url: Option<String>,
    /// JSON text of the options.
    pub options: Option<String>,
    /// Location of the message key.
    pub message_key: Option<String>,
    /// Whether the flow gets messages; NULL counts as no.
    pub enabled: Option<bool>,
}

impl FlowDefinition {
    /// Whether the gateway subscribes the flow.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        self.enabled == Some(true)
    }

    /// The same flow, with the values of `row` where they mean the same: JSON of another form, blanks for NULL.
    #[must_use]
    pub fn in_form_of(mut self, row: &Self) -> Self {
        if is_same_json(self.payload_schema.as_deref(), row.payload_schema.as_deref()) {
            self.payload_schema.clone_from(&row.payload_schema);
        }
        if is_same_json(self.options.as_deref(), row.options.as_deref()) {
            self.options.clone_from(&row.options);
        }
        keep_blank(&mut self.endpoint_url, row.endpoint_url.as_ref());
        keep_blank(&mut self.message_key, row.message_key.as_ref());
        keep_flag(&mut self.enabled, row.enabled);
        self
    }
}

/// Blank texts and empty objects count as none.
fn is_same_json(one: Option<&str>, other: Option<&str>) -> bool {
    let value = |text: Option<&str>| match text.filter(|text| !text.trim().is_empty()) {
        None => Some(Value::Null),
        Some(text) => {
            let value = serde_json::from_str::<Value>(text).ok()?;
            Some(if value.as_object().is_some_and(serde_json::Map::is_empty) { Value::Null } else { value })
        }
    };
    value(one).is_some_and(|one| Some(one) == value(other))
}

/// Keeps the value of a row if both count as none.
pub(super) fn keep_blank(text: &mut Option<String>, row: Option<&String>) {
    let is_blank = |text: Option<&String>| text.is_none_or(|text| text.trim().is_empty());
    if is_blank(text.as_ref()) && is_blank(row) {
        *text = row.cloned();
    }
}

/// Keeps the value of a row if both count as the same: NULL is no.
pub(super) fn keep_flag(flag: &mut Option<bool>, row: Option<bool>) {
    if flag.unwrap_or(false) == row.unwrap_or(false) {
        *flag = row;
    }
}

impl fmt::Debug for FlowDefinition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FlowDefinition")
            .field("code", &self.code)
            .field("topic", &self.topic)
            .field("action", &self.action)
            .field("enabled", &self.enabled)
            .finish_non_exhaustive()
    }
}

/// A row of `flows`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowRecord {
    /// Primary key.
    pub id: FlowId,
    /// The columns that people write.
    pub definition: FlowDefinition,
    /// Last sequence number; NULL counts as 0.
    pub last_msg_id: Option<i64>,
}

impl FlowRecord {
    /// The sequence number of the next message.
    #[must_use]
    pub fn next_msg_id(&self) -> i64 {
        self.last_msg_id.unwrap_or(0).saturating_add(1)
    }
}

/// A flow that is not saved yet: an edited one, or a new one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowDraft {
    /// The flow; [`UNSAVED_FLOW`] for a new one.
    pub flow: FlowId,
    /// What it changes.
    pub base: DraftBase,
    /// The flow as it is to be saved.
    pub new: FlowDefinition,
}

/// What a draft changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DraftBase {
    /// The flow as it was read.
    Row(FlowDefinition),
    /// Nothing: the flow is new, and its numbers go on after this one.
    New(i64),
}

/// The primary key of a new flow for the time of a rehearsal. No row has it, because the databases count from 1.
pub const UNSAVED_FLOW: FlowId = -1;
