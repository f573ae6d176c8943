//! Counts of the last hour by minute, for charts.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Minutes that are kept, with the current one.
const MINUTES: usize = 60;

/// Numbers of messages.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutcomeCounts {
    /// Appended to the inbox.
    pub received: u64,
    /// Stored.
    pub stored: u64,
    /// Posted.
    pub posted: u64,
    /// Dead letters.
    pub dead: u64,
}

impl OutcomeCounts {
    /// The counts since `earlier`. A removed flow takes its counts along, so a total may be lower than before.
    fn since(self, earlier: Self) -> Self {
        Self {
            received: self.received.saturating_sub(earlier.received),
            stored: self.stored.saturating_sub(earlier.stored),
            posted: self.posted.saturating_sub(earlier.posted),
            dead: self.dead.saturating_sub(earlier.dead),
        }
    }
}

/// The counts of the last hour.
#[derive(Debug, Default)]
pub struct Rates(Mutex<Ring>);

#[derive(Debug, Default)]
struct Ring {
    /// Complete minutes, the oldest first.
    minutes: VecDeque<OutcomeCounts>,
    /// Number of the current minute.
    current: u64,
    /// The totals at its start.
    start: OutcomeCounts,
}

impl Rates {
    /// Begins a new minute if it is time. `age` is the age of the process.
    pub fn note(&self, age: Duration, totals: impl FnOnce() -> OutcomeCounts) {
        let minute = age.as_secs() / 60;
        let mut ring = self.ring();
        let passed = minute.saturating_sub(ring.current);
        if passed == 0 {
            return;
        }
        let totals = totals();
        let counts = totals.since(ring.start);
        ring.minutes.push_back(counts);
        // The process was suspended.
        let missed = usize::try_from(passed - 1).unwrap_or(MINUTES).min(MINUTES);
        ring.minutes.extend(std::iter::repeat_n(OutcomeCounts::default(), missed));
        let excess = ring.minutes.len().saturating_sub(MINUTES - 1);
        ring.minutes.drain(..excess);
        ring.current = minute;
        ring.start = totals;
    }

    /// Returns the counts by minute, the oldest first. The last minute is the current one.
    #[must_use]
    pub fn read(&self, totals: OutcomeCounts) -> Vec<OutcomeCounts> {
        let ring = self.ring();
        ring.minutes.iter().copied().chain([totals.since(ring.start)]).collect()
    }

    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stored(stored: u64) -> OutcomeCounts {
        OutcomeCounts { stored, ..OutcomeCounts::default() }
    }

    fn read(rates: &Rates, total: u64) -> Vec<u64> {
        rates.read(stored(total)).iter().map(|counts| counts.stored).collect()
    }

    #[test]
    fn minutes_have_their_own_counts() {
        let rates = Rates::default();
        let minute = Duration::from_mins;
        rates.note(Duration::from_secs(59), || stored(3));
        assert_eq!(read(&rates, 4), [4]);
        rates.note(minute(1), || stored(5));
        rates.note(minute(1), || stored(9));
        assert_eq!(read(&rates, 6), [5, 1]);
        rates.note(minute(4), || stored(8));
        assert_eq!(read(&rates, 8), [5, 3, 0, 0, 0], "two minutes were missed");
        rates.note(minute(5), || stored(2));
        assert_eq!(read(&rates, 3), [5, 3, 0, 0, 0, 1], "a removed flow gives no negative count");
    }

    #[test]
    fn an_hour_is_kept() {
        let rates = Rates::default();
        for minute in 1..200 {
            rates.note(Duration::from_mins(minute), || stored(minute));
        }
        assert_eq!(read(&rates, 199), [vec![1; 59], vec![0]].concat());
        rates.note(Duration::from_hours(1_000), || stored(200));
        assert_eq!(read(&rates, 200), [0; 60]);
    }
}
