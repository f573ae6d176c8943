//! How brokers are shown.

use serde::Serialize;
use utoipa::ToSchema;

use crate::control::EditedServer;
use crate::control::broker::BrokerProbe;
use crate::domain::credential::Credential;
use crate::domain::problem::Problem;
use crate::domain::redaction::{shown_path, shown_secret};
use crate::domain::server_definition::ServerRecord;

/// A broker, with the names of its columns.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerView {
    /// Key of the row.
    pub id: i64,
    /// Name or address.
    pub host: String,
    /// Port; NULL for 1883, with TLS 8883.
    pub port: Option<i64>,
    /// User name, or a reference to it.
    pub username: Option<String>,
    /// A reference to the password, or `***`.
    pub password: Option<String>,
    /// Whether the gateway uses it.
    pub enabled: Option<bool>,
    /// Whether it comes first.
    pub is_default: Option<bool>,
    /// Whether the connection is encrypted.
    pub tls: Option<bool>,
    /// File with the authorities that sign its certificate, or `***` if it is no absolute path.
    pub ca_file: Option<String>,
    /// File with the gateway's certificate, or `***` likewise.
    pub client_cert_file: Option<String>,
    /// File with the key of that certificate, or `***` likewise.
    pub client_key_file: Option<String>,
    /// The only version of MQTT to use.
    pub protocol_version: Option<String>,
}

/// An edit of a broker that was made.
#[derive(Debug, Serialize, ToSchema)]
pub struct EditedServerView {
    /// The row as it is now.
    pub server: ServerView,
    /// Whether the row was changed at all.
    pub changed: bool,
    /// Warnings about it.
    pub problems: Vec<Problem>,
}

/// What a connection to a broker showed.
#[derive(Debug, Serialize, ToSchema)]
pub struct ServerTestView {
    /// Key of the row.
    pub id: i64,
    /// Whether the broker can be used.
    pub ok: bool,
    /// What was found.
    pub message: String,
    /// The remedy.
    pub remedy: Option<&'static str>,
    /// Certificates that expire soon.
    pub warnings: Vec<String>,
}

impl ServerView {
    /// The document of a row.
    #[must_use]
    pub fn new(ServerRecord { id, definition }: &ServerRecord) -> Self {
        let definition = definition.clone();
        let path = |path: Option<String>| path.map(|path| shown_path(&path).to_owned());
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
            ca_file: path(definition.ca_file),
            client_cert_file: path(definition.client_cert_file),
            client_key_file: path(definition.client_key_file),
            protocol_version: definition.protocol_version,
        }
    }
}

impl EditedServerView {
    /// The document of an edit.
    #[must_use]
    pub fn new(EditedServer { server, changed, warnings }: &EditedServer) -> Self {
        Self { server: ServerView::new(server), changed: *changed, problems: warnings.clone() }
    }
}

impl ServerTestView {
    /// The document of a probe.
    #[must_use]
    pub fn new(id: i64, BrokerProbe { result, warnings }: BrokerProbe) -> Self {
        let (ok, message, remedy) = match result {
            Ok(fact) => (true, fact, None),
            Err(fault) => (false, fault.reason, Some(fault.remedy)),
        };
        Self { id, ok, message, remedy, warnings }
    }
}
