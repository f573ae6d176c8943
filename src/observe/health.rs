//! Health state of the process: started and ready.
//!
//! Actors record their events here, and probes read them under a short lock. A probe never waits for an actor.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::snapshot::InboxRefusal;

/// Time without a heartbeat after which an actor counts as dead.
///
/// The supervisor replaces an actor after 30 s without a heartbeat and a delay of at most 5 s. After this timeout no
/// replacement can be expected any more.
pub const DEAD_TIMEOUT: Duration = Duration::from_mins(1);

named_enum! {
    /// A step of the startup. Processing the backlog is not a step: the backlog may be large or the database down, and
    /// a restart would not help.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    pub enum StartupStep {
        /// The inbox is open: its log is recovered and its tables are loaded.
        Inbox = "inbox",
        /// The database is migrated, and the broker address has been read from it.
        Database = "database",
        /// Each lane is fenced: its offset is known, and so are the inbox records to process again.
        Lanes = "lanes",
    }
}

named_enum! {
    /// A reason for not accepting messages, with its name in the response of the probe.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum UnreadyReason {
        /// The startup is not done.
        Starting = "starting",
        /// No connection carries a granted subscription.
        NotSubscribed = "not_subscribed",
        /// The inbox is full.
        InboxFull = "inbox_full",
        /// The disk refuses writes.
        InboxNotWritable = "inbox_not_writable",
        /// The process is draining.
        Draining = "draining",
    }
}

/// A reason for not accepting messages, and its start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unready {
    /// The reason.
    pub reason: UnreadyReason,
    /// Time at which the reason began.
    pub since: SystemTime,
}

/// Thread-safe health state.
#[derive(Debug)]
pub struct Health(Mutex<Notes>);

#[derive(Debug)]
struct Notes {
    started_at: SystemTime,
    missing: Vec<StartupStep>,
    /// Lanes that are fenced.
    lanes: Vec<u32>,
    subscribed: bool,
    /// Time of the last change of `subscribed`.
    subscribed_since: SystemTime,
    draining_since: Option<SystemTime>,
}

impl Default for Health {
    fn default() -> Self {
        let now = SystemTime::now();
        Self(Mutex::new(Notes {
            started_at: now,
            missing: vec![StartupStep::Inbox, StartupStep::Database, StartupStep::Lanes],
            lanes: Vec::new(),
            subscribed: false,
            subscribed_since: now,
            draining_since: None,
        }))
    }
}

impl Health {
    /// Marks a startup step as done, for the lifetime of the process.
    pub fn mark_done(&self, step: StartupStep) {
        self.notes().missing.retain(|missing| *missing != step);
    }

    /// Marks a lane as fenced. The step `Lanes` is done when all `lanes` are.
    pub fn mark_lane_opened(&self, lane: u32, lanes: u32) {
        let mut notes = self.notes();
        if !notes.missing.contains(&StartupStep::Lanes) {
            return;
        }
        if !notes.lanes.contains(&lane) {
            notes.lanes.push(lane);
        }
        if notes.lanes.len() >= lanes as usize {
            notes.missing.retain(|missing| *missing != StartupStep::Lanes);
        }
    }

    /// Records whether the broker has answered every wanted subscription on this connection and granted at least one.
    /// Set to `false` while no connection carries a granted subscription, because then no message can arrive.
    pub fn set_subscribed(&self, subscribed: bool) {
        self.notes().set_subscribed(subscribed);
    }

    /// Marks the process as draining.
    pub fn mark_draining(&self) {
        let mut notes = self.notes();
        notes.draining_since = notes.draining_since.or(Some(SystemTime::now()));
    }

    /// Returns whether the process is draining.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.notes().draining_since.is_some()
    }

    /// Returns the start time of the process, and the startup steps that are not done yet.
    #[must_use]
    pub fn missing_steps(&self) -> (SystemTime, Vec<StartupStep>) {
        let notes = self.notes();
        (notes.started_at, notes.missing.clone())
    }

    /// Returns all reasons for not accepting messages. The process is ready if there is none.
    #[must_use]
    pub fn reasons(&self, refusal: Option<InboxRefusal>) -> Vec<Unready> {
        let notes = self.notes();
        let starting = (!notes.missing.is_empty()).then_some((UnreadyReason::Starting, notes.started_at));
        let not_subscribed =
            (!notes.subscribed).then_some((UnreadyReason::NotSubscribed, notes.subscribed_since));
        let refusal = refusal.map(|InboxRefusal { is_full, since }| {
            (if is_full { UnreadyReason::InboxFull } else { UnreadyReason::InboxNotWritable }, since)
        });
        let draining = notes.draining_since.map(|since| (UnreadyReason::Draining, since));
        let reasons = [starting, not_subscribed, refusal, draining].into_iter().flatten();
        reasons.map(|(reason, since)| Unready { reason, since }).collect()
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
        health.reasons(None).iter().map(|unready| unready.reason.as_str()).collect()
    }

    fn started() -> Health {
        let health = Health::default();
        health.mark_done(StartupStep::Inbox);
        health.mark_done(StartupStep::Database);
        health.mark_lane_opened(0, 1);
        health
    }

    #[test]
    fn startup_completes_when_all_lanes_are_open() {
        let health = Health::default();
        health.mark_done(StartupStep::Inbox);
        assert_eq!(health.missing_steps().1, [StartupStep::Database, StartupStep::Lanes]);
        health.mark_done(StartupStep::Database);
        health.mark_lane_opened(0, 2);
        health.mark_lane_opened(0, 2);
        assert_eq!(health.missing_steps().1, [StartupStep::Lanes]);
        health.mark_lane_opened(1, 2);
        assert_eq!(health.missing_steps().1, []);
    }

    #[test]
    fn readiness_requires_startup_and_subscription() {
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
    fn refusing_inbox_is_not_ready() {
        let health = started();
        health.set_subscribed(true);
        let since = SystemTime::UNIX_EPOCH;
        for (is_full, reason) in [(true, "inbox_full"), (false, "inbox_not_writable")] {
            let refusal = Some(InboxRefusal { is_full, since });
            let found: Vec<_> =
                health.reasons(refusal).iter().map(|u| (u.reason.as_str(), u.since)).collect();
            assert_eq!(found, [(reason, since)]);
        }
    }

    #[test]
    fn reason_keeps_its_start_time() {
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
