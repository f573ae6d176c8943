//! Durations of an actor's messages, for the metrics and for the mailbox report.

use std::time::Duration;

use crate::observe::metrics::{DURATIONS, Histogram};

/// Durations since the start, and the part of them that the last report covered.
#[derive(Debug)]
pub(super) struct Durations {
    ever: Histogram,
    reported: Histogram,
    /// The longest duration since the last report.
    longest: Duration,
}

impl Durations {
    pub(super) fn new() -> Self {
        let (ever, reported) = (Histogram::new(DURATIONS), Histogram::new(DURATIONS));
        Self { ever, reported, longest: Duration::ZERO }
    }

    pub(super) fn record(&mut self, duration: Duration, times: u64) {
        self.ever.observe_duration(duration, times);
        self.longest = self.longest.max(duration);
    }

    /// All durations since the start.
    pub(super) fn ever(&self) -> &Histogram {
        &self.ever
    }

    /// The 99th percentile since the last report, rounded up to a bound of the histogram, at most the longest duration.
    /// Starts a new report.
    pub(super) fn take_p99(&mut self) -> Duration {
        let bound = self.ever.p99_since(&self.reported);
        self.reported.clone_from(&self.ever);
        let longest = std::mem::take(&mut self.longest);
        Duration::try_from_secs_f64(bound).map_or(longest, |bound| bound.min(longest))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn p99_is_rounded_up_to_a_bound() {
        let mut durations = Durations::new();
        durations.record(MS * 3, 99);
        durations.record(MS * 900, 1);
        assert_eq!(durations.take_p99(), MS * 5);
    }

    #[test]
    fn p99_is_at_most_the_longest() {
        let mut durations = Durations::new();
        for longest in [MS * 3, MS * 300_000] {
            durations.record(longest, 1);
            assert_eq!(durations.take_p99(), longest);
        }
    }

    #[test]
    fn reports_cover_disjoint_intervals() {
        let mut durations = Durations::new();
        durations.record(MS * 900, 1);
        durations.take_p99();
        assert_eq!(durations.take_p99(), Duration::ZERO);
        durations.record(MS * 5, 3);
        assert_eq!(durations.take_p99(), MS * 5);
        assert_eq!(durations.ever().count(), 4);
    }
}
