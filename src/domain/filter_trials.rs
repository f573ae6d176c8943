//! Finds the topic filters over which the broker closes the connection.
//!
//! A broker may close the connection instead of answering a SUBSCRIBE or an UNSUBSCRIBE, and does not say which one was
//! the reason. So filters that were unanswered when a connection ended are sent again, each alone:
//!
//! ```text
//!   together ──connection ends, no answer──▶ alone ──connection ends, no answer──▶ set aside
//!      ▲                                     │   ▲                                  │
//!      └───────────────answer────────────────┘   └───────────────time───────────────┘
//! ```
//!
//! The caller sends a filter alone only after all others, and on a connection on which the broker has answered before.
//! Then the others are subscribed whatever happens, and a broker that answers nothing convicts no filter.
//! One by one costs a round trip for each innocent filter. Halving the suspects would cost a lost connection for each step.

use std::collections::BTreeMap;
use std::time::Duration;

use super::retry::Backoff;

/// Waits until a filter that was set aside is tried again. Each trial of a bad filter costs a connection.
const RETRY: Backoff = Backoff { base: Duration::from_mins(1), max: Duration::from_hours(1) };

/// What is known of the filters that went unanswered.
#[derive(Debug, Default)]
pub struct FilterTrials {
    trials: BTreeMap<String, Trial>,
}

#[derive(Debug, Clone, Copy)]
enum Trial {
    Suspected {
        /// Higher for what was sent earlier: brokers answer in order, so the first without an answer is the most likely.
        suspicion: usize,
    },
    SetAside {
        failures: u32,
        until: Duration,
    },
}

/// How a filter is to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// With others.
    Together,
    /// By itself, after all others.
    Alone,
    /// Not now: the broker closes the connection over it.
    SetAside,
}

/// What a connection left unanswered when it ended.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Unanswered {
    /// Nothing.
    #[default]
    Nothing,
    /// Filters that were sent together.
    Together(Vec<String>),
    /// A filter that was sent alone, after the broker had answered others.
    Alone(String),
}

/// What the end of a connection has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TrialOutcome {
    /// Nothing about filters.
    Nothing,
    /// So many filters are suspected from now on.
    Suspects(usize),
    /// The broker closes the connection over this filter.
    Culprit {
        /// The filter.
        filter: String,
        /// When it is tried again, from now on.
        retry_in: Duration,
    },
}

impl FilterTrials {
    /// How to send this filter. `now` is the time of a clock that does not go back.
    #[must_use]
    pub fn turn(&self, filter: &str, now: Duration) -> Turn {
        match self.trials.get(filter) {
            None => Turn::Together,
            Some(Trial::SetAside { until, .. }) if now < *until => Turn::SetAside,
            Some(Trial::Suspected { .. } | Trial::SetAside { .. }) => Turn::Alone,
        }
    }

    /// Of those that are sent alone, the one with the least suspicion goes first.
    #[must_use]
    pub fn suspicion(&self, filter: &str) -> usize {
        match self.trials.get(filter) {
            None => 0,
            Some(Trial::Suspected { suspicion }) => *suspicion,
            Some(Trial::SetAside { .. }) => usize::MAX,
        }
    }

    /// The broker has answered for this filter. If it had been set aside, the broker is another by now: all others that
    /// are set aside are due.
    pub fn answered(&mut self, filter: &str) {
        if let Some(Trial::SetAside { .. }) = self.trials.remove(filter) {
            for trial in self.trials.values_mut() {
                if let Trial::SetAside { until, .. } = trial {
                    *until = Duration::ZERO;
                }
            }
        }
    }

    /// Nobody wants this filter any more. Should it be wanted again, it is new.
    pub fn forget(&mut self, filter: &str) {
        self.trials.remove(filter);
    }

    /// The connection has ended.
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
