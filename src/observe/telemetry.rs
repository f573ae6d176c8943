//! All that can be seen of the gateway from outside, in one hand: the notes of those who work, and
//! where to read the rest.

use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::health::{DEAD_TIMEOUT, Health, Reason};
use super::metrics::Metrics;
use super::snapshot::{InboxReading, Snapshot};
use crate::domain::suspend_detector::SuspendDetector;

/// What is seen. Everybody who has something to tell has a share in it, and so has the HTTP server.
#[derive(Debug)]
pub struct Telemetry {
    /// What is counted.
    pub metrics: Metrics,
    /// What happened to the process as a whole.
    pub health: Health,
    started_at: SystemTime,
    origin: Instant,
    /// Empty until there are actors.
    snapshot: OnceLock<Box<dyn Snapshot>>,
    suspend_detector: Mutex<SuspendDetector>,
    /// Time after `origin` that the supervisor has ticked last, in milliseconds; none until it is there.
    supervisor: Mutex<Option<Duration>>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            metrics: Metrics::default(),
            health: Health::default(),
            started_at: SystemTime::now(),
            origin: Instant::now(),
            snapshot: OnceLock::new(),
            suspend_detector: Mutex::default(),
            supervisor: Mutex::default(),
        }
    }
}

impl Telemetry {
    /// From now on the parts can be read here.
    pub fn set_snapshot(&self, snapshot: Box<dyn Snapshot>) {
        // There is one gateway in a process, and it comes up once.
        let _ = self.snapshot.set(snapshot);
    }

    /// Where the parts are read, once there are any.
    #[must_use]
    pub fn snapshot(&self) -> Option<&dyn Snapshot> {
        self.snapshot.get().map(AsRef::as_ref)
    }

    /// The supervisor is alive.
    pub fn mark_supervisor_alive(&self) {
        *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.origin.elapsed());
    }

    /// How long the supervisor has not been at work, as far as somebody has looked; none until it is there.
    #[must_use]
    pub fn supervisor_silence(&self) -> Option<Duration> {
        let watched = self.watch();
        let ticked = *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        ticked.map(|ticked| self.origin.elapsed().saturating_sub(ticked).min(watched))
    }

    /// Whoever answers for the others has looked: without a regular look a silence cannot be told
    /// from a process that was stopped as a whole.
    fn watch(&self) -> Duration {
        self.suspend_detector.lock().unwrap_or_else(PoisonError::into_inner).awake_for(self.origin.elapsed())
    }

    /// Who has been silent for so long that nobody is going to replace it, and for how long.
    ///
    /// While the process drains, actors that end are not replaced, and its deadline ends what hangs:
    /// then the supervisor alone counts.
    #[must_use]
    pub fn dead_actors(&self) -> Vec<(String, Duration)> {
        let watched = self.watch();
        // Before there is a supervisor there are no actors.
        let Some(supervisor) = self.supervisor_silence() else { return Vec::new() };
        let actors = if self.health.is_draining() {
            Vec::new()
        } else {
            self.snapshot().map(Snapshot::silences).unwrap_or_default()
        };
        let silences = actors.into_iter().chain([("supervisor".to_owned(), supervisor)]);
        let silences = silences.map(|(name, silence)| (name, silence.min(watched)));
        silences.filter(|(_, silence)| *silence > DEAD_TIMEOUT).collect()
    }

    /// Everything that keeps messages from being taken.
    #[must_use]
    pub fn unready_reasons(&self) -> Vec<Reason> {
        self.health.reasons(self.inbox().and_then(|inbox| inbox.refusal))
    }

    /// The inbox; none until it is open.
    #[must_use]
    pub fn inbox(&self) -> Option<InboxReading> {
        self.snapshot().map(Snapshot::inbox)
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
    use crate::observe::snapshot::{ActorReading, OutboxReading};

    #[derive(Debug)]
    struct Silent(Duration);

    impl Snapshot for Silent {
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

    /// Telemetry for a whole hour, with a router that is silent.
    fn telemetry(silence: Duration) -> Telemetry {
        let telemetry = Telemetry::default();
        telemetry.set_snapshot(Box::new(Silent(silence)));
        let hour = Duration::from_hours(1);
        let telemetry =
            Telemetry { origin: telemetry.origin.checked_sub(hour).unwrap_or(telemetry.origin), ..telemetry };
        telemetry.mark_supervisor_alive();
        telemetry
    }

    /// Looks regularly, as the server does, from the beginning until now.
    fn watch(telemetry: &Telemetry) {
        let mut suspend_detector = telemetry.suspend_detector.lock().unwrap_or_else(PoisonError::into_inner);
        let now = telemetry.origin.elapsed();
        for second in 0..=now.as_secs() {
            suspend_detector.awake_for(Duration::from_secs(second));
        }
    }

    #[test]
    fn an_actor_that_the_supervisor_may_yet_replace_is_not_dead() {
        let telemetry = telemetry(DEAD_TIMEOUT);
        watch(&telemetry);
        assert_eq!(telemetry.dead_actors(), []);
    }

    #[test]
    fn an_actor_that_nobody_replaces_is_dead_unless_the_process_drains() {
        let telemetry = telemetry(DEAD_TIMEOUT + Duration::from_secs(1));
        watch(&telemetry);
        assert_eq!(telemetry.dead_actors().len(), 1);
        telemetry.health.mark_draining();
        assert_eq!(telemetry.dead_actors(), []);
    }

    #[test]
    fn a_supervisor_that_hangs_is_dead_even_while_the_process_drains() {
        let telemetry = telemetry(Duration::ZERO);
        *telemetry.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(Duration::ZERO);
        watch(&telemetry);
        telemetry.health.mark_draining();
        assert_eq!(telemetry.dead_actors().first().map(|(name, _)| name.as_str()), Some("supervisor"));
        telemetry.mark_supervisor_alive();
        assert_eq!(telemetry.dead_actors(), []);
    }

    #[test]
    fn a_process_that_was_stopped_as_a_whole_has_no_dead() {
        let telemetry = telemetry(Duration::from_hours(1));
        assert_eq!(telemetry.dead_actors(), []);
    }
}
