//! A histogram of durations that never fails.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::observe::metrics::{DURATIONS, Histogram as Buckets};

/// Longest duration told apart: an hour, in microseconds. Longer ones count as this.
const LONGEST_US: u64 = 3_600_000_000;

/// Durations since the last report, to about one part in ten; and those of all times, by bounds.
#[derive(Debug)]
pub(super) struct Durations {
    ever: Buckets,
    /// `None` only if the crate refused the constant bounds above.
    microseconds: Option<Histogram<u64>>,
}

impl Durations {
    pub(super) fn new() -> Self {
        Self {
            ever: Buckets::new(DURATIONS),
            microseconds: Histogram::new_with_bounds(1, LONGEST_US, 1).ok(),
        }
    }

    pub(super) fn record(&mut self, duration: Duration, times: u64) {
        self.ever.observe_duration(duration, times);
        if let Some(histogram) = &mut self.microseconds {
            let value = u64::try_from(duration.as_micros()).unwrap_or(LONGEST_US);
            histogram.saturating_record_n(value.clamp(1, LONGEST_US), times);
        }
    }

    /// All of them.
    pub(super) fn ever(&self) -> &Buckets {
        &self.ever
    }

    /// The 99th percentile; the histogram is empty afterwards.
    pub(super) fn take_p99(&mut self) -> Duration {
        let Some(histogram) = &mut self.microseconds else { return Duration::ZERO };
        if histogram.is_empty() {
            return Duration::ZERO;
        }
        let p99 = histogram.value_at_quantile(0.99);
        histogram.reset();
        Duration::from_micros(p99)
    }
}
