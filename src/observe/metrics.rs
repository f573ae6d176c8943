//! Metrics for Prometheus.
//!
//! ```text
//! worker, delivery, broker's thread ──add──▶ Metrics ──┐
//! mailboxes, inbox, outbox ◀──read when asked── Snapshot ──┴──▶ Exposition ──▶ text
//! ```
//!
//! Workers count once for each transaction, not for each message, and never wait for a reader.
//! A test compares `docs/METRICS.md` with this module.

mod activity;
mod broker;
mod database;
mod dead_letters;
mod endpoints;
mod exposition;
mod families;
mod flows;
mod histogram;
mod known;

pub use activity::{ActivityReading, FlowActivity};
pub use broker::BrokerMetrics;
pub use database::{DatabaseMetrics, ErrorKind};
pub use dead_letters::DeadLetterMetrics;
pub use endpoints::{AttemptCounts, AttemptOutcome, EndpointMetrics, EndpointReading};
pub use exposition::{CONTENT_TYPE, Exposition};
pub use flows::FlowMetrics;
pub use histogram::{DURATIONS, Histogram};

use crate::domain::batch::{ProcessError, ProcessResult};

/// Metrics that are updated by events.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Message counts by flow.
    pub flows: FlowMetrics,
    /// Posts by origin of the endpoint.
    pub endpoints: EndpointMetrics,
    /// Dead letters by reason.
    pub dead_letters: DeadLetterMetrics,
    /// Database metrics.
    pub database: DatabaseMetrics,
    /// Broker metrics.
    pub broker: BrokerMetrics,
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
