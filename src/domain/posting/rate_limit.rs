//! Limits the rate of posts of a flow by the generic cell rate algorithm (GCRA).
//!
//! The algorithm stores one time: when the next post would be due at an even rate. A post may be earlier by the
//! tolerance, so that a late timer does not lower the rate.

use std::time::Duration;

use super::Moment;

/// Tolerance of a rate limit: how much of a pause later posts may use.
const TOLERANCE: Duration = Duration::from_millis(100);

/// The rate limit of one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RateLimit {
    /// Interval between two posts at an even rate.
    interval: Duration,
    /// Time at which the next post is due at an even rate.
    due: Moment,
}

impl RateLimit {
    /// Creates a limit of `per_second` posts, which must be positive and finite.
    #[must_use]
    pub fn new(per_second: f64) -> Self {
        let interval = Duration::try_from_secs_f64(1.0 / per_second).unwrap_or(Duration::ZERO);
        Self { interval, due: Moment::ZERO }
    }

    /// Returns the earliest time of the next post.
    #[must_use]
    pub fn next_post_at(&self) -> Moment {
        self.due.saturating_sub(TOLERANCE.max(self.interval).saturating_sub(self.interval))
    }

    /// Records a post at `now`.
    pub fn record_post(&mut self, now: Moment) {
        self.due = self.due.max(now).saturating_add(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn slow_rate_spaces_posts_evenly() {
        let mut limit = RateLimit::new(2.0);
        assert_eq!(limit.next_post_at(), Moment::ZERO);
        limit.record_post(ms(10_000));
        assert_eq!(limit.next_post_at(), ms(10_500));
        limit.record_post(ms(10_600));
        assert_eq!(limit.next_post_at(), ms(11_100));
    }

    #[test]
    fn fast_rate_catches_up_after_a_late_timer() {
        let mut limit = RateLimit::new(1_000.0);
        let mut posts = 0;
        while limit.next_post_at() <= ms(10_000) {
            limit.record_post(ms(10_000));
            posts += 1;
        }
        assert_eq!(posts, 100, "a tenth of a second's worth");
    }

    proptest! {
        #[test]
        fn rate_is_never_exceeded(per_second in 0.01_f64..10_000.0, pauses_ms in prop::collection::vec(0_u64..500, 1..200)) {
            let mut limit = RateLimit::new(per_second);
            let (mut now, mut posts) = (ms(0), 0.0);
            for pause in pauses_ms {
                now += ms(pause);
                if limit.next_post_at() <= now {
                    limit.record_post(now);
                    posts += 1.0;
                }
            }
            let most = now.as_secs_f64() * per_second + TOLERANCE.as_secs_f64() * per_second + 1.0;
            prop_assert!(posts <= most + 1e-6, "{} of {}", posts, most);
        }
    }
}
