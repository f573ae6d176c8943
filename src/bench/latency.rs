//! From what is seen of the flows to how long the messages took.

use std::collections::HashMap;
use std::time::Duration;

use super::schedule::PublishTimes;
use super::workload::Workload;

/// Latencies of the messages of some flows.
#[derive(Debug)]
pub(super) struct Latencies {
    /// Messages that are through, by flow.
    through: HashMap<u64, u64>,
    /// In the order in which they were seen.
    known: Vec<Duration>,
}

/// What is told of latencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percentiles {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) p999: Duration,
    pub(super) max: Duration,
    /// Messages whose latency is known.
    pub(super) samples: u64,
}

impl Latencies {
    /// For the flows with these indices.
    pub(super) fn of(flows: &[u64]) -> Self {
        let through = flows.iter().map(|flow| (*flow, 0)).collect();
        Self { through, known: Vec::new() }
    }

    /// At `seen` the first `through` messages of `flow` were through.
    pub(super) fn note(
        &mut self,
        workload: &Workload,
        times: &PublishTimes,
        flow: u64,
        through: u64,
        seen: Duration,
    ) {
        let Some(before) = self.through.get_mut(&flow) else { return };
        let newly = (*before + 1)..=through.min(workload.messages_of(flow));
        *before = through.max(*before);
        for number in newly {
            if let Some(published) = times.of(workload.message_of(flow, number)) {
                self.record(seen.saturating_sub(published));
            }
        }
    }

    /// Records one latency.
    pub(super) fn record(&mut self, latency: Duration) {
        self.known.push(latency);
    }

    /// Whether all messages of these flows are through.
    pub(super) fn are_complete(&self, workload: &Workload) -> bool {
        self.through.iter().all(|(flow, through)| *through >= workload.messages_of(*flow))
    }

    /// What came of it; none without a single message.
    pub(super) fn percentiles(&self) -> Option<Percentiles> {
        let mut sorted = self.known.clone();
        sorted.sort_unstable();
        let max = *sorted.last()?;
        let at = |thousandths: usize| {
            let rank = (sorted.len() * thousandths).div_ceil(1_000);
            sorted.get(rank - 1).copied().unwrap_or(max)
        };
        Some(Percentiles { p50: at(500), p99: at(990), p999: at(999), max, samples: sorted.len() as u64 })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    /// Six messages over two flows, message `i` published at `i` milliseconds.
    fn six() -> (Workload, PublishTimes, Latencies) {
        let workload = Workload { messages: 6, flows: 2, attributes: 1, prefix: String::new() };
        let times = PublishTimes::new(6);
        (0..6).for_each(|message| times.note(message, MS * u32::try_from(message).unwrap()));
        (workload, times, Latencies::of(&[0, 1]))
    }

    #[test]
    fn a_message_is_through_when_the_counter_has_reached_its_number() {
        let (workload, times, mut latencies) = six();
        latencies.note(&workload, &times, 1, 2, MS * 13);
        // Messages 1 and 3, which are the first two of flow 1.
        let seen = latencies.percentiles().unwrap();
        assert_eq!((seen.samples, seen.max.as_millis(), seen.p50.as_millis()), (2, 12, 10));
        assert!(!latencies.are_complete(&workload));
    }

    #[test]
    fn every_message_counts_once_however_often_the_counter_is_read() {
        let (workload, times, mut latencies) = six();
        for seen in [20, 30, 40] {
            latencies.note(&workload, &times, 0, 3, MS * seen);
            latencies.note(&workload, &times, 1, 3, MS * seen);
        }
        let seen = latencies.percentiles().unwrap();
        assert_eq!((seen.samples, seen.max.as_millis()), (6, 20));
        assert!(latencies.are_complete(&workload));
    }

    #[test]
    fn a_counter_beyond_what_was_published_makes_no_latency_up() {
        let (workload, times, mut latencies) = six();
        latencies.note(&workload, &times, 0, 9, MS * 10);
        assert_eq!(latencies.percentiles().unwrap().samples, 3);
    }

    #[test]
    fn without_a_message_there_is_no_percentile() {
        assert_eq!(Latencies::of(&[0]).percentiles(), None);
    }
}
