//! A condition that is logged when it begins, at intervals while it lasts, and when it is resolved.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::report::timestamp;

/// A point in time on the monotonic clock and on the wall clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct ClockReading {
    instant: Instant,
    date: DateTime<Utc>,
}

impl ClockReading {
    pub(super) fn now() -> Self {
        Self { instant: Instant::now(), date: Utc::now() }
    }

    /// The moment `ago` earlier.
    pub(super) fn before(self, ago: Duration) -> Self {
        let instant = self.instant.checked_sub(ago).unwrap_or(self.instant);
        Self { instant, date: self.date - TimeDelta::from_std(ago).unwrap_or_default() }
    }

    fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }
}

/// Tracks one condition and when it was last reported.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// Start of the condition and time of the last report; `None` while the condition does not hold.
    now: Option<(ClockReading, ClockReading)>,
}

/// A change to report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// The condition holds since this time. Repeated, so that a log read from any point shows it.
    Ongoing { since: String },
    /// The condition no longer holds.
    Resolved { since: String, lasted: Duration },
}

impl Condition {
    /// Updates the condition: `lasts` is its duration so far, or `None` if it does not hold. Returns a change to
    /// report, at most once per `every` while the condition holds.
    pub(super) fn update(
        &mut self,
        lasts: Option<Duration>,
        now: ClockReading,
        every: Duration,
    ) -> Option<Change> {
        match (lasts, self.now) {
            (Some(_), Some((_, told))) if now.since(told) < every => None,
            (Some(lasts), known) => {
                let began = known.map_or(now.before(lasts), |(began, _)| began);
                self.now = Some((began, now));
                Some(Change::Ongoing { since: timestamp(began.date) })
            }
            (None, known) => {
                self.now = None;
                known.map(|(began, _)| Change::Resolved {
                    since: timestamp(began.date),
                    lasted: now.since(began),
                })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_reminders_and_end_are_reported() {
        let (mut condition, born) = (Condition::default(), ClockReading::now());
        let hour = Duration::from_hours(1);
        let born = ClockReading { date: DateTime::UNIX_EPOCH, ..born };
        let at = |second| ClockReading {
            instant: born.instant + Duration::from_secs(second),
            date: born.date + TimeDelta::seconds(i64::try_from(second).unwrap_or(0)),
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
