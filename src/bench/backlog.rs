//! Backlog measurement: blocks the database until the inbox holds all messages, then measures how it drains.

use std::time::{Duration, Instant};

use super::error::BenchError;
use super::observer::Observer;
use super::progress_bar::ProgressBar;
use super::publisher::Publishing;
use super::stage::Stage;
use super::turn::{Seen, Turn};
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
    turn: &mut Turn<'_>,
    publisher: Publisher,
    stage: &Stage,
) -> Result<Seen, BenchError> {
    // The observer uses the other connection.
    let holder = Database::connect(&stage.database, 1).await?;
    turn.gateway.expect_errors(true);
    let hold = Hold::take(&holder).await?;
    let publishing = turn.publish(publisher)?;
    fill(turn, publishing, stage, &hold).await?;
    hold.release().await?;
    turn.gateway.expect_errors(false);
    holder.close().await?;

    let bar = ProgressBar::new("drained", turn.workload.messages);
    let observer = Observer::new(turn);
    let watched = observer.watch(&mut turn.gateway, None, &bar).await?;
    let (first, begun) = watched.first_seen.unwrap_or_default();
    Ok(Seen {
        through: watched.through,
        timed: watched.through.saturating_sub(first),
        took: watched.last_seen.saturating_sub(begun),
        latencies: None,
    })
}

async fn fill(
    turn: &mut Turn<'_>,
    mut publishing: Publishing,
    stage: &Stage,
    hold: &Hold,
) -> Result<(), BenchError> {
    let messages = turn.workload.messages;
    let bar = ProgressBar::new("in the inbox", messages);
    let (mut taken, mut moved_at) = (0, Instant::now());
    while taken < messages {
        tokio::time::sleep(POLL_INTERVAL).await;
        hold.keep().await?;
        turn.gateway.check()?;
        publishing.is_over()?;
        let records =
            inbox::survey(&stage.directory().join("inbox"), &[])?.map_or(0, |survey| survey.records);
        if records > taken {
            (taken, moved_at) = (records, Instant::now());
            bar.set_position(taken);
        } else if moved_at.elapsed() >= PROGRESS_TIMEOUT {
            let last_lines = turn.gateway.last_lines();
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
