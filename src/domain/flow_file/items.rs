//! The parts of a file as they are written. The JSON Schema for editors follows from these types.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, schema_for};
use serde::Deserialize;
use serde_json::{Map, Value};

use crate::domain::flow_options::FlowOptions;

/// Flows as code: a file for `mqtt-gateway flows apply`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[allow(dead_code, reason = "describes the file as a whole; its items are read one by one")]
pub(super) struct FlowsDocument {
    /// The flows, each with a code of its own.
    pub flows: Vec<FlowItem>,
    /// The brokers.
    pub servers: Vec<ServerItem>,
    /// Messages and their expected outcomes, for `mqtt-gateway flows test FILE`.
    pub tests: Vec<TestItem>,
}

/// Names of the lists of a file.
pub(super) const SECTIONS: [&str; 3] = ["flows", "servers", "tests"];

/// A flow, with the names of its columns.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct FlowItem {
    /// Unique name.
    pub code: String,
    /// Text for people.
    #[serde(default)]
    pub description: String,
    /// MQTT topic filter.
    pub topic: String,
    /// `STORE_DB` or `POST_ENDPOINT`.
    #[schemars(extend("enum" = ["STORE_DB", "POST_ENDPOINT"]))]
    pub action: String,
    /// Required fields and their types, or a JSON Schema.
    #[serde(default)]
    pub payload_schema: Option<Map<String, Value>>,
    /// URL that messages are posted to. Parts that are `***` stay as they are in the row.
    #[serde(default)]
    pub endpoint_url: Option<String>,
    /// Options. A secret that is `***` stays as it is in the row.
    #[serde(default)]
    #[schemars(with = "Option<FlowOptions>")]
    pub options: Option<Map<String, Value>>,
    /// Location of the message key: a JSON pointer, or `property:NAME`.
    #[serde(default)]
    pub message_key: Option<String>,
    /// Whether the flow gets messages.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// A broker, with the names of its columns.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct ServerItem {
    /// Host name or address. Together with the port it says which row is meant.
    pub host: String,
    /// Port; 1883 by default, with TLS 8883.
    #[serde(default)]
    #[schemars(range(min = 1, max = 65_535))]
    pub port: Option<u16>,
    /// User name, or a reference to it.
    #[serde(default)]
    pub username: Option<String>,
    /// Reference to the password, or `***` to keep the password of the row.
    #[serde(default)]
    pub password: Option<String>,
    /// Whether the broker is used.
    #[serde(default = "yes")]
    pub enabled: bool,
    /// Whether it comes before the others.
    #[serde(default)]
    pub is_default: bool,
    /// Whether the connection is encrypted.
    #[serde(default)]
    pub tls: bool,
    /// PEM file of authorities.
    #[serde(default)]
    pub ca_file: Option<String>,
    /// PEM file of a certificate.
    #[serde(default)]
    pub client_cert_file: Option<String>,
    /// PEM file of its key.
    #[serde(default)]
    pub client_key_file: Option<String>,
    /// Required version of MQTT: `5` or `3.1.1`.
    #[serde(default)]
    pub protocol_version: Option<String>,
}

/// A message, and one of `rows`, `request` and `reason`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, expecting = "a mapping")]
pub(super) struct TestItem {
    /// Name of the test.
    pub name: String,
    /// Code of the flow. May be left out if only one flow of the file matches the topic.
    #[serde(default)]
    pub flow: Option<String>,
    /// Topic of the message.
    pub topic: String,
    /// Payload: a text as it is, anything else as JSON.
    pub payload: Value,
    /// Expected rows of `data`: the value of each attribute. All of them are compared.
    #[serde(default)]
    pub rows: Option<Map<String, Value>>,
    /// Expected request. Only given members are compared.
    #[serde(default)]
    pub request: Option<ExpectedRequest>,
    /// Expected reason of the dead letter, such as `validation_failed`.
    #[serde(default)]
    pub reason: Option<String>,
}

/// The expected request of a flow that posts. Only given members are compared.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, expecting = "a mapping")]
pub struct ExpectedRequest {
    /// The method, such as `POST`.
    pub method: Option<String>,
    /// The URL, with `***` for the parts that are secret.
    pub url: Option<String>,
    /// Values of headers.
    pub headers: BTreeMap<String, String>,
    /// The body: a text is compared as it is, anything else as JSON.
    pub body: Option<Value>,
}

fn yes() -> bool {
    true
}

/// The JSON Schema of a file.
#[must_use]
pub(super) fn schema() -> Schema {
    schema_for!(FlowsDocument)
}
