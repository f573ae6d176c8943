//! Computes the latencies of messages from the counters of their flows.

use std::collections::HashMap;
use std::time::Duration;

use super::schedule::PublishTimes;
use super::workload::Workload;

/// Latencies of the messages of some flows.
#[derive(Debug)]
pub(super) struct Latencies {
    /// Completed messages, by flow.
    through: HashMap<u64, u64>,
    /// Recorded latencies, in the order of observation.
    known: Vec<Duration>,
}

/// Percentiles of the recorded latencies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Percentiles {
    pub(super) p50: Duration,
    pub(super) p99: Duration,
    pub(super) p999: Duration,
    pub(super) max: Duration,
    /// Number of messages with a known latency.
    pub(super) samples: u64,
}

impl Latencies {
    /// Creates the state for the flows with these indices.
    pub(super) fn new(flows: &[u64]) -> Self {
        let through = flows.iter().map(|flow| (*flow, 0)).collect();
        Self { through, known: Vec::new() }
    }

    /// Records that the first `through` messages of `flow` were complete at `seen`.
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
            if let Some(published) = times.published_at(workload.message_of(flow, number)) {
                self.record(seen.saturating_sub(published));
            }
        }
    }

    /// Records one latency.
    pub(super) fn record(&mut self, latency: Duration) {
        self.known.push(latency);
    }

    /// Returns true if all messages of these flows are complete.
    pub(super) fn are_complete(&self, workload: &Workload) -> bool {
        self.through.iter().all(|(flow, through)| *through >= workload.messages_of(*flow))
    }

    /// Returns the percentiles, or `None` without a message.
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

    /// Six messages over two flows. Message `i` is published at `i` milliseconds.
    fn six() -> (Workload, PublishTimes, Latencies) {
        let workload = Workload { messages: 6, flows: 2, attributes: 1, prefix: String::new() };
        let times = PublishTimes::new(6);
        (0..6).for_each(|message| times.note(message, MS * u32::try_from(message).unwrap()));
        (workload, times, Latencies::new(&[0, 1]))
    }

    #[test]
    fn counters_complete_messages() {
        let (workload, times, mut latencies) = six();
        latencies.note(&workload, &times, 1, 2, MS * 13);
        // The first two messages of flow 1 are messages 1 and 3.
        let seen = latencies.percentiles().unwrap();
        assert_eq!((seen.samples, seen.max.as_millis(), seen.p50.as_millis()), (2, 12, 10));
        assert!(!latencies.are_complete(&workload));
    }

    #[test]
    fn repeated_reads_count_messages_once() {
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
    fn unpublished_messages_have_no_latency() {
        let (workload, times, mut latencies) = six();
        latencies.note(&workload, &times, 0, 9, MS * 10);
        assert_eq!(latencies.percentiles().unwrap().samples, 3);
    }

    #[test]
    fn percentiles_need_messages() {
        assert_eq!(Latencies::new(&[0]).percentiles(), None);
    }
}
