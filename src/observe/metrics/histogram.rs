//! Prometheus histogram. Not thread-safe: the owner holds a lock.

use std::time::Duration;

/// Bucket bounds of durations, in seconds.
pub const DURATIONS: &[f64] = &[
    0.0001, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0,
];

/// Bucket bounds of messages in a transaction.
pub(super) const MESSAGES: &[f64] =
    &[1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0, 4096.0, 16_384.0, 65_536.0];

/// Bucket bounds of payload bytes in a transaction.
pub(super) const BYTES: &[f64] = &[
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
    268_435_456.0,
];

/// Counts of values by bucket.
#[derive(Debug, Clone, PartialEq)]
pub struct Histogram {
    bounds: &'static [f64],
    /// One count for each bound, and one for larger values.
    counts: Vec<u64>,
    sum: f64,
}

impl Histogram {
    /// Creates an empty histogram. `bounds` are the upper bounds in ascending order.
    #[must_use]
    pub fn new(bounds: &'static [f64]) -> Self {
        Self { bounds, counts: vec![0; bounds.len() + 1], sum: 0.0 }
    }

    /// Counts `value` `times` times.
    pub fn observe(&mut self, value: f64, times: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.counts.get_mut(place) {
            *count += times;
        }
        #[allow(clippy::cast_precision_loss, reason = "a sum of floating point numbers is not exact anyway")]
        let times = times as f64;
        self.sum += value * times;
    }

    /// Counts a duration in seconds, `times` times.
    pub fn observe_duration(&mut self, duration: Duration, times: u64) {
        self.observe(duration.as_secs_f64(), times);
    }

    /// Returns the sum of all values.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.sum
    }

    /// Returns the number of values.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Returns the 99th percentile of the values since `earlier`, rounded up to a bound.
    /// Infinite if it exceeds all bounds.
    #[must_use]
    pub fn p99_since(&self, earlier: &Self) -> f64 {
        let counts = || self.counts.iter().zip(&earlier.counts).map(|(now, then)| now.saturating_sub(*then));
        let total: u64 = counts().sum();
        let mut above = total;
        let within = counts().position(|count| {
            above -= count;
            above <= total / 100
        });
        within.and_then(|place| self.bounds.get(place)).copied().unwrap_or(f64::INFINITY)
    }

    /// Returns each upper bound with the count of its bucket; the last bound is infinite.
    #[must_use]
    pub fn buckets(&self) -> Vec<(f64, u64)> {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        bounds.zip(self.counts.iter().copied()).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_bounds_are_inclusive() {
        let mut histogram = Histogram::new(&[1.0, 2.0]);
        for value in [0.0, 1.0, 1.1, 2.0, 2.1, f64::MAX] {
            histogram.observe(value, 1);
        }
        assert_eq!(histogram.buckets(), [(1.0, 2), (2.0, 2), (f64::INFINITY, 2)]);
        assert_eq!(histogram.count(), 6);
    }

    #[test]
    fn weighted_value_counts_many_times() {
        let mut histogram = Histogram::new(DURATIONS);
        histogram.observe_duration(Duration::from_millis(500), 4);
        assert_eq!(histogram.count(), 4);
        assert!((histogram.sum() - 2.0).abs() < 1e-9);
        assert_eq!(histogram.buckets().iter().find(|(_, count)| *count > 0), Some(&(0.5, 4)));
    }

    #[test]
    fn bounds_are_ascending() {
        for bounds in [DURATIONS, MESSAGES, BYTES] {
            assert!(bounds.is_sorted_by(|a, b| a < b));
        }
    }
}
