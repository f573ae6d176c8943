//! How busy the actors were in the last minute.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::metrics::Histogram;
use super::snapshot::ActorReading;

/// Time between two samples.
const SAMPLE_INTERVAL: Duration = Duration::from_secs(10);

/// Samples that are kept: together they cover a minute.
const MAX_SAMPLES: usize = 6;

/// Longest time that is told apart from longer ones.
const MAX_TIME: Duration = Duration::from_mins(1);

/// An actor, and how busy it was.
#[derive(Debug, Clone)]
pub struct ActorLoad {
    /// Its present state.
    pub actor: ActorReading,
    /// Messages that it handled in a second.
    pub handled_per_second: f64,
    /// Time between sending and handling that 99 % of the messages did not exceed; none without messages.
    pub wait_p99: Option<Duration>,
    /// Handling time that 99 % of the messages did not exceed; none without messages.
    pub handle_p99: Option<Duration>,
}

/// The counts of all actors in the last minute.
#[derive(Debug, Default)]
pub(super) struct ActorLoads(Mutex<VecDeque<Sample>>);

#[derive(Debug)]
struct Sample {
    /// Age of the process.
    at: Duration,
    actors: BTreeMap<String, ActorReading>,
}

impl ActorLoads {
    /// Takes a sample if it is time. `age` is the age of the process.
    pub(super) fn note(&self, age: Duration, actors: impl FnOnce() -> Vec<ActorReading>) {
        let mut samples = self.samples();
        if samples.back().is_some_and(|last| age < last.at + SAMPLE_INTERVAL) {
            return;
        }
        let actors = actors().into_iter().map(|actor| (actor.actor.clone(), actor)).collect();
        samples.push_back(Sample { at: age, actors });
        let excess = samples.len().saturating_sub(MAX_SAMPLES);
        samples.drain(..excess);
    }

    /// Compares the actors with the oldest sample.
    pub(super) fn read(&self, age: Duration, actors: Vec<ActorReading>) -> Vec<ActorLoad> {
        let samples = self.samples();
        let oldest = samples.front();
        let period = age.saturating_sub(oldest.map_or(Duration::ZERO, |oldest| oldest.at));
        let load = |actor: ActorReading| {
            let before = oldest.and_then(|oldest| oldest.actors.get(&actor.actor));
            ActorLoad::new(actor, before, period)
        };
        actors.into_iter().map(load).collect()
    }

    fn samples(&self) -> MutexGuard<'_, VecDeque<Sample>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ActorLoad {
    fn new(actor: ActorReading, before: Option<&ActorReading>, period: Duration) -> Self {
        let handled = actor.handled.saturating_sub(before.map_or(0, |before| before.handled));
        #[allow(clippy::cast_precision_loss, reason = "a rate is not exact")]
        let handled_per_second = handled as f64 / period.as_secs_f64().max(1.0);
        Self {
            handled_per_second,
            wait_p99: p99(&actor.waits, before.map(|before| &before.waits)),
            handle_p99: p99(&actor.handles, before.map(|before| &before.handles)),
            actor,
        }
    }
}

fn p99(now: &Histogram, before: Option<&Histogram>) -> Option<Duration> {
    let none = Histogram::new(super::metrics::DURATIONS);
    let before = before.unwrap_or(&none);
    let p99 = || Duration::try_from_secs_f64(now.p99_since(before)).unwrap_or(MAX_TIME).min(MAX_TIME);
    (now.count() > before.count()).then(p99)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::observe::metrics::DURATIONS;

    /// An actor that has handled this number of messages, each in `handling`.
    fn actor(handled: u64, handling: Duration) -> ActorReading {
        let mut times = Histogram::new(DURATIONS);
        times.observe_duration(handling, handled);
        ActorReading {
            actor: "router".to_owned(),
            state: "running",
            since: SystemTime::UNIX_EPOCH,
            states: Vec::new(),
            depth: 0,
            capacity: 1,
            age: Duration::ZERO,
            received: handled,
            handled,
            failed: 0,
            restarts: Vec::new(),
            waits: Histogram::new(DURATIONS),
            handles: times,
        }
    }

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn only_the_last_minute_counts() {
        let loads = ActorLoads::default();
        for second in 0..100 {
            loads.note(Duration::from_secs(second), || vec![actor(1_000, MS * 100)]);
        }
        let mut now = actor(1_000, MS * 100);
        let read = |now: &ActorReading| loads.read(Duration::from_secs(100), vec![now.clone()]).remove(0);
        let idle = read(&now);
        assert_eq!((idle.handled_per_second, idle.wait_p99, idle.handle_p99), (0.0, None, None));
        now.handled += 60;
        now.handles.observe_duration(MS, 60);
        let busy = read(&now);
        // The oldest sample is of second 40.
        assert!((busy.handled_per_second - 1.0).abs() < 1e-9, "{}", busy.handled_per_second);
        assert_eq!((busy.wait_p99, busy.handle_p99), (None, Some(MS)));
    }

    #[test]
    fn longest_times_have_a_bound() {
        let load = ActorLoads::default().read(MS * 10_000, vec![actor(1, Duration::from_hours(2))]).remove(0);
        assert_eq!(load.handle_p99, Some(MAX_TIME));
        assert!((load.handled_per_second - 0.1).abs() < 1e-9, "{}", load.handled_per_second);
    }
}
