//! The gateway's turn: started, loaded, asked what it has used, ended.

use std::sync::Arc;
use std::time::Duration;

use super::error::BenchError;
use super::gateway::Gateway;
use super::idle::idle_percent;
use super::latency::Percentiles;
use super::options::BenchOptions;
use super::publisher::Publishing;
use super::report::Report;
use super::schedule::{Pace, PublishTimes};
use super::stage::Stage;
use super::usage::Usage;
use super::workload::Workload;
use crate::mqtt::load::Publisher;
use crate::store::Database;

/// A gateway that has subscribed.
pub(super) struct Turn<'a> {
    pub(super) options: &'a BenchOptions,
    pub(super) workload: &'a Workload,
    pub(super) database: &'a Database,
    pub(super) gateway: Gateway,
    pub(super) pace: Pace,
    pub(super) times: Arc<PublishTimes>,
    /// What it had committed and used before the first message.
    before: (Option<u64>, Usage),
}

/// What was seen of the messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen {
    /// Messages that came through.
    pub(super) through: u64,
    /// Those that `took` is about: all, but for a backlog.
    pub(super) timed: u64,
    pub(super) took: Duration,
    pub(super) latencies: Option<Percentiles>,
}

impl<'a> Turn<'a> {
    /// Writes down the flows, starts the gateway and connects a publisher.
    pub(super) async fn begin(
        options: &'a BenchOptions,
        stage: &Stage,
        workload: &'a Workload,
        database: &'a Database,
        endpoint_url: &dyn Fn(u64) -> Option<String>,
    ) -> Result<(Self, Publisher), BenchError> {
        stage.furnish(database, workload, options.action, endpoint_url).await?;
        let mut gateway = Gateway::start(stage.directory(), &stage.gateway_settings())?;
        gateway.wait_until_subscribed(workload.flows)?;
        let publisher = stage.publisher()?;
        let times = Arc::new(PublishTimes::new(workload.messages));
        let before = (gateway.transactions(), gateway.usage()?);
        let pace = Pace::of(options.rate);
        Ok((Self { options, workload, database, gateway, pace, times, before }, publisher))
    }

    /// Begins to publish.
    pub(super) fn publish(&self, publisher: Publisher) -> Result<Publishing, BenchError> {
        Publishing::start(publisher, self.workload.clone(), self.pace, Arc::clone(&self.times))
    }

    /// When the first message was published.
    pub(super) fn begun(&self) -> Duration {
        self.times.of(0).unwrap_or_default()
    }

    /// Writes down what it has used, and ends the gateway.
    pub(super) async fn end(self, seen: &Seen, report: &mut Report) -> Result<(), BenchError> {
        let (transactions, usage) = self.before;
        report.mqtt_version = self.gateway.mqtt_version();
        report.set_seen(seen);
        report.set_usage(usage, self.gateway.usage()?);
        report.set_transactions(transactions, self.gateway.transactions());
        if let Some(over) = self.options.idle {
            report.set_idle(idle_percent(&self.gateway, over).await?);
        }
        self.gateway.end()
    }
}
