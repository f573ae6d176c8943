//! Connections, and how each of their sessions is set up.
//!
//! A connection's input and output belong to the runtime that opened it, so every thread with a
//! runtime of its own opens a [`Database`] of its own.

mod postgres;

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sea_orm::sqlx::mysql::{MySqlConnectOptions, MySqlConnection, MySqlSslMode};
use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Executor};
use sea_orm::{
    DatabaseConnection, DatabaseTransaction, DbErr, RuntimeErr, SqliteTransactionMode, TransactionOptions,
    TransactionTrait,
};
use secrecy::ExposeSecret;

use super::dialect::Dialect;
use super::error::{Fault, StoreError, While, fault_of_driver};
use crate::settings::DatabaseSettings;

/// The longest that a connection may take to be had, be it new or from the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// How long `SQLite` waits for another process that writes.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that was idle for longer is tested before it is used again. Younger ones are not:
/// at one test per batch it would be a round trip per batch.
const TEST_AFTER_IDLE: Duration = Duration::from_secs(2);

/// An idle connection is closed after this. Well below the session's `wait_timeout` of 20 s, after
/// which the server would close it: the pool looks only once in this time, so it finds them at up
/// to twice the age.
const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// A transaction that takes longer waits for a host that is gone: nothing in a connection tells of
/// one that vanished after it had taken a statement. Far above what a full batch takes, lock waits
/// included.
const SILENCE: Duration = Duration::from_mins(1);

/// Prepared statements kept per connection. More than the shapes of statements a batch can have:
/// to evict one stalls the next.
const STATEMENT_CACHE: usize = 256;

/// How long a row that somebody else has locked is waited for, unless told otherwise.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// Every session of ours on `MySQL`, with the seconds that a locked row is waited for.
///
/// `sql_mode`: without strictness 70,000 bytes silently become 65,535. `wait_timeout`: a server
/// that waits for a host that died frees its locks after 20 s; a connection that lives says
/// something within that, also in a long transaction. `innodb_lock_wait_timeout`: a row locked by
/// someone else; `lock_wait_timeout`: a table being altered, which is by default waited for as long
/// as a day.
fn session(lock_wait: Duration) -> [String; 2] {
    [
        "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED".to_owned(),
        format!(
            "SET SESSION \
             sql_mode = 'STRICT_TRANS_TABLES,ERROR_FOR_DIVISION_BY_ZERO,NO_ENGINE_SUBSTITUTION', \
             time_zone = '+00:00', \
             wait_timeout = 20, \
             innodb_lock_wait_timeout = {}, \
             lock_wait_timeout = 30",
            lock_wait.as_secs()
        ),
    ]
}

/// A database with a pool of connections to it. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pub(crate) connection: DatabaseConnection,
    pub(crate) dialect: Dialect,
    origin: Arc<Origin>,
}

/// What a pool was made from.
struct Origin {
    settings: DatabaseSettings,
    max_connections: u32,
    lock_wait: Duration,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

impl Database {
    /// Connects once, so that what is wrong is known precisely, and opens a pool of at most
    /// `max_connections`. It does not wait for a database that is not there.
    pub async fn connect(settings: &DatabaseSettings, max_connections: u32) -> Result<Self, StoreError> {
        Self::connect_with(settings, max_connections, LOCK_WAIT).await
    }

    /// The same, with another bound (whole seconds) on how long a row is waited for that somebody
    /// else has locked. `SQLite` locks no rows.
    pub async fn connect_with(
        settings: &DatabaseSettings,
        max_connections: u32,
        lock_wait: Duration,
    ) -> Result<Self, StoreError> {
        match settings {
            DatabaseSettings::MySql { host, port, name, user, .. } => {
                let target = format!("database {name} at {host}:{port} as user {user}");
                first_connection(first_mysql_connection(settings, lock_wait), target).await?;
            }
            DatabaseSettings::Postgres { host, port, name, user, .. } => {
                let target = format!("database {name} at {host}:{port} as user {user}");
                first_connection(postgres::first_connection(settings, lock_wait), target).await?;
            }
            DatabaseSettings::Sqlite { path } => {
                has_directory(path)?;
                let target = format!("database {}", path.display());
                first_connection(first_sqlite_connection(path), target).await?;
            }
        }
        Ok(Self::of(Arc::new(Origin { settings: settings.clone(), max_connections, lock_wait })))
    }

    /// A new pool in place of this one, whose connections may wait for ever for a host that is gone.
    /// Its connections are made when they are needed: there is no telling when the host is back.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self::of(Arc::clone(&self.origin))
    }

    fn of(origin: Arc<Origin>) -> Self {
        let (most, lock_wait) = (origin.max_connections, origin.lock_wait);
        let (connection, dialect) = match &origin.settings {
            DatabaseSettings::MySql { .. } => {
                let pool = pool_options::<sqlx::MySql>(most)
                    .after_connect(move |connection, _| Box::pin(set_up_session(connection, lock_wait)));
                (pool.connect_lazy_with(mysql_options(&origin.settings)).into(), Dialect::MySql)
            }
            DatabaseSettings::Postgres { .. } => {
                let pool = pool_options::<sqlx::Postgres>(most).after_connect(move |connection, _| {
                    Box::pin(postgres::set_up_session(connection, lock_wait))
                });
                let options = postgres::options(&origin.settings);
                (pool.connect_lazy_with(options).into(), Dialect::Postgres)
            }
            DatabaseSettings::Sqlite { path } => {
                let pool = pool_options::<sqlx::Sqlite>(most);
                (pool.connect_lazy_with(sqlite_options(path)).into(), Dialect::Sqlite)
            }
        };
        Self { connection, dialect, origin }
    }

    /// Begins a transaction: READ COMMITTED, which every session of ours is set to, or on `SQLite`
    /// one that holds the write lock from the start, since one that reads first and then writes
    /// fails as soon as another has written in between.
    pub async fn begin(&self) -> Result<DatabaseTransaction, StoreError> {
        let sqlite_transaction_mode = match self.dialect {
            Dialect::MySql | Dialect::Postgres => None,
            Dialect::Sqlite => Some(SqliteTransactionMode::Immediate),
        };
        let options = TransactionOptions { sqlite_transaction_mode, ..TransactionOptions::default() };
        self.connection.begin_with_options(options).await.while_doing("beginning a transaction")
    }

    /// Closes all connections, when those in use have come back.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.connection.close_by_ref().await.while_doing("closing the database")
    }
}

/// How long an answer is waited for.
#[must_use]
pub(crate) fn silence() -> Duration {
    // Tests have less time.
    fail::fail_point!("silence", |ms| {
        ms.and_then(|ms| ms.parse().ok()).map_or(SILENCE, Duration::from_millis)
    });
    SILENCE
}

/// Gives up `work` that takes longer than `patience`, and the connection with it.
pub(crate) async fn answered<T>(
    patience: Duration,
    work: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    let silent = Err(StoreError::Silent { waited: patience });
    tokio::time::timeout(patience, work).await.unwrap_or(silent)
}

fn mysql_options(settings: &DatabaseSettings) -> MySqlConnectOptions {
    let options = MySqlConnectOptions::new()
        .charset("utf8mb4")
        .ssl_mode(MySqlSslMode::Preferred)
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging();
    let DatabaseSettings::MySql { host, port, name, user, password } = settings else { return options };
    let options = options.host(host).port(*port).database(name).username(user);
    // An empty password is sent as none: the server expects no proof of knowing it.
    match password.expose_secret() {
        "" => options,
        password => options.password(password),
    }
}

fn sqlite_options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(SQLITE_BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENT_CACHE)
        .disable_statement_logging()
}

async fn first_mysql_connection(settings: &DatabaseSettings, lock_wait: Duration) -> Result<(), sqlx::Error> {
    let mut connection = mysql_options(settings).connect().await?;
    set_up_session(&mut connection, lock_wait).await?;
    connection.close().await
}

async fn set_up_session(connection: &mut MySqlConnection, lock_wait: Duration) -> Result<(), sqlx::Error> {
    for statement in session(lock_wait) {
        connection.execute(sqlx::AssertSqlSafe(statement)).await?;
    }
    Ok(())
}

/// The file of an `SQLite` database, where it is not there: to connect would make it, and only who begins a database
/// means that.
#[must_use]
pub fn missing_file(settings: &DatabaseSettings) -> Option<&Path> {
    match settings {
        DatabaseSettings::Sqlite { path } => Some(path.as_path()).filter(|path| !path.exists()),
        DatabaseSettings::MySql { .. } | DatabaseSettings::Postgres { .. } => None,
    }
}

fn has_directory(path: &Path) -> Result<(), StoreError> {
    let directory = path.parent().filter(|directory| !directory.as_os_str().is_empty());
    match directory.filter(|directory| !directory.is_dir()) {
        Some(directory) => {
            Err(StoreError::NoDirectory { file: path.to_owned(), directory: directory.to_owned() })
        }
        None => Ok(()),
    }
}

async fn first_sqlite_connection(path: &Path) -> Result<(), sqlx::Error> {
    let mut connection = sqlite_options(path).connect().await?;
    switch_to_wal(&mut connection).await?;
    connection.close().await
}

/// Write-ahead logging lets others read while one writes. The file remembers it; the switch needs
/// the file for itself for a moment and, unlike all else, does not wait for that by itself.
async fn switch_to_wal(connection: &mut sqlx::SqliteConnection) -> Result<(), sqlx::Error> {
    const ATTEMPTS: u32 = 40;
    const PAUSE: Duration = Duration::from_millis(100);
    let mut attempt = 1;
    loop {
        match connection.execute("PRAGMA journal_mode = WAL").await {
            Err(error) if attempt < ATTEMPTS && fault_of_driver(&error) == Fault::LockTimeout => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome.map(|_| ()),
        }
    }
}

async fn first_connection(
    connecting: impl Future<Output = Result<(), sqlx::Error>>,
    target: String,
) -> Result<(), StoreError> {
    match tokio::time::timeout(CONNECT_TIMEOUT, connecting).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => {
            let source = DbErr::Conn(RuntimeErr::SqlxError(Arc::new(error)));
            Err(StoreError::Connect { target, source })
        }
        Err(_) => Err(StoreError::NoAnswer { target, waited: CONNECT_TIMEOUT }),
    }
}

fn pool_options<DB: sqlx::Database>(max_connections: u32) -> PoolOptions<DB> {
    PoolOptions::new()
        .max_connections(max_connections)
        .acquire_timeout(CONNECT_TIMEOUT)
        .idle_timeout(IDLE_TIMEOUT)
        .test_before_acquire(false)
        .before_acquire(|connection: &mut DB::Connection, about| {
            Box::pin(async move {
                if about.idle_for >= TEST_AFTER_IDLE {
                    connection.ping().await?;
                }
                Ok(true)
            })
        })
}
