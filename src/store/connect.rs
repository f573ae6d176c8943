//! Connections, and the setup of their sessions.
//!
//! A connection's input and output belong to the runtime that opened it, so every thread with its own runtime opens its
//! own [`Database`].

mod access;
mod choice;
mod mysql;
mod postgres;
mod protection;
mod recovery;

use std::collections::HashMap;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use sea_orm::sqlx::pool::PoolOptions;
use sea_orm::sqlx::sqlite::{SqliteConnectOptions, SqliteSynchronous};
use sea_orm::sqlx::{self, ConnectOptions, Connection, Executor};
use sea_orm::{
    ConnectionTrait, DatabaseConnection, DatabaseTransaction, SqliteTransactionMode, Statement,
    TransactionOptions, TransactionTrait,
};

pub(crate) use access::Access;
use access::{Demand, set_up_session};
pub(crate) use choice::probe;
pub(crate) use protection::protection;
pub(crate) use recovery::Recovery;

use super::dialect::Dialect;
use super::error::{ErrorClass, StoreError, While, class_of_driver};
use crate::settings::{DatabaseSettings, Servers};

/// Timeout for getting a connection, new or from the pool.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Timeout of `SQLite` for the write lock of another process.
const SQLITE_BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection that was idle for longer is tested before it is used. Testing younger ones would cost a round trip per
/// batch.
const TEST_AFTER_IDLE: Duration = Duration::from_secs(2);

/// An idle connection is closed after this. Well below the session's `wait_timeout` of 20 s, after which the server
/// would close it: the pool checks once per interval, so it finds them at up to twice the age.
const IDLE_TIMEOUT: Duration = Duration::from_secs(8);

/// Timeout of a transaction. A connection does not notice that its host vanished after accepting a statement. Far above
/// the time of a full batch, lock waits included.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

/// Prepared statements kept per connection. More than a batch can have shapes: evicting one delays the next.
const STATEMENT_CACHE: usize = 256;

/// Default timeout for a locked row.
const LOCK_WAIT: Duration = Duration::from_secs(5);

/// A database with a pool of connections to it. Cheap to clone.
#[derive(Clone)]
pub struct Database {
    pub(crate) connection: DatabaseConnection,
    pub(crate) dialect: Dialect,
    origin: Arc<PoolParameters>,
    /// Index of the server that the pool connects to.
    server: usize,
    /// The pool is closed, since no server accepted writes when it was made; every use fails at once.
    is_closed: bool,
    /// When the types of the columns of a table, by its name, were last found to be right.
    pub(super) types_checked: Arc<Mutex<HashMap<&'static str, Instant>>>,
}

/// The parameters of a pool.
#[derive(Clone)]
struct PoolParameters {
    settings: DatabaseSettings,
    max_connections: u32,
    lock_wait: Duration,
}

impl PoolParameters {
    /// The same with the current user and password of their file.
    fn with_present_secret(&self) -> Self {
        let mut origin = self.clone();
        match self.settings.reread() {
            Ok(Some(settings)) => origin.settings = settings,
            Ok(None) => {}
            Err(error) => log::warn!("Database: {error}; the credentials read before are used"),
        }
        origin
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database").field("dialect", &self.dialect).finish_non_exhaustive()
    }
}

impl Database {
    /// Connects once, which gives a precise error, and opens a pool of at most `max_connections`. Does not wait for an
    /// unavailable database.
    pub async fn connect(settings: &DatabaseSettings, max_connections: u32) -> Result<Self, StoreError> {
        Self::connect_with(settings, max_connections, LOCK_WAIT).await
    }

    /// As [`Self::connect`], with another timeout (whole seconds) for a locked row. `SQLite` locks no rows.
    pub async fn connect_with(
        settings: &DatabaseSettings,
        max_connections: u32,
        lock_wait: Duration,
    ) -> Result<Self, StoreError> {
        let origin =
            PoolParameters { settings: settings.clone(), max_connections, lock_wait }.with_present_secret();
        if let DatabaseSettings::Sqlite { path } = settings {
            has_directory(path)?;
        }
        let server = choice::choose(&origin.settings, lock_wait).await?;
        Ok(Self::with_origin(Arc::new(origin), server))
    }

    /// A new pool in place of this one, whose connections may wait for ever for a lost host. Its connections are made
    /// when they are needed, since the host may be back at any time.
    #[must_use]
    pub fn anew(&self) -> Self {
        let origin = self.origin.with_present_secret();
        let server = origin.settings.servers().map_or(0, Servers::in_use);
        Self::with_origin(Arc::new(origin), server)
    }

    fn with_origin(origin: Arc<PoolParameters>, server: usize) -> Self {
        let (most, lock_wait) = (origin.max_connections, origin.lock_wait);
        let demanded = Demand::of(&origin.settings);
        let (connection, dialect) = match &origin.settings {
            DatabaseSettings::MySql { servers, .. } => {
                let pool = pool_options::<sqlx::MySql>(most).after_connect(move |connection, _| {
                    Box::pin(set_up_session(connection, lock_wait, demanded))
                });
                let options = mysql::options(&origin.settings, servers.address(server));
                (pool.connect_lazy_with(options).into(), Dialect::MySql)
            }
            DatabaseSettings::Postgres { servers, .. } => {
                let pool = pool_options::<sqlx::Postgres>(most).after_connect(move |connection, _| {
                    Box::pin(set_up_session(connection, lock_wait, demanded))
                });
                let options = postgres::options(&origin.settings, servers.address(server));
                (pool.connect_lazy_with(options).into(), Dialect::Postgres)
            }
            DatabaseSettings::Sqlite { path } => {
                let pool = pool_options::<sqlx::Sqlite>(most);
                (pool.connect_lazy_with(sqlite_options(path)).into(), Dialect::Sqlite)
            }
        };
        let types_checked = Arc::default();
        Self { connection, dialect, origin, server, is_closed: false, types_checked }
    }

    /// Begins a transaction: READ COMMITTED, as every session is set up, or on `SQLite` one that holds the write lock
    /// from the start. There, a transaction that reads before it writes fails if another has written in between.
    pub async fn begin(&self) -> Result<DatabaseTransaction, StoreError> {
        let sqlite_transaction_mode = match self.dialect {
            Dialect::MySql | Dialect::Postgres => None,
            Dialect::Sqlite => Some(SqliteTransactionMode::Immediate),
        };
        let options = TransactionOptions { sqlite_transaction_mode, ..TransactionOptions::default() };
        self.connection.begin_with_options(options).await.while_doing("beginning a transaction")
    }

    /// The number that a query returns; 0 without a row.
    pub(crate) async fn number(&self, query: Statement, doing: &'static str) -> Result<i64, StoreError> {
        let row = self.connection.query_one_raw(query).await.while_doing(doing)?;
        row.map_or(Ok(0), |row| row.try_get_by_index(0)).while_doing(doing)
    }

    /// Closes all connections, once those in use are returned.
    pub async fn close(&self) -> Result<(), StoreError> {
        self.connection.close_by_ref().await.while_doing("closing the database")
    }
}

/// The timeout for an operation of the database.
#[must_use]
pub(crate) fn answer_timeout() -> Duration {
    time_point!("answer-timeout", ANSWER_TIMEOUT)
}

/// Cancels `work` after `timeout`, and drops its connection.
pub(crate) async fn with_timeout<T, E: From<StoreError>>(
    timeout: Duration,
    work: impl Future<Output = Result<T, E>>,
) -> Result<T, E> {
    let silent = StoreError::TimedOut { waited: timeout };
    tokio::time::timeout(timeout, work).await.unwrap_or_else(|_| Err(silent.into()))
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

/// The file of an `SQLite` database, if it is missing. Connecting would create it, which only a new installation wants.
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

/// Write-ahead logging lets others read during a write. The file remembers it. The switch needs an exclusive lock for a
/// moment and, unlike all else, does not wait for it by itself.
async fn switch_to_wal(connection: &mut sqlx::SqliteConnection) -> Result<(), sqlx::Error> {
    const ATTEMPTS: u32 = 40;
    const PAUSE: Duration = Duration::from_millis(100);
    let mut attempt = 1;
    loop {
        match connection.execute("PRAGMA journal_mode = WAL").await {
            Err(error) if attempt < ATTEMPTS && class_of_driver(&error) == ErrorClass::LockTimeout => {
                attempt += 1;
                tokio::time::sleep(PAUSE).await;
            }
            outcome => return outcome.map(|_| ()),
        }
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
