//! How long to wait before the next attempt.

use std::time::Duration;

/// Exponential backoff with jitter: the wait doubles with each failure up to a bound, and half of it is
/// random, so that many who failed together do not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// Longest wait after the first failure.
    pub base: Duration,
    /// Longest wait of all.
    pub max: Duration,
}

impl Backoff {
    /// The wait after the `attempt`-th failure in a row, counted from 1 (0 counts as 1).
    ///
    /// `random_unit`, from 0 up to 1, picks a place between half of the wait and the whole of it.
    #[must_use]
    pub fn delay(&self, attempt: u32, random_unit: f64) -> Duration {
        // 2^31 times any base that makes sense is beyond any bound that does.
        let doublings = attempt.saturating_sub(1).min(31);
        let whole = self.base.saturating_mul(1 << doublings).min(self.max);
        let half = whole / 2;
        // NaN fails the comparison, so it cannot reach `mul_f64`, which panics on it.
        let unit = if random_unit > 0.0 { random_unit.min(1.0) } else { 0.0 };
        half + half.mul_f64(unit)
    }
}

/// An interval up to a tenth shorter or longer, so that many who began together do not stay together.
///
/// `random_unit`, from 0 up to 1, picks the place.
#[must_use]
pub fn jittered(interval: Duration, random_unit: f64) -> Duration {
    // NaN fails the comparison, so it cannot reach `mul_f64`, which panics on it.
    let unit = if random_unit > 0.0 { random_unit.min(1.0) } else { 0.0 };
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
