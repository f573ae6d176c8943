//! Finds topic filters that make the broker close the connection.
//!
//! A broker may close the connection instead of answering SUBSCRIBE or UNSUBSCRIBE, and gives no reason. So the
//! unanswered filters of a lost connection are sent again, each alone:
//!
//! ```text
//!   together ──connection ends, no answer──▶ alone ──connection ends, no answer──▶ set aside
//!      ▲                                     │   ▲                                  │
//!      └───────────────answer────────────────┘   └───────────────time───────────────┘
//! ```
//!
//! The caller sends suspected filters last, on a connection with an earlier answer of the broker. So the other filters
//! are subscribed in any case, and a broker that answers nothing convicts no filter. One at a time costs a round trip
//! per innocent filter. Halving the suspects would cost a connection per step.

use std::collections::BTreeMap;
use std::time::Duration;

use super::retry::Backoff;

/// Delay until a filter that was set aside is tried again. Each trial of a bad filter costs a connection.
const RETRY: Backoff = Backoff { base: Duration::from_mins(1), max: Duration::from_hours(1) };

/// State of filters that went unanswered.
#[derive(Debug, Default)]
pub struct FilterTrials {
    trials: BTreeMap<String, Trial>,
}

#[derive(Debug, Clone, Copy)]
enum Trial {
    Suspected {
        /// Higher for filters sent earlier: brokers answer in order, so the first without an answer is the likeliest.
        suspicion: usize,
    },
    SetAside {
        failures: u32,
        until: Duration,
    },
}

/// How to send a filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SendMode {
    /// Together with others.
    Together,
    /// Alone, after all others.
    Alone,
    /// Not now, because the broker closes the connection over it.
    SetAside,
}

/// Unanswered filters of a lost connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Unanswered {
    /// None.
    #[default]
    Nothing,
    /// Filters that were sent together.
    Together(Vec<String>),
    /// Filter that was sent alone, after another answer of the broker.
    Alone(String),
}

/// Conclusion from the end of a connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialOutcome {
    /// None about filters.
    Nothing,
    /// Number of newly suspected filters.
    Suspects(usize),
    /// The broker closes the connection over this filter.
    Culprit {
        /// Topic filter.
        filter: String,
        /// Delay until the filter is tried again.
        retry_in: Duration,
    },
}

impl FilterTrials {
    /// Returns how to send this filter. `now` is the time of a monotonic clock.
    #[must_use]
    pub fn send_mode(&self, filter: &str, now: Duration) -> SendMode {
        match self.trials.get(filter) {
            None => SendMode::Together,
            Some(Trial::SetAside { until, .. }) if now < *until => SendMode::SetAside,
            Some(Trial::Suspected { .. } | Trial::SetAside { .. }) => SendMode::Alone,
        }
    }

    /// Returns the sort key of filters that are sent alone; the least suspicious goes first.
    #[must_use]
    pub fn suspicion(&self, filter: &str) -> usize {
        match self.trials.get(filter) {
            None => 0,
            Some(Trial::Suspected { suspicion }) => *suspicion,
            Some(Trial::SetAside { .. }) => usize::MAX,
        }
    }

    /// Records an answer for this filter. If the filter was set aside, the broker has changed, so all others that are
    /// set aside become due.
    pub fn answered(&mut self, filter: &str) {
        if let Some(Trial::SetAside { .. }) = self.trials.remove(filter) {
            for trial in self.trials.values_mut() {
                if let Trial::SetAside { until, .. } = trial {
                    *until = Duration::ZERO;
                }
            }
        }
    }

    /// Drops the state of a filter that is no longer wanted.
    pub fn forget(&mut self, filter: &str) {
        self.trials.remove(filter);
    }

    /// Records the end of a connection.
    pub fn connection_ended(&mut self, unanswered: Unanswered, now: Duration) -> TrialOutcome {
        match unanswered {
            Unanswered::Nothing => TrialOutcome::Nothing,
            Unanswered::Together(filters) => self.suspect(filters),
            Unanswered::Alone(filter) => self.set_aside(filter, now),
        }
    }

    fn suspect(&mut self, filters: Vec<String>) -> TrialOutcome {
        let before = self.trials.len();
        for (suspicion, filter) in filters.into_iter().rev().enumerate() {
            self.trials.entry(filter).or_insert(Trial::Suspected { suspicion });
        }
        match self.trials.len() - before {
            0 => TrialOutcome::Nothing,
            suspects => TrialOutcome::Suspects(suspects),
        }
    }

    fn set_aside(&mut self, filter: String, now: Duration) -> TrialOutcome {
        let failures = match self.trials.get(&filter) {
            Some(Trial::SetAside { failures, .. }) => failures.saturating_add(1),
            Some(Trial::Suspected { .. }) | None => 1,
        };
        let retry_in = RETRY.delay(failures, 1.0);
        self.trials.insert(filter.clone(), Trial::SetAside { failures, until: now.saturating_add(retry_in) });
        TrialOutcome::Culprit { filter, retry_in }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
