//! Something that lasts for a while, and is told when it begins, from time to time, and when it ends.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use super::report::timestamp;

/// A moment by the clock that never jumps, and by the one that people know.
#[derive(Debug, Clone, Copy)]
pub(super) struct Moment {
    instant: Instant,
    date: DateTime<Utc>,
}

impl Moment {
    pub(super) fn now() -> Self {
        Self { instant: Instant::now(), date: Utc::now() }
    }

    /// So long before.
    pub(super) fn before(self, ago: Duration) -> Self {
        let instant = self.instant.checked_sub(ago).unwrap_or(self.instant);
        Self { instant, date: self.date - TimeDelta::from_std(ago).unwrap_or_default() }
    }

    fn since(self, earlier: Self) -> Duration {
        self.instant.saturating_duration_since(earlier.instant)
    }
}

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Condition {
    /// When it began, and when it was told last; none while there is nothing to tell.
    now: Option<(Moment, Moment)>,
}

/// What there is to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// It is so since this time: to be said now. Whoever opens the log late finds it too.
    Ongoing { since: String },
    /// It is over.
    Resolved { since: String, lasted: Duration },
}

impl Condition {
    /// Looks at `now`: it is so for this long already, or it is not. Says what is to be told, which while it
    /// lasts is something once in `every`.
    pub(super) fn update(&mut self, lasts: Option<Duration>, now: Moment, every: Duration) -> Option<Change> {
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
    fn it_is_told_at_once_from_time_to_time_and_at_its_end() {
        let (mut episode, born) = (Condition::default(), Moment::now());
        let hour = Duration::from_hours(1);
        let born = Moment { date: DateTime::UNIX_EPOCH, ..born };
        let at = |second| Moment {
            instant: born.instant + Duration::from_secs(second),
            date: born.date + TimeDelta::seconds(i64::try_from(second).unwrap_or(0)),
        };
        let mut look = |now, lasts: Option<u64>, every| {
            episode.update(lasts.map(Duration::from_secs), at(now), Duration::from_secs(every))
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
