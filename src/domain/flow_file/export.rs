//! A file of the rows of the tables, without secrets.

use serde_json::Value;

use super::place::Place;
use super::tree::{NodeMember, NodeValue, YamlNode};
use super::write;
use crate::domain::flow_definition::FlowRecord;
use crate::domain::masking::{MaskedFlow, MaskedServer};
use crate::domain::server_definition::ServerRecord;

const HEAD: &str = "\
# Written by `mqtt-gateway flows export`. A secret is shown as ***, which stands for the value that the row has.
";

/// Flows and brokers as a file.
#[derive(Debug)]
pub struct Exported(YamlNode);

impl Exported {
    /// Takes flows and, if there is a list of them, brokers. Columns with their default are left out.
    #[must_use]
    pub fn new<'r>(
        flows: impl IntoIterator<Item = &'r FlowRecord>,
        servers: Option<&[ServerRecord]>,
    ) -> Self {
        let flows = flows.into_iter().map(|flow| flow_node(&MaskedFlow::new(&flow.definition))).collect();
        let mut document = vec![member("flows", NodeValue::List(flows))];
        if let Some(servers) = servers {
            let servers = servers.iter().map(|server| server_node(&MaskedServer::new(&server.definition)));
            document.push(member("servers", NodeValue::List(servers.collect())));
        }
        Self(NodeValue::Map(document).into())
    }

    /// The file.
    #[must_use]
    pub fn to_yaml(&self) -> String {
        format!("{HEAD}{}", write::document(&self.0))
    }

    /// The same as JSON, which is YAML as well.
    #[must_use]
    pub fn to_json(&self) -> Value {
        self.0.to_value()
    }
}

fn flow_node(flow: &MaskedFlow) -> YamlNode {
    let mut members = vec![text("code", &flow.code)];
    if !flow.description.is_empty() {
        members.push(text("description", &flow.description));
    }
    members.extend([text("topic", &flow.topic), text("action", &flow.action)]);
    members.extend(json("payload_schema", flow.payload_schema.as_deref()));
    members.extend(optional("endpoint_url", flow.endpoint_url.as_deref()));
    members.extend(json("options", flow.options.as_deref()));
    members.extend(optional("message_key", flow.message_key.as_deref()));
    if flow.enabled != Some(true) {
        members.push(member("enabled", NodeValue::Bool(false)));
    }
    NodeValue::Map(members).into()
}

fn server_node(server: &MaskedServer) -> YamlNode {
    let mut members = vec![text("host", &server.host)];
    members.extend(server.port.map(|port| member("port", NodeValue::Number(port.into()))));
    members.extend(optional("username", server.username.as_deref()));
    members.extend(optional("password", server.password.as_deref()));
    if server.enabled != Some(true) {
        members.push(member("enabled", NodeValue::Bool(false)));
    }
    for (name, flag) in [("is_default", server.is_default), ("tls", server.tls)] {
        members.extend((flag == Some(true)).then(|| member(name, NodeValue::Bool(true))));
    }
    for (name, value) in [
        ("ca_file", &server.ca_file),
        ("client_cert_file", &server.client_cert_file),
        ("client_key_file", &server.client_key_file),
        ("protocol_version", &server.protocol_version),
    ] {
        members.extend(optional(name, value.as_deref()));
    }
    NodeValue::Map(members).into()
}

fn member(name: &str, value: NodeValue) -> NodeMember {
    NodeMember { name: name.to_owned(), at: Place::default(), value: value.into() }
}

fn text(name: &str, text: &str) -> NodeMember {
    member(name, NodeValue::Text(text.to_owned()))
}

/// Nothing for a blank text: it counts as none.
fn optional(name: &str, value: Option<&str>) -> Option<NodeMember> {
    value.filter(|value| !value.trim().is_empty()).map(|value| text(name, value))
}

/// A JSON text as its value; any other text as a text.
fn json(name: &str, value: Option<&str>) -> Option<NodeMember> {
    let value = value.filter(|value| !value.trim().is_empty())?;
    let node = YamlNode::from_json(value).unwrap_or_else(|| NodeValue::Text(value.to_owned()).into());
    (node.value != NodeValue::Null).then(|| NodeMember {
        name: name.to_owned(),
        at: Place::default(),
        value: node,
    })
}
