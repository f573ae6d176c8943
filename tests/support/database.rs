//! A database of its own for each test, so that tests can run side by side on one server.

#![allow(dead_code)] // Each test binary uses a part of it.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use mqtt_gateway::settings::DatabaseSettings;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement, TryGetable};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use url::Url;

/// Runs each claim on either database, as a `tokio::test` unless another kind is named first.
#[allow(unused_macros)]
macro_rules! on_both_databases {
    (#[$test:meta] $($claim:ident)*) => {
        mod mariadb {
            $(#[$test] async fn $claim() {
                super::$claim($crate::database::TestDatabase::mariadb().await).await;
            })*
        }
        mod sqlite {
            $(#[$test] async fn $claim() {
                super::$claim($crate::database::TestDatabase::sqlite()).await;
            })*
        }
    };
    ($($claim:ident)*) => { on_both_databases! { #[tokio::test] $($claim)* } };
}

/// Names the server for tests: `mysql://user:password@host:port/`.
const SERVER_VARIABLE: &str = "TEST_MYSQL_URL";

/// What `SQLAlchemy` sends for the models of the service that came before.
const SQLALCHEMY_MARIADB: &str = include_str!("../fixtures/sqlalchemy_mariadb.sql");
const SQLALCHEMY_SQLITE: &str = include_str!("../fixtures/sqlalchemy_sqlite.sql");

/// An empty database that is gone when this is dropped.
pub(crate) struct TestDatabase {
    settings: DatabaseSettings,
    /// A session like any other client's: nothing of the gateway's set-up.
    connection: DatabaseConnection,
    _directory: Option<TempDir>,
}

impl TestDatabase {
    /// On the server that `scripts/test` starts. The default character set is UTF-8.
    pub(crate) async fn mariadb() -> Self {
        let server = Server::of_environment();
        let name = unique_name();
        server.run(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await;
        let connection = MySqlPoolOptions::new()
            .max_connections(2)
            .connect_lazy_with(server.options().database(&name))
            .into();
        Self { settings: server.settings(name), connection, _directory: None }
    }

    /// A file in a directory of its own.
    pub(crate) fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path: PathBuf = directory.path().join("gateway.db");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let connection = SqlitePoolOptions::new()
            .max_connections(2)
            .connect_lazy_with(options.disable_statement_logging())
            .into();
        Self { settings: DatabaseSettings::Sqlite { path }, connection, _directory: Some(directory) }
    }

    /// Makes the three tables as `SQLAlchemy` makes them.
    pub(crate) async fn create_sqlalchemy_tables(&self) {
        self.execute(match self.settings {
            DatabaseSettings::MySql { .. } => SQLALCHEMY_MARIADB,
            DatabaseSettings::Sqlite { .. } => SQLALCHEMY_SQLITE,
        })
        .await;
    }

    /// A user of this database who may read and write rows and nothing else.
    pub(crate) async fn create_user(&self, password: &str) -> DatabaseSettings {
        let mut server = Server::of_environment();
        let DatabaseSettings::MySql { name, .. } = &self.settings else {
            panic!("SQLite has no users");
        };
        let quoted = password.replace('\\', "\\\\").replace('\'', "''");
        // Both hosts: an anonymous user of the local host would go before one of any host.
        for host in ["'%'", "localhost"] {
            let create = format!("CREATE USER {name}@{host} IDENTIFIED BY '{quoted}'");
            let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {name}@{host}");
            server.run(&format!("{create}; {grant}")).await;
        }
        server.user.clone_from(name);
        server.password = password.into();
        server.settings(name.clone())
    }

    pub(crate) fn settings(&self) -> &DatabaseSettings {
        &self.settings
    }

    pub(crate) fn is_mysql(&self) -> bool {
        matches!(self.settings, DatabaseSettings::MySql { .. })
    }

    /// Runs one or more statements, separated by semicolons.
    pub(crate) async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn try_execute(&self, sql: &str) -> Result<u64, sea_orm::DbErr> {
        Ok(self.connection.execute_unprepared(sql).await?.rows_affected())
    }

    /// The first column of every row; NULL where `T` is an `Option`. Numbers are `i64`.
    pub(crate) async fn column<T: TryGetable>(&self, sql: &str) -> Vec<T> {
        let get =
            |row: QueryResult| row.try_get_by_index(0).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        self.rows(sql).await.into_iter().map(get).collect()
    }

    /// The first column of the only row.
    pub(crate) async fn value<T: TryGetable>(&self, sql: &str) -> T {
        let mut values = self.column(sql).await;
        assert_eq!(values.len(), 1, "{sql}");
        values.remove(0)
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<QueryResult> {
        let statement = Statement::from_string(self.connection.get_database_backend(), sql);
        let rows = self.connection.query_all_raw(statement).await;
        rows.unwrap_or_else(|error| panic!("{sql}: {error}"))
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        let DatabaseSettings::MySql { name, .. } = &self.settings else {
            return;
        };
        let drop_database = format!(
            "SET lock_wait_timeout = 5; DROP DATABASE {name}; \
             DROP USER IF EXISTS {name}@'%', {name}@localhost"
        );
        // A thread of its own: the test's runtime is busy with this very call.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(Server::of_environment().run(&drop_database));
        });
        if dropping.join().is_err() {
            log::warn!("a test's database stays behind");
        }
    }
}

/// The server for tests.
struct Server {
    host: String,
    port: u16,
    user: String,
    password: SecretString,
}

impl Server {
    fn of_environment() -> Self {
        let url = std::env::var(SERVER_VARIABLE).unwrap_or_default();
        assert!(
            !url.is_empty(),
            "{SERVER_VARIABLE} is not set: run scripts/test, which starts a MariaDB server for the tests"
        );
        let url = Url::parse(&url).unwrap_or_else(|error| panic!("{SERVER_VARIABLE} is no URL: {error}"));
        Self {
            host: url.host_str().expect("a host in TEST_MYSQL_URL").to_owned(),
            port: url.port().unwrap_or(3306),
            user: url.username().to_owned(),
            password: url.password().unwrap_or_default().into(),
        }
    }

    fn options(&self) -> MySqlConnectOptions {
        let options = MySqlConnectOptions::new()
            .host(&self.host)
            .port(self.port)
            .username(&self.user)
            .disable_statement_logging();
        match self.password.expose_secret() {
            "" => options,
            password => options.password(password),
        }
    }

    fn settings(self, name: String) -> DatabaseSettings {
        let Self { host, port, user, password } = self;
        DatabaseSettings::MySql { host, port, name, user, password }
    }

    async fn run(&self, sql: &str) {
        let mut connection = self.connect().await;
        connection.execute(AssertSqlSafe(sql)).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
        connection.close().await.expect("closing a connection");
    }

    async fn connect(&self) -> MySqlConnection {
        let connecting = self.options().connect().await;
        connecting.unwrap_or_else(|error| panic!("{SERVER_VARIABLE} names a server that fails: {error}"))
    }
}

fn unique_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    // At most 32 characters, so that it can be a user's name as well.
    format!("gw_{:x}_{:x}_{count}", std::process::id(), now.as_millis())
}
