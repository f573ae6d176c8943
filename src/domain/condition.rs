//! A condition that is logged when it begins, at intervals while it lasts, and when it is resolved.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat};

/// A point in time on the monotonic clock and on the wall clock.
#[derive(Debug, Clone, Copy)]
pub struct ClockReading {
    /// Time since an origin chosen by the caller.
    pub monotonic: Duration,
    /// Microseconds since 1970, UTC.
    pub unix_us: i64,
}

impl ClockReading {
    /// The wall clock in the form of the log.
    #[must_use]
    pub fn timestamp(self) -> String {
        timestamp(self.unix_us)
    }
}

/// A time in microseconds since 1970 as RFC 3339 in UTC, with milliseconds.
pub(super) fn timestamp(unix_us: i64) -> String {
    let date = DateTime::from_timestamp_micros(unix_us).unwrap_or_default();
    date.to_rfc3339_opts(SecondsFormat::Millis, true)
}

/// Tracks one condition and when it was last reported.
#[derive(Debug, Default)]
pub struct Condition {
    /// `None` while the condition does not hold.
    current: Option<Current>,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    /// Time of the first update, and how long the condition had lasted then.
    first: ClockReading,
    lasted: Duration,
    reported: Duration,
}

/// A change to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// The condition holds since this time. Repeated, so that a log read from any point shows it.
    Ongoing {
        /// Start of the condition.
        since: String,
    },
    /// The condition no longer holds.
    Resolved {
        /// Start of the condition.
        since: String,
        /// Its duration.
        lasted: Duration,
    },
}

impl Condition {
    /// Updates the condition: `lasts` is its duration so far, or `None` if it does not hold. Returns a change to
    /// report, at most once per `every` while the condition holds.
    pub fn update(&mut self, lasts: Option<Duration>, now: ClockReading, every: Duration) -> Option<Change> {
        let Some(lasts) = lasts else {
            return self.current.take().map(|current| current.resolved(now));
        };
        if self.current.is_some_and(|current| now.monotonic.saturating_sub(current.reported) < every) {
            return None;
        }
        let new = Current { first: now, lasted: lasts, reported: now.monotonic };
        let current = self.current.get_or_insert(new);
        current.reported = now.monotonic;
        Some(Change::Ongoing { since: current.since() })
    }
}

impl Current {
    fn since(&self) -> String {
        let lasted_us = i64::try_from(self.lasted.as_micros()).unwrap_or(0);
        ClockReading { unix_us: self.first.unix_us.saturating_sub(lasted_us), ..self.first }.timestamp()
    }

    fn resolved(&self, now: ClockReading) -> Change {
        let lasted = now.monotonic.saturating_sub(self.first.monotonic) + self.lasted;
        Change::Resolved { since: self.since(), lasted }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_reminders_and_end_are_reported() {
        let mut condition = Condition::default();
        let hour = Duration::from_hours(1);
        let at = |second: u32| ClockReading {
            monotonic: Duration::from_secs(second.into()),
            unix_us: i64::from(second) * 1_000_000,
        };
        let mut look = |now, lasts: Option<u64>, every| {
            condition.update(lasts.map(Duration::from_secs), at(now), Duration::from_secs(every))
        };
        let lasts =
            |second: u32| Some(Change::Ongoing { since: format!("1970-01-01T00:00:{second:02}.000Z") });
        let over = |second: u32, lasted| {
            let since = format!("1970-01-01T00:00:{second:02}.000Z");
            Some(Change::Resolved { since, lasted: Duration::from_secs(lasted) })
        };
        assert_eq!(look(0, None, 10), None);
        assert_eq!(look(6, Some(5), 10), lasts(1));
        assert_eq!(look(15, Some(14), 10), None, "said a moment ago");
        assert_eq!(look(16, Some(15), 10), lasts(1));
        assert_eq!(look(26, Some(3), 10), lasts(1), "another one took its place meanwhile");
        assert_eq!(look(27, None, 10), over(1, 26));
        assert_eq!(look(28, None, 10), None);
        assert_eq!(look(29, Some(0), hour.as_secs()), lasts(29));
    }
}
