//! Measures flows that store their messages.

use super::backlog;
use super::environment::Environment;
use super::error::BenchError;
use super::observer::Observer;
use super::options::BenchOptions;
use super::problems::{Losses, stored_problems};
use super::progress_bar::ProgressBar;
use super::report::BenchReport;
use super::run::{BenchRun, Measurement};
use super::workload::Workload;
use crate::mqtt::load::Publisher;
use crate::store::Database;
use crate::store::bench::progress;

/// Publishes all messages and observes their commits. Reports missing rows and messages as problems.
pub(super) async fn run(
    options: &BenchOptions,
    environment: &Environment,
    workload: &Workload,
    database: &Database,
    report: &mut BenchReport,
) -> Result<(), BenchError> {
    let (mut run, publisher) = BenchRun::start(options, environment, workload, database, &|_| None).await?;
    let measurement = if options.backlog {
        backlog::drain(&mut run, publisher, environment).await?
    } else {
        watch(&mut run, publisher).await?
    };
    run.end(&measurement, report).await?;

    let stored = progress::stored(database).await?;
    let (through, refused) = (progress::numbered(database).await?, progress::refused(database).await?);
    report.problems = stored_problems(workload, Losses::at_qos(options.qos), through, &stored, refused);
    Ok(())
}

async fn watch(run: &mut BenchRun<'_>, publisher: Publisher) -> Result<Measurement, BenchError> {
    let mut publishing = run.publish(publisher)?;
    let bar = ProgressBar::new("stored", run.workload.messages);
    let observer = Observer::new(run);
    let watched = observer.watch(&mut run.gateway, Some(&mut publishing), &bar).await?;
    publishing.join()?;
    Ok(Measurement {
        through: watched.through,
        timed: watched.through,
        took: watched.last_seen.saturating_sub(run.started_at()),
        latencies: watched.latencies.percentiles(),
    })
}
