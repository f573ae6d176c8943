//! How many messages a second a database takes by plain inserts of many rows.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::rows::{Inserter, SampleMessage, messages_per_statement};
use crate::settings::DatabaseSettings;
use crate::store::connect::Database;
use crate::store::error::StoreError;

/// What connections insert together. It ends when there is enough of both messages and time.
#[derive(Debug)]
pub struct InsertLoad<'a> {
    samples: &'a [SampleMessage],
    per_statement: u64,
    messages: u64,
    at_least: Duration,
    next: AtomicU64,
}

/// What one connection did.
#[derive(Debug, Clone, Copy)]
pub struct Inserted {
    /// Messages, all of whose rows are committed.
    pub messages: u64,
    /// How long it took.
    pub elapsed: Duration,
}

impl<'a> InsertLoad<'a> {
    /// `samples` over and over, so many `wanted` in each statement, which is a transaction; fewer where a statement
    /// cannot hold as many. It ends after so many `messages`, by all connections together, and not before the time.
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

    /// Inserts by a connection of its own, by the side of others that do the same. Calls `start` once, whatever
    /// happens, when the connection is there and the statement prepared.
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
