//! Telemetry of the process: metrics, health state, and access to the state of the actors.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use super::actor_loads::{ActorLoad, ActorLoads};
use super::events::Events;
use super::health::{DEAD_TIMEOUT, Health, Unready};
use super::metrics::Metrics;
use super::rates::{OutcomeCounts, Rates};
use super::snapshot::{InboxReading, RowWaitReading, Snapshot};
use crate::domain::lock_holders::LockReading;
use crate::domain::suspend_detector::SuspendDetector;

/// Duration from which a wait for rows is shown.
const LASTING_WAIT: Duration = Duration::from_secs(2);

/// Telemetry shared by the actors, which write it, and the admin HTTP server, which reads it.
#[derive(Debug)]
pub struct Telemetry {
    /// Counters and gauges.
    pub metrics: Metrics,
    /// Health state.
    pub health: Health,
    /// The outcomes of messages, for listeners and for the log.
    pub events: Events,
    rates: Rates,
    loads: ActorLoads,
    /// The database's report on the locks; none while no wait lasts.
    lock_reading: Mutex<Option<Arc<LockReading>>>,
    started_at: SystemTime,
    origin: Instant,
    /// Empty until the actors are started.
    snapshot: OnceLock<Box<dyn Snapshot>>,
    suspend_detector: Mutex<SuspendDetector>,
    /// Time of the last heartbeat of the supervisor, relative to `origin`; none until it runs.
    supervisor: Mutex<Option<Duration>>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            metrics: Metrics::default(),
            health: Health::default(),
            events: Events::default(),
            rates: Rates::default(),
            loads: ActorLoads::default(),
            lock_reading: Mutex::default(),
            started_at: SystemTime::now(),
            origin: Instant::now(),
            snapshot: OnceLock::new(),
            suspend_detector: Mutex::default(),
            supervisor: Mutex::default(),
        }
    }
}

impl Telemetry {
    /// Sets the source of actor, inbox and outbox state.
    pub fn set_snapshot(&self, snapshot: Box<dyn Snapshot>) {
        // A process starts one gateway, so a second call cannot happen.
        let _ = self.snapshot.set(snapshot);
    }

    /// Returns the source of actor, inbox and outbox state; none until the actors are started.
    #[must_use]
    pub fn snapshot(&self) -> Option<&dyn Snapshot> {
        self.snapshot.get().map(AsRef::as_ref)
    }

    /// Records a heartbeat of the supervisor.
    pub fn mark_supervisor_alive(&self) {
        *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.origin.elapsed());
    }

    /// Returns the time since the last heartbeat of the supervisor, limited to the observed time; none until it runs.
    #[must_use]
    pub fn supervisor_silence(&self) -> Option<Duration> {
        let watched = self.watch();
        let ticked = *self.supervisor.lock().unwrap_or_else(PoisonError::into_inner);
        ticked.map(|ticked| self.origin.elapsed().saturating_sub(ticked).min(watched))
    }

    /// Registers a check, and returns how long the process has been observed without a pause. Without regular checks a
    /// hanging actor cannot be distinguished from a suspended process.
    fn watch(&self) -> Duration {
        self.suspend_detector.lock().unwrap_or_else(PoisonError::into_inner).awake_for(self.origin.elapsed())
    }

    /// Returns the actors without a heartbeat for more than [`DEAD_TIMEOUT`], with the time since their last one.
    ///
    /// While the process drains, only the supervisor counts: actors are not replaced, and the deadline stops those
    /// that hang.
    #[must_use]
    pub fn dead_actors(&self) -> Vec<(String, Duration)> {
        let watched = self.watch();
        // Without a supervisor no actors run.
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

    /// Returns all reasons for not accepting messages.
    #[must_use]
    pub fn unready_reasons(&self) -> Vec<Unready> {
        self.health.reasons(self.inbox().and_then(|inbox| inbox.refusal))
    }

    /// Returns the state of the inbox; none until it is open.
    #[must_use]
    pub fn inbox(&self) -> Option<InboxReading> {
        self.snapshot().map(Snapshot::inbox)
    }

    /// Keeps the counts of the last hour and of the actors if it is time. To be called every few seconds.
    pub fn note_rates(&self) {
        self.rates.note(self.origin.elapsed(), || self.totals());
        if let Some(snapshot) = self.snapshot() {
            self.loads.note(self.origin.elapsed(), || snapshot.actors());
        }
    }

    /// Returns the actors, and how busy they were in the last minute.
    #[must_use]
    pub fn actor_loads(&self) -> Vec<ActorLoad> {
        let actors = self.snapshot().map(Snapshot::actors).unwrap_or_default();
        self.loads.read(self.origin.elapsed(), actors)
    }

    /// Returns the counts of the last hour by minute, the oldest first. The last minute is the current one.
    #[must_use]
    pub fn last_hour(&self) -> Vec<OutcomeCounts> {
        self.rates.read(self.totals())
    }

    /// Returns the waits for rows that last longer than a usual transaction.
    #[must_use]
    pub fn lasting_waits(&self) -> Vec<RowWaitReading> {
        let mut waits = self.snapshot().map(Snapshot::row_waits).unwrap_or_default();
        waits.retain(|wait| wait.wait.lasts >= LASTING_WAIT);
        waits
    }

    /// Sets the database's report on the locks.
    pub fn set_lock_reading(&self, reading: Option<LockReading>) {
        *self.lock_reading.lock().unwrap_or_else(PoisonError::into_inner) = reading.map(Arc::new);
    }

    /// Returns the database's report on the locks, a few seconds old; none while no wait lasts.
    #[must_use]
    pub fn lock_reading(&self) -> Option<Arc<LockReading>> {
        self.lock_reading.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the age of the process.
    #[must_use]
    pub fn age(&self) -> Duration {
        self.origin.elapsed()
    }

    fn totals(&self) -> OutcomeCounts {
        let flows = self.metrics.flows.read();
        OutcomeCounts {
            received: self.inbox().map(|inbox| inbox.appended).unwrap_or_default(),
            stored: flows.iter().map(|flow| flow.stored).sum(),
            posted: flows.iter().map(|flow| flow.posted).sum(),
            dead: self.metrics.dead_letters.read().iter().map(|(_, count)| count).sum(),
        }
    }

    /// Returns the start time of the process.
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

        fn row_waits(&self) -> Vec<crate::observe::RowWaitReading> {
            Vec::new()
        }

        fn outbox(&self) -> Option<OutboxReading> {
            None
        }
    }

    /// Telemetry observed for an hour, with a router that has sent no heartbeat for `silence`.
    fn telemetry(silence: Duration) -> Telemetry {
        let telemetry = Telemetry::default();
        telemetry.set_snapshot(Box::new(Silent(silence)));
        let hour = Duration::from_hours(1);
        let telemetry =
            Telemetry { origin: telemetry.origin.checked_sub(hour).unwrap_or(telemetry.origin), ..telemetry };
        telemetry.mark_supervisor_alive();
        telemetry
    }

    /// Simulates regular checks from the start until now.
    fn watch(telemetry: &Telemetry) {
        let mut suspend_detector = telemetry.suspend_detector.lock().unwrap_or_else(PoisonError::into_inner);
        let now = telemetry.origin.elapsed();
        for second in 0..=now.as_secs() {
            suspend_detector.awake_for(Duration::from_secs(second));
        }
    }

    #[test]
    fn replaceable_actor_is_not_dead() {
        let telemetry = telemetry(DEAD_TIMEOUT);
        watch(&telemetry);
        assert_eq!(telemetry.dead_actors(), []);
    }

    #[test]
    fn hanging_actor_is_dead_unless_draining() {
        let telemetry = telemetry(DEAD_TIMEOUT + Duration::from_secs(1));
        watch(&telemetry);
        assert_eq!(telemetry.dead_actors().len(), 1);
        telemetry.health.mark_draining();
        assert_eq!(telemetry.dead_actors(), []);
    }

    #[test]
    fn hanging_supervisor_is_dead_while_draining() {
        let telemetry = telemetry(Duration::ZERO);
        *telemetry.supervisor.lock().unwrap_or_else(PoisonError::into_inner) = Some(Duration::ZERO);
        watch(&telemetry);
        telemetry.health.mark_draining();
        assert_eq!(telemetry.dead_actors().first().map(|(name, _)| name.as_str()), Some("supervisor"));
        telemetry.mark_supervisor_alive();
        assert_eq!(telemetry.dead_actors(), []);
    }

    #[test]
    fn suspended_process_has_no_dead_actors() {
        let telemetry = telemetry(Duration::from_hours(1));
        assert_eq!(telemetry.dead_actors(), []);
    }
}
