//! Recent messages of each flow: how many a minute, and when the last one was processed. For the console, not for
//! Prometheus, whose series are bounded: these are counted for all flows.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime};

/// Minutes of a rate, with the current one.
const MINUTES: usize = 5;

/// Least time of a rate. Shorter ones after a start would exaggerate.
const MIN_PERIOD: Duration = Duration::from_mins(1);

/// The recent messages of all flows, by code. Codes that were removed are dropped at the next reload of the flows.
#[derive(Debug)]
pub struct FlowActivity {
    origin: Instant,
    flows: RwLock<HashMap<Arc<str>, Mutex<RecentMessages>>>,
}

/// The recent messages of a flow.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ActivityReading {
    /// Messages per minute, within the last five minutes.
    pub per_minute: f64,
    /// When the last message was processed.
    pub last_at: SystemTime,
}

#[derive(Debug)]
struct RecentMessages {
    /// Number of the minute of the first count.
    minute: u64,
    /// Counts by minute, the newest first.
    counts: [u64; MINUTES],
    last_at: SystemTime,
}

impl Default for FlowActivity {
    fn default() -> Self {
        Self { origin: Instant::now(), flows: RwLock::default() }
    }
}

impl FlowActivity {
    /// Adds the messages of a transaction. Only a flow's first message takes the write lock.
    pub(super) fn count<'a>(&self, messages: impl Iterator<Item = (&'a str, u64)>) {
        let (minute, now) = (minute_of(self.origin.elapsed()), SystemTime::now());
        let flows = self.flows.read().unwrap_or_else(PoisonError::into_inner);
        let add = |recent: &Mutex<RecentMessages>, count| {
            recent.lock().unwrap_or_else(PoisonError::into_inner).add(minute, count, now);
        };
        let mut new = Vec::new();
        for (code, count) in messages {
            match flows.get(code) {
                Some(recent) => add(recent, count),
                None => new.push((code, count)),
            }
        }
        drop(flows);
        if new.is_empty() {
            return;
        }
        let mut flows = self.flows.write().unwrap_or_else(PoisonError::into_inner);
        for (code, count) in new {
            add(flows.entry(code.into()).or_insert_with(|| Mutex::new(RecentMessages::new(now))), count);
        }
    }

    /// Drops all flows but these.
    pub(super) fn retain(&self, codes: &HashSet<&str>) {
        let mut flows = self.flows.write().unwrap_or_else(PoisonError::into_inner);
        flows.retain(|code, _| codes.contains(&**code));
    }

    /// Returns the flows that have processed a message, by code.
    #[must_use]
    pub fn read(&self) -> HashMap<Arc<str>, ActivityReading> {
        let age = self.origin.elapsed();
        let flows = self.flows.read().unwrap_or_else(PoisonError::into_inner);
        let reading = |recent: &Mutex<RecentMessages>| {
            recent.lock().unwrap_or_else(PoisonError::into_inner).reading(age)
        };
        flows.iter().map(|(code, recent)| (Arc::clone(code), reading(recent))).collect()
    }
}

impl RecentMessages {
    fn new(now: SystemTime) -> Self {
        Self { minute: 0, counts: [0; MINUTES], last_at: now }
    }

    fn add(&mut self, minute: u64, count: u64, now: SystemTime) {
        self.advance(minute);
        if let Some(current) = self.counts.first_mut() {
            *current += count;
        }
        self.last_at = now;
    }

    /// Makes `minute` the first one.
    fn advance(&mut self, minute: u64) {
        let passed = usize::try_from(minute.saturating_sub(self.minute)).unwrap_or(MINUTES).min(MINUTES);
        self.counts.rotate_right(passed);
        self.counts.iter_mut().take(passed).for_each(|count| *count = 0);
        self.minute = self.minute.max(minute);
    }

    fn reading(&mut self, age: Duration) -> ActivityReading {
        self.advance(minute_of(age));
        let period = Duration::from_secs(60 * (MINUTES as u64 - 1) + age.as_secs() % 60);
        let minutes = period.min(age).max(MIN_PERIOD).as_secs_f64() / 60.0;
        #[allow(clippy::cast_precision_loss, reason = "a rate for people")]
        let messages = self.counts.iter().sum::<u64>() as f64;
        ActivityReading { per_minute: messages / minutes, last_at: self.last_at }
    }
}

fn minute_of(age: Duration) -> u64 {
    age.as_secs() / 60
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rate(recent: &mut RecentMessages, seconds: u64) -> f64 {
        recent.reading(Duration::from_secs(seconds)).per_minute
    }

    #[test]
    fn rates_are_those_of_the_last_minutes() {
        let now = SystemTime::UNIX_EPOCH;
        let mut recent = RecentMessages::new(now);
        recent.add(0, 30, now);
        assert!((rate(&mut recent, 10) - 30.0).abs() < 1e-9, "a short run counts as a minute");
        recent.add(1, 30, now);
        assert!((rate(&mut recent, 119) - 60.0 / (119.0 / 60.0)).abs() < 1e-9);
        recent.add(20, 10, now);
        assert!((rate(&mut recent, 20 * 60) - 2.5).abs() < 1e-9, "earlier messages no longer count");
        assert!(rate(&mut recent, 30 * 60).abs() < 1e-9);
    }

    #[test]
    fn removed_flows_are_dropped() {
        let activity = FlowActivity::default();
        activity.count([("A", 2), ("B", 1)].into_iter());
        activity.retain(&HashSet::from(["B"]));
        let read = activity.read();
        assert_eq!(read.keys().map(|code| &**code).collect::<Vec<_>>(), ["B"]);
        assert!((read["B"].per_minute - 1.0).abs() < 1e-9);
    }
}
