//! Whether whoever watches was awake itself.
//!
//! A process that was stopped (a snapshot of its machine, a debugger, SIGSTOP) wakes up to find that
//! nobody has said anything for long. That is nobody's fault.

use std::time::Duration;

/// Between two looks of a process that runs there is never this much, however loaded its machine is.
const STOPPED: Duration = Duration::from_secs(5);

/// A watch that is looked at regularly.
#[derive(Debug, Default)]
pub struct SuspendDetector {
    since: Duration,
    last_look: Duration,
}

impl SuspendDetector {
    /// Looks now, a time since any moment in the past, and answers for how long the watch has been
    /// kept without a break. Silence counts only as far back as this.
    pub fn awake_for(&mut self, now: Duration) -> Duration {
        if now.saturating_sub(self.last_look) > STOPPED {
            self.since = now;
        }
        self.last_look = now;
        now.saturating_sub(self.since)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn suspension_restarts_the_awake_time() {
        let mut suspend_detector = SuspendDetector::default();
        let mut look = |second| suspend_detector.awake_for(Duration::from_secs(second)).as_secs();
        assert_eq!([look(1), look(2), look(7)], [1, 2, 7]);
        assert_eq!([look(60), look(61), look(66), look(72)], [0, 1, 6, 0]);
    }
}
