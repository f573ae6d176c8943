//! Metrics for Prometheus.
//!
//! ```text
//! worker, delivery, broker's thread ──add──▶ Metrics ──┐
//! mailboxes, inbox, outbox ◀──read when asked── Snapshot ──┴──▶ Exposition ──▶ text
//! ```
//!
//! Workers count once for each transaction, not for each message, and never wait for a reader.
//! A test compares `docs/METRICS.md` with this module.

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

/// Metrics that are updated by events.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Message counts by flow.
    pub flows: Flows,
    /// Dead letters by reason.
    pub dead_letters: DeadLetters,
    /// Database metrics.
    pub database: Database,
    /// Broker metrics.
    pub broker: Broker,
}

impl Metrics {
    /// Counts the results of one transaction of a worker.
    pub fn processed(&self, results: &[Result<ProcessResult, ProcessError>]) {
        self.flows.count(results);
        for result in results {
            if let Err(ProcessError::Rejected(rejection)) = result {
                self.dead_letters.count(rejection.reason);
            }
        }
    }
}
