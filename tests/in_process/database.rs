//! A database of its own for each test, so that tests can run side by side on one server.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use mqtt_gateway::settings::{DatabaseSettings, DatabaseTls, SecretSource, Servers};
use mqtt_gateway::store::Dialect;
use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlPoolOptions};
use sea_orm::sqlx::postgres::{PgConnectOptions, PgConnection, PgPoolOptions};
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sea_orm::sqlx::{AssertSqlSafe, ConnectOptions, Connection, Executor};
use sea_orm::{ConnectionTrait, DatabaseConnection, QueryResult, Statement};
use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;
use test_support::sqlalchemy;
use url::Url;

pub(crate) use test_support::cell::Cell;

/// Runs each claim on every database, as a `tokio::test` unless another kind is named first.
#[allow(unused_macros)]
macro_rules! on_every_database {
    (#[$test:meta] $($claim:ident)*) => {
        mod mariadb {
            $(#[$test] async fn $claim() {
                super::$claim($crate::database::TestDatabase::mariadb().await).await;
            })*
        }
        mod postgres {
            $(#[$test] async fn $claim() {
                super::$claim($crate::database::TestDatabase::postgres().await).await;
            })*
        }
        mod sqlite {
            $(#[$test] async fn $claim() {
                super::$claim($crate::database::TestDatabase::sqlite()).await;
            })*
        }
    };
    ($($claim:ident)*) => { on_every_database! { #[tokio::test] $($claim)* } };
}

/// The same where rows are locked one by one: on every database but `SQLite`.
#[allow(unused_macros)]
macro_rules! on_every_server {
    ($($claim:ident)*) => {
        mod on_mariadb {
            $(#[tokio::test] async fn $claim() {
                super::$claim($crate::database::TestDatabase::mariadb().await).await;
            })*
        }
        mod on_postgres {
            $(#[tokio::test] async fn $claim() {
                super::$claim($crate::database::TestDatabase::postgres().await).await;
            })*
        }
    };
}

/// Name the servers for tests: `mysql://user:password@host:port/`, `postgres://user:password@host:port/`.
const MYSQL_VARIABLE: &str = "TEST_MYSQL_URL";
const POSTGRES_VARIABLE: &str = "TEST_POSTGRES_URL";

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
        let server = Server::of_environment(Dialect::MySql);
        let name = unique_name();
        server.run(&format!("CREATE DATABASE {name} CHARACTER SET utf8mb4")).await;
        let connection = MySqlPoolOptions::new()
            .max_connections(2)
            .connect_lazy_with(server.mysql_options().database(&name))
            .into();
        Self { settings: server.settings(name), connection, _directory: None }
    }

    /// On the server that `scripts/test` starts.
    pub(crate) async fn postgres() -> Self {
        let server = Server::of_environment(Dialect::Postgres);
        let name = unique_name();
        server.run(&format!("CREATE DATABASE {name}")).await;
        let connection = PgPoolOptions::new()
            .max_connections(2)
            .connect_lazy_with(server.postgres_options().database(&name))
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

    /// Another one on the same server.
    pub(crate) async fn another(&self) -> Self {
        match self.dialect() {
            Dialect::MySql => Self::mariadb().await,
            Dialect::Postgres => Self::postgres().await,
            Dialect::Sqlite => Self::sqlite(),
        }
    }

    /// New sessions search for deadlocks late. On `MariaDB`, all sessions search at once.
    pub(crate) async fn look_late_for_deadlocks(&self) {
        if let DatabaseSettings::Postgres { name, .. } = &self.settings {
            self.execute(&format!("ALTER DATABASE {name} SET deadlock_timeout = '4s'")).await;
        }
    }

    /// Makes the three tables as `SQLAlchemy` makes them.
    pub(crate) async fn create_sqlalchemy_tables(&self) {
        self.execute(match self.settings {
            DatabaseSettings::MySql { .. } => sqlalchemy::MARIADB,
            DatabaseSettings::Postgres { .. } => sqlalchemy::POSTGRES,
            DatabaseSettings::Sqlite { .. } => sqlalchemy::SQLITE,
        })
        .await;
    }

    /// Creates a user of this database with rights on rows alone.
    pub(crate) async fn create_user(&self, password: &str) -> DatabaseSettings {
        let mut server = Server::of_environment(self.dialect());
        let name = self.name_on_server().expect("SQLite has no users");
        if self.dialect() == Dialect::Postgres {
            let quoted = password.replace('\'', "''");
            server.run(&format!("CREATE USER {name} PASSWORD '{quoted}'")).await;
            self.execute(&format!(
                "GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {name}"
            ))
            .await;
            name.clone_into(&mut server.user);
            server.password = password.into();
            return server.settings(name.to_owned());
        }
        let quoted = password.replace('\\', "\\\\").replace('\'', "''");
        // Both hosts: an anonymous user of the local host would go before one of any host.
        for host in ["'%'", "localhost"] {
            let create = format!("CREATE USER {name}@{host} IDENTIFIED BY '{quoted}'");
            let grant = format!("GRANT SELECT, INSERT, UPDATE, DELETE ON {name}.* TO {name}@{host}");
            server.run(&format!("{create}; {grant}")).await;
        }
        name.clone_into(&mut server.user);
        server.password = password.into();
        server.settings(name.to_owned())
    }

    fn name_on_server(&self) -> Option<&str> {
        match &self.settings {
            DatabaseSettings::MySql { name, .. } | DatabaseSettings::Postgres { name, .. } => Some(name),
            DatabaseSettings::Sqlite { .. } => None,
        }
    }

    pub(crate) fn dialect(&self) -> Dialect {
        match self.settings {
            DatabaseSettings::MySql { .. } => Dialect::MySql,
            DatabaseSettings::Postgres { .. } => Dialect::Postgres,
            DatabaseSettings::Sqlite { .. } => Dialect::Sqlite,
        }
    }

    /// SQL for the time of the database `seconds` from now, as its columns hold it.
    pub(crate) fn seconds_from_now(&self, seconds: i64) -> String {
        match self.dialect() {
            Dialect::MySql => format!("UTC_TIMESTAMP(6) + INTERVAL {seconds} SECOND"),
            Dialect::Postgres => {
                format!("(statement_timestamp() AT TIME ZONE 'UTC') + INTERVAL '{seconds} seconds'")
            }
            Dialect::Sqlite => format!("strftime('%Y-%m-%d %H:%M:%f000', 'now', '{seconds} seconds')"),
        }
    }

    /// 16 bytes, given in hexadecimal.
    pub(crate) fn bytes(&self, hex: &str) -> String {
        match self.dialect() {
            Dialect::MySql | Dialect::Sqlite => format!("X'{hex}'"),
            Dialect::Postgres => format!("'\\x{hex}'"),
        }
    }

    pub(crate) fn settings(&self) -> &DatabaseSettings {
        &self.settings
    }

    /// Runs one or more statements, separated by semicolons.
    pub(crate) async fn execute(&self, sql: &str) {
        self.try_execute(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    pub(crate) async fn try_execute(&self, sql: &str) -> Result<u64, sea_orm::DbErr> {
        Ok(self.connection.execute_unprepared(sql).await?.rows_affected())
    }

    /// The first column of every row; NULL where `T` is an `Option`. Numbers are `i64`.
    pub(crate) async fn column<T: Cell>(&self, sql: &str) -> Vec<T> {
        let get = |row: QueryResult| T::of(&row, 0).unwrap_or_else(|error| panic!("{sql}: {error:?}"));
        self.rows(sql).await.into_iter().map(get).collect()
    }

    /// The first column of the only row.
    pub(crate) async fn value<T: Cell>(&self, sql: &str) -> T {
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
        let Some(name) = self.name_on_server() else { return };
        let dialect = self.dialect();
        let statements = match dialect {
            // Each of them outside a transaction.
            Dialect::Postgres => {
                vec![format!("DROP DATABASE {name} WITH (FORCE)"), format!("DROP USER IF EXISTS {name}")]
            }
            Dialect::MySql | Dialect::Sqlite => vec![format!(
                "SET lock_wait_timeout = 5; DROP DATABASE {name}; \
                 DROP USER IF EXISTS {name}@'%', {name}@localhost"
            )],
        };
        // A thread of its own: the test's runtime is busy with this very call.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.expect("a runtime").block_on(async {
                for statement in statements {
                    Server::of_environment(dialect).run(&statement).await;
                }
            });
        });
        if dropping.join().is_err() {
            log::warn!("a test's database stays behind");
        }
    }
}

/// The server for tests.
struct Server {
    dialect: Dialect,
    host: String,
    port: u16,
    user: String,
    password: SecretString,
}

impl Server {
    fn of_environment(dialect: Dialect) -> Self {
        let (variable, port) = match dialect {
            Dialect::MySql => (MYSQL_VARIABLE, 3306),
            Dialect::Postgres => (POSTGRES_VARIABLE, 5432),
            Dialect::Sqlite => panic!("SQLite has no server"),
        };
        let url = std::env::var(variable).unwrap_or_default();
        assert!(
            !url.is_empty(),
            "{variable} is not set: run scripts/test, which starts servers for the tests"
        );
        let url = Url::parse(&url).unwrap_or_else(|error| panic!("{variable} is no URL: {error}"));
        Self {
            dialect,
            host: url.host_str().unwrap_or_else(|| panic!("{variable} names no host")).to_owned(),
            port: url.port().unwrap_or(port),
            user: url.username().to_owned(),
            password: url.password().unwrap_or_default().into(),
        }
    }

    fn mysql_options(&self) -> MySqlConnectOptions {
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

    fn postgres_options(&self) -> PgConnectOptions {
        PgConnectOptions::new_without_pgpass()
            .host(&self.host)
            .port(self.port)
            .database("postgres")
            .username(&self.user)
            .password(self.password.expose_secret())
            .disable_statement_logging()
    }

    fn settings(self, name: String) -> DatabaseSettings {
        let Self { dialect, host, port, user, password } = self;
        let (servers, source) = (Servers::single(host, port), SecretSource::Fixed);
        let tls = DatabaseTls::default();
        match dialect {
            Dialect::Postgres => DatabaseSettings::Postgres { servers, name, user, password, source, tls },
            Dialect::MySql | Dialect::Sqlite => {
                DatabaseSettings::MySql { servers, name, user, password, source, tls }
            }
        }
    }

    async fn run(&self, sql: &str) {
        let ran = match self.dialect {
            Dialect::Postgres => self.try_on_postgres(sql).await,
            Dialect::MySql | Dialect::Sqlite => self.try_on_mysql(sql).await,
        };
        ran.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn try_on_mysql(&self, sql: &str) -> Result<(), sea_orm::sqlx::Error> {
        let mut connection: MySqlConnection = self.mysql_options().connect().await?;
        connection.execute(AssertSqlSafe(sql)).await?;
        connection.close().await
    }

    async fn try_on_postgres(&self, sql: &str) -> Result<(), sea_orm::sqlx::Error> {
        let mut connection: PgConnection = self.postgres_options().connect().await?;
        connection.execute(AssertSqlSafe(sql)).await?;
        connection.close().await
    }
}

fn unique_name() -> String {
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a time after 1970");
    let count = COUNTER.fetch_add(1, Ordering::Relaxed);
    // At most 32 characters, so that it can be a user's name as well.
    format!("gw_{:x}_{:x}_{count}", std::process::id(), now.as_millis())
}
