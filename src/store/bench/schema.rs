//! A separate schema for one measurement.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use mqtt_gateway_entity::{flows, mqtt_servers};
use sea_orm::{ActiveValue::Set, ConnectionTrait, EntityTrait, Statement};

use super::progress::{flow_code, flow_id};
use crate::settings::DatabaseSettings;
use crate::store::connect::Database;
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::migrate::migrate;
use crate::store::statement::statement;

/// A database that exists on every server, to connect to before the schema exists: on `MySQL` and on `PostgreSQL`.
const ALWAYS_THERE: [&str; 2] = ["information_schema", "postgres"];

/// The databases of the servers themselves.
const SYSTEM_SCHEMAS: [&str; 7] =
    ["information_schema", "mysql", "performance_schema", "sys", "postgres", "template0", "template1"];

/// First bytes of a file of `SQLite`.
const SQLITE_MAGIC: &[u8] = b"SQLite format 3\0";

/// The files beside a file of `SQLite`.
const SQLITE_COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// Flows inserted by one statement.
const FLOWS_PER_STATEMENT: usize = 500;

/// Why there is no schema for a measurement.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BenchSchemaError {
    #[error("the database {name} exists: name another one, or let it be dropped with all it holds (--yes)")]
    Exists { name: String },
    #[error("the database {name} belongs to the server itself: name another one")]
    OfTheServer { name: String },
    #[error("{} is no SQLite database, so it is not deleted: name another file", path.display())]
    NoDatabase { path: PathBuf },
    #[error("{} cannot be used: {source}", path.display())]
    File { path: PathBuf, source: io::Error },
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The flows of a measurement, alike except for their topics.
pub(crate) struct BenchFlows<'a> {
    pub(crate) count: u64,
    /// `STORE_DB` or `POST_ENDPOINT`.
    pub(crate) action: &'a str,
    /// Their payload schema.
    pub(crate) payload_schema: serde_json::Value,
    /// Topic of the flow with this index, from 0.
    pub(crate) topic: &'a dyn Fn(u64) -> String,
    /// Where the flow with this index posts to.
    pub(crate) endpoint_url: &'a dyn Fn(u64) -> Option<String>,
}

/// The broker for the gateway.
pub(crate) struct BenchBroker<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) credentials: Option<(&'a str, &'a str)>,
}

/// Creates the empty schema that `settings` name. An existing one is an error, or is dropped first if it may be
/// replaced.
pub(crate) async fn make(settings: &DatabaseSettings, may_replace: bool) -> Result<(), BenchSchemaError> {
    match settings {
        DatabaseSettings::MySql { name, .. } | DatabaseSettings::Postgres { name, .. } => {
            make_on_server(settings, name, may_replace).await
        }
        DatabaseSettings::Sqlite { path } => make_room_for_file(path, may_replace),
    }?;
    let made = make_tables(settings).await;
    if made.is_err() {
        // Half a schema is useless; the first error is the one to report.
        let _ = drop(settings).await;
    }
    Ok(made?)
}

async fn make_tables(settings: &DatabaseSettings) -> Result<(), StoreError> {
    let database = Database::connect(settings, 1).await?;
    migrate(&database).await?;
    database.close().await
}

/// Drops the schema that `settings` name, if it exists.
pub(crate) async fn drop(settings: &DatabaseSettings) -> Result<(), BenchSchemaError> {
    match settings {
        DatabaseSettings::MySql { name, .. } | DatabaseSettings::Postgres { name, .. } => {
            let server = server(settings).await?;
            let drop = format!("DROP DATABASE IF EXISTS {}", quoted(server.dialect, name));
            run(&server, &drop, "dropping the schema").await?;
            Ok(server.close().await?)
        }
        DatabaseSettings::Sqlite { path } => delete_file(path),
    }
}

/// Inserts the flows, whose ids are their indices plus one, and the broker.
pub(crate) async fn furnish(
    database: &Database,
    flows: &BenchFlows<'_>,
    broker: &BenchBroker<'_>,
) -> Result<(), StoreError> {
    let indices: Vec<u64> = (0..flows.count).collect();
    for some in indices.chunks(FLOWS_PER_STATEMENT) {
        let rows = some.iter().map(|index| flow_row(flows, *index));
        let inserting = flows::Entity::insert_many(rows).exec_without_returning(&database.connection);
        inserting.await.while_doing("inserting the flows of the measurement")?;
    }
    mqtt_servers::Entity::delete_many()
        .exec(&database.connection)
        .await
        .while_doing("deleting the other brokers")?;
    let row = mqtt_servers::ActiveModel {
        host: Set(broker.host.to_owned()),
        port: Set(Some(i32::from(broker.port))),
        username: Set(broker.credentials.map(|(name, _)| name.to_owned())),
        password: Set(broker.credentials.map(|(_, password)| password.to_owned())),
        enabled: Set(Some(true)),
        is_default: Set(Some(true)),
        ..Default::default()
    };
    mqtt_servers::Entity::insert(row)
        .exec_without_returning(&database.connection)
        .await
        .while_doing("writing the broker")?;
    Ok(())
}

/// Name and version of the database.
pub(crate) async fn version(database: &Database) -> Result<String, StoreError> {
    let (name, sql) = match database.dialect {
        Dialect::MySql => ("", "SELECT CAST(VERSION() AS CHAR)"),
        Dialect::Postgres => ("PostgreSQL ", "SELECT current_setting('server_version')"),
        Dialect::Sqlite => ("SQLite ", "SELECT sqlite_version()"),
    };
    let query = Statement::from_string(database.dialect.backend(), sql);
    let answer = async {
        let row = database.connection.query_one_raw(query).await?;
        row.map(|row| row.try_get_by_index::<String>(0)).transpose()
    };
    let version = answer.await.while_doing("reading the version")?.unwrap_or_default();
    Ok(format!("{name}{version}"))
}

fn flow_row(flows: &BenchFlows<'_>, index: u64) -> flows::ActiveModel {
    flows::ActiveModel {
        id: Set(flow_id(index)),
        code: Set(flow_code(index)),
        description: Set("for a measurement".to_owned()),
        topic: Set((flows.topic)(index)),
        action: Set(flows.action.to_owned()),
        payload_schema: Set(flows.payload_schema.clone()),
        options: Set(None),
        endpoint_url: Set((flows.endpoint_url)(index)),
        last_msg_id: Set(Some(0)),
        enabled: Set(Some(true)),
        message_key: Set(None),
    }
}

async fn make_on_server(
    settings: &DatabaseSettings,
    name: &str,
    may_replace: bool,
) -> Result<(), BenchSchemaError> {
    if SYSTEM_SCHEMAS.iter().any(|system| name.eq_ignore_ascii_case(system)) {
        return Err(BenchSchemaError::OfTheServer { name: name.to_owned() });
    }
    let server = server(settings).await?;
    if is_there(&server, name).await? {
        if !may_replace {
            return Err(BenchSchemaError::Exists { name: name.to_owned() });
        }
        let drop = format!("DROP DATABASE {}", quoted(server.dialect, name));
        run(&server, &drop, "dropping the schema").await?;
    }
    let unicode = match server.dialect {
        Dialect::Postgres => "TEMPLATE template0 ENCODING 'UTF8'",
        Dialect::MySql | Dialect::Sqlite => "CHARACTER SET utf8mb4",
    };
    let create = format!("CREATE DATABASE {} {unicode}", quoted(server.dialect, name));
    run(&server, &create, "creating the schema").await?;
    Ok(server.close().await?)
}

/// Connects to the server that `settings` name, without a schema.
async fn server(settings: &DatabaseSettings) -> Result<Database, StoreError> {
    let mut settings = settings.clone();
    let [on_mysql, on_postgres] = ALWAYS_THERE;
    match &mut settings {
        DatabaseSettings::MySql { name, .. } => on_mysql.clone_into(name),
        DatabaseSettings::Postgres { name, .. } => on_postgres.clone_into(name),
        DatabaseSettings::Sqlite { .. } => {}
    }
    Database::connect(&settings, 1).await
}

async fn is_there(server: &Database, name: &str) -> Result<bool, StoreError> {
    let counted = match server.dialect {
        Dialect::Postgres => "pg_database WHERE datname = ?",
        Dialect::MySql | Dialect::Sqlite => "information_schema.schemata WHERE schema_name = ?",
    };
    let sql = format!("SELECT {} FROM {counted}", server.dialect.integer("COUNT(*)"));
    let query = statement(server.dialect.backend(), sql, [name.into()]);
    Ok(server.number(query, "finding the schema").await? > 0)
}

async fn run(server: &Database, sql: &str, doing: &'static str) -> Result<(), StoreError> {
    server.connection.execute_unprepared(sql).await.while_doing(doing)?;
    Ok(())
}

fn quoted(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("\"{}\"", name.replace('"', "\"\"")),
        Dialect::MySql | Dialect::Sqlite => format!("`{}`", name.replace('`', "``")),
    }
}

fn make_room_for_file(path: &Path, may_replace: bool) -> Result<(), BenchSchemaError> {
    if !path.exists() {
        return Ok(());
    }
    if !may_replace {
        return Err(BenchSchemaError::Exists { name: path.display().to_string() });
    }
    delete_file(path)
}

/// Deletes only files that are databases, in case of a mistyped name.
fn delete_file(path: &Path) -> Result<(), BenchSchemaError> {
    let unusable = |source| BenchSchemaError::File { path: path.to_owned(), source };
    if !is_sqlite(path).map_err(unusable)? {
        return Err(BenchSchemaError::NoDatabase { path: path.to_owned() });
    }
    for companion in SQLITE_COMPANIONS {
        let mut name = path.as_os_str().to_owned();
        name.push(companion);
        match fs::remove_file(&name) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(unusable(error)),
            _ => {}
        }
    }
    fs::remove_file(path).map_err(unusable)
}

fn is_sqlite(path: &Path) -> io::Result<bool> {
    let mut begin = Vec::new();
    File::open(path)?.take(SQLITE_MAGIC.len() as u64).read_to_end(&mut begin)?;
    Ok(begin == SQLITE_MAGIC || begin.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(quoted(Dialect::MySql, "a`; DROP DATABASE b; --"), "`a``; DROP DATABASE b; --`");
        assert_eq!(quoted(Dialect::Postgres, r#"a"; DROP"#), r#""a""; DROP""#);
    }

    #[tokio::test]
    async fn a_file_that_is_there_is_replaced_only_on_request() {
        let directory = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings::Sqlite { path: directory.path().join("bench.db") };
        make(&settings, false).await.unwrap();
        assert!(matches!(make(&settings, false).await, Err(BenchSchemaError::Exists { .. })));
        make(&settings, true).await.unwrap();
        drop(&settings).await.unwrap();
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[tokio::test]
    async fn a_file_that_is_no_database_is_never_deleted() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("thesis.odt");
        fs::write(&path, "years of work").unwrap();
        let settings = DatabaseSettings::Sqlite { path: path.clone() };
        assert!(matches!(make(&settings, true).await, Err(BenchSchemaError::NoDatabase { .. })));
        assert!(path.exists());
    }
}
