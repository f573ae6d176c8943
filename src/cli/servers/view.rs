//! How a broker is shown: without secrets.

use serde::Serialize;

use crate::cli::output::{fields, table};
use crate::domain::credential::Credential;
use crate::domain::redaction::shown_secret;
use crate::domain::server_definition::ServerRecord;

/// A broker as it is shown. The names are those of the columns.
#[derive(Debug, Serialize)]
pub(super) struct ServerView {
    id: i64,
    host: String,
    port: Option<i64>,
    username: Option<String>,
    password: Option<String>,
    enabled: Option<bool>,
    is_default: Option<bool>,
    tls: Option<bool>,
    ca_file: Option<String>,
    client_cert_file: Option<String>,
    client_key_file: Option<String>,
    protocol_version: Option<String>,
}

impl ServerView {
    pub(super) fn new(ServerRecord { id, definition }: &ServerRecord) -> Self {
        let definition = definition.clone();
        let text = |text: Option<Credential>| text.map(|text| text.expose().to_owned());
        Self {
            id: *id,
            host: definition.host,
            port: definition.port,
            username: text(definition.username),
            password: text(definition.password)
                .filter(|password| !password.is_empty())
                .map(|password| shown_secret(&password).to_owned()),
            enabled: definition.enabled,
            is_default: definition.is_default,
            tls: definition.tls,
            ca_file: definition.ca_file,
            client_cert_file: definition.client_cert_file,
            client_key_file: definition.client_key_file,
            protocol_version: definition.protocol_version,
        }
    }

    fn port(&self) -> String {
        match self.port {
            Some(port) => port.to_string(),
            None if self.tls == Some(true) => "8883".to_owned(),
            None => "1883".to_owned(),
        }
    }
}

fn shown_flag(flag: Option<bool>) -> String {
    if flag == Some(true) { "yes" } else { "no" }.to_owned()
}

/// One line for each broker.
pub(super) fn list_table(servers: &[ServerView]) -> String {
    let row = |server: &ServerView| {
        vec![
            server.id.to_string(),
            shown_flag(server.enabled),
            shown_flag(server.is_default),
            server.host.clone(),
            server.port(),
            shown_flag(server.tls),
            server.username.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<Vec<String>> = servers.iter().map(row).collect();
    table(&["ID", "ENABLED", "DEFAULT", "HOST", "PORT", "TLS", "USERNAME"], &rows)
}

/// One line for each column.
pub(super) fn show_fields(server: &ServerView) -> String {
    let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "NULL".to_owned());
    fields(&[
        ("id", server.id.to_string()),
        ("host", server.host.clone()),
        ("port", server.port()),
        ("username", text(&server.username)),
        ("password", text(&server.password)),
        ("enabled", shown_flag(server.enabled)),
        ("is_default", shown_flag(server.is_default)),
        ("tls", shown_flag(server.tls)),
        ("ca_file", text(&server.ca_file)),
        ("client_cert_file", text(&server.client_cert_file)),
        ("client_key_file", text(&server.client_key_file)),
        ("protocol_version", text(&server.protocol_version)),
    ])
}
