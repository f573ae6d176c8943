//! The circuit breaker of an origin.
//!
//! ```text
//!            MIN_FAILURES in a row                  the interval is over
//!  closed ─────────────────────────▶ open ◀────────────────────────────▶ half-open
//!    ▲                                            the probe failed            │
//!    └──────────────────────── the probe had an answer ───────────────────────┘
//! ```
//!
//! While the breaker is open, no flow posts to the origin. Half-open, one flow posts the message at its head as a
//! probe. A dead origin then costs one post per interval, however many flows post to it. Any answer closes the breaker,
//! so an origin with one broken path keeps serving the flows of its other paths.

use std::time::Duration;

use super::super::retry::Backoff;
use super::Moment;

/// Consecutive failures of an origin that open its breaker.
const MIN_FAILURES: u32 = 5;

named_enum! {
    /// State of a breaker.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum BreakerState {
        /// Posts are made.
        Closed = "closed",
        /// A single post tests the origin.
        HalfOpen = "half_open",
        /// No posts are made.
        Open = "open",
    }
}

/// Whether a post may be made now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// The post may be made.
    Post,
    /// No post may be made before this moment.
    Wait(Moment),
    /// No post may be made until the probe has an outcome.
    AwaitProbe,
}

/// The breaker of one origin.
#[derive(Debug, Clone, Copy)]
pub struct Breaker {
    state: BreakerState,
    since: Moment,
    /// The earliest time of the next probe, while the breaker is open.
    probes_at: Moment,
    /// Failures since the last success.
    failures: u32,
    backoff: Backoff,
}

impl Breaker {
    /// Creates a closed breaker. The `backoff` gives the intervals between probes.
    #[must_use]
    pub fn new(backoff: Backoff, now: Moment) -> Self {
        Self { state: BreakerState::Closed, since: now, probes_at: now, failures: 0, backoff }
    }

    /// The current state.
    #[must_use]
    pub fn state(&self) -> BreakerState {
        self.state
    }

    /// The earliest time of the next probe, if the breaker is open.
    #[must_use]
    pub fn next_probe(&self) -> Option<Moment> {
        (self.state == BreakerState::Open).then_some(self.probes_at)
    }

    /// When the origin was last seen to change between available and unavailable.
    #[must_use]
    pub fn since(&self) -> Moment {
        self.since
    }

    /// Returns whether a post may be made at `now`. [`Admission::Post`] of an open breaker makes that post the probe.
    pub fn admit(&mut self, now: Moment) -> Admission {
        match self.state {
            BreakerState::Closed => Admission::Post,
            BreakerState::HalfOpen => Admission::AwaitProbe,
            BreakerState::Open if now < self.probes_at => Admission::Wait(self.probes_at),
            BreakerState::Open => {
                self.state = BreakerState::HalfOpen;
                Admission::Post
            }
        }
    }

    /// Lets the next post be the probe, whatever is left of the interval. A probe in flight stays the only one.
    pub fn probe_now(&mut self, now: Moment) {
        self.probes_at = self.probes_at.min(now);
    }

    /// Records an answer of an available origin. Returns whether the breaker was closed by it.
    pub fn record_success(&mut self, now: Moment) -> bool {
        self.failures = 0;
        let closes = self.state != BreakerState::Closed;
        if closes {
            self.state = BreakerState::Closed;
            self.since = now;
        }
        closes
    }

    /// Records a failure of the origin. `retry_after` is the delay that the origin asked for. Returns whether the
    /// breaker was opened by it.
    pub fn record_failure(&mut self, now: Moment, retry_after: Option<Duration>, random_unit: f64) -> bool {
        self.failures = self.failures.saturating_add(1);
        if self.failures < MIN_FAILURES {
            return false;
        }
        // Posts that began before the breaker was opened must not postpone the probe.
        if self.state == BreakerState::Open {
            return false;
        }
        let opens = self.state == BreakerState::Closed;
        if opens {
            self.since = now;
        }
        let interval = self.backoff.delay(self.failures, random_unit).max(retry_after.unwrap_or_default());
        self.state = BreakerState::Open;
        self.probes_at = now.saturating_add(interval);
        opens
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BACKOFF: Backoff = Backoff { base: Duration::from_secs(1), max: Duration::from_mins(1) };

    const fn s(seconds: u64) -> Moment {
        Moment::from_secs(seconds)
    }

    fn opened() -> Breaker {
        let mut breaker = Breaker::new(BACKOFF, s(0));
        let opened =
            (0..MIN_FAILURES).map(|_| breaker.record_failure(s(10), None, 1.0)).filter(|opens| *opens);
        assert_eq!(opened.count(), 1);
        breaker
    }

    #[test]
    fn failures_in_a_row_open_it() {
        let breaker = opened();
        assert_eq!((breaker.next_probe(), breaker.since()), (Some(s(26)), s(10)));
    }

    #[test]
    fn success_resets_the_count() {
        let mut breaker = Breaker::new(BACKOFF, s(0));
        for _ in 0..100 {
            breaker.record_failure(s(1), None, 1.0);
            breaker.record_success(s(1));
        }
        assert_eq!(breaker.admit(s(1)), Admission::Post);
    }

    #[test]
    fn only_one_probe_is_admitted() {
        let mut breaker = opened();
        assert_eq!(breaker.admit(s(25)), Admission::Wait(s(26)));
        assert_eq!([breaker.admit(s(26)), breaker.admit(s(26))], [Admission::Post, Admission::AwaitProbe]);
    }

    #[test]
    fn failed_probe_waits_longer() {
        let mut breaker = opened();
        breaker.admit(s(26));
        assert!(!breaker.record_failure(s(30), None, 1.0), "it is open all the time");
        assert_eq!((breaker.next_probe(), breaker.since()), (Some(s(62)), s(10)));
    }

    #[test]
    fn requested_probe_needs_no_interval() {
        let mut breaker = opened();
        breaker.probe_now(s(12));
        assert_eq!([breaker.admit(s(12)), breaker.admit(s(12))], [Admission::Post, Admission::AwaitProbe]);
        breaker.probe_now(s(13));
        assert_eq!(breaker.admit(s(13)), Admission::AwaitProbe, "the probe is in flight");
        breaker.record_failure(s(14), None, 1.0);
        assert_eq!(breaker.next_probe(), Some(s(46)), "the intervals go on");
    }

    #[test]
    fn request_postpones_no_probe() {
        let mut breaker = opened();
        breaker.probe_now(s(30));
        assert_eq!(breaker.next_probe(), Some(s(26)));
    }

    #[test]
    fn successful_probe_closes_it() {
        let mut breaker = opened();
        breaker.admit(s(26));
        assert!(breaker.record_success(s(27)));
        assert_eq!((breaker.admit(s(27)), breaker.since()), (Admission::Post, s(27)));
    }

    #[test]
    fn late_failures_do_not_postpone_the_probe() {
        let mut breaker = opened();
        assert!(!breaker.record_failure(s(20), None, 1.0));
        assert_eq!(breaker.next_probe(), Some(s(26)));
    }

    #[test]
    fn retry_after_lengthens_the_interval() {
        let mut breaker = opened();
        breaker.admit(s(26));
        breaker.record_failure(s(30), Some(s(300)), 1.0);
        assert_eq!(breaker.next_probe(), Some(s(330)));
    }

    proptest! {
        #[test]
        fn open_breaker_admits_one_post_per_interval(waits in prop::collection::vec(0_u64..40, 1..100)) {
            let mut breaker = opened();
            let mut now = s(10);
            let mut next = s(26);
            for wait in waits {
                now += s(wait);
                if breaker.admit(now) == Admission::Post {
                    prop_assert!(now >= next);
                    prop_assert_ne!(breaker.admit(now), Admission::Post);
                    breaker.record_failure(now, None, 0.0);
                    next = now + s(8);
                }
            }
        }
    }
}
