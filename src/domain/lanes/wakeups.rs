//! Coalesces the wake-ups of the router. A wake-up costs more than routing a message, and a batch that waits for the
//! database tolerates a millisecond more.

use std::time::Duration;

/// Wake-ups closer together than this are coalesced after a pause.
const COALESCE_INTERVAL: Duration = Duration::from_micros(250);
const PAUSE: Duration = Duration::from_millis(1);

/// The time of the last wake-up, from an origin chosen by the caller.
#[derive(Debug, Default)]
pub struct Wakeups {
    last: Duration,
}

impl Wakeups {
    /// Records a wake-up. Returns the pause before the records are read, or `None` to read at once.
    pub fn pause(&mut self, now: Duration) -> Option<Duration> {
        let since_last = now.saturating_sub(std::mem::replace(&mut self.last, now));
        (since_last < COALESCE_INTERVAL).then_some(PAUSE)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rapid_wakeups_are_coalesced() {
        let mut wakeups = Wakeups::default();
        let pauses = [250, 499, 700, 950].map(|us| wakeups.pause(Duration::from_micros(us)));
        assert_eq!(pauses, [None, Some(PAUSE), Some(PAUSE), None]);
    }
}
