//! The rate of plain inserts of many rows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::rows::{Inserter, SampleMessage, messages_per_statement};
use crate::settings::DatabaseSettings;
use crate::store::connect::Database;
use crate::store::error::StoreError;

/// The total of several connections. The run ends when both the number of messages and the time are reached.
#[derive(Debug)]
pub struct InsertLoad<'a> {
    samples: &'a [SampleMessage],
    per_statement: u64,
    messages: u64,
    at_least: Duration,
    next: AtomicU64,
}

/// The result of one connection.
#[derive(Debug, Clone, Copy)]
pub struct Inserted {
    /// Messages whose rows are all committed.
    pub messages: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl<'a> InsertLoad<'a> {
    /// Repeats `samples`, `wanted` of them in each statement, which is a transaction, or fewer if a statement cannot
    /// hold them. Ends after `messages` over all connections, and not before the time.
    #[must_use]
    pub fn new(samples: &'a [SampleMessage], wanted: usize, messages: u64, at_least: Duration) -> Self {
        let per_statement = messages_per_statement(samples, wanted) as u64;
        Self { samples, per_statement, messages, at_least, next: AtomicU64::new(0) }
    }

    /// Messages in each statement.
    #[must_use]
    pub fn per_statement(&self) -> u64 {
        self.per_statement
    }

    /// Inserts by its own connection, in parallel with others. Calls `start` once, whatever happens, when the
    /// connection and the statement are ready.
    pub async fn insert(
        &self,
        settings: &DatabaseSettings,
        start: impl FnOnce(),
    ) -> Result<Inserted, StoreError> {
        let ready = self.prepare(settings).await;
        start();
        let (database, mut inserter) = ready?;
        let begun = Instant::now();
        let mut messages = 0;
        loop {
            let first = self.next.fetch_add(self.per_statement, Ordering::Relaxed);
            if first >= self.messages && begun.elapsed() >= self.at_least {
                break;
            }
            inserter.insert(first..first + self.per_statement).await?;
            messages += self.per_statement;
        }
        let elapsed = begun.elapsed();
        drop(inserter);
        database.close().await?;
        Ok(Inserted { messages, elapsed })
    }

    async fn prepare(&self, settings: &DatabaseSettings) -> Result<(Database, Inserter<'a>), StoreError> {
        let database = Database::connect(settings, 1).await?;
        let mut inserter = Inserter::new(&database, self.samples).await?;
        inserter.insert(0..self.per_statement).await?;
        Ok((database, inserter))
    }
}
