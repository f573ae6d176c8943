//! Observes the gateway from outside, by reading its committed counters.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::error::BenchError;
use super::gateway::GatewayProcess;
use super::latency::Latencies;
use super::progress_bar::ProgressBar;
use super::publisher::Publishing;
use super::run::BenchRun;
use super::schedule::{Pace, PublishTimes};
use super::workload::Workload;
use crate::store::Database;
use crate::store::bench::progress::{CounterQuery, numbered};

/// Maximum number of flows whose messages are observed individually.
const MAX_FLOWS_WATCHED: u64 = 64;

/// Interval between two reads when latency is measured. About half of it adds to the measured latency.
const RATE_POLL_INTERVAL: Duration = Duration::from_micros(200);

/// Interval between two reads at full speed, long enough not to load the database.
const FULL_SPEED_POLL_INTERVAL: Duration = Duration::from_millis(10);

/// Interval between two reads of all flows.
const TOTAL_POLL_INTERVAL: Duration = Duration::from_millis(250);

/// Maximum time without progress before the measurement fails.
const PROGRESS_TIMEOUT: Duration = Duration::from_mins(1);

/// Time without progress after which the remaining messages count as lost at QoS 0, where brokers may drop messages.
const LOSS_TIMEOUT: Duration = Duration::from_secs(5);

/// Result of an observation.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) latencies: Latencies,
    /// Number of completed messages.
    pub(super) through: u64,
    /// Time at which the last progress was seen.
    pub(super) last_seen: Duration,
    /// Number of completed messages at the first progress, and its time.
    pub(super) first_seen: Option<(u64, Duration)>,
}

impl Observed {
    fn new(flows: &[u64]) -> Self {
        let latencies = Latencies::new(flows);
        Self { latencies, through: 0, last_seen: Duration::ZERO, first_seen: None }
    }

    fn record_progress(&mut self, through: u64, seen: Duration) {
        (self.through, self.last_seen) = (through, seen);
        self.first_seen.get_or_insert((through, seen));
    }
}

/// Observer of a gateway under test.
pub(super) struct Observer<'a> {
    pub(super) database: &'a Database,
    pub(super) workload: &'a Workload,
    pub(super) times: Arc<PublishTimes>,
    pub(super) qos: u8,
    pub(super) pace: Pace,
}

impl<'a> Observer<'a> {
    /// Creates the observer for a turn.
    pub(super) fn new(run: &BenchRun<'a>) -> Self {
        Self {
            database: run.database,
            workload: run.workload,
            times: Arc::clone(&run.times),
            qos: run.options.qos,
            pace: run.pace,
        }
    }

    /// Observes until all messages are complete, or at QoS 0 until progress stops.
    pub(super) async fn watch(
        &self,
        gateway: &mut GatewayProcess,
        mut publishing: Option<&mut Publishing>,
        bar: &ProgressBar,
    ) -> Result<Observed, BenchError> {
        let flows = watched_flows(self.workload.flows);
        let counters = CounterQuery::of(self.database, &flows);
        let mut observed = Observed::new(&flows);
        let mut moved_at = Instant::now();
        let mut last_total = None::<Instant>;
        loop {
            for (flow, through) in counters.read(self.database).await? {
                let seen = self.times.now();
                observed.latencies.note(self.workload, &self.times, flow, through, seen);
            }
            let may_be_all = observed.latencies.are_complete(self.workload);
            if may_be_all || last_total.is_none_or(|at| at.elapsed() >= TOTAL_POLL_INTERVAL) {
                last_total = Some(Instant::now());
                let through = numbered(self.database).await?;
                if through > observed.through {
                    observed.record_progress(through, self.times.now());
                    moved_at = Instant::now();
                    bar.set_position(through);
                }
                if through >= self.workload.messages {
                    return Ok(observed);
                }
                gateway.check()?;
                let is_published = publishing.as_mut().map_or(Ok(true), |publishing| publishing.is_over())?;
                if self.qos == 0 && is_published && moved_at.elapsed() >= LOSS_TIMEOUT {
                    return Ok(observed);
                }
                if moved_at.elapsed() >= PROGRESS_TIMEOUT {
                    return Err(self.no_progress_error(through, gateway));
                }
            }
            thread::sleep(self.poll_interval());
        }
    }

    fn poll_interval(&self) -> Duration {
        if self.pace == Pace::FullSpeed { FULL_SPEED_POLL_INTERVAL } else { RATE_POLL_INTERVAL }
    }

    fn no_progress_error(&self, done: u64, gateway: &GatewayProcess) -> BenchError {
        let messages = self.workload.messages;
        BenchError::NoProgress { waited: PROGRESS_TIMEOUT, done, messages, last_lines: gateway.last_lines() }
    }
}

/// Returns all flows, or an evenly spread selection of at most [`MAX_FLOWS_WATCHED`].
fn watched_flows(flows: u64) -> Vec<u64> {
    let watched = flows.min(MAX_FLOWS_WATCHED);
    (0..watched).map(|index| index * flows / watched).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watched_flows_are_evenly_spread() {
        assert_eq!(watched_flows(3), [0, 1, 2]);
        let of_many = watched_flows(10_000);
        assert_eq!(of_many.len(), 64);
        assert!(of_many.is_sorted() && of_many.last() > Some(&9_800), "{of_many:?}");
    }
}
