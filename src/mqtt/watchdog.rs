//! Notices that the client library does not come back.
//!
//! Whatever calls paho waits for its one mutex, which its receiving thread holds during a message callback, and a
//! callback may wait for hours while the inbox is full: no fault of paho's. But where no callback runs, no call takes
//! longer than a connection attempt. One that does will not end, and the client cannot be made anew within the
//! process, so the process has to end. What was acknowledged is in the inbox, on disk.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::domain::suspend_detector::SuspendDetector;

/// Far beyond all that paho and the look-up of a name take.
const PATIENCE: Duration = Duration::from_mins(5);

/// Between two looks.
const LOOK: Duration = Duration::from_secs(1);

/// How long paho may stay away.
pub(super) fn patience() -> Duration {
    // Tests have less time.
    fail::fail_point!("mqtt-patience", |ms| {
        ms.and_then(|ms| ms.parse().ok()).map_or(PATIENCE, Duration::from_millis)
    });
    PATIENCE
}

/// What the threads around paho are at.
#[derive(Debug)]
pub(super) struct Pulse {
    begin: Instant,
    /// When the thread "mqtt" began what it is at; [`RESTS`] while it waits to be told something.
    busy_since_ms: AtomicU64,
    in_callback: AtomicBool,
    /// When a callback ended last.
    callback_ended_ms: AtomicU64,
    suspend_detector: Mutex<SuspendDetector>,
}

const RESTS: u64 = u64::MAX;

impl Pulse {
    pub(super) fn new() -> Arc<Pulse> {
        Arc::new(Pulse {
            begin: Instant::now(),
            busy_since_ms: AtomicU64::new(RESTS),
            in_callback: AtomicBool::new(false),
            callback_ended_ms: AtomicU64::new(0),
            suspend_detector: Mutex::default(),
        })
    }

    /// The thread "mqtt" has something to do.
    pub(super) fn begins(&self) {
        self.busy_since_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// It waits to be told something.
    pub(super) fn rests(&self) {
        self.busy_since_ms.store(RESTS, Ordering::Relaxed);
    }

    /// Runs a callback.
    pub(super) fn during_callback(&self, callback: impl FnOnce()) {
        self.in_callback.store(true, Ordering::Relaxed);
        callback();
        self.callback_ended_ms.store(self.now_ms(), Ordering::Relaxed);
        self.in_callback.store(false, Ordering::Relaxed);
    }

    /// Whether no callback runs or has run for so long: paho had nobody to wait for but itself.
    pub(super) fn is_free_for(&self, time: Duration) -> bool {
        let ended = Duration::from_millis(self.callback_ended_ms.load(Ordering::Relaxed));
        !self.in_callback.load(Ordering::Relaxed) && self.begin.elapsed().saturating_sub(ended) >= time
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(RESTS)
    }

    /// For how long the thread "mqtt" has been at one thing, if that is longer than `patience` and has no excuse.
    fn overdue(&self, patience: Duration) -> Option<Duration> {
        let now = self.begin.elapsed();
        // A process that was stopped itself has seen nothing.
        let watched = self.suspend_detector.lock().unwrap_or_else(PoisonError::into_inner).awake_for(now);
        let since = self.busy_since_ms.load(Ordering::Relaxed);
        if since == RESTS || watched < patience {
            return None;
        }
        let busy = now.saturating_sub(Duration::from_millis(since));
        (busy >= patience && self.is_free_for(patience)).then_some(busy)
    }
}

/// Watches for the life of the process; says once that there is no coming back.
pub(super) fn watch(pulse: Arc<Pulse>, on_stuck: impl FnOnce(String) + Send + 'static) -> io::Result<()> {
    let watching = move || {
        loop {
            thread::sleep(LOOK);
            if let Some(busy) = pulse.overdue(patience()) {
                on_stuck(format!("a call into it has not returned for {} s", busy.as_secs()));
                return;
            }
        }
    };
    thread::Builder::new().name("mqtt-watchdog".to_owned()).spawn(watching).map(|_| ())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    const SOME: Duration = Duration::from_nanos(1);

    /// As a thread that looks again and again.
    fn comes_overdue(pulse: &Pulse) -> bool {
        (0..1_000).any(|_| {
            thread::yield_now();
            pulse.overdue(SOME).is_some()
        })
    }

    #[test]
    fn a_thread_that_rests_is_never_overdue_and_one_that_works_on_is() {
        let pulse = Pulse::new();
        assert!(!comes_overdue(&pulse));
        pulse.begins();
        assert!(comes_overdue(&pulse));
        pulse.rests();
        assert!(!comes_overdue(&pulse));
    }

    #[test]
    fn a_callback_that_waits_excuses_it() {
        let pulse = Pulse::new();
        pulse.begins();
        pulse.during_callback(|| assert!(!comes_overdue(&pulse)));
        assert!(comes_overdue(&pulse));
    }

    #[test]
    fn a_callback_that_has_just_ended_excuses_it_for_as_long_again() {
        let pulse = Pulse::new();
        pulse.begins();
        pulse.during_callback(|| ());
        assert!(!pulse.is_free_for(Duration::from_hours(1)));
    }
}
