//! Limits the restarts of actors. When the budget is exhausted, the process exits and its service manager restarts it.

use std::collections::VecDeque;
use std::time::Duration;

use super::retry::Backoff;

/// Grows with the restarts within the window. Without jitter, because only this process restarts its actors.
const RESTART_DELAY: Backoff = Backoff { base: Duration::from_millis(100), max: Duration::from_secs(5) };

/// A limit of restarts within a sliding time window.
#[derive(Debug)]
pub struct RestartBudget {
    max_restarts: u32,
    window_ms: u64,
    /// Times of the restarts within the window; at most `max_restarts`.
    restarts_ms: VecDeque<u64>,
}

/// The decision on an actor that has stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestartDecision {
    /// Start it again after a delay.
    Restart {
        /// Time until the restart.
        delay: Duration,
        /// Number of restarts within the window, this one included.
        spent: u32,
    },
    /// The budget is exhausted; exit the process.
    Exhausted,
}

impl RestartBudget {
    /// Creates a budget of `max_restarts` within any `window`.
    #[must_use]
    pub fn new(max_restarts: u32, window: Duration) -> RestartBudget {
        let window_ms = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
        RestartBudget { max_restarts, window_ms, restarts_ms: VecDeque::new() }
    }

    /// Records that an actor stopped at `now_ms`, in milliseconds of a monotonic clock.
    pub fn record(&mut self, now_ms: u64) -> RestartDecision {
        while self.restarts_ms.front().is_some_and(|&then| now_ms.saturating_sub(then) >= self.window_ms) {
            self.restarts_ms.pop_front();
        }
        let spent = u32::try_from(self.restarts_ms.len()).unwrap_or(u32::MAX);
        if spent >= self.max_restarts {
            return RestartDecision::Exhausted;
        }
        self.restarts_ms.push_back(now_ms);
        RestartDecision::Restart { delay: RESTART_DELAY.delay(spent + 1, 1.0), spent: spent + 1 }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn restart_after_ms(ms: u64, spent: u32) -> RestartDecision {
        RestartDecision::Restart { delay: Duration::from_millis(ms), spent }
    }

    #[test]
    fn rapid_restarts_exhaust_the_budget() {
        let mut budget = RestartBudget::new(3, Duration::from_mins(1));
        let verdicts = [0, 1, 2, 3, 59_999].map(|now| budget.record(now));
        let exhausted = RestartDecision::Exhausted;
        assert_eq!(
            verdicts,
            [
                restart_after_ms(100, 1),
                restart_after_ms(200, 2),
                restart_after_ms(400, 3),
                exhausted,
                exhausted
            ]
        );
    }

    #[test]
    fn restarts_outside_the_window_expire() {
        let mut budget = RestartBudget::new(1, Duration::from_mins(1));
        for minute in 0..100 {
            assert_eq!(budget.record(minute * 60_000), restart_after_ms(100, 1));
        }
        assert_eq!(budget.record(99 * 60_000 + 59_999), RestartDecision::Exhausted);
    }

    #[test]
    fn zero_budget_allows_no_restart() {
        assert_eq!(RestartBudget::new(0, Duration::from_mins(1)).record(0), RestartDecision::Exhausted);
    }

    proptest! {
        #[test]
        fn every_window_respects_the_budget(max in 0_u32..5, steps in prop::collection::vec(0_u64..40, 0..60)) {
            let mut budget = RestartBudget::new(max, Duration::from_millis(100));
            let mut now = 0;
            let mut restarts: Vec<u64> = Vec::new();
            for step in steps {
                now += step;
                let recent = restarts.iter().filter(|&&then| now - then < 100).count();
                let restarted = matches!(budget.record(now), RestartDecision::Restart { .. });
                prop_assert_eq!(restarted, recent < max as usize);
                if restarted {
                    restarts.push(now);
                }
            }
        }
    }
}
