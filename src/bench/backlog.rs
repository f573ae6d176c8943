//! A backlog: the database is held up until the inbox has everything, and then let go.

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

/// Between two looks at the inbox, and two signs of life to the database.
const LOOK: Duration = Duration::from_secs(1);

/// The broker has passed everything on long before, or never will.
const STANDSTILL: Duration = Duration::from_mins(1);

/// Fills the inbox, lets go, and times from the first progress to the last.
pub(super) async fn drain(
    turn: &mut Turn<'_>,
    publisher: Publisher,
    stage: &Stage,
) -> Result<Seen, BenchError> {
    // A connection of its own, since the observer needs one.
    let holder = Database::connect(&stage.database, 1).await?;
    turn.gateway.expect_errors(true);
    let hold = Hold::take(&holder).await?;
    let publishing = turn.publish(publisher)?;
    fill(turn, publishing, stage, &hold).await?;
    hold.release().await?;
    turn.gateway.expect_errors(false);
    holder.close().await?;

    let bar = ProgressBar::of("drained", turn.workload.messages);
    let observer = Observer::of(turn);
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
    let bar = ProgressBar::of("in the inbox", messages);
    let (mut taken, mut moved_at) = (0, Instant::now());
    while taken < messages {
        tokio::time::sleep(LOOK).await;
        hold.keep().await?;
        turn.gateway.check()?;
        publishing.is_over()?;
        let records =
            inbox::survey(&stage.directory().join("inbox"), &[])?.map_or(0, |survey| survey.records);
        if records > taken {
            (taken, moved_at) = (records, Instant::now());
            bar.reached(taken);
        } else if moved_at.elapsed() >= STANDSTILL {
            let last_lines = turn.gateway.last_lines();
            return Err(BenchError::NoProgress { waited: STANDSTILL, done: taken, messages, last_lines });
        }
    }
    publishing.join()
}
