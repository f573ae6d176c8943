//! Delays between attempts.

use std::time::Duration;

/// Exponential backoff with jitter. The delay doubles with each failure up to a maximum. Half of it is random, so that
/// clients that failed together do not retry together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Maximum delay after the first failure.
    pub base: Duration,
    /// Maximum delay.
    pub max: Duration,
}

impl Backoff {
    /// Returns the delay after the `attempt`-th consecutive failure, counted from 1 (0 counts as 1).
    ///
    /// `random_unit`, from 0 to 1, selects a value between half of the delay and the whole delay.
    #[must_use]
    pub fn delay(&self, attempt: u32, random_unit: f64) -> Duration {
        let half = self.whole(attempt) / 2;
        half + half.mul_f64(clamped(random_unit))
    }

    /// Like [`Self::delay`], but from zero to the whole delay (full jitter): for many clients of one server.
    #[must_use]
    pub fn spread_delay(&self, attempt: u32, random_unit: f64) -> Duration {
        self.whole(attempt).mul_f64(clamped(random_unit))
    }

    fn whole(&self, attempt: u32) -> Duration {
        // 31 doublings exceed any useful maximum, and the shift cannot overflow.
        let doublings = attempt.saturating_sub(1).min(31);
        self.base.saturating_mul(1 << doublings).min(self.max)
    }
}

/// From 0 to 1. The comparison excludes NaN, on which `mul_f64` panics.
fn clamped(unit: f64) -> f64 {
    if unit > 0.0 { unit.min(1.0) } else { 0.0 }
}

/// Returns the interval changed by up to a tenth, so that replicas that started together do not stay synchronised.
///
/// `random_unit`, from 0 to 1, selects the change.
#[must_use]
pub fn jittered(interval: Duration, random_unit: f64) -> Duration {
    let unit = clamped(random_unit);
    let tenth = interval / 10;
    (tenth * 9).saturating_add(tenth.mul_f64(unit)).saturating_add(tenth.mul_f64(unit))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_mins(1) };

    #[test]
    fn delay_doubles_up_to_its_maximum() {
        let waits = [0, 1, 2, 3, 6, 7, 8, u32::MAX].map(|attempt| BACKOFF.delay(attempt, 1.0).as_secs());
        assert_eq!(waits, [1, 1, 2, 4, 32, 60, 60, 60]);
        assert_eq!(BACKOFF.delay(2, 0.0), Duration::from_secs(1));
        assert_eq!(BACKOFF.delay(2, 0.5), Duration::from_millis(1500));
        assert_eq!([0.0, 0.5, f64::NAN].map(|unit| BACKOFF.spread_delay(2, unit).as_secs()), [0, 1, 0]);
    }

    #[test]
    fn jitter_is_up_to_a_tenth() {
        let of_ten_minutes = |unit| jittered(Duration::from_mins(10), unit).as_secs();
        assert_eq!([0.0, 0.5, 1.0].map(of_ten_minutes), [540, 600, 660]);
    }

    proptest! {
        #[test]
        fn jitter_stays_within_a_tenth(interval_ms in 1_u64..10_000_000_000, unit: f64) {
            let interval = Duration::from_millis(interval_ms);
            let jittered = jittered(interval, unit);
            let off = jittered.abs_diff(interval);
            prop_assert!(off <= interval / 10 + Duration::from_micros(1), "{:?} of {:?}", jittered, interval);
        }

        #[test]
        fn delay_is_at_least_half(
            base_ms in 0_u64..10_000_000, max_ms in 0_u64..10_000_000, attempt: u32, unit: f64,
        ) {
            let backoff = Backoff { base: Duration::from_millis(base_ms), max: Duration::from_millis(max_ms) };
            let whole = backoff.delay(attempt, 1.0);
            let wait = backoff.delay(attempt, unit);
            prop_assert!(wait >= whole / 2 && wait <= whole && whole <= backoff.max);
        }
    }
}
