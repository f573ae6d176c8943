//! Publishing schedule: due times and publish times of the messages.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Publishing speed.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Pace {
    /// As fast as the broker accepts messages.
    FullSpeed,
    /// A fixed rate in messages per second, independent of the progress of the gateway.
    Rate(f64),
}

impl Pace {
    /// Returns the pace for an optional rate in messages per second.
    pub(super) fn from_rate(rate: Option<f64>) -> Self {
        rate.map_or(Self::FullSpeed, Self::Rate)
    }

    /// Returns the due time of a message, relative to the first. The schedule is absolute: a late message does not
    /// delay the next.
    pub(super) fn due(self, message: u64) -> Option<Duration> {
        match self {
            Self::FullSpeed => None,
            #[allow(clippy::cast_precision_loss, reason = "2^53 messages are never published")]
            Self::Rate(rate) => Some(Duration::from_secs_f64(message as f64 / rate)),
        }
    }
}

/// Publish time of each message, or its due time at a fixed rate, so that latency includes the delay of a blocked
/// publisher. The publisher writes the times and the observer reads them.
#[derive(Debug)]
pub(super) struct PublishTimes {
    epoch: Instant,
    /// Nanoseconds after the epoch plus one; 0 marks an unpublished message.
    nanos: Vec<AtomicU64>,
}

impl PublishTimes {
    /// Creates the times for this number of messages. The epoch is now.
    pub(super) fn new(messages: u64) -> Self {
        let nanos = (0..messages).map(|_| AtomicU64::new(0)).collect();
        Self { epoch: Instant::now(), nanos }
    }

    /// Returns the time since the epoch.
    pub(super) fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Converts an instant to the time since the epoch.
    pub(super) fn since_epoch(&self, at: Instant) -> Duration {
        at.saturating_duration_since(self.epoch)
    }

    /// Records the publish time of a message.
    pub(super) fn note(&self, message: u64, at: Duration) {
        let nanos = u64::try_from(at.as_nanos()).unwrap_or(u64::MAX - 1) + 1;
        if let Some(place) = self.place(message) {
            place.store(nanos, Relaxed);
        }
    }

    /// Returns the publish time of a message, or `None` if it is unpublished.
    pub(super) fn published_at(&self, message: u64) -> Option<Duration> {
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
    fn fixed_rates_have_even_intervals() {
        let pace = Pace::from_rate(Some(500.0));
        assert_eq!(pace.due(0), Some(Duration::ZERO));
        assert_eq!(pace.due(1), Some(Duration::from_millis(2)));
        assert_eq!(pace.due(1_000_000), Some(Duration::from_secs(2_000)));
    }

    #[test]
    fn full_speed_has_no_due_times() {
        assert_eq!(Pace::from_rate(None).due(7), None);
    }

    #[test]
    fn unpublished_messages_have_no_time() {
        let times = PublishTimes::new(2);
        times.note(1, Duration::ZERO);
        assert_eq!(
            (times.published_at(0), times.published_at(1), times.published_at(2)),
            (None, Some(Duration::ZERO), None)
        );
    }
}
