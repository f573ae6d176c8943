//! A measurement of flows that store.

use super::backlog;
use super::error::BenchError;
use super::observer::Observer;
use super::options::BenchOptions;
use super::progress_bar::ProgressBar;
use super::report::Report;
use super::stage::Stage;
use super::turn::{Seen, Turn};
use super::verdict::judge_stored;
use super::workload::Workload;
use crate::mqtt::load::Publisher;
use crate::store::Database;
use crate::store::bench::progress;

/// Publishes, watches what is committed, and looks whether all of it is there.
pub(super) async fn run(
    options: &BenchOptions,
    stage: &Stage,
    workload: &Workload,
    database: &Database,
    report: &mut Report,
) -> Result<(), BenchError> {
    let (mut turn, publisher) = Turn::begin(options, stage, workload, database, &|_| None).await?;
    let seen = if options.backlog {
        backlog::drain(&mut turn, publisher, stage).await?
    } else {
        watch(&mut turn, publisher).await?
    };
    turn.end(&seen, report).await?;

    let stored = progress::stored(database).await?;
    let (through, refused) = (progress::numbered(database).await?, progress::refused(database).await?);
    report.problems = judge_stored(workload, options.qos == 0, through, &stored, refused);
    Ok(())
}

async fn watch(turn: &mut Turn<'_>, publisher: Publisher) -> Result<Seen, BenchError> {
    let mut publishing = turn.publish(publisher)?;
    let bar = ProgressBar::of("stored", turn.workload.messages);
    let observer = Observer::of(turn);
    let watched = observer.watch(&mut turn.gateway, Some(&mut publishing), &bar).await?;
    publishing.join()?;
    Ok(Seen {
        through: watched.through,
        timed: watched.through,
        took: watched.last_seen.saturating_sub(turn.begun()),
        latencies: watched.latencies.percentiles(),
    })
}
