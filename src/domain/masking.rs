//! Definitions with their secrets masked as `***`, and the way back.
//!
//! One rule for everything that returns a masked definition (a file, the API, the history): `***` stands for the value
//! that the row has in that place. It is never taken literally, and gives no secret that the row does not have.

mod options;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use self::options::{masked_options, restored_options};
use super::credential::Credential;
use super::flow_definition::FlowDefinition;
use super::problem::Problem;
use super::redaction::{HIDDEN, shown_path, shown_secret, shown_url};
use super::server_definition::ServerDefinition;

const REMEDY: &str = "give the value itself, or a reference to it (file:/PATH, env:NAME)";
const REMEDY_OF_FILE: &str = "give the path of the file";

/// A flow whose secrets are masked, with the texts of its columns.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedFlow {
    /// Unique name.
    pub code: String,
    /// Text for people.
    pub description: String,
    /// Topic filter.
    pub topic: String,
    /// Action.
    pub action: String,
    /// JSON text of the schema.
    pub payload_schema: Option<String>,
    /// URL of the endpoint. With `***` for user, password and values of the query.
    pub endpoint_url: Option<String>,
    /// JSON text of the options. With `***` for secrets.
    pub options: Option<String>,
    /// Location of the message key.
    pub message_key: Option<String>,
    /// Whether the flow gets messages.
    pub enabled: Option<bool>,
}

impl MaskedFlow {
    /// Masks the secrets of a flow.
    #[must_use]
    pub fn new(flow: &FlowDefinition) -> Self {
        Self {
            code: flow.code.clone(),
            description: flow.description.clone(),
            topic: flow.topic.clone(),
            action: flow.action.clone(),
            payload_schema: flow.payload_schema.clone(),
            endpoint_url: flow.endpoint_url.as_deref().map(masked_url),
            options: flow.options.as_deref().map(masked_options),
            message_key: flow.message_key.clone(),
            enabled: flow.enabled,
        }
    }

    /// A flow as a person gives it: `***` stands for the value of the row.
    #[must_use]
    pub fn given(flow: FlowDefinition) -> Self {
        Self {
            code: flow.code,
            description: flow.description,
            topic: flow.topic,
            action: flow.action,
            payload_schema: flow.payload_schema,
            endpoint_url: flow.endpoint_url,
            options: flow.options,
            message_key: flow.message_key,
            enabled: flow.enabled,
        }
    }

    /// The flow with `***` taken literally, for checks.
    #[must_use]
    pub fn as_given(&self) -> FlowDefinition {
        self.with_secrets(self.endpoint_url.clone(), self.options.clone())
    }

    /// The flow that it stands for, beside the row as it is at present. Names each `***` without a value in the row.
    pub fn restore(&self, present: Option<&FlowDefinition>) -> Result<FlowDefinition, Vec<Problem>> {
        let mut problems = Vec::new();
        let present_url = present.and_then(|flow| flow.endpoint_url.as_deref());
        let endpoint_url = restored_url(self.endpoint_url.as_deref(), present_url, &mut problems);
        let present_options = present.and_then(|flow| flow.options.as_deref());
        let options = self.options.as_deref().map(|options| restored_options(options, present_options));
        let options = options.transpose().unwrap_or_else(|places| {
            problems.extend(places.iter().map(|place| unknown("options", place)));
            None
        });
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(self.with_secrets(endpoint_url, options))
    }

    fn with_secrets(&self, endpoint_url: Option<String>, options: Option<String>) -> FlowDefinition {
        FlowDefinition {
            code: self.code.clone(),
            description: self.description.clone(),
            topic: self.topic.clone(),
            action: self.action.clone(),
            payload_schema: self.payload_schema.clone(),
            endpoint_url,
            options,
            message_key: self.message_key.clone(),
            enabled: self.enabled,
        }
    }

    /// The columns for programs: schema and options as JSON.
    #[must_use]
    pub fn document(&self) -> Value {
        let parsed = |text: &Option<String>| text.as_deref().map(json_or_text);
        json!({
            "code": self.code,
            "description": self.description,
            "topic": self.topic,
            "action": self.action,
            "payload_schema": parsed(&self.payload_schema),
            "endpoint_url": self.endpoint_url,
            "options": parsed(&self.options),
            "message_key": self.message_key,
            "enabled": self.enabled,
        })
    }
}

/// A broker whose password is masked, and so are names of files that are no paths.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaskedServer {
    /// Host name or address.
    pub host: String,
    /// Port.
    pub port: Option<i64>,
    /// User name, or a reference to it.
    pub username: Option<String>,
    /// Reference to the password, or `***`.
    pub password: Option<String>,
    /// Whether the broker is enabled.
    pub enabled: Option<bool>,
    /// Whether it comes first.
    pub is_default: Option<bool>,
    /// Whether the connection is encrypted.
    pub tls: Option<bool>,
    /// File of authorities, or `***`.
    pub ca_file: Option<String>,
    /// File of a certificate, or `***`.
    pub client_cert_file: Option<String>,
    /// File of its key, or `***`.
    pub client_key_file: Option<String>,
    /// Required version of MQTT.
    pub protocol_version: Option<String>,
}

impl MaskedServer {
    /// Masks the secrets of a broker.
    #[must_use]
    pub fn new(server: &ServerDefinition) -> Self {
        let masked_path = |path: &Option<String>| path.as_deref().map(|path| shown_path(path).to_owned());
        Self {
            host: server.host.clone(),
            port: server.port,
            username: server.username.as_ref().map(|name| name.expose().to_owned()),
            password: server.password.as_ref().map(|password| masked_password(password.expose())),
            enabled: server.enabled,
            is_default: server.is_default,
            tls: server.tls,
            ca_file: masked_path(&server.ca_file),
            client_cert_file: masked_path(&server.client_cert_file),
            client_key_file: masked_path(&server.client_key_file),
            protocol_version: server.protocol_version.clone(),
        }
    }

    /// A broker as a person gives it: `***` stands for the value of the row.
    #[must_use]
    pub fn given(server: &ServerDefinition) -> Self {
        let password = server.password.as_ref().map(|password| password.expose().to_owned());
        let ServerDefinition { ca_file, client_cert_file, client_key_file, .. } = server.clone();
        Self { password, ca_file, client_cert_file, client_key_file, ..Self::new(server) }
    }

    /// The broker that it stands for, beside the row as it is at present.
    pub fn restore(&self, present: Option<&ServerDefinition>) -> Result<ServerDefinition, Problem> {
        let password = match self.password.as_deref() {
            Some(HIDDEN) => {
                let kept = present.and_then(|server| server.password.as_ref());
                let kept = kept.filter(|password| masked_password(password.expose()) == HIDDEN);
                Some(kept.cloned().ok_or_else(|| unknown("password", ""))?)
            }
            given => given.map(Credential::new),
        };
        let present = present.cloned().unwrap_or_default();
        Ok(ServerDefinition {
            ca_file: restored_path("ca_file", self.ca_file.as_deref(), present.ca_file)?,
            client_cert_file: restored_path(
                "client_cert_file",
                self.client_cert_file.as_deref(),
                present.client_cert_file,
            )?,
            client_key_file: restored_path(
                "client_key_file",
                self.client_key_file.as_deref(),
                present.client_key_file,
            )?,
            ..self.with_password(password)
        })
    }

    /// The broker with `***` taken literally, for checks.
    #[must_use]
    pub fn as_given(&self) -> ServerDefinition {
        self.with_password(self.password.as_deref().map(Credential::new))
    }

    fn with_password(&self, password: Option<Credential>) -> ServerDefinition {
        ServerDefinition {
            host: self.host.clone(),
            port: self.port,
            username: self.username.as_deref().map(Credential::new),
            password,
            enabled: self.enabled,
            is_default: self.is_default,
            tls: self.tls,
            ca_file: self.ca_file.clone(),
            client_cert_file: self.client_cert_file.clone(),
            client_key_file: self.client_key_file.clone(),
            protocol_version: self.protocol_version.clone(),
        }
    }
}

/// A text as the JSON that it is, or as a text if it is none.
fn json_or_text(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

/// An empty password is none.
fn masked_password(password: &str) -> String {
    if password.is_empty() { String::new() } else { shown_secret(password).to_owned() }
}

/// The path of the row for `***`, and any other text as it is given.
fn restored_path(
    field: &'static str,
    given: Option<&str>,
    present: Option<String>,
) -> Result<Option<String>, Problem> {
    if given != Some(HIDDEN) {
        return Ok(given.map(str::to_owned));
    }
    let kept = present.filter(|present| shown_path(present) == HIDDEN);
    kept.map(Some).ok_or_else(|| Problem { remedy: REMEDY_OF_FILE.to_owned(), ..unknown(field, "") })
}

/// The URL itself if nothing in it may be a secret.
fn masked_url(url: &str) -> String {
    let shown = shown_url(url);
    let is_public = url.trim().is_empty() || (!shown.contains(HIDDEN) && !url.contains('#'));
    if is_public { url.to_owned() } else { shown }
}

fn restored_url(given: Option<&str>, present: Option<&str>, problems: &mut Vec<Problem>) -> Option<String> {
    let given = given?;
    if let Some(present) = present.filter(|present| masked_url(present) == given) {
        return Some(present.to_owned());
    }
    if given.contains(HIDDEN) {
        problems.push(unknown("endpoint_url", ""));
    }
    Some(given.to_owned())
}

fn unknown(field: &'static str, place: &str) -> Problem {
    let place = if place.is_empty() { String::new() } else { format!("{place}: ") };
    let problem =
        format!("{place}{HIDDEN} stands for the present value of the row, and the row has no such value");
    Problem::error(field, problem, REMEDY)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
