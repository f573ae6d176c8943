//! All that can be seen of the gateway from outside, in one hand: the notes of those who work, and
//! where to read the rest.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::health::{DEAD_AFTER, Health, Reason};
use super::metrics::Metrics;
use super::readings::{InboxReading, Readings};
use crate::domain::suspend_detector::SuspendDetector;

/// What is seen. Everybody who has something to tell has a share in it, and so has the HTTP server.
#[derive(Debug)]
pub struct Observed {
    /// What is counted.
    pub metrics: Metrics,
    /// What happened to the process as a whole.
    pub health: Health,
    started_at: SystemTime,
    born: Instant,
    /// Empty until there are actors.
    readings: OnceLock<Box<dyn Readings>>,
    suspend_detector: Mutex<SuspendDetector>,
    /// Time after `born` that the supervisor has ticked last, in milliseconds; none until it is there.
    supervisor: Mutex<Option<Duration>>,
}

impl Default for Observed {
    fn default() -> Self {
        Self {
            metrics: Metrics::default(),
            health: Health::default(),
            started_at: SystemTime::now(),
            born: Instant::now(),
            readings: OnceLock::new(),
            suspend_detector: Mutex::default(),
            supervisor: Mutex::default(),
        }
    }
}

impl Observed {
    /// From now on the parts can be read here.
    pub fn read_from(&self, readings: Box<dyn Readings>) {
        // There is one gateway in a process, and it comes up once.
        let _ = self.readings.set(readings);
    }

    /// Where the parts are read, once there are any.
    #[must_use]
    pub fn readings(&self) -> Option<&dyn Readings> {
        self.readings.get().map(AsRef::as_ref)
    }

    /// The supervisor is alive.
    pub fn supervisor_ticked(&self) {
        *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.born.elapsed());
    }

    /// How long the supervisor has not been at work, as far as somebody has looked; none until it is there.
    #[must_use]
    pub fn supervisor_silence(&self) -> Option<Duration> {
        let watched = self.watch();
        let ticked = *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        ticked.map(|ticked| self.born.elapsed().saturating_sub(ticked).min(watched))
    }

    /// Whoever answers for the others has looked: without a regular look a silence cannot be told
    /// from a process that was stopped as a whole.
    fn watch(&self) -> Duration {
        self.suspend_detector.lock().unwrap_or_else(PoisonError::into_inner).awake_for(self.born.elapsed())
    }

    /// Who has been silent for so long that nobody is going to replace it, and for how long.
    ///
    /// While the process drains, actors that end are not replaced, and its deadline ends what hangs:
    /// then the supervisor alone counts.
    #[must_use]
    pub fn dead(&self) -> Vec<(String, Duration)> {
        let watched = self.watch();
        // Before there is a supervisor there are no actors.
        let Some(supervisor) = self.supervisor_silence() else { return Vec::new() };
        let actors = if self.health.is_draining() {
            Vec::new()
        } else {
            self.readings().map(Readings::silences).unwrap_or_default()
        };
        let silences = actors.into_iter().chain([("supervisor".to_owned(), supervisor)]);
        let silences = silences.map(|(name, silence)| (name, silence.min(watched)));
        silences.filter(|(_, silence)| *silence > DEAD_AFTER).collect()
    }

    /// Everything that keeps messages from being taken.
    #[must_use]
    pub fn unready(&self) -> Vec<Reason> {
        self.health.reasons(self.inbox().and_then(|inbox| inbox.refusal))
    }

    /// The inbox; none until it is open.
    #[must_use]
    pub fn inbox(&self) -> Option<InboxReading> {
        self.readings().map(Readings::inbox)
    }

    /// When the process began.
    #[must_use]
    pub fn started_at(&self) -> SystemTime {
        self.started_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::readings::{ActorReading, OutboxReading};

    #[derive(Debug)]
    struct Silent(Duration);

    impl Readings for Silent {
        fn actors(&self) -> Vec<ActorReading> {
            Vec::new()
        }

        fn silences(&self) -> Vec<(String, Duration)> {
            vec![("router".to_owned(), self.0)]
        }

        fn inbox(&self) -> InboxReading {
            InboxReading::default()
        }

        fn outbox(&self) -> Option<OutboxReading> {
            None
        }
    }

    /// Observed for a whole hour, with a router that is silent.
    fn observed(silence: Duration) -> Observed {
        let observed = Observed::default();
        observed.read_from(Box::new(Silent(silence)));
        let hour = Duration::from_hours(1);
        let observed =
            Observed { born: observed.born.checked_sub(hour).unwrap_or(observed.born), ..observed };
        observed.supervisor_ticked();
        observed
    }

    /// Looks regularly, as the server does, from the beginning until now.
    fn watch(observed: &Observed) {
        let mut suspend_detector = observed.suspend_detector.lock().unwrap_or_else(PoisonError::into_inner);
        let now = observed.born.elapsed();
        for second in 0..=now.as_secs() {
            suspend_detector.awake_for(Duration::from_secs(second));
        }
    }

    #[test]
    fn an_actor_that_the_supervisor_may_yet_replace_is_not_dead() {
        let observed = observed(DEAD_AFTER);
        watch(&observed);
        assert_eq!(observed.dead(), []);
    }

    #[test]
    fn an_actor_that_nobody_replaces_is_dead_unless_the_process_drains() {
        let observed = observed(DEAD_AFTER + Duration::from_secs(1));
        watch(&observed);
        assert_eq!(observed.dead().len(), 1);
        observed.health.draining();
        assert_eq!(observed.dead(), []);
    }

    #[test]
    fn a_supervisor_that_hangs_is_dead_even_while_the_process_drains() {
        let observed = observed(Duration::ZERO);
        *observed.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(Duration::ZERO);
        watch(&observed);
        observed.health.draining();
        assert_eq!(observed.dead().first().map(|(name, _)| name.as_str()), Some("supervisor"));
        observed.supervisor_ticked();
        assert_eq!(observed.dead(), []);
    }

    #[test]
    fn a_process_that_was_stopped_as_a_whole_has_no_dead() {
        let observed = observed(Duration::from_hours(1));
        assert_eq!(observed.dead(), []);
    }
}
