//! Numbers for Prometheus.
//!
//! ```text
//! worker, delivery, broker's thread ──add──▶ Metrics ──┐
//! mailboxes, inbox, outbox ◀──read when asked── Snapshot ──┴──▶ Exposition ──▶ text
//! ```
//!
//! The message path adds up by the transaction, not by the message, and never waits for a reader.
//! `docs/METRICS.md` is held against what is written here.

mod broker;
mod database;
mod dead_letters;
mod exposition;
mod families;
mod flows;
mod histogram;
mod known;

pub use broker::Broker;
pub use database::{Database, ErrorKind};
pub use dead_letters::DeadLetters;
pub use exposition::{CONTENT_TYPE, Exposition};
pub use flows::Flows;
pub use histogram::{DURATIONS, Histogram};

use crate::domain::batch::{ProcessError, ProcessResult};

/// All that is counted as it happens.
#[derive(Debug, Default)]
pub struct Metrics {
    /// By flow.
    pub flows: Flows,
    /// By reason.
    pub dead_letters: DeadLetters,
    /// The database.
    pub database: Database,
    /// The broker.
    pub broker: Broker,
}

impl Metrics {
    /// Counts what a worker has done.
    pub fn processed(&self, results: &[Result<ProcessResult, ProcessError>]) {
        self.flows.count(results);
        for result in results {
            if let Err(ProcessError::Rejected(rejection)) = result {
                self.dead_letters.count(rejection.reason);
            }
        }
    }
}
