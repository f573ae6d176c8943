//! Measures flows that post to an endpoint, which answers immediately.

use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use super::arrivals::Arrivals;
use super::environment::Environment;
use super::error::BenchError;
use super::options::BenchOptions;
use super::problems::{Losses, posted_problems};
use super::progress_bar::ProgressBar;
use super::report::BenchReport;
use super::run::{BenchRun, Measurement};
use super::sink::{Arrival, Sink};
use super::workload::Workload;
use crate::mqtt::load::Publisher;
use crate::store::Database;
use crate::store::bench::progress::{self, flow_code};

/// Interval between two reads of the arrivals. Each arrival carries its own time.
const POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Maximum time without progress before the measurement fails.
const PROGRESS_TIMEOUT: Duration = Duration::from_mins(1);

/// Time without progress after which the remaining messages count as lost at QoS 0, where brokers may drop messages.
const LOSS_TIMEOUT: Duration = Duration::from_secs(5);

/// Publishes all messages and observes their arrival. Reports missing messages and a non-empty outbox as problems.
pub(super) async fn run(
    options: &BenchOptions,
    environment: &Environment,
    workload: &Workload,
    database: &Database,
    report: &mut BenchReport,
) -> Result<(), BenchError> {
    let (sender, arrived) = channel();
    let sink = Sink::start(sender).map_err(BenchError::Thread)?;
    let url = |flow| Some(sink.url(&flow_code(flow)));
    let (mut run, publisher) = BenchRun::start(options, environment, workload, database, &url).await?;
    let mut arrivals = Arrivals::new(workload);
    let measurement = watch(&mut run, publisher, &arrived, &mut arrivals).await?;
    let waiting = wait_until_outbox_is_empty(database).await?;
    run.end(&measurement, report).await?;
    sink.end();
    report.posts_repeated = Some(arrivals.repeated());
    let refused = progress::refused(database).await?;
    report.problems = posted_problems(workload, Losses::at_qos(options.qos), &arrivals, waiting, refused);
    Ok(())
}

async fn watch(
    run: &mut BenchRun<'_>,
    publisher: Publisher,
    arrived: &Receiver<Arrival>,
    arrivals: &mut Arrivals,
) -> Result<Measurement, BenchError> {
    let messages = run.workload.messages;
    let bar = ProgressBar::new("posted", messages);
    let mut publishing = run.publish(publisher)?;
    let mut moved_at = Instant::now();
    while arrivals.count() < messages {
        tokio::time::sleep(POLL_INTERVAL).await;
        let before = arrivals.count();
        for arrival in arrived.try_iter() {
            arrivals.note(run.workload, &run.times, &arrival);
        }
        run.gateway.check()?;
        let is_published = publishing.is_over()?;
        if arrivals.count() > before {
            moved_at = Instant::now();
            bar.set_position(arrivals.count());
        }
        if run.options.qos == 0 && is_published && moved_at.elapsed() >= LOSS_TIMEOUT {
            break;
        }
        if moved_at.elapsed() >= PROGRESS_TIMEOUT {
            let (done, last_lines) = (arrivals.count(), run.gateway.last_lines());
            return Err(BenchError::NoProgress { waited: PROGRESS_TIMEOUT, done, messages, last_lines });
        }
    }
    publishing.join()?;
    let took = arrivals.last().saturating_sub(run.started_at());
    let (through, latencies) = (arrivals.count(), arrivals.percentiles());
    Ok(Measurement { through, timed: through, took, latencies })
}

/// Waits until the outbox is empty, because delivered messages are deleted with a delay. Returns the number of
/// remaining messages.
async fn wait_until_outbox_is_empty(database: &Database) -> Result<u64, BenchError> {
    let begin = Instant::now();
    loop {
        let waiting = progress::waiting_in_outbox(database).await?;
        if waiting == 0 || begin.elapsed() >= PROGRESS_TIMEOUT {
            return Ok(waiting);
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
