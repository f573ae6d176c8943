//! When the thread that receives is better woken for several messages together than for each.
//!
//! A broker writes every message by itself. While the thread is busy the next ones gather; where it has gone to sleep, each
//! of them wakes it, and that costs broker and gateway more than to receive it. One gateway under load hardly ever sleeps.
//! Several on one machine, with a part of the messages each, sleep for every second one: so whoever had to sleep amid
//! messages that come close together stays away for a moment, until some have gathered.

use std::time::{Duration, Instant};

/// Only messages that come this close together, on average, are let gather: at 4,000 a second and above.
const CLOSE_TOGETHER: Duration = Duration::from_micros(250);

/// About so many are let gather: fewer than the 20 that brokers commonly send ahead of acknowledgements.
const TOGETHER: u32 = 16;

/// Nobody waits longer than this for an acknowledgement because of it.
const LONGEST: Duration = Duration::from_millis(2);

/// A pause that brings fewer than this was in vain: the broker waits for acknowledgements, or the flood is over.
const WORTHWHILE: u32 = 3;

/// After a pause in vain at least so many sleeps pass without one, and twice as many after the next.
const FEWEST_PASSED_OVER: u32 = 2;

/// So many at most: then a broker that waits for each acknowledgement loses a thousandth or so.
const MOST_PASSED_OVER: u32 = 1_000;

/// Whoever comes sooner than this after the last one did not have to be waited for.
const AT_ONCE: Duration = Duration::from_micros(10);

/// How often the thread has gone to sleep so far. Where the system does not tell, never.
pub(super) fn sleeps_of_this_thread() -> i64 {
    use nix::sys::resource::{UsageWho, getrusage};
    getrusage(UsageWho::RUSAGE_THREAD).map_or(0, |usage| usage.voluntary_context_switches())
}

/// Watches one receiving thread and says when it should pause.
#[derive(Debug)]
pub(super) struct Pace {
    arrived: Instant,
    free_since: Instant,
    /// Between two messages; a mean over the last few dozen.
    interval: Duration,
    sleeps: i64,
    since_sleep: u32,
    is_after_pause: bool,
    in_vain: InVain,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            arrived: now,
            free_since: now,
            interval: CLOSE_TOGETHER * 2,
            sleeps: 0,
            since_sleep: 0,
            is_after_pause: false,
            in_vain: InVain::default(),
        }
    }

    /// A message is there: how long to pause once it is taken. `sleeps` is asked only where the thread may have slept.
    pub(super) fn arrived(&mut self, now: Instant, sleeps: impl FnOnce() -> i64) -> Option<Duration> {
        self.notice_interval(now);
        self.since_sleep = self.since_sleep.saturating_add(1);
        let waited = now.saturating_duration_since(self.free_since);
        if waited < AT_ONCE || !self.has_slept(sleeps()) {
            return None;
        }
        let found = std::mem::take(&mut self.since_sleep);
        if std::mem::take(&mut self.is_after_pause) {
            self.in_vain.judge(found);
        }
        let is_due = self.interval <= CLOSE_TOGETHER && !self.in_vain.passes_over();
        self.is_after_pause = is_due;
        is_due.then(|| (self.interval * TOGETHER).min(LONGEST))
    }

    /// The message is taken, and the thread goes for the next one.
    pub(super) fn is_free(&mut self, now: Instant) {
        self.free_since = now;
    }

    /// The same after a pause, which was a sleep of its own making.
    pub(super) fn is_free_after_pause(&mut self, now: Instant, sleeps: i64) {
        self.free_since = now;
        self.sleeps = sleeps;
    }

    fn notice_interval(&mut self, now: Instant) {
        // One long silence is not to outweigh the many that follow it.
        let interval = now.saturating_duration_since(self.arrived).min(CLOSE_TOGETHER * 16);
        self.arrived = now;
        self.interval = (self.interval * 31 + interval) / 32;
    }

    fn has_slept(&mut self, sleeps: i64) -> bool {
        std::mem::replace(&mut self.sleeps, sleeps) != sleeps
    }
}

/// Pauses that brought nothing make the next ones rarer, and those that did more frequent.
#[derive(Debug, Default)]
struct InVain {
    passed_over: u32,
    left: u32,
}

impl InVain {
    fn judge(&mut self, found: u32) {
        if found < WORTHWHILE {
            self.passed_over = (self.passed_over * 2).clamp(FEWEST_PASSED_OVER, MOST_PASSED_OVER);
            self.left = self.passed_over;
        } else {
            self.passed_over /= 2;
        }
    }

    fn passes_over(&mut self) -> bool {
        let passes = self.left > 0;
        self.left = self.left.saturating_sub(1);
        passes
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A thread with a clock of its own that does as it is told.
    struct Receiver {
        pace: Pace,
        now: Instant,
        sleeps: i64,
    }

    impl Receiver {
        fn new() -> Self {
            let now = Instant::now();
            Self { pace: Pace::new(now), now, sleeps: 0 }
        }

        /// The next message comes after `interval`, for which the thread has slept or not.
        fn receives(&mut self, interval: Duration, sleeps: bool) -> Option<Duration> {
            self.now += interval;
            self.sleeps += i64::from(sleeps);
            let told = self.sleeps;
            let pause = self.pace.arrived(self.now, || told);
            match pause {
                Some(pause) => {
                    self.now += pause;
                    self.sleeps += 1;
                    self.pace.is_free_after_pause(self.now, self.sleeps);
                }
                None => self.pace.is_free(self.now),
            }
            pause
        }

        /// Messages that each wake the thread, unless they have come while it paused.
        fn pauses_among(&mut self, messages: u32, interval: Duration) -> u32 {
            let mut come_meanwhile = 0;
            let mut pauses = 0;
            for _ in 0..messages {
                let was_there = come_meanwhile > 0;
                come_meanwhile -= i32::from(was_there);
                let waits = if was_there { Duration::ZERO } else { interval };
                if let Some(pause) = self.receives(waits, !was_there) {
                    pauses += 1;
                    come_meanwhile = i32::try_from(pause.as_micros() / interval.as_micros()).unwrap();
                }
            }
            pauses
        }
    }

    const MICROS_100: Duration = Duration::from_micros(100);

    #[test]
    fn a_message_that_comes_far_from_the_others_is_never_followed_by_a_pause() {
        assert_eq!(Receiver::new().pauses_among(1_000, Duration::from_micros(300)), 0);
    }

    #[test]
    fn whoever_finds_the_next_message_there_or_waits_for_it_awake_does_not_pause() {
        let mut receiver = Receiver::new();
        assert!((0..1_000).all(|_| receiver.receives(Duration::from_micros(5), false).is_none()));
        assert!((0..1_000).all(|_| receiver.receives(MICROS_100, false).is_none()));
    }

    #[test]
    fn whoever_sleeps_for_messages_close_together_lets_a_dozen_of_them_gather_at_a_time() {
        let mut receiver = Receiver::new();
        receiver.pauses_among(1_000, MICROS_100);
        let pauses = receiver.pauses_among(17_000, MICROS_100);
        assert!((1_000..=1_400).contains(&pauses), "{pauses}");
    }

    #[test]
    fn where_the_broker_waits_for_each_acknowledgement_pauses_become_rare_and_come_back_when_it_does_not() {
        let mut receiver = Receiver::new();
        let alone = |receiver: &mut Receiver| {
            (0..100_000).filter_map(|_| receiver.receives(MICROS_100, true)).count()
        };
        alone(&mut receiver);
        let pauses = alone(&mut receiver);
        assert!((90..=110).contains(&pauses), "one of a thousand: {pauses}");
        receiver.pauses_among(50_000, MICROS_100);
        assert!(receiver.pauses_among(17_000, MICROS_100) > 900);
    }

    #[test]
    fn the_system_tells_how_often_a_thread_has_slept() {
        let before = sleeps_of_this_thread();
        std::thread::sleep(Duration::from_millis(1));
        assert!(sleeps_of_this_thread() > before);
    }

    proptest! {
        #[test]
        fn no_pause_is_longer_than_two_milliseconds(
            messages in prop::collection::vec((0u64..1_000_000_000, any::<bool>()), 1..500)
        ) {
            let mut receiver = Receiver::new();
            for (nanos, sleeps) in messages {
                let pause = receiver.receives(Duration::from_nanos(nanos), sleeps);
                prop_assert!(pause.is_none_or(|pause| pause <= Duration::from_millis(2)));
            }
        }
    }
}
