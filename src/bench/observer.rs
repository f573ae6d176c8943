//! Watches the gateway commit, as anybody could: by reading what it has committed.

use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use super::error::BenchError;
use super::gateway::Gateway;
use super::latency::Latencies;
use super::progress_bar::ProgressBar;
use super::publisher::Publishing;
use super::schedule::{Pace, PublishTimes};
use super::turn::Turn;
use super::workload::Workload;
use crate::store::Database;
use crate::store::bench::progress::{Counters, numbered};

/// Flows whose messages are watched one by one.
const FLOWS_WATCHED: u64 = 64;

/// Between two looks when latency is what matters: about half of it is added to what is seen.
const PAUSE_AT_A_RATE: Duration = Duration::from_micros(200);

/// Between two looks when the looks must not cost the database anything.
const PAUSE_AT_FULL_SPEED: Duration = Duration::from_millis(10);

/// Between two looks at all flows.
const PAUSE_BETWEEN_TOTALS: Duration = Duration::from_millis(250);

/// Without any progress for so long, something is wrong.
const STANDSTILL: Duration = Duration::from_mins(1);

/// At QoS 0 the broker may drop messages: what has not come so long after the last one will not come.
const STANDSTILL_AT_QOS_0: Duration = Duration::from_secs(5);

/// What was seen.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) latencies: Latencies,
    /// Messages that are through.
    pub(super) through: u64,
    /// When the last one was seen.
    pub(super) last_seen: Duration,
    /// How many were through when the first one was seen, and when that was.
    pub(super) first_seen: Option<(u64, Duration)>,
}

impl Observed {
    fn of(flows: &[u64]) -> Self {
        let latencies = Latencies::of(flows);
        Self { latencies, through: 0, last_seen: Duration::ZERO, first_seen: None }
    }

    fn reach(&mut self, through: u64, seen: Duration) {
        (self.through, self.last_seen) = (through, seen);
        self.first_seen.get_or_insert((through, seen));
    }
}

/// What is watched.
pub(super) struct Observer<'a> {
    pub(super) database: &'a Database,
    pub(super) workload: &'a Workload,
    pub(super) times: Arc<PublishTimes>,
    pub(super) qos: u8,
    pub(super) pace: Pace,
}

impl<'a> Observer<'a> {
    /// For a gateway whose turn it is.
    pub(super) fn of(turn: &Turn<'a>) -> Self {
        Self {
            database: turn.database,
            workload: turn.workload,
            times: Arc::clone(&turn.times),
            qos: turn.options.qos,
            pace: turn.pace,
        }
    }

    /// Watches until every message is through, or none comes any more.
    pub(super) async fn watch(
        &self,
        gateway: &mut Gateway,
        mut publishing: Option<&mut Publishing>,
        bar: &ProgressBar,
    ) -> Result<Observed, BenchError> {
        let flows = watched_flows(self.workload.flows);
        let counters = Counters::of(self.database, &flows);
        let mut observed = Observed::of(&flows);
        let mut moved_at = Instant::now();
        let mut last_total = None::<Instant>;
        loop {
            for (flow, through) in counters.read(self.database).await? {
                let seen = self.times.now();
                observed.latencies.note(self.workload, &self.times, flow, through, seen);
            }
            let may_be_all = observed.latencies.are_complete(self.workload);
            if may_be_all || last_total.is_none_or(|at| at.elapsed() >= PAUSE_BETWEEN_TOTALS) {
                last_total = Some(Instant::now());
                let through = numbered(self.database).await?;
                if through > observed.through {
                    observed.reach(through, self.times.now());
                    moved_at = Instant::now();
                    bar.reached(through);
                }
                if through >= self.workload.messages {
                    return Ok(observed);
                }
                gateway.check()?;
                let is_published = publishing.as_mut().map_or(Ok(true), |publishing| publishing.is_over())?;
                if self.qos == 0 && is_published && moved_at.elapsed() >= STANDSTILL_AT_QOS_0 {
                    return Ok(observed);
                }
                if moved_at.elapsed() >= STANDSTILL {
                    return Err(self.stands_still(through, gateway));
                }
            }
            thread::sleep(self.pause());
        }
    }

    fn pause(&self) -> Duration {
        if self.pace == Pace::FullSpeed { PAUSE_AT_FULL_SPEED } else { PAUSE_AT_A_RATE }
    }

    fn stands_still(&self, done: u64, gateway: &Gateway) -> BenchError {
        let messages = self.workload.messages;
        BenchError::NoProgress { waited: STANDSTILL, done, messages, last_lines: gateway.last_lines() }
    }
}

/// All flows, or as many as can be watched, evenly spread.
fn watched_flows(flows: u64) -> Vec<u64> {
    let watched = flows.min(FLOWS_WATCHED);
    (0..watched).map(|index| index * flows / watched).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_flows_are_all_watched_and_of_many_some_from_first_to_last() {
        assert_eq!(watched_flows(3), [0, 1, 2]);
        let of_many = watched_flows(10_000);
        assert_eq!(of_many.len(), 64);
        assert!(of_many.is_sorted() && of_many.last() > Some(&9_800), "{of_many:?}");
    }
}
