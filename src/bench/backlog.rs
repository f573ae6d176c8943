//! Backlog measurement: blocks the database until the inbox holds all messages, then measures how it drains.

use std::time::{Duration, Instant};

use super::environment::Environment;
use super::error::BenchError;
use super::observer::Observer;
use super::progress_bar::ProgressBar;
use super::publisher::Publishing;
use super::run::{BenchRun, Measurement};
use crate::inbox;
use crate::mqtt::load::Publisher;
use crate::store::Database;
use crate::store::bench::hold::Hold;

/// Interval between two checks of the inbox, and between two keepalives of the blocking transaction.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// Maximum time without a new record in the inbox. A working broker forwards all messages sooner.
const PROGRESS_TIMEOUT: Duration = Duration::from_mins(1);

/// Fills the inbox, unblocks the database and measures the time between the first and the last progress.
pub(super) async fn drain(
    run: &mut BenchRun<'_>,
    publisher: Publisher,
    environment: &Environment,
) -> Result<Measurement, BenchError> {
    // The observer uses the other connection.
    let holder = Database::connect(&environment.database, 1).await?;
    run.gateway.expect_errors(true);
    let hold = Hold::take(&holder).await?;
    let publishing = run.publish(publisher)?;
    fill(run, publishing, environment, &hold).await?;
    hold.release().await?;
    run.gateway.expect_errors(false);
    holder.close().await?;

    let bar = ProgressBar::new("drained", run.workload.messages);
    let observer = Observer::new(run);
    let watched = observer.watch(&mut run.gateway, None, &bar).await?;
    let (first, begun) = watched.first_seen.unwrap_or_default();
    Ok(Measurement {
        through: watched.through,
        timed: watched.through.saturating_sub(first),
        took: watched.last_seen.saturating_sub(begun),
        latencies: None,
    })
}

async fn fill(
    run: &mut BenchRun<'_>,
    mut publishing: Publishing,
    environment: &Environment,
    hold: &Hold,
) -> Result<(), BenchError> {
    let messages = run.workload.messages;
    let bar = ProgressBar::new("in the inbox", messages);
    let (mut taken, mut moved_at) = (0, Instant::now());
    while taken < messages {
        tokio::time::sleep(POLL_INTERVAL).await;
        hold.keep().await?;
        run.gateway.check()?;
        publishing.is_over()?;
        let records = inbox::survey(&environment.directory().join("inbox"), &[])?
            .inbox()
            .map_or(0, |inbox| inbox.records);
        if records > taken {
            (taken, moved_at) = (records, Instant::now());
            bar.set_position(taken);
        } else if moved_at.elapsed() >= PROGRESS_TIMEOUT {
            let last_lines = run.gateway.last_lines();
            return Err(BenchError::NoProgress {
                waited: PROGRESS_TIMEOUT,
                done: taken,
                messages,
                last_lines,
            });
        }
    }
    publishing.join()
}
