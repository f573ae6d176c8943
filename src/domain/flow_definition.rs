//! A flow as its row defines it, unparsed.

use std::fmt;

use super::message::FlowId;

/// The columns of a flow that people write, as they are. Without a derived `Debug`, because URL and options may contain
/// secrets.
#[derive(Clone, Default, PartialEq, Eq)]
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

/// An edit of a flow that is not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FlowDraft {
    /// The flow.
    pub flow: FlowId,
    /// The flow as it was read.
    pub old: FlowDefinition,
    /// The flow after the edit.
    pub new: FlowDefinition,
}
