//! When the log says that messages wait, because the inbox takes none.

use std::time::Duration;

use crate::domain::condition::ClockReading;

/// Minimum interval between two log lines about waiting messages.
const INTERVAL: Duration = Duration::from_secs(10);

/// A refusal that lasts or has just ended.
#[derive(Debug, Default)]
pub(super) struct RefusalLog {
    current: Option<Refused>,
}

#[derive(Debug)]
struct Refused {
    began: ClockReading,
    last: Duration,
    reported: Duration,
}

impl RefusalLog {
    /// Records that a message waits. Returns the start of the refusal if it is to be logged now.
    pub(super) fn refused(&mut self, now: ClockReading) -> Option<String> {
        let is_new = self.current.is_none();
        let new = Refused { began: now, last: now.monotonic, reported: now.monotonic };
        let refused = self.current.get_or_insert(new);
        refused.last = now.monotonic;
        if !is_new && now.monotonic.saturating_sub(refused.reported) < INTERVAL {
            return None;
        }
        refused.reported = now.monotonic;
        Some(refused.began.timestamp())
    }

    /// Ends the refusal if there is one and `has_ended` says so. Returns its start, and its duration until the last
    /// message that had to wait.
    pub(super) fn resolve_if(&mut self, has_ended: impl FnOnce() -> bool) -> Option<(String, Duration)> {
        let Refused { began, last, .. } = self.current.take_if(|_| has_ended())?;
        Some((began.timestamp(), last.saturating_sub(began.monotonic)))
    }

    /// Whether a refusal lasts or has just ended.
    #[cfg(test)]
    pub(super) fn is_open(&self) -> bool {
        self.current.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u32) -> ClockReading {
        ClockReading {
            monotonic: Duration::from_secs(seconds.into()),
            unix_us: i64::from(seconds) * 1_000_000,
        }
    }

    fn since_second_3() -> String {
        "1970-01-01T00:00:03.000Z".to_owned()
    }

    #[test]
    fn refusal_is_logged_at_once_and_at_intervals() {
        let mut log = RefusalLog::default();
        let logged = [3, 12, 13, 22, 23].map(|second| log.refused(at(second)).is_some());
        assert_eq!(logged, [true, false, true, false, true]);
        assert_eq!(log.refused(at(33)), Some(since_second_3()));
    }

    #[test]
    fn refusal_lasts_until_the_last_waiting_message() {
        let mut log = RefusalLog::default();
        assert_eq!(log.resolve_if(|| true), None);
        log.refused(at(3));
        log.refused(at(8));
        assert_eq!(log.resolve_if(|| false), None, "the inbox took a single message");
        assert_eq!(log.resolve_if(|| true), Some((since_second_3(), Duration::from_secs(5))));
        assert_eq!(log.resolve_if(|| true), None);
    }
}
