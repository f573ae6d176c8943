//! Detects a client library that hangs.
//!
//! Every call into paho waits for its single mutex. The receiving thread holds that mutex during a message callback,
//! which may wait for hours while the inbox is full. That is no fault of paho. But without a callback, no call takes
//! longer than a connection attempt. A longer call never returns. The client cannot be recreated within the process, so
//! the process has to exit. Acknowledged messages are safe in the inbox.

use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::domain::suspend_detector::SuspendDetector;

/// Time after which a call counts as hung, far beyond any timeout of paho or of DNS.
const PATIENCE: Duration = Duration::from_mins(5);

/// Interval of the checks.
const CHECK_INTERVAL: Duration = Duration::from_secs(1);

/// Returns the time after which paho counts as hung.
pub(super) fn patience() -> Duration {
    time_point!("mqtt-patience", PATIENCE)
}

/// Activity of the threads that call paho.
#[derive(Debug)]
pub(super) struct Heartbeat {
    begin: Instant,
    /// Start of the current work of the thread "mqtt"; [`IDLE`] while it waits for input.
    busy_since_ms: AtomicU64,
    in_callback: AtomicBool,
    /// End of the last callback.
    callback_ended_ms: AtomicU64,
    suspend_detector: Mutex<SuspendDetector>,
}

const IDLE: u64 = u64::MAX;

impl Heartbeat {
    pub(super) fn new() -> Arc<Heartbeat> {
        Arc::new(Heartbeat {
            begin: Instant::now(),
            busy_since_ms: AtomicU64::new(IDLE),
            in_callback: AtomicBool::new(false),
            callback_ended_ms: AtomicU64::new(0),
            suspend_detector: Mutex::default(),
        })
    }

    /// Marks the thread "mqtt" as busy.
    pub(super) fn mark_busy(&self) {
        self.busy_since_ms.store(self.now_ms(), Ordering::Relaxed);
    }

    /// Marks the thread "mqtt" as idle.
    pub(super) fn mark_idle(&self) {
        self.busy_since_ms.store(IDLE, Ordering::Relaxed);
    }

    /// Runs a callback and records its duration.
    pub(super) fn during_callback(&self, callback: impl FnOnce()) {
        self.in_callback.store(true, Ordering::Relaxed);
        callback();
        self.callback_ended_ms.store(self.now_ms(), Ordering::Relaxed);
        self.in_callback.store(false, Ordering::Relaxed);
    }

    /// Whether a callback runs now.
    pub(super) fn is_in_callback(&self) -> bool {
        self.in_callback.load(Ordering::Relaxed)
    }

    /// Whether no callback has run for `time`, so that paho has waited for nothing but itself.
    pub(super) fn is_free_for(&self, time: Duration) -> bool {
        let ended = Duration::from_millis(self.callback_ended_ms.load(Ordering::Relaxed));
        !self.is_in_callback() && self.begin.elapsed().saturating_sub(ended) >= time
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.begin.elapsed().as_millis()).unwrap_or(IDLE)
    }

    /// Returns how long the thread "mqtt" has been busy, if that exceeds `patience` without a callback.
    fn overdue(&self, patience: Duration) -> Option<Duration> {
        let now = self.begin.elapsed();
        // A suspended process could not make progress.
        let watched = self.suspend_detector.lock().unwrap_or_else(PoisonError::into_inner).awake_for(now);
        let since = self.busy_since_ms.load(Ordering::Relaxed);
        if since == IDLE || watched < patience {
            return None;
        }
        let busy = now.saturating_sub(Duration::from_millis(since));
        (busy >= patience && self.is_free_for(patience)).then_some(busy)
    }
}

/// Starts the watchdog thread. Calls `on_stuck` once, when paho hangs.
pub(super) fn watch(
    heartbeat: Arc<Heartbeat>,
    on_stuck: impl FnOnce(String) + Send + 'static,
) -> io::Result<()> {
    let watching = move || {
        loop {
            thread::sleep(CHECK_INTERVAL);
            if let Some(busy) = heartbeat.overdue(patience()) {
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

    /// Checks repeatedly, as the watchdog thread does.
    fn becomes_overdue(heartbeat: &Heartbeat) -> bool {
        (0..1_000).any(|_| {
            thread::yield_now();
            heartbeat.overdue(SOME).is_some()
        })
    }

    #[test]
    fn only_a_busy_thread_becomes_overdue() {
        let heartbeat = Heartbeat::new();
        assert!(!becomes_overdue(&heartbeat));
        heartbeat.mark_busy();
        assert!(becomes_overdue(&heartbeat));
        heartbeat.mark_idle();
        assert!(!becomes_overdue(&heartbeat));
    }

    #[test]
    fn running_callbacks_excuse_a_busy_thread() {
        let heartbeat = Heartbeat::new();
        heartbeat.mark_busy();
        heartbeat.during_callback(|| assert!(!becomes_overdue(&heartbeat)));
        assert!(becomes_overdue(&heartbeat));
    }

    #[test]
    fn recent_callbacks_excuse_a_busy_thread() {
        let heartbeat = Heartbeat::new();
        heartbeat.mark_busy();
        heartbeat.during_callback(|| ());
        assert!(!heartbeat.is_free_for(Duration::from_hours(1)));
    }
}
