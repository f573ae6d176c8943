//! Detects that the process itself was suspended.
//!
//! After a suspension (a snapshot of the machine, a debugger, SIGSTOP) all heartbeats seem overdue. The timeouts must
//! therefore not count the time of the suspension.

use std::time::Duration;

/// Interval between two calls that indicates a suspension. A running process stays below it, even under load.
const MIN_SUSPENSION: Duration = Duration::from_secs(5);

/// A detector that its owner calls at regular intervals.
#[derive(Debug, Default)]
pub struct SuspendDetector {
    since: Duration,
    last_call: Duration,
}

impl SuspendDetector {
    /// Returns the time since the last suspension, or since the start. A timeout must not reach further back.
    ///
    /// `now` is the time since an arbitrary fixed moment.
    pub fn awake_for(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.last_call) > MIN_SUSPENSION {
            self.since = now;
        }
        self.last_call = now;
        now.saturating_sub(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspension_restarts_the_awake_time() {
        let mut suspend_detector = SuspendDetector::default();
        let mut awake_for = |second| suspend_detector.awake_for(Duration::from_secs(second)).as_secs();
        assert_eq!([1, 2, 7].map(&mut awake_for), [1, 2, 7]);
        assert_eq!([60, 61, 66, 72].map(&mut awake_for), [0, 1, 6, 0]);
    }
}
