//! Measures flows that store their messages.

use super::backlog;
use super::error::BenchError;
use super::observer::Observer;
use super::options::BenchOptions;
use super::progress_bar::ProgressBar;
use super::report::Report;
use super::stage::Stage;
use super::turn::{Seen, Turn};
use super::verdict::stored_problems;
use super::workload::Workload;
use crate::mqtt::load::Publisher;
use crate::store::Database;
use crate::store::bench::progress;

/// Publishes all messages and observes their commits. Reports missing rows and messages as problems.
pub(super) async fn run(
    options: &BenchOptions,
    stage: &Stage,
    workload: &Workload,
    database: &Database,
    report: &mut Report,
) -> Result<(), BenchError> {
    let (mut turn, publisher) = Turn::start(options, stage, workload, database, &|_| None).await?;
    let seen = if options.backlog {
        backlog::drain(&mut turn, publisher, stage).await?
    } else {
        watch(&mut turn, publisher).await?
    };
    turn.end(&seen, report).await?;

    let stored = progress::stored(database).await?;
    let (through, refused) = (progress::numbered(database).await?, progress::refused(database).await?);
    report.problems = stored_problems(workload, options.qos == 0, through, &stored, refused);
    Ok(())
}

async fn watch(turn: &mut Turn<'_>, publisher: Publisher) -> Result<Seen, BenchError> {
    let mut publishing = turn.publish(publisher)?;
    let bar = ProgressBar::new("stored", turn.workload.messages);
    let observer = Observer::new(turn);
    let watched = observer.watch(&mut turn.gateway, Some(&mut publishing), &bar).await?;
    publishing.join()?;
    Ok(Seen {
        through: watched.through,
        timed: watched.through,
        took: watched.last_seen.saturating_sub(turn.started_at()),
        latencies: watched.latencies.percentiles(),
    })
}
