//! When each message is due, and when it was published.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// How fast is published.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// As fast as the messages are taken.
    FullSpeed,
    /// So many messages a second, whatever becomes of them.
    Rate(f64),
}

impl Pace {
    /// The pace that was asked for.
    pub(super) fn of(rate: Option<f64>) -> Self {
        rate.map_or(Self::FullSpeed, Self::Rate)
    }

    /// When a message is due, after the first one. The schedule is absolute: a message that is late
    /// does not make the next one late.
    pub(super) fn due(self, message: u64) -> Option<Duration> {
        match self {
            Self::FullSpeed => None,
            #[allow(clippy::cast_precision_loss, reason = "2^53 messages are never published")]
            Self::Rate(rate) => Some(Duration::from_secs_f64(message as f64 / rate)),
        }
    }
}

/// When each message was published, or at a rate when it was due: what kept it back, its latency
/// shall show. Written by the publisher, read by the observer.
#[derive(Debug)]
pub(super) struct PublishTimes {
    epoch: Instant,
    /// Nanoseconds after the epoch, and one; 0 is not yet.
    nanos: Vec<AtomicU64>,
}

impl PublishTimes {
    /// For so many messages, counted from now.
    pub(super) fn new(messages: u64) -> Self {
        let nanos = (0..messages).map(|_| AtomicU64::new(0)).collect();
        Self { epoch: Instant::now(), nanos }
    }

    /// Time since the epoch.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// How long after the epoch a moment is.
    pub(super) fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    /// A message is published.
    pub(super) fn note(&self, message: u64, at: Duration) {
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX - 1) + 1;
        if let Some(place) = self.place(message) {
            place.store(nanos, Relaxed);
        }
    }

    /// When a message was published, if it was.
    pub(super) fn of(&self, message: u64) -> Option<Duration> {
        let nanos = self.place(message)?.load(Relaxed);
        nanos.checked_sub(1).map(Duration::from_nanos)
    }

    fn place(&self, message: u64) -> Option<&AtomicU64> {
        self.nanos.get(usize::try_from(message).ok()?)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn at_a_rate_messages_are_due_at_even_distances_from_the_first() {
        let pace = Pace::of(Some(500.0));
        assert_eq!(pace.due(0), Some(Duration::ZERO));
        assert_eq!(pace.due(1), Some(Duration::from_millis(2)));
        assert_eq!(pace.due(1_000_000), Some(Duration::from_secs(2_000)));
    }

    #[test]
    fn at_full_speed_nothing_is_ever_due() {
        assert_eq!(Pace::of(None).due(7), None);
    }

    #[test]
    fn a_message_has_a_time_once_it_is_published() {
        let times = PublishTimes::new(2);
        times.note(1, Duration::ZERO);
        assert_eq!((times.of(0), times.of(1), times.of(2)), (None, Some(Duration::ZERO), None));
    }
}
