//! Metrics of the endpoints, by origin.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::histogram::{DURATIONS, Histogram};
use crate::domain::posting::breaker::BreakerState;
use crate::domain::posting::origin::Origin;

/// Maximum origins with series of their own.
const MAX_ORIGINS: usize = 256;

/// Label of all other origins together. No origin is spelled like this.
const OTHERS: &str = "_other";

named_enum! {
    /// Outcome of an attempt to post.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum AttemptOutcome {
        /// The endpoint accepted the message.
        Delivered = "delivered",
        /// The endpoint refused this message.
        MessageFault = "message_fault",
        /// The endpoint answered, and is not available.
        EndpointFault = "endpoint_fault",
        /// There was no answer.
        NoAnswer = "no_answer",
    }
}

/// Numbers of attempts, in the order of [`AttemptOutcome::ALL`].
pub type AttemptCounts = [u64; AttemptOutcome::ALL.len()];

/// Counters of all endpoints.
///
/// A post takes the lock once, for a few additions.
#[derive(Debug, Default)]
pub struct EndpointMetrics(Mutex<Endpoints>);

#[derive(Debug, Default)]
struct Endpoints {
    own: BTreeMap<Origin, EndpointReading>,
    /// `None` until the first post.
    others: Option<EndpointReading>,
    /// The breakers that are not closed, and the closed ones of `own`.
    breakers: BTreeMap<Origin, BreakerReading>,
}

/// State of a breaker and time of its last change.
pub(super) type BreakerReading = (BreakerState, SystemTime);

/// Current values of one endpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct EndpointReading {
    /// Attempts by outcome.
    pub attempts: AttemptCounts,
    /// Outcome of the last attempt.
    pub last: Option<AttemptOutcome>,
    /// Duration of the attempts, in seconds.
    pub seconds: Histogram,
    /// `None` before the first failure.
    pub breaker: Option<BreakerReading>,
}

impl Default for EndpointReading {
    fn default() -> Self {
        Self {
            attempts: AttemptCounts::default(),
            last: None,
            seconds: Histogram::new(DURATIONS),
            breaker: None,
        }
    }
}

impl EndpointMetrics {
    /// Counts an attempt that took `took`. An unusable URL has no origin.
    pub fn count(&self, origin: Option<&Origin>, outcome: AttemptOutcome, took: Duration) {
        let mut endpoints = self.endpoints();
        let endpoint = match origin.and_then(|origin| endpoints.own(origin)) {
            Some(endpoint) => endpoint,
            None => endpoints.others.get_or_insert_default(),
        };
        count_outcome(&mut endpoint.attempts, outcome);
        endpoint.last = Some(outcome);
        endpoint.seconds.observe_duration(took, 1);
    }

    /// Sets the states of all breakers: the others are closed.
    pub fn set_breakers(&self, failing: impl IntoIterator<Item = (Origin, BreakerReading)>) {
        let failing: BTreeMap<Origin, BreakerReading> = failing.into_iter().collect();
        let Endpoints { own, breakers, .. } = &mut *self.endpoints();
        breakers.retain(|origin, _| own.contains_key(origin) || failing.contains_key(origin));
        for (origin, breaker) in breakers.iter_mut() {
            if breaker.0 != BreakerState::Closed && !failing.contains_key(origin) {
                *breaker = (BreakerState::Closed, SystemTime::now());
            }
        }
        breakers.extend(failing);
    }

    /// Returns the values by origin. An origin without series of its own has only a breaker, while it fails.
    #[must_use]
    pub fn read(&self) -> Vec<(String, EndpointReading)> {
        let Endpoints { own, others, breakers } = &*self.endpoints();
        let mut readings = own.clone();
        for (origin, breaker) in breakers {
            readings.entry(origin.clone()).or_default().breaker = Some(*breaker);
        }
        let own = readings.into_iter().map(|(origin, reading)| (origin.to_string(), reading));
        own.chain(others.iter().map(|reading| (OTHERS.to_owned(), reading.clone()))).collect()
    }

    fn endpoints(&self) -> MutexGuard<'_, Endpoints> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Endpoints {
    fn own(&mut self, origin: &Origin) -> Option<&mut EndpointReading> {
        if !self.own.contains_key(origin) && self.own.len() >= MAX_ORIGINS {
            return None;
        }
        Some(self.own.entry(origin.clone()).or_default())
    }
}

/// Adds one to the count of `outcome`.
fn count_outcome(counts: &mut AttemptCounts, outcome: AttemptOutcome) {
    if let Some((_, count)) =
        AttemptOutcome::ALL.iter().zip(counts.iter_mut()).find(|(known, _)| **known == outcome)
    {
        *count += 1;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn origin(number: usize) -> Origin {
        Origin::of(&format!("http://user:s3cret@host-{number}/s3cret?s3cret")).unwrap()
    }

    #[test]
    fn attempts_are_counted_by_origin_and_outcome() {
        let endpoints = EndpointMetrics::default();
        for outcome in [AttemptOutcome::Delivered, AttemptOutcome::NoAnswer, AttemptOutcome::NoAnswer] {
            endpoints.count(Some(&origin(1)), outcome, Duration::from_millis(500));
        }
        endpoints.count(None, AttemptOutcome::NoAnswer, Duration::ZERO);
        let readings = endpoints.read();
        let [(name, one), (others, other)] = &readings[..] else { unreachable!("{readings:?}") };
        assert_eq!((name.as_str(), one.attempts, one.seconds.count()), ("http://host-1", [1, 0, 0, 2], 3));
        assert_eq!(one.last, Some(AttemptOutcome::NoAnswer));
        assert_eq!((others.as_str(), other.attempts), (OTHERS, [0, 0, 0, 1]));
    }

    #[test]
    fn origins_beyond_the_maximum_share_counters() {
        let endpoints = EndpointMetrics::default();
        for number in 0..MAX_ORIGINS + 5 {
            endpoints.count(Some(&origin(number)), AttemptOutcome::Delivered, Duration::ZERO);
        }
        let readings = endpoints.read();
        assert_eq!(readings.len(), MAX_ORIGINS + 1);
        let (name, others) = readings.last().unwrap();
        assert_eq!((name.as_str(), others.attempts), (OTHERS, [5, 0, 0, 0]));
    }

    fn breaker_of(endpoints: &EndpointMetrics, number: usize) -> Option<BreakerState> {
        let name = origin(number).to_string();
        let found = endpoints.read().into_iter().find(|(origin, _)| *origin == name);
        found.and_then(|(_, reading)| reading.breaker).map(|(state, _)| state)
    }

    #[test]
    fn breakers_that_are_not_named_again_are_closed() {
        let endpoints = EndpointMetrics::default();
        for number in [1, 2] {
            endpoints.count(Some(&origin(number)), AttemptOutcome::NoAnswer, Duration::ZERO);
        }
        let since = SystemTime::UNIX_EPOCH + Duration::from_secs(2);
        endpoints.set_breakers([1, 2].map(|number| (origin(number), (BreakerState::Open, since))));
        endpoints.set_breakers([(origin(2), (BreakerState::HalfOpen, since))]);
        assert_eq!(breaker_of(&endpoints, 1), Some(BreakerState::Closed));
        assert_eq!(breaker_of(&endpoints, 2), Some(BreakerState::HalfOpen));
    }

    #[test]
    fn breaker_beyond_the_maximum_is_there_while_it_fails() {
        let endpoints = EndpointMetrics::default();
        for number in 0..=MAX_ORIGINS {
            endpoints.count(Some(&origin(number)), AttemptOutcome::NoAnswer, Duration::ZERO);
        }
        endpoints.set_breakers([(origin(MAX_ORIGINS), (BreakerState::Open, SystemTime::UNIX_EPOCH))]);
        assert_eq!(breaker_of(&endpoints, MAX_ORIGINS), Some(BreakerState::Open));
        endpoints.set_breakers([]);
        assert_eq!(breaker_of(&endpoints, MAX_ORIGINS), None);
    }
}
