//! D: how many messages a second the database takes, by the plainest inserts there are.

use std::io;
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use super::per_second;
use crate::settings::DatabaseSettings;
use crate::store::bench::commit::single_row_commits;
use crate::store::bench::insert::{InsertLoad, Inserted};
use crate::store::bench::rows::{SampleMessage, TableError, check_empty, empty};
use crate::store::{Database, StoreError};

/// Messages a statement that are tried: which is best depends on the database, and the limit must not be too low.
const TRIED: [usize; 3] = [512, 1_024, 2_048];

/// Commits of a single row that are measured.
const COMMITS: u64 = 400;

/// Why a limit of the database is not known.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseLimitError {
    /// The table is in use, or the database refused.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The same while inserting.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gives no thread, or none that can wait for the database.
    #[error("cannot start a thread for the database: {0}")]
    Thread(#[from] io::Error),
    /// A thread came to no end of its own.
    #[error("a thread that inserted has panicked")]
    Panicked,
}

/// The best of what was tried.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct DatabaseLimit {
    /// D.
    pub messages_per_second: f64,
    /// Messages a statement at which it was reached.
    pub per_statement: u64,
    /// Connections that inserted at the same time.
    pub connections: usize,
}

/// Times of commits of a single row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CommitTimes {
    /// Half of them were faster.
    pub median: Duration,
    /// A hundredth was slower.
    pub p99: Duration,
}

/// Measures D with `samples`, which must not be empty; each size of statement gets so many messages, and at least so
/// much time (some seconds, for a figure). The table `data` has to be empty, and is afterwards. Blocks; the calling
/// thread must have no runtime of its own.
pub fn database_limit(
    settings: &DatabaseSettings,
    samples: &[SampleMessage],
    messages: u64,
    at_least: Duration,
) -> Result<DatabaseLimit, DatabaseLimitError> {
    let connections = match settings {
        DatabaseSettings::MySql { .. } | DatabaseSettings::Postgres { .. } => 2,
        // It has one writer at a time.
        DatabaseSettings::Sqlite { .. } => 1,
    };
    let mut best: Option<DatabaseLimit> = None;
    for wanted in TRIED {
        let load = InsertLoad::new(samples, wanted, messages, at_least);
        let messages_per_second = on_empty_table(settings, || rate(settings, &load, connections))?;
        if best.is_none_or(|best| best.messages_per_second < messages_per_second) {
            best =
                Some(DatabaseLimit { messages_per_second, per_statement: load.per_statement(), connections });
        }
    }
    best.ok_or(DatabaseLimitError::Panicked)
}

/// Measures what the latency of the gateway is compared with. The table `data` has to be empty, and is afterwards.
/// Blocks; the calling thread must have no runtime of its own.
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

/// Messages a second over all connections, each by its own time: so nothing is lost where one of them ends before
/// another.
fn rate(
    settings: &DatabaseSettings,
    load: &InsertLoad<'_>,
    connections: usize,
) -> Result<f64, DatabaseLimitError> {
    let barrier = Barrier::new(connections);
    let start = || {
        barrier.wait();
    };
    let insert = || block_on(async { Ok(load.insert(settings, start).await?) });
    let inserted: Vec<Result<Inserted, DatabaseLimitError>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..connections).map(|_| scope.spawn(insert)).collect();
        let join = |thread: thread::ScopedJoinHandle<'_, _>| {
            thread.join().unwrap_or(Err(DatabaseLimitError::Panicked))
        };
        threads.into_iter().map(join).collect()
    });
    inserted.into_iter().map(|inserted| inserted.map(|done| per_second(done.messages, done.elapsed))).sum()
}

/// A connection's input and output belong to the runtime that opened it, and each thread has its own.
fn block_on<T>(work: impl Future<Output = Result<T, DatabaseLimitError>>) -> Result<T, DatabaseLimitError> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}
