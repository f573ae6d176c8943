//! Whether the process is alive, started, and ready.
//!
//! What happens is noted here by those it happens to; each question is answered from these notes, so
//! no answer waits for anybody.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::snapshot::InboxRefusal;

/// The supervisor replaces an actor that was silent for 30 s, after a delay of 5 s at most. An actor
/// that is silent for longer than this is not going to be replaced.
pub const DEAD_TIMEOUT: Duration = Duration::from_mins(1);

/// What is to be done before the gateway has started. Not that the backlog is worked off: it may be
/// large and the database away, and a restart would only begin it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Step {
    /// The inbox is opened: its log was read to the end and mended, and its tables were read.
    Inbox,
    /// The database is migrated, and has told which broker there is.
    Database,
    /// Each lane was taken over: it is known where it stands, and what of the inbox it has to do again.
    Lanes,
}

impl Step {
    fn as_str(self) -> &'static str {
        match self {
            Self::Inbox => "inbox",
            Self::Database => "database",
            Self::Lanes => "lanes",
        }
    }
}

/// Why no messages are taken, and since when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reason {
    /// A word for machines.
    pub reason: &'static str,
    /// Since when.
    pub since: SystemTime,
}

/// The notes.
#[derive(Debug)]
pub struct Health(Mutex<Notes>);

#[derive(Debug)]
struct Notes {
    started_at: SystemTime,
    missing: Vec<Step>,
    /// Lanes that were taken over.
    lanes: Vec<u32>,
    subscribed: bool,
    /// Since when the above is so.
    subscribed_since: SystemTime,
    draining_since: Option<SystemTime>,
}

impl Default for Health {
    fn default() -> Self {
        let now = SystemTime::now();
        Self(Mutex::new(Notes {
            started_at: now,
            missing: vec![Step::Inbox, Step::Database, Step::Lanes],
            lanes: Vec::new(),
            subscribed: false,
            subscribed_since: now,
            draining_since: None,
        }))
    }
}

impl Health {
    /// A step of the start is done. What was done once stays so.
    pub fn mark_done(&self, step: Step) {
        self.notes().missing.retain(|missing| *missing != step);
    }

    /// A lane was taken over, one of so many.
    pub fn mark_lane_opened(&self, lane: u32, lanes: u32) {
        let mut notes = self.notes();
        if !notes.missing.contains(&Step::Lanes) {
            return;
        }
        if !notes.lanes.contains(&lane) {
            notes.lanes.push(lane);
        }
        if notes.lanes.len() >= lanes as usize {
            notes.missing.retain(|missing| *missing != Step::Lanes);
        }
    }

    /// Records whether the broker has answered every wanted subscription on this connection and granted at least one.
    /// Set to `false` while no connection carries a granted subscription, because then no message can arrive.
    pub fn set_subscribed(&self, subscribed: bool) {
        self.notes().set_subscribed(subscribed);
    }

    /// The process was told to end.
    pub fn mark_draining(&self) {
        let mut notes = self.notes();
        notes.draining_since = notes.draining_since.or(Some(SystemTime::now()));
    }

    /// Whether the process was told to end.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.notes().draining_since.is_some()
    }

    /// When the process began, and which steps of its start are missing.
    #[must_use]
    pub fn missing_steps(&self) -> (SystemTime, Vec<&'static str>) {
        let notes = self.notes();
        (notes.started_at, notes.missing.iter().map(|step| step.as_str()).collect())
    }

    /// Everything that keeps messages from being taken; ready if there is nothing.
    #[must_use]
    pub fn reasons(&self, refusal: Option<InboxRefusal>) -> Vec<Reason> {
        let notes = self.notes();
        let starting =
            (!notes.missing.is_empty()).then_some(Reason { reason: "starting", since: notes.started_at });
        let not_subscribed =
            (!notes.subscribed).then_some(Reason { reason: "not_subscribed", since: notes.subscribed_since });
        let refusal = refusal.map(|refusal| Reason {
            reason: if refusal.is_full { "inbox_full" } else { "inbox_not_writable" },
            since: refusal.since,
        });
        let draining = notes.draining_since.map(|since| Reason { reason: "draining", since });
        [starting, not_subscribed, refusal, draining].into_iter().flatten().collect()
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn set_subscribed(&mut self, subscribed: bool) {
        if std::mem::replace(&mut self.subscribed, subscribed) != subscribed {
            self.subscribed_since = SystemTime::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(health: &Health) -> Vec<&'static str> {
        health.reasons(None).iter().map(|reason| reason.reason).collect()
    }

    fn started() -> Health {
        let health = Health::default();
        health.mark_done(Step::Inbox);
        health.mark_done(Step::Database);
        health.mark_lane_opened(0, 1);
        health
    }

    #[test]
    fn the_start_is_over_when_every_lane_was_taken_over_and_stays_so() {
        let health = Health::default();
        health.mark_done(Step::Inbox);
        assert_eq!(health.missing_steps().1, ["database", "lanes"]);
        health.mark_done(Step::Database);
        health.mark_lane_opened(0, 2);
        health.mark_lane_opened(0, 2);
        assert_eq!(health.missing_steps().1, ["lanes"]);
        health.mark_lane_opened(1, 2);
        assert_eq!(health.missing_steps().1, [""; 0]);
    }

    #[test]
    fn ready_is_what_has_started_is_subscribed_and_does_not_drain() {
        let health = Health::default();
        assert_eq!(words(&health), ["starting", "not_subscribed"]);
        let health = started();
        health.set_subscribed(true);
        assert_eq!(words(&health), [""; 0]);
        health.set_subscribed(false);
        assert_eq!(words(&health), ["not_subscribed"]);
        health.set_subscribed(true);
        health.mark_draining();
        assert_eq!(words(&health), ["draining"]);
    }

    #[test]
    fn an_inbox_that_takes_nothing_is_not_ready_and_says_since_when() {
        let health = started();
        health.set_subscribed(true);
        let since = SystemTime::UNIX_EPOCH;
        for (is_full, reason) in [(true, "inbox_full"), (false, "inbox_not_writable")] {
            let refusal = Some(InboxRefusal { is_full, since });
            assert_eq!(health.reasons(refusal), [Reason { reason, since }]);
        }
    }

    #[test]
    fn a_reason_keeps_the_time_at_which_it_began() {
        let health = started();
        let since = |health: &Health| health.reasons(None).first().map(|reason| reason.since);
        let before = since(&health);
        health.set_subscribed(false);
        assert_eq!(since(&health), before, "there was no connection before either");
        health.mark_draining();
        let draining = health.reasons(None).last().copied();
        health.mark_draining();
        assert_eq!(health.reasons(None).last().copied(), draining);
    }
}
