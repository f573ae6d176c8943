//! Something that lasts for a while, and is told when it begins, from time to time, and when it ends.

use std::time::{Duration, Instant};

/// What was told so far.
#[derive(Debug, Default)]
pub(super) struct Episode {
    /// When it began, and when it was told last; none while there is nothing to tell.
    now: Option<(Instant, Instant)>,
}

/// What there is to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    /// It is so, for this long: to be said now. Whoever opens the log late finds it too.
    Lasts(Duration),
    /// It is over; so long it has lasted.
    Over(Duration),
}

impl Episode {
    /// Looks at `now`: `since` is when it began, or none if it is not so. Says what is to be told, which
    /// while it lasts is something once in `every`.
    pub(super) fn look(&mut self, since: Option<Instant>, now: Instant, every: Duration) -> Option<Change> {
        match (since, self.now) {
            (Some(_), Some((_, told))) if now.saturating_duration_since(told) < every => None,
            (Some(since), known) => {
                let since = known.map_or(since, |(began, _)| began.min(since));
                self.now = Some((since, now));
                Some(Change::Lasts(now.saturating_duration_since(since)))
            }
            (None, known) => {
                self.now = None;
                known.map(|(began, _)| Change::Over(now.saturating_duration_since(began)))
            }
        }
    }

    /// When the present one began.
    pub(super) fn since(&self) -> Option<Instant> {
        self.now.map(|(began, _)| began)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_at_once_from_time_to_time_and_at_its_end() {
        let (mut episode, born) = (Episode::default(), Instant::now());
        let second = |second| born + Duration::from_secs(second);
        let mut look = |now, since: Option<u64>| {
            episode.look(since.map(second), second(now), Duration::from_secs(10))
        };
        let lasts = |seconds| Some(Change::Lasts(Duration::from_secs(seconds)));
        assert_eq!(look(0, None), None);
        assert_eq!(look(6, Some(1)), lasts(5));
        assert_eq!(look(15, Some(1)), None, "said a moment ago");
        assert_eq!(look(16, Some(1)), lasts(15));
        assert_eq!(look(26, Some(20)), lasts(25), "another one took its place meanwhile");
        assert_eq!(look(27, None), Some(Change::Over(Duration::from_secs(26))));
        assert_eq!(look(28, None), None);
        assert_eq!(look(29, Some(29)), lasts(0));
    }
}
