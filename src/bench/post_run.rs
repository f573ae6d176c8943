//! A measurement of flows that post, to an endpoint that answers at once.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::error::BenchError;
use super::options::BenchOptions;
use super::progress_bar::ProgressBar;
use super::report::Report;
use super::sink::{Arrival, Sink};
use super::stage::Stage;
use super::turn::{Seen, Turn};
use super::verdict::judge_posted;
use super::workload::Workload;
use crate::mqtt::load::Publisher;
use crate::store::Database;
use crate::store::bench::progress::{self, flow_code};

/// Between two looks at what has arrived; each arrival carries its own time.
const LOOK: Duration = Duration::from_millis(10);

/// Without any progress for so long, something is wrong.
const STANDSTILL: Duration = Duration::from_mins(1);

/// At QoS 0 the broker may drop messages: what has not come so long after the last one will not come.
const STANDSTILL_AT_QOS_0: Duration = Duration::from_secs(5);

/// Publishes, watches what arrives, and looks whether everything has arrived and nothing waits.
pub(super) async fn run(
    options: &BenchOptions,
    stage: &Stage,
    workload: &Workload,
    database: &Database,
    report: &mut Report,
) -> Result<(), BenchError> {
    let (tell, told) = channel();
    let sink = Sink::start(tell).map_err(BenchError::Thread)?;
    let url = |flow| Some(sink.url(&flow_code(flow)));
    let (mut turn, publisher) = Turn::begin(options, stage, workload, database, &url).await?;
    let mut arrivals = Arrivals::of(workload);
    let seen = watch(&mut turn, publisher, &told, &mut arrivals).await?;
    let waiting = until_empty(database).await?;
    turn.end(&seen, report).await?;
    sink.end();
    report.posts_repeated = Some(arrivals.repeated());
    let refused = progress::refused(database).await?;
    report.problems = judge_posted(workload, options.qos == 0, &arrivals, waiting, refused);
    Ok(())
}

async fn watch(
    turn: &mut Turn<'_>,
    publisher: Publisher,
    told: &Receiver<Arrival>,
    arrivals: &mut Arrivals,
) -> Result<Seen, BenchError> {
    let messages = turn.workload.messages;
    let bar = ProgressBar::of("posted", messages);
    let mut publishing = turn.publish(publisher)?;
    let mut moved_at = Instant::now();
    while arrivals.count() < messages {
        tokio::time::sleep(LOOK).await;
        let before = arrivals.count();
        for arrival in told.try_iter() {
            arrivals.note(turn.workload, &turn.times, &arrival);
        }
        turn.gateway.check()?;
        let is_published = publishing.is_over()?;
        if arrivals.count() > before {
            moved_at = Instant::now();
            bar.reached(arrivals.count());
        }
        if turn.options.qos == 0 && is_published && moved_at.elapsed() >= STANDSTILL_AT_QOS_0 {
            break;
        }
        if moved_at.elapsed() >= STANDSTILL {
            let (done, last_lines) = (arrivals.count(), turn.gateway.last_lines());
            return Err(BenchError::NoProgress { waited: STANDSTILL, done, messages, last_lines });
        }
    }
    publishing.join()?;
    let took = arrivals.last().saturating_sub(turn.begun());
    let (through, latencies) = (arrivals.count(), arrivals.percentiles());
    Ok(Seen { through, timed: through, took, latencies })
}

/// What is delivered is deleted soon, not at once. What is still there in the end.
async fn until_empty(database: &Database) -> Result<u64, BenchError> {
    let begin = Instant::now();
    loop {
        let waiting = progress::waiting_in_outbox(database).await?;
        if waiting == 0 || begin.elapsed() >= STANDSTILL {
            return Ok(waiting);
        }
        tokio::time::sleep(LOOK).await;
    }
}
