//! One run of the gateway under test, from its start to its end.

use std::sync::Arc;
use std::time::Duration;

use super::environment::Environment;
use super::error::BenchError;
use super::gateway::GatewayProcess;
use super::idle::idle_percent;
use super::latency::Percentiles;
use super::options::BenchOptions;
use super::publisher::Publishing;
use super::report::BenchReport;
use super::schedule::{Pace, PublishTimes};
use super::usage::Usage;
use super::workload::Workload;
use crate::mqtt::load::Publisher;
use crate::store::Database;

/// A running gateway that has subscribed, with its workload.
pub(super) struct BenchRun<'a> {
    pub(super) options: &'a BenchOptions,
    pub(super) workload: &'a Workload,
    pub(super) database: &'a Database,
    pub(super) gateway: GatewayProcess,
    pub(super) pace: Pace,
    pub(super) times: Arc<PublishTimes>,
    /// Transactions and resource usage before the first message.
    before: (Option<u64>, Usage),
}

/// Observed throughput and latencies.
#[derive(Debug, Clone, Copy)]
pub(super) struct Measurement {
    /// Number of completed messages.
    pub(super) through: u64,
    /// Number of messages completed during `took`. It is below `through` only for a backlog.
    pub(super) timed: u64,
    pub(super) took: Duration,
    pub(super) latencies: Option<Percentiles>,
}

impl<'a> BenchRun<'a> {
    /// Inserts the flows, starts the gateway and connects a publisher.
    pub(super) async fn start(
        options: &'a BenchOptions,
        environment: &Environment,
        workload: &'a Workload,
        database: &'a Database,
        endpoint_url: &dyn Fn(u64) -> Option<String>,
    ) -> Result<(Self, Publisher), BenchError> {
        environment.furnish(database, workload, options.action, endpoint_url).await?;
        let mut gateway = GatewayProcess::start(environment.directory(), &environment.gateway_settings())?;
        gateway.wait_until_subscribed(workload.flows).await?;
        let publisher = environment.publisher()?;
        let times = Arc::new(PublishTimes::new(workload.messages));
        let before = (gateway.transactions(), gateway.usage()?);
        let pace = Pace::from_rate(options.rate);
        Ok((Self { options, workload, database, gateway, pace, times, before }, publisher))
    }

    /// Starts to publish the workload.
    pub(super) fn publish(&self, publisher: Publisher) -> Result<Publishing, BenchError> {
        Publishing::start(publisher, self.workload.clone(), self.pace, Arc::clone(&self.times))
    }

    /// Returns the publish time of the first message.
    pub(super) fn started_at(&self) -> Duration {
        self.times.published_at(0).unwrap_or_default()
    }

    /// Adds the results to the report and ends the gateway.
    pub(super) async fn end(
        self,
        measurement: &Measurement,
        report: &mut BenchReport,
    ) -> Result<(), BenchError> {
        let (transactions, usage) = self.before;
        report.mqtt_version = self.gateway.mqtt_version();
        report.set_measurement(measurement);
        report.set_usage(usage, self.gateway.usage()?);
        report.set_transactions(transactions, self.gateway.transactions());
        if let Some(over) = self.options.idle {
            report.set_idle(idle_percent(&self.gateway, over).await?);
        }
        self.gateway.end()
    }
}
