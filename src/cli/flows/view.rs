//! How a flow is shown: without secrets.

use serde::Serialize;
use serde_json::Value;

use crate::cli::output::{fields, table};
use crate::domain::flow_definition::FlowRecord;
use crate::domain::redaction::{shown_options, shown_url};

/// A flow as it is shown. The names are those of the columns.
#[derive(Debug, Serialize)]
pub(super) struct FlowView {
    code: String,
    description: String,
    topic: String,
    action: String,
    /// JSON, or a text that is none.
    payload_schema: Option<Value>,
    endpoint_url: Option<String>,
    options: Option<Value>,
    message_key: Option<String>,
    enabled: Option<bool>,
    last_msg_id: Option<i64>,
}

impl FlowView {
    pub(super) fn new(flow: &FlowRecord) -> Self {
        let FlowRecord { definition, last_msg_id, .. } = flow;
        let schema = definition.payload_schema.as_deref();
        Self {
            code: definition.code.clone(),
            description: definition.description.clone(),
            topic: definition.topic.clone(),
            action: definition.action.clone(),
            payload_schema: schema
                .map(|text| serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))),
            endpoint_url: present(definition.endpoint_url.as_deref()).map(shown_url),
            options: present(definition.options.as_deref()).map(shown_options),
            message_key: definition.message_key.clone(),
            enabled: definition.enabled,
            last_msg_id: *last_msg_id,
        }
    }
}

fn present(text: Option<&str>) -> Option<&str> {
    text.filter(|text| !text.trim().is_empty())
}

fn shown_flag(enabled: Option<bool>) -> String {
    match enabled {
        Some(true) => "yes",
        Some(false) => "no",
        None => "no (NULL)",
    }
    .to_owned()
}

fn number(number: Option<i64>) -> String {
    number.unwrap_or(0).to_string()
}

/// One line for each flow.
pub(super) fn list_table(flows: &[FlowView]) -> String {
    let row = |flow: &FlowView| {
        vec![
            flow.code.clone(),
            shown_flag(flow.enabled),
            flow.action.clone(),
            flow.topic.clone(),
            number(flow.last_msg_id),
            flow.endpoint_url.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = flows.iter().map(row).collect();
    table(&["CODE", "ENABLED", "ACTION", "TOPIC", "LAST_MSG_ID", "ENDPOINT"], &rows)
}

/// One line for each column of a flow.
pub(super) fn show_fields(flow: &FlowView, waiting_posts: u64) -> String {
    let json = |value: &Option<Value>| value.as_ref().map(Value::to_string);
    let text = |value: Option<String>| value.unwrap_or_else(|| "NULL".to_owned());
    fields(&[
        ("code", flow.code.clone()),
        ("description", flow.description.clone()),
        ("topic", flow.topic.clone()),
        ("action", flow.action.clone()),
        ("payload_schema", text(json(&flow.payload_schema))),
        ("endpoint_url", text(flow.endpoint_url.clone())),
        ("options", text(json(&flow.options))),
        ("message_key", text(flow.message_key.clone())),
        ("enabled", shown_flag(flow.enabled)),
        ("last_msg_id", number(flow.last_msg_id)),
        ("waiting posts", waiting_posts.to_string()),
    ])
}
