//! Reads, checks and edits the brokers of `mqtt_servers`.

use chrono::Utc;

use super::{Control, ControlError, ExpectedVersion};
use crate::domain::broker::Broker;
use crate::domain::credential::Credential;
use crate::domain::flow_version::server_version;
use crate::domain::masking::MaskedServer;
use crate::domain::problem::Problem;
use crate::domain::server_definition::{ServerDefinition, ServerRecord};
use crate::settings::CredentialSettings;
use crate::store::{self, FlowTransaction, LoadServerError};

pub(super) const WHAT: &str = "MQTT server";

/// The columns to change. An empty text clears a column that may be empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ServerFields {
    /// New host.
    pub host: Option<String>,
    /// New port; `Some(None)` clears it.
    pub port: Option<Option<i64>>,
    /// New user name; `Some(None)` clears it.
    pub username: Option<Option<Credential>>,
    /// New password; `Some(None)` clears it.
    pub password: Option<Option<Credential>>,
    /// Whether the broker is enabled.
    pub enabled: Option<bool>,
    /// Whether it comes first.
    pub is_default: Option<bool>,
    /// Whether the connection is encrypted.
    pub tls: Option<bool>,
    /// New file of authorities.
    pub ca_file: Option<String>,
    /// New file of a certificate.
    pub client_cert_file: Option<String>,
    /// New file of its key.
    pub client_key_file: Option<String>,
    /// New version of MQTT.
    pub protocol_version: Option<String>,
}

impl ServerFields {
    fn apply(&self, server: &ServerDefinition) -> ServerDefinition {
        let text = |new: &Option<String>, old: &Option<String>| match new {
            None => old.clone(),
            Some(text) => Some(text.clone()).filter(|text| !text.is_empty()),
        };
        ServerDefinition {
            host: self.host.clone().unwrap_or_else(|| server.host.clone()),
            port: self.port.unwrap_or(server.port),
            username: self.username.clone().unwrap_or_else(|| server.username.clone()),
            password: self.password.clone().unwrap_or_else(|| server.password.clone()),
            enabled: self.enabled.or(server.enabled),
            is_default: self.is_default.or(server.is_default),
            tls: self.tls.or(server.tls),
            ca_file: text(&self.ca_file, &server.ca_file),
            client_cert_file: text(&self.client_cert_file, &server.client_cert_file),
            client_key_file: text(&self.client_key_file, &server.client_key_file),
            protocol_version: text(&self.protocol_version, &server.protocol_version),
        }
    }
}

/// An edit of a broker that was made.
#[derive(Debug)]
pub struct EditedServer {
    /// The row as it is now.
    pub server: ServerRecord,
    /// Whether the row was changed at all.
    pub changed: bool,
    /// Warnings about it.
    pub warnings: Vec<Problem>,
}

impl Control {
    /// All brokers in the order in which the gateway tries them, then the disabled ones.
    pub async fn servers(&self) -> Result<Vec<ServerRecord>, ControlError> {
        let mut servers = store::read_servers(&self.database).await?;
        servers.sort_by_key(ServerRecord::order_key);
        Ok(servers)
    }

    /// The broker with this id.
    pub async fn server(&self, id: i64) -> Result<ServerRecord, ControlError> {
        let found = self.servers().await?.into_iter().find(|server| server.id == id);
        found.ok_or_else(|| {
            ControlError::not_found(WHAT, &id.to_string(), "`mqtt-gateway servers list` shows the ids")
        })
    }

    /// The first broker that the gateway tries.
    pub async fn first_broker(&self) -> Result<Broker, ControlError> {
        let servers = self.servers().await?;
        let enabled = servers.iter().filter(|server| server.definition.enabled == Some(true));
        let mut brokers = enabled.map(broker);
        // An unusable row is skipped, as the gateway does, unless no other is left.
        let first = brokers.next().unwrap_or_else(|| {
            let remedy =
                "add one by `mqtt-gateway servers add`, or enable one by `mqtt-gateway servers enable`";
            Err(ControlError::invalid("mqtt_servers", "no MQTT server is enabled", remedy))
        });
        first.or_else(|error| brokers.find_map(Result::ok).ok_or(error))
    }

    /// Adds a broker.
    pub async fn add_server(&self, fields: &ServerFields) -> Result<EditedServer, ControlError> {
        let blank = ServerDefinition {
            enabled: Some(true),
            is_default: Some(false),
            tls: Some(false),
            ..ServerDefinition::default()
        };
        let mut server = ServerRecord { id: 0, definition: restored(&fields.apply(&blank), None)? };
        let warnings = warnings_unless_errors(&server, &self.settings.http_route.credentials)?;
        let mut transaction = FlowTransaction::begin(&self.database).await?;
        server.id = transaction.insert_server(&server.definition).await.map_err(ControlError::refused)?;
        transaction.commit(&self.origin).await?;
        Ok(EditedServer { server, changed: true, warnings })
    }

    /// Changes columns of a broker. Refused if it could not be used afterwards, unless it is disabled.
    pub async fn edit_server(&self, id: i64, fields: &ServerFields) -> Result<EditedServer, ControlError> {
        self.edit_server_version(id, fields, &ExpectedVersion::Any).await
    }

    /// As [`Self::edit_server`], if the broker has an expected version.
    pub async fn edit_server_version(
        &self,
        id: i64,
        fields: &ServerFields,
        expected: &ExpectedVersion,
    ) -> Result<EditedServer, ControlError> {
        let old = self.server(id).await?;
        self.check_server_version(&old, expected).await?;
        let definition = restored(&fields.apply(&old.definition), Some(&old.definition))?;
        let server = ServerRecord { id, definition };
        let only_disables = *fields == ServerFields { enabled: Some(false), ..ServerFields::default() };
        let warnings = if only_disables {
            Vec::new()
        } else {
            warnings_unless_errors(&server, &self.settings.http_route.credentials)?
        };
        let changed = server != old;
        let stored = self.change(&old, Some(&server.definition)).await?;
        Ok(EditedServer { changed, server: stored.unwrap_or(server), warnings })
    }

    /// The version of a broker: changes with each of its columns. Says nothing about the password.
    pub async fn server_version(&self, server: &ServerRecord) -> Result<String, ControlError> {
        let key = self.version_key.get_or_try_init(|| store::database_key(&self.database)).await?;
        Ok(server_version(key, &server.definition))
    }

    /// Fails if the broker has another version.
    pub async fn check_server_version(
        &self,
        server: &ServerRecord,
        expected: &ExpectedVersion,
    ) -> Result<(), ControlError> {
        let ExpectedVersion::OneOf(versions) = expected else { return Ok(()) };
        if versions.contains(&self.server_version(server).await?) {
            return Ok(());
        }
        Err(ControlError::Outdated { what: WHAT, name: server.id.to_string() })
    }

    /// Removes a broker.
    pub async fn remove_server(&self, server: &ServerRecord) -> Result<(), ControlError> {
        self.change(server, None).await.map(drop)
    }

    /// Changes or removes a row, and returns it as it is stored.
    async fn change(
        &self,
        old: &ServerRecord,
        new: Option<&ServerDefinition>,
    ) -> Result<Option<ServerRecord>, ControlError> {
        let mut transaction = FlowTransaction::begin(&self.database).await?;
        let locked = lock_server_unchanged(&transaction, old).await?;
        match new {
            Some(new) => transaction.update_server(&locked, new).await,
            None => transaction.delete_server(&locked).await,
        }
        .map_err(ControlError::refused)?;
        let stored = transaction.lock_server(old.id).await?;
        if !transaction.is_empty() {
            transaction.commit(&self.origin).await?;
        }
        Ok(stored)
    }
}

/// Locks the row. A row that another session changed since it was read is a conflict.
pub(super) async fn lock_server_unchanged(
    transaction: &FlowTransaction,
    read: &ServerRecord,
) -> Result<ServerRecord, ControlError> {
    let locked = transaction.lock_server(read.id).await?;
    let conflict = || ControlError::Conflict { what: WHAT, name: read.id.to_string() };
    locked.filter(|locked| locked == read).ok_or_else(conflict)
}

/// The broker with the password of the row where the edit has `***`.
fn restored(
    given: &ServerDefinition,
    present: Option<&ServerDefinition>,
) -> Result<ServerDefinition, ControlError> {
    let restored = MaskedServer::given(given).restore(present);
    restored.map_err(|problem| ControlError::Invalid { problems: vec![problem] })
}

/// The broker of a row that can be used. The error names the row.
pub fn broker(server: &ServerRecord) -> Result<Broker, ControlError> {
    store::broker_of(server).map_err(|error| {
        let problem = Problem { problem: error.to_string(), ..unusable(&error) };
        ControlError::Invalid { problems: vec![problem] }
    })
}

/// The problem of the column at fault. A new broker has no row that could be named.
pub(super) fn unusable(error: &LoadServerError) -> Problem {
    match error {
        LoadServerError::InvalidPort { port, .. } => {
            let problem = format!("{port} is no port: expected 1 to 65535");
            Problem::error("port", problem, "give another one, or none for 1883 (8883 with TLS)")
        }
        LoadServerError::InvalidTls { problem, .. } => {
            Problem::error("tls", format!("the broker {problem}"), "set tls, or clear the files")
        }
        LoadServerError::InvalidVersion { version, .. } => {
            let problem = format!("{version:?} is no version of MQTT that the gateway supports");
            Problem::error("protocol_version", problem, "give 5 or 3.1.1, or none for any")
        }
        LoadServerError::NoneEnabled | LoadServerError::Store(_) => {
            Problem::error("mqtt_servers", error, "see `mqtt-gateway check`")
        }
    }
}

/// The problems of a broker, as far as its row shows them.
#[must_use]
pub fn problems(server: &ServerRecord) -> Vec<Problem> {
    let mut problems = server.definition.check();
    problems.extend(store::broker_of(server).err().as_ref().map(unusable));
    problems
}

fn warnings_unless_errors(
    server: &ServerRecord,
    allowed: &CredentialSettings,
) -> Result<Vec<Problem>, ControlError> {
    let mut problems = problems(server);
    if problems.iter().any(Problem::is_error) {
        return Err(ControlError::Invalid { problems });
    }
    problems.extend(unreadable(server, allowed));
    Ok(problems)
}

/// The credentials and files of a broker that cannot be used by this process. A gateway elsewhere may have others.
fn unreadable(server: &ServerRecord, allowed: &CredentialSettings) -> Vec<Problem> {
    const REMEDY: &str = "correct it; it has to be readable where the gateway runs";
    let ServerDefinition { username, password, .. } = &server.definition;
    let credentials = [("username", username), ("password", password)].into_iter();
    let unreadable = credentials.filter_map(|(field, credential)| {
        let error = credential.as_ref()?.read(allowed).err()?;
        Some(Problem::warning(field, error, REMEDY))
    });
    let files = store::broker_of(server).ok().and_then(|broker| broker.tls);
    let unusable = files.and_then(|files| files.problem(Utc::now().timestamp()));
    unreadable.chain(unusable.map(|error| Problem::warning("tls", error, REMEDY))).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn problems_of_a_column_name_no_row() {
        let definition = ServerDefinition { host: "h".to_owned(), port: Some(99_999), ..Default::default() };
        let server = ServerRecord { id: 7, definition };
        let problem = problems(&server).pop().unwrap();
        assert_eq!(
            (problem.field, problem.problem.as_str()),
            ("port", "99999 is no port: expected 1 to 65535")
        );
        assert!(
            broker(&server).unwrap_err().to_string().contains("the MQTT server with id 7 has the port 99999")
        );
    }
}
