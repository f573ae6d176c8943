//! Bodies of requests about flows.

use serde::Deserialize;
use utoipa::ToSchema;

use super::body::{ApiText, Given, JsonObject, MemberObject, Whole, not_null};
use crate::control::FlowEdit;

/// A flow to add.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewFlowBody {
    /// Unique name.
    pub(super) code: ApiText,
    /// MQTT topic filter.
    topic: ApiText,
    /// `STORE_DB` or `POST_ENDPOINT`.
    action: ApiText,
    /// Required fields and their types, or a JSON Schema.
    payload_schema: Option<JsonObject>,
    /// URL that messages are posted to.
    endpoint_url: Option<ApiText>,
    /// Options; `mqtt-gateway schema` prints their schema.
    options: Option<JsonObject>,
    /// Place of the producer's key.
    message_key: Option<ApiText>,
    /// Text for people.
    description: Option<ApiText>,
    /// Whether the flow gets messages; true by default.
    enabled: Option<bool>,
    /// Begin after this sequence number. Without it, the numbers of a removed flow with this code go on.
    #[schema(value_type = Option<i64>, minimum = 0, maximum = 9_000_000_000_000_000_000_i64)]
    pub(super) last_msg_id: Option<Whole>,
}

/// The columns of a flow to change. `***` stands for the secret that the row has.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowPatch {
    /// MQTT topic filter.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    topic: Option<ApiText>,
    /// `STORE_DB` or `POST_ENDPOINT`.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    action: Option<ApiText>,
    /// Required fields and their types, or a JSON Schema; null requires nothing.
    #[serde(default)]
    #[schema(value_type = Option<JsonObject>)]
    payload_schema: Given<JsonObject>,
    /// URL that messages are posted to; null clears it.
    #[serde(default)]
    #[schema(value_type = Option<ApiText>)]
    endpoint_url: Given<ApiText>,
    /// Options; null clears them.
    #[serde(default)]
    #[schema(value_type = Option<JsonObject>)]
    options: Given<JsonObject>,
    /// Place of the producer's key; null clears it.
    #[serde(default)]
    #[schema(value_type = Option<ApiText>)]
    message_key: Given<ApiText>,
    /// Text for people; null clears it.
    #[serde(default)]
    #[schema(value_type = Option<ApiText>)]
    description: Given<ApiText>,
    /// Whether the flow gets messages.
    #[serde(default, deserialize_with = "not_null")]
    #[schema(nullable = false)]
    enabled: Option<bool>,
}

/// A message to rehearse. Missing parts are made up from the flow.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct FlowTestBody {
    /// Its topic.
    pub(super) topic: Option<String>,
    /// Its payload.
    pub(super) payload: Option<String>,
    /// Tests the newest message of the flow in the inbox of this gateway instead.
    pub(super) last: Option<bool>,
    /// Columns that count for this test only.
    #[schema(value_type = Option<FlowPatch>)]
    pub(super) draft: Option<MemberObject<FlowPatch>>,
    /// Whether the flow is not added yet, and has only the columns of `draft`.
    pub(super) new: Option<bool>,
}

/// The entry of the history to go back to.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Rollback {
    /// Number of the entry.
    #[schema(value_type = i64, minimum = 0, maximum = 9_000_000_000_000_000_000_i64)]
    pub(super) to: Whole,
}

impl NewFlowBody {
    pub(super) fn edit(self) -> FlowEdit {
        FlowEdit {
            description: text(self.description),
            topic: Some(self.topic.0),
            action: Some(self.action.0),
            payload_schema: object(self.payload_schema),
            endpoint_url: text(self.endpoint_url),
            options: object(self.options),
            message_key: text(self.message_key),
            enabled: self.enabled,
        }
    }
}

impl FlowPatch {
    pub(super) fn edit(self) -> FlowEdit {
        // An empty text clears a column.
        FlowEdit {
            description: self.description.or_cleared(String::new(), |description| description.0),
            topic: text(self.topic),
            action: text(self.action),
            payload_schema: self.payload_schema.or_cleared("{}".to_owned(), |schema| schema.0),
            endpoint_url: self.endpoint_url.or_cleared(String::new(), |url| url.0),
            options: self.options.or_cleared(String::new(), |options| options.0),
            message_key: self.message_key.or_cleared(String::new(), |key| key.0),
            enabled: self.enabled,
        }
    }
}

fn text(text: Option<ApiText>) -> Option<String> {
    text.map(|text| text.0)
}

fn object(object: Option<JsonObject>) -> Option<String> {
    object.map(|object| object.0)
}
