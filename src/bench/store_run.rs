//! A measurement of flows that store.

use std::sync::Arc;

use super::error::BenchError;
use super::gateway::Gateway;
use super::observer::Observer;
use super::options::BenchOptions;
use super::progress::Progress;
use super::publisher::Publishing;
use super::report::Report;
use super::schedule::{Pace, PublishTimes};
use super::stage::Stage;
use super::verdict::judge_stored;
use super::workload::Workload;
use crate::store::Database;
use crate::store::bench::{progress, schema};

/// Publishes, watches what is committed, and looks whether all of it is there.
pub(super) async fn run(options: &BenchOptions, stage: &Stage) -> Result<Report, BenchError> {
    let workload = Workload {
        messages: options.messages,
        flows: options.flows,
        attributes: options.attributes,
        prefix: stage.topic_prefix(),
    };
    let database = Database::connect(&stage.database, 1).await?;
    stage.furnish(&database, &workload, options.action, &|_| None).await?;
    let mut gateway = Gateway::start(stage.directory(), &stage.gateway_settings())?;
    gateway.wait_until_subscribed(workload.flows)?;

    let mut report = Report::of(options);
    report.database = schema::version(&database).await?;
    report.broker = stage.broker_name();
    report.mqtt_version = gateway.mqtt_version();

    let publisher = stage.publisher()?;
    let (transactions, usage) = (gateway.transactions(), gateway.usage()?);
    let (pace, times) = (Pace::of(options.rate), Arc::new(PublishTimes::new(workload.messages)));
    let mut publishing = Publishing::start(publisher, workload.clone(), pace, Arc::clone(&times))?;
    let observer =
        Observer { database: &database, workload: &workload, times: &times, qos: options.qos, pace };
    let bar = Progress::of("stored", workload.messages);
    let seen = observer.watch(&mut gateway, &mut publishing, &bar).await?;
    drop(bar);
    publishing.join()?;

    let first = times.of(0).unwrap_or_default();
    report.set_rate(seen.through, seen.last_seen.saturating_sub(first));
    report.set_latencies(seen.latencies.percentiles());
    report.set_usage(usage, gateway.usage()?);
    report.set_transactions(transactions, gateway.transactions());
    gateway.end()?;

    let stored = progress::stored(&database).await?;
    let (through, refused) = (progress::numbered(&database).await?, progress::refused(&database).await?);
    report.problems = judge_stored(&workload, options.qos == 0, through, &stored, refused);
    database.close().await?;
    Ok(report)
}
