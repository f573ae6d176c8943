//! Tables and texts of flows.

use serde_json::Value;

use crate::cli::output::{fields, table};
use crate::control::view::{FlowDetailsView, FlowView};

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
pub(super) fn show_fields(FlowDetailsView { flow, waiting_posts }: &FlowDetailsView) -> String {
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
