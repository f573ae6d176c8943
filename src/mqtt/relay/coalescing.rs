//! Receive coalescing: under load, the relay thread wakes once per millisecond instead of once per packet.
//!
//! Brokers write each message separately, and paho each acknowledgement. While the thread sleeps, both accumulate in
//! the sockets, so one wake-up handles them all. Paho's receiving thread wakes less often as well.

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Minimum rate for coalescing, in messages per second. Below it, every packet is passed on at once.
const MIN_RATE: u32 = 4_000;

/// Sleep per wake-up: the maximum added latency of a message or an acknowledgement.
pub(super) const DELAY: Duration = Duration::from_millis(1);

/// Minimum time over which the rate is measured.
const WINDOW: Duration = Duration::from_millis(10);

/// Count of messages received from the broker.
#[derive(Debug, Clone, Default)]
pub(super) struct MessageCount(Arc<AtomicU32>);

impl MessageCount {
    pub(super) fn add_one(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn take(&self) -> u32 {
        self.0.swap(0, Ordering::Relaxed)
    }
}

/// Decides whether to sleep before each wait for packets.
#[derive(Debug)]
pub(super) struct Coalescing {
    messages: MessageCount,
    window: Mutex<Window>,
}

#[derive(Debug)]
struct Window {
    start: Instant,
    is_busy: bool,
}

impl Coalescing {
    pub(super) fn new(messages: MessageCount, now: Instant) -> Coalescing {
        Coalescing { messages, window: Mutex::new(Window { start: now, is_busy: false }) }
    }

    /// Returns how long to sleep before the next wait, if at all.
    pub(super) fn delay(&self, now: Instant) -> Option<Duration> {
        let mut window = self.window.lock().unwrap_or_else(PoisonError::into_inner);
        let elapsed = now.saturating_duration_since(window.start);
        if elapsed >= WINDOW {
            window.is_busy = f64::from(self.messages.take()) >= f64::from(MIN_RATE) * elapsed.as_secs_f64();
            window.start = now;
        }
        window.is_busy.then_some(DELAY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts the sleeps for `messages` messages, `interval` apart, each followed by a wait.
    fn sleeps(coalescing: &Coalescing, now: &mut Instant, messages: u32, interval: Duration) -> u32 {
        let (mut sleeps, mut awake_at) = (0, *now);
        for _ in 0..messages {
            *now += interval;
            coalescing.messages.add_one();
            if *now < awake_at {
                continue;
            }
            if let Some(delay) = coalescing.delay(*now) {
                awake_at = *now + delay;
                sleeps += 1;
            }
        }
        sleeps
    }

    #[test]
    fn slow_messages_are_never_delayed() {
        let mut now = Instant::now();
        let coalescing = Coalescing::new(MessageCount::default(), now);
        assert_eq!(sleeps(&coalescing, &mut now, 10_000, Duration::from_micros(260)), 0);
    }

    #[test]
    fn fast_messages_wake_once_per_millisecond() {
        let mut now = Instant::now();
        let coalescing = Coalescing::new(MessageCount::default(), now);
        let sleeps = sleeps(&coalescing, &mut now, 100_000, Duration::from_micros(50));
        assert!((4_800..=5_000).contains(&sleeps), "{sleeps} in five seconds");
    }

    #[test]
    fn burst_delays_one_later_message() {
        let mut now = Instant::now();
        let coalescing = Coalescing::new(MessageCount::default(), now);
        sleeps(&coalescing, &mut now, 1_000, Duration::from_micros(50));
        assert!(sleeps(&coalescing, &mut now, 1_000, Duration::from_millis(20)) <= 1);
    }
}
