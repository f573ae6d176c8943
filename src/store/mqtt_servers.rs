//! The brokers to connect to, in their order.

use mqtt_gateway_entity::mqtt_servers::{Column, Entity};
use sea_orm::sea_query::{Expr, Func};
use sea_orm::{
    DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect, Select, SelectModel, Selector,
};
use thiserror::Error;

use super::column_types::{OperatorTable, check_column_types};
use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While, is_unknown_column};
use crate::domain::broker::{Broker, MqttVersion, TlsFiles};
use crate::domain::credential::Credential;
use crate::domain::server_definition::ServerRecord;

/// Port of a broker that gives none.
const DEFAULT_PORT: u16 = 1883;

/// The same with TLS.
const DEFAULT_TLS_PORT: u16 = 8883;

/// The enabled rows of `mqtt_servers`.
#[derive(Debug)]
pub struct MqttServers {
    /// Those to connect to, in the order in which they are tried. At least one.
    pub usable: Vec<Broker>,
    /// Why other rows are skipped.
    pub skipped: Vec<LoadServerError>,
}

/// There is no broker to connect to, or a row cannot be used.
#[derive(Debug, Error)]
pub enum LoadServerError {
    /// No row of `mqtt_servers` is enabled.
    #[error("no MQTT server is enabled: set `enabled` in a row of the table mqtt_servers")]
    NoneEnabled,
    /// A row has a number in `port` that is no TCP port.
    #[error(
        "the MQTT server with id {id} has the port {port}: expected 1 to 65535, or NULL for 1883 (8883 with tls)"
    )]
    InvalidPort {
        /// Key in `mqtt_servers`.
        id: i64,
        /// The value in the row.
        port: i64,
    },
    /// The TLS columns of a row contradict each other.
    #[error("the MQTT server with id {id} {problem}")]
    InvalidTls {
        /// Key in `mqtt_servers`.
        id: i64,
        /// The contradiction, and its remedy.
        problem: &'static str,
    },
    /// A row demands a version of MQTT that the gateway does not support.
    #[error(
        "the MQTT server with id {id} has the protocol_version {version:?}: expected \"5\", \"3.1.1\", or NULL"
    )]
    InvalidVersion {
        /// Key in `mqtt_servers`.
        id: i64,
        /// The value in the row.
        version: String,
    },
    /// The table cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LoadServerError {
    /// The row at fault.
    #[must_use]
    pub fn id(&self) -> Option<i64> {
        match self {
            Self::InvalidPort { id, .. } | Self::InvalidTls { id, .. } | Self::InvalidVersion { id, .. } => {
                Some(*id)
            }
            Self::NoneEnabled | Self::Store(_) => None,
        }
    }
}

/// Loads the broker to connect to first: the first of [`load_mqtt_servers`].
///
/// ```no_run
/// # async fn example(database: &mqtt_gateway::store::Database) -> Result<(), mqtt_gateway::store::LoadServerError> {
/// let server = mqtt_gateway::load_mqtt_server(database).await?;
/// println!("{}:{}", server.host, server.port);
/// # Ok(())
/// # }
/// ```
pub async fn load_mqtt_server(database: &Database) -> Result<Broker, LoadServerError> {
    load_mqtt_servers(database).await?.usable.into_iter().next().ok_or(LoadServerError::NoneEnabled)
}

/// Loads the brokers to connect to: the enabled ones, first those with `is_default` (NULL counts as no), then by id.
///
/// A row that cannot be used is skipped. Fails if none is left, with the error of the first.
pub async fn load_mqtt_servers(database: &Database) -> Result<MqttServers, LoadServerError> {
    check_column_types(database, OperatorTable::MqttServers).await?;
    sort(rows(database.dialect, Columns::All).all(&database.connection).await)
}

/// The same from a table that need not have been migrated yet. Its rows have no TLS columns then, so a connection must
/// not use them if the table is going to have the columns.
pub async fn load_mqtt_servers_before_migration(database: &Database) -> Result<MqttServers, LoadServerError> {
    check_column_types(database, OperatorTable::MqttServers).await?;
    match rows(database.dialect, Columns::All).all(&database.connection).await {
        // Only after this error: after a lock or a lost connection the second query may succeed, and would read
        // brokers with TLS as brokers without.
        Err(error) if is_unknown_column(&error) => {
            sort(rows(database.dialect, Columns::Old).all(&database.connection).await)
        }
        rows => sort(rows),
    }
}

/// The broker of a row, or why the gateway skips it.
pub fn broker_of(record: &ServerRecord) -> Result<Broker, LoadServerError> {
    let ServerRecord { id, definition } = record.clone();
    let exposed = |credential: Option<Credential>| credential.map(|text| text.expose().to_owned());
    server(ServerRow {
        id,
        host: definition.host,
        port: definition.port,
        username: exposed(definition.username),
        password: exposed(definition.password),
        tls: definition.tls,
        ca_file: definition.ca_file,
        client_cert_file: definition.client_cert_file,
        client_key_file: definition.client_key_file,
        protocol_version: definition.protocol_version,
    })
}

fn sort(rows: Result<Vec<ServerRow>, DbErr>) -> Result<MqttServers, LoadServerError> {
    let mut servers = MqttServers { usable: Vec::new(), skipped: Vec::new() };
    for row in rows.while_doing("reading the MQTT servers")? {
        match server(row) {
            Ok(server) => servers.usable.push(server),
            Err(error) => servers.skipped.push(error),
        }
    }
    if servers.usable.is_empty() {
        return Err(servers.skipped.into_iter().next().unwrap_or(LoadServerError::NoneEnabled));
    }
    Ok(servers)
}

/// The columns of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Columns {
    All,
    /// The columns of the earlier service; NULL replaces the others.
    Old,
}

/// Selects the enabled rows, the default ones first. Integers of any type are read.
fn rows(dialect: Dialect, columns: Columns) -> Selector<SelectModel<ServerRow>> {
    let is_default = Func::coalesce([Expr::cust(dialect.is_set("is_default")), Expr::val(false)]);
    let rows = Entity::find()
        .select_only()
        .column_as(Expr::cust(dialect.wide("id")), "id")
        .columns([Column::Host, Column::Username, Column::Password])
        .column_as(Expr::cust(dialect.wide("port")), "port");
    let rows = match columns {
        Columns::All => with_new_columns(rows, dialect),
        Columns::Old => without_new_columns(rows),
    };
    rows.filter(Expr::cust(dialect.is_set("enabled")))
        .order_by_desc(is_default)
        .order_by_asc(Column::Id)
        .into_model()
}

fn with_new_columns(rows: Select<Entity>, dialect: Dialect) -> Select<Entity> {
    rows.column_as(Expr::cust(dialect.flag("tls")), "tls").columns([
        Column::CaFile,
        Column::ClientCertFile,
        Column::ClientKeyFile,
        Column::ProtocolVersion,
    ])
}

fn without_new_columns(rows: Select<Entity>) -> Select<Entity> {
    rows.column_as(Expr::val(None::<bool>), Column::Tls)
        .column_as(Expr::val(None::<String>), Column::CaFile)
        .column_as(Expr::val(None::<String>), Column::ClientCertFile)
        .column_as(Expr::val(None::<String>), Column::ClientKeyFile)
        .column_as(Expr::val(None::<String>), Column::ProtocolVersion)
}

/// The columns of a row. Without `Debug`, because one is a password.
#[derive(FromQueryResult)]
struct ServerRow {
    id: i64,
    host: String,
    port: Option<i64>,
    username: Option<String>,
    password: Option<String>,
    tls: Option<bool>,
    ca_file: Option<String>,
    client_cert_file: Option<String>,
    client_key_file: Option<String>,
    protocol_version: Option<String>,
}

fn server(row: ServerRow) -> Result<Broker, LoadServerError> {
    let id = row.id;
    let default_port = if row.tls == Some(true) { DEFAULT_TLS_PORT } else { DEFAULT_PORT };
    let port = match row.port {
        None => default_port,
        Some(port) => u16::try_from(port)
            .ok()
            .filter(|port| *port > 0)
            .ok_or(LoadServerError::InvalidPort { id, port })?,
    };
    let files = TlsFiles {
        ca_file: non_empty(row.ca_file),
        client_cert_file: non_empty(row.client_cert_file),
        client_key_file: non_empty(row.client_key_file),
    };
    Ok(Broker {
        id,
        host: row.host,
        port,
        // One without the other counts as none.
        credentials: credential(row.username).zip(credential(row.password)),
        tls: tls(row.tls, files).map_err(|problem| LoadServerError::InvalidTls { id, problem })?,
        version: protocol_version(id, row.protocol_version.as_deref())?,
    })
}

fn credential(text: Option<String>) -> Option<Credential> {
    non_empty(text).map(Credential::new)
}

fn non_empty(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}

fn tls(wanted: Option<bool>, files: TlsFiles) -> Result<Option<TlsFiles>, &'static str> {
    if wanted != Some(true) {
        let none =
            files.ca_file.is_none() && files.client_cert_file.is_none() && files.client_key_file.is_none();
        // With files named, the operator expects an encrypted connection.
        return if none {
            Ok(None)
        } else {
            Err("names files for TLS, but its `tls` is not true: set one or the other")
        };
    }
    if files.client_key_file.is_some() && files.client_cert_file.is_none() {
        return Err(
            "has a client_key_file without a client_cert_file: a key is of no use without its certificate",
        );
    }
    Ok(Some(files))
}

fn protocol_version(id: i64, version: Option<&str>) -> Result<Option<MqttVersion>, LoadServerError> {
    let Some(version) = version.map(str::trim).filter(|version| !version.is_empty()) else { return Ok(None) };
    MqttVersion::from_name(version)
        .map(Some)
        .ok_or_else(|| LoadServerError::InvalidVersion { id, version: version.to_owned() })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use super::*;

    fn row(port: Option<i64>, username: Option<&str>, password: Option<&str>) -> ServerRow {
        ServerRow {
            id: 3,
            host: "broker.example".to_owned(),
            port,
            username: username.map(str::to_owned),
            password: password.map(str::to_owned),
            tls: None,
            ca_file: None,
            client_cert_file: None,
            client_key_file: None,
            protocol_version: None,
        }
    }

    fn with_tls() -> ServerRow {
        ServerRow { tls: Some(true), ..row(None, None, None) }
    }

    #[test]
    fn a_missing_port_is_1883() {
        assert_eq!(server(row(None, None, None)).unwrap().port, 1883);
        assert_eq!(server(row(Some(8883), None, None)).unwrap().port, 8883);
    }

    #[test]
    fn with_tls_a_missing_port_is_8883() {
        let server = server(with_tls()).unwrap();
        assert_eq!(server.port, 8883);
        assert!(server.tls.is_some_and(|files| files.ca_file.is_none()));
    }

    #[test]
    fn files_for_a_connection_that_is_not_encrypted_are_refused() {
        for tls in [None, Some(false)] {
            let row = ServerRow { tls, ca_file: Some("/ca.pem".to_owned()), ..row(None, None, None) };
            let error = server(row).unwrap_err().to_string();
            assert!(error.contains("id 3") && error.contains("`tls` is not true"), "{error}");
        }
    }

    #[test]
    fn a_key_needs_its_certificate_and_not_the_other_way_round() {
        let (cert, key) = (Some("/cert.pem".to_owned()), Some("/key.pem".to_owned()));
        assert!(server(ServerRow { client_key_file: key.clone(), ..with_tls() }).is_err());
        assert!(server(ServerRow { client_cert_file: cert.clone(), ..with_tls() }).is_ok());
        assert!(server(ServerRow { client_cert_file: cert, client_key_file: key, ..with_tls() }).is_ok());
    }

    #[test]
    fn a_version_is_one_of_two_or_left_open() {
        let version = |text: Option<&str>| {
            let row = ServerRow { protocol_version: text.map(str::to_owned), ..row(None, None, None) };
            server(row).map(|server| server.version)
        };
        assert_eq!(version(None).unwrap(), None);
        assert_eq!(version(Some("")).unwrap(), None);
        assert_eq!(version(Some("5")).unwrap(), Some(MqttVersion::V5));
        assert_eq!(version(Some("3.1.1")).unwrap(), Some(MqttVersion::V311));
        let error = version(Some("4")).unwrap_err();
        assert_eq!(error.id(), Some(3));
        assert!(error.to_string().contains("\"4\""), "{error}");
    }

    #[test]
    fn a_number_that_is_no_port_is_refused_with_its_row() {
        for port in [-1, 0, 65_536, i64::MAX] {
            let error = server(row(Some(port), None, None)).unwrap_err().to_string();
            assert!(error.contains("id 3") && error.contains(&port.to_string()), "{error}");
        }
    }

    #[test]
    fn credentials_need_both_halves() {
        let credentials = |name, password| server(row(None, name, password)).unwrap().credentials;
        assert!(credentials(Some("gateway"), Some("secret")).is_some());
        assert!(credentials(Some("gateway"), None).is_none());
        assert!(credentials(None, Some("secret")).is_none());
        assert!(credentials(Some("gateway"), Some("")).is_none());
    }

    #[test]
    fn a_password_is_never_printed() {
        let row = row(None, Some("gateway"), Some("hush-hush"));
        assert!(!format!("{:?}", server(row).unwrap()).contains("hush"));
    }
}
