//! Limits D and O: messages per second that the database stores with plain inserts, and whose outbox rows it inserts
//! and deletes.

use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::per_second;
use crate::settings::DatabaseSettings;
use crate::store::bench::commit::single_row_commits;
use crate::store::bench::insert::{InsertLoad, Inserted};
use crate::store::bench::outbox::{OutboxLoad, SamplePost};
use crate::store::bench::rows::{SampleMessage, TableError, check_empty, empty};
use crate::store::{Database, StoreError};

/// Numbers of messages per statement that are tried. The best size depends on the database.
const STATEMENT_SIZES: [usize; 3] = [512, 1_024, 2_048];

/// Number of measured commits of a single row.
const COMMITS: u64 = 400;

/// Errors of the measurement of the database.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseLimitError {
    /// The table is not empty, or the database returned an error.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The database returned an error during the inserts.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system refused a thread or a runtime.
    #[error("cannot start a thread for the database: {0}")]
    Thread(#[from] io::Error),
    /// A thread panicked.
    #[error("an inserting thread panicked")]
    Panicked,
}

/// The best result of all statement sizes.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DatabaseLimit {
    /// Limit D.
    pub messages_per_second: f64,
    /// Messages per statement of the best result.
    pub per_statement: u64,
    /// Number of concurrent connections.
    pub connections: usize,
}

/// Times of commits of a single row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitTimes {
    /// Median.
    pub median: Duration,
    /// 99th percentile.
    pub p99: Duration,
}

/// Measures limit D. Each statement size inserts at least `messages` messages and runs for at least `at_least`.
///
/// `samples` must not be empty. The table `data` must be empty, and is emptied afterwards. Blocks; the calling thread
/// must not run inside a runtime.
pub fn database_limit(
    settings: &DatabaseSettings,
    samples: &[SampleMessage],
    messages: u64,
    at_least: Duration,
) -> Result<DatabaseLimit, DatabaseLimitError> {
    let connections = connections(settings);
    let mut best: Option<DatabaseLimit> = None;
    for wanted in STATEMENT_SIZES {
        let load = InsertLoad::new(samples, wanted, messages, at_least);
        let insert = |_, start: &dyn Fn()| block_on(async { Ok(load.insert(settings, start).await?) });
        let messages_per_second = on_empty_table(settings, || rate(connections, insert))?;
        if best.is_none_or(|best| best.messages_per_second < messages_per_second) {
            best =
                Some(DatabaseLimit { messages_per_second, per_statement: load.per_statement(), connections });
        }
    }
    best.ok_or(DatabaseLimitError::Panicked)
}

/// Measures limit O, in messages per second, as [`database_limit`] measures limit D.
///
/// `samples` must not be empty. Other rows of the table `outbox` are left alone. Blocks; the calling thread must not run
/// inside a runtime.
pub fn outbox_limit(
    settings: &DatabaseSettings,
    samples: &[SamplePost],
    messages: u64,
    at_least: Duration,
) -> Result<f64, DatabaseLimitError> {
    let mut best = 0.0_f64;
    for wanted in STATEMENT_SIZES {
        let load = OutboxLoad::new(samples, wanted, messages, at_least);
        let run = |connection, start: &dyn Fn()| {
            block_on(async { Ok(load.run(settings, connection, start).await?) })
        };
        best = best.max(rate(connections(settings), run)?);
    }
    Ok(best)
}

fn connections(settings: &DatabaseSettings) -> usize {
    match settings {
        DatabaseSettings::MySql { .. } | DatabaseSettings::Postgres { .. } => 2,
        // SQLite allows only one writer at a time.
        DatabaseSettings::Sqlite { .. } => 1,
    }
}

/// Measures the commit times of single rows, to which the latency of the gateway is compared.
///
/// The table `data` must be empty, and is emptied afterwards. Blocks; the calling thread must not run inside a runtime.
pub fn commit_times(
    settings: &DatabaseSettings,
    sample: &SampleMessage,
) -> Result<CommitTimes, DatabaseLimitError> {
    let times = on_empty_table(settings, || {
        block_on(async {
            let database = Database::connect(settings, 1).await?;
            let times = single_row_commits(&database, sample, COMMITS).await?;
            database.close().await?;
            Ok(times)
        })
    })?;
    let at = |hundredths: usize| times.get(times.len() * hundredths / 100).copied().unwrap_or_default();
    Ok(CommitTimes { median: at(50), p99: at(99) })
}

fn on_empty_table<T>(
    settings: &DatabaseSettings,
    measure: impl FnOnce() -> Result<T, DatabaseLimitError>,
) -> Result<T, DatabaseLimitError> {
    block_on(async {
        let database = Database::connect(settings, 1).await?;
        check_empty(&database).await?;
        Ok(database.close().await?)
    })?;
    let measured = measure();
    block_on(async {
        let database = Database::connect(settings, 1).await?;
        empty(&database).await?;
        Ok(database.close().await?)
    })?;
    measured
}

/// Returns the messages per second of all connections. The rates are added per connection, so that connections which
/// end early do not lower the result.
fn rate(
    connections: usize,
    run: impl Fn(usize, &dyn Fn()) -> Result<Inserted, DatabaseLimitError> + Sync,
) -> Result<f64, DatabaseLimitError> {
    let barrier = Barrier::new(connections);
    let start = || {
        barrier.wait();
    };
    let (run, start) = (&run, &start);
    let inserted: Vec<Result<Inserted, DatabaseLimitError>> = thread::scope(|scope| {
        let threads: Vec<_> =
            (0..connections).map(|number| scope.spawn(move || run(number, start))).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or(Err(DatabaseLimitError::Panicked))
        };
        threads.into_iter().map(join).collect()
    });
    inserted.into_iter().map(|inserted| inserted.map(|done| per_second(done.messages, done.elapsed))).sum()
}

/// Runs `work` on a new runtime. Each thread needs its own, because a connection is bound to the runtime that opened
/// it.
fn block_on<T>(work: impl Future<Output = Result<T, DatabaseLimitError>>) -> Result<T, DatabaseLimitError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
