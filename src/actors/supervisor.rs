//! Starts the other actors, restarts them from their factories, reports their mailboxes, and shuts the process down
//! in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::{
    Actor, ActorContext, ActorFutureExt, Arbiter, AsyncContext, Context, Handler, Message, System, WrapFuture,
};
use chrono::{DateTime, Utc};
use tokio::time::{sleep, timeout};

use super::ActorId;
use super::actor_guard::ActorGuard;
use super::delivery::{DeliveryActor, DeliveryParts};
use super::directory::{Directory, Slot};
use super::mailbox::{ActorState, Envelope, ExitReason, Handling, Mailbox};
use super::messages::{ActorExited, Disconnect, DrainDelivery, DrainInbox, Shutdown};
use super::mqtt::{MqttActor, MqttParts};
use super::registry::{FlowRegistryActor, RegistryParts};
use super::report::{
    Conditions, describe_in_hand, log_abandoned_handler, log_conditions, log_mailbox, log_mailbox_if_due,
};
use super::router::{RouterActor, RouterParts};
use super::thread;
use super::watchdog;
use super::worker::{FlowWorkerActor, WorkerParts};
use crate::domain::mailbox_reports::MailboxReports;
use crate::domain::restart_budget::{RestartBudget, RestartDecision};
use crate::domain::suspend_detector::SuspendDetector;
pub use crate::mqtt::SessionEnd;
use crate::observe::Telemetry;
use crate::observe::{timestamp, whole_milliseconds};

/// Interval at which state changes, heartbeats and stuck handlers are checked.
const TICK_INTERVAL: Duration = Duration::from_millis(500);

/// Time without a heartbeat after which an actor is replaced. An actor that waits for input or output still beats;
/// the value is well above any scheduling pause of a loaded machine.
const HEARTBEAT_TIMEOUT: Duration = Duration::from_secs(30);

/// Maximum time for the DISCONNECT to reach the broker.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Exit code after an unrecoverable failure that a new process may not have. Kubernetes restarts the container.
pub const EXIT_FAILED: i32 = 3;

/// Factories of all actors.
#[derive(Clone)]
pub struct Factories {
    /// For the MQTT actor.
    pub mqtt: MqttParts,
    /// For the flow registry.
    pub registry: RegistryParts,
    /// For the router.
    pub router: RouterParts,
    /// For the workers, indexed by lane.
    pub workers: Vec<WorkerParts>,
    /// For the delivery.
    pub delivery: DeliveryParts,
}

/// Timing and shutdown options of the supervisor.
#[derive(Debug, Clone, Copy)]
pub struct SupervisorOptions {
    /// Interval between two mailbox reports.
    pub report_interval: Duration,
    /// Maximum number of restarts within `restart_window`, summed over all actors.
    pub max_restarts: u32,
    /// See `max_restarts`.
    pub restart_window: Duration,
    /// Maximum duration of the shutdown.
    pub drain_deadline: Duration,
    /// Decides whether the broker keeps the session.
    pub session_end: SessionEnd,
}

/// Supervises all other actors.
pub struct SupervisorActor {
    directory: Directory,
    factories: Factories,
    options: SupervisorOptions,
    /// Receives the supervisor's heartbeat and the start of the shutdown.
    observed: Arc<Telemetry>,
    /// The supervisor's own mailbox, from the directory.
    mailbox: Arc<Mailbox>,
    reports: MailboxReports,
    /// Ticks so far. They are in the counts of the mailbox, and are no work.
    ticks: u64,
    children: Vec<Child>,
    /// Shared by all actors: ten workers that fail twice each are as broken as a worker that fails twenty times.
    budget: RestartBudget,
    born: Instant,
    suspend_detector: SuspendDetector,
    ending: bool,
}

/// A supervised actor.
#[derive(Debug)]
struct Child {
    id: ActorId,
    mailbox: Arc<Mailbox>,
    /// Number of the current run, or of the next run while the actor is down.
    generation: u64,
    /// The actor's thread; `None` while the actor is down.
    arbiter: Option<Arbiter>,
    conditions: Conditions,
    reports: MailboxReports,
    /// Reason and time of the last exit, until the successor is running.
    ended: Option<(ExitReason, Instant, DateTime<Utc>)>,
}

/// The supervisor's periodic work, under its name in the log.
struct Tick;

impl Child {
    /// Ends the current generation and returns its thread for stopping. Later events of that generation are ignored.
    fn end_life(&mut self) -> Option<Arbiter> {
        self.generation += 1;
        self.mailbox.set_generation(self.generation);
        self.arbiter.take()
    }

    /// Counts a restart, unless the budget is exhausted and the gateway exits instead.
    fn count_restart(&self, reason: ExitReason, verdict: &RestartDecision) {
        if let RestartDecision::Restart { .. } = verdict {
            self.mailbox.count_restart(reason);
        }
    }

    fn is_in_life(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Logs that the actor is running again after a restart.
    fn log_recovery(&mut self) {
        let state = self.mailbox.state();
        if matches!(state, ActorState::Down | ActorState::Starting) {
            return;
        }
        if let Some((reason, ended, since)) = self.ended.take() {
            let (actor, since) = (self.mailbox.name(), timestamp(since));
            let lasted_ms = whole_milliseconds(ended.elapsed());
            let (reason, since, state) = (reason.as_str(), since.as_str(), state.as_str());
            log::info!(actor, reason, since, lasted_ms, state; "Actor {actor} is back after {lasted_ms} ms: {state}");
        }
    }
}

impl SupervisorActor {
    /// Creates a supervisor. It starts the other actors in `started`.
    #[must_use]
    pub fn new(
        directory: Directory,
        factories: Factories,
        options: SupervisorOptions,
        observed: Arc<Telemetry>,
    ) -> Self {
        let child = |id, mailbox: &Arc<Mailbox>| Child {
            id,
            mailbox: Arc::clone(mailbox),
            generation: 0,
            arbiter: None,
            conditions: Conditions::default(),
            reports: MailboxReports::default(),
            ended: None,
        };
        // Receivers start before their senders.
        let mut children = vec![child(ActorId::Delivery, directory.delivery.mailbox())];
        let lanes = 0_u32..;
        children.extend(
            lanes.zip(&directory.workers).map(|(lane, slot)| child(ActorId::Worker(lane), slot.mailbox())),
        );
        children.push(child(ActorId::Router, directory.router.mailbox()));
        children.push(child(ActorId::Registry, directory.registry.mailbox()));
        children.push(child(ActorId::Mqtt, directory.mqtt.mailbox()));
        let budget = RestartBudget::new(options.max_restarts, options.restart_window);
        Self {
            mailbox: Arc::clone(&directory.supervisor),
            reports: MailboxReports::default(),
            ticks: 0,
            directory,
            factories,
            options,
            observed,
            children,
            budget,
            born: Instant::now(),
            suspend_detector: SuspendDetector::default(),
            ending: false,
        }
    }

    fn start(&mut self, id: ActorId, context: &mut Context<Self>) {
        let Some(child) = self.children.iter_mut().find(|child| child.id == id) else { return };
        let exited = context.address().recipient();
        let guard = ActorGuard::new(id, child.generation, Arc::clone(&child.mailbox), exited);
        let arbiter = match thread::arbiter() {
            Ok(arbiter) => arbiter,
            Err(error) => {
                let actor = child.mailbox.name();
                log::error!(
                    actor;
                    "Cannot start a thread for actor {id}, giving up with exit code {EXIT_FAILED}: {error}"
                );
                return self.end(context, EXIT_FAILED);
            }
        };
        let factories = self.factories.clone();
        match id {
            ActorId::Mqtt => {
                start_in(&arbiter, &self.directory.mqtt, || MqttActor::new(guard, factories.mqtt));
            }
            ActorId::Registry => {
                start_in(&arbiter, &self.directory.registry, || {
                    FlowRegistryActor::new(guard, factories.registry)
                });
            }
            ActorId::Router => {
                start_in(&arbiter, &self.directory.router, || RouterActor::new(guard, factories.router));
            }
            ActorId::Worker(lane) => {
                let lane = lane as usize;
                let parts = factories.workers.into_iter().nth(lane);
                if let Some((slot, parts)) = self.directory.workers.get(lane).zip(parts) {
                    start_in(&arbiter, slot, || FlowWorkerActor::new(guard, parts));
                }
            }
            ActorId::Delivery => {
                start_in(&arbiter, &self.directory.delivery, || {
                    DeliveryActor::new(guard, factories.delivery)
                });
            }
        }
        child.arbiter = Some(arbiter);
    }

    /// Clears the actor's slot, so that no more messages reach it, and stops its thread.
    fn forget(&mut self, id: ActorId) {
        match id {
            ActorId::Mqtt => self.directory.mqtt.set(None),
            ActorId::Registry => self.directory.registry.set(None),
            ActorId::Router => self.directory.router.set(None),
            ActorId::Worker(lane) => {
                if let Some(slot) = self.directory.workers.get(lane as usize) {
                    slot.set(None);
                }
            }
            ActorId::Delivery => self.directory.delivery.set(None),
        }
        let child = self.children.iter_mut().find(|child| child.id == id);
        if let Some(arbiter) = child.and_then(Child::end_life) {
            arbiter.stop();
        }
    }

    /// Counts supervisor work as a handling until the guard is dropped.
    fn begin<D>(&self, doing: D) -> Handling {
        self.mailbox.enclose(doing).open().1
    }

    fn restart(&mut self, context: &mut Context<Self>, id: ActorId, reason: ExitReason, cause: &str) {
        self.forget(id);
        let now_ms = whole_milliseconds(self.born.elapsed());
        let Some(child) = self.children.iter_mut().find(|child| child.id == id) else { return };
        child.mailbox.set_state(ActorState::Down);
        log_abandoned_handler(&child.mailbox, &mut child.conditions);
        child.ended.get_or_insert((reason, Instant::now(), Utc::now()));
        let decision = self.budget.record(now_ms);
        child.count_restart(reason, &decision);
        let (actor, reason) = (child.mailbox.name(), reason.as_str());
        let in_hand = describe_in_hand(child.mailbox.take_last_in_hand());
        let in_hand = in_hand.as_str();
        let (budget, window) = (self.options.max_restarts, self.options.restart_window.as_secs());
        match decision {
            RestartDecision::Restart { delay, spent } => {
                let retry_in_ms = whole_milliseconds(delay);
                log::error!(
                    actor, reason, cause, in_hand, retry_in_ms, spent, budget;
                    "Actor {id} ended: {cause}; restarting it in {retry_in_ms} ms, restart {spent} of {budget} within {window} s"
                );
                context.run_later(delay, move |supervisor, context| {
                    if is_needed(id, supervisor.ending) {
                        supervisor.start(id, context);
                    }
                });
            }
            RestartDecision::Exhausted => {
                log::error!(
                    actor, reason, cause, in_hand, budget;
                    "Actor {id} ended: {cause}; the restart budget ({budget} within {window} s) is spent, giving up with exit code {EXIT_FAILED}"
                );
                self.end(context, EXIT_FAILED);
            }
        }
    }

    fn tick(&mut self, context: &mut Context<Self>) {
        let _handling = self.begin(Tick);
        self.ticks += 1;
        crash_point!("beat-supervisor");
        self.observed.mark_supervisor_alive();
        let watched = self.suspend_detector.awake_for(self.born.elapsed());
        let mut silent: Vec<(ActorId, Duration)> = Vec::new();
        for child in &mut self.children {
            // An actor that is down has no heartbeat to miss.
            let silence =
                child.arbiter.as_ref().map_or(Duration::ZERO, |_| child.mailbox.silence().min(watched));
            if child.mailbox.take_state_change() {
                log_mailbox(&child.mailbox);
            }
            child.log_recovery();
            log_conditions(&child.mailbox, &mut child.conditions, silence, self.options.report_interval);
            if silence > HEARTBEAT_TIMEOUT && is_needed(child.id, self.ending) {
                silent.push((child.id, silence));
            }
        }
        if self.mailbox.take_state_change() {
            log_mailbox(&self.mailbox);
        }
        for (id, silence) in silent {
            let cause = format!("no sign of life for {} s", silence.as_secs());
            self.restart(context, id, ExitReason::Silent, &cause);
        }
    }

    /// Writes the mailbox lines that are due.
    fn report(&mut self) {
        let interval = self.options.report_interval;
        for child in &mut self.children {
            log_mailbox_if_due(&child.mailbox, &mut child.reports, 0, interval);
        }
        log_mailbox_if_due(&self.mailbox, &mut self.reports, self.ticks, interval);
    }

    fn end(&mut self, context: &mut Context<Self>, exit_code: i32) {
        self.ending = true;
        System::current().stop_with_code(exit_code);
        context.stop();
    }
}

/// During shutdown the drain needs every actor, except the MQTT actor: it would reconnect.
fn is_needed(id: ActorId, ending: bool) -> bool {
    !(ending && id == ActorId::Mqtt)
}

/// Waits until the actor has drained. If the actor is replaced meanwhile, the order is sent to its successor.
async fn drain<A, M>(slot: &Slot<A>, order: impl Fn() -> M)
where
    A: Handler<Envelope<M>>,
    A::Context: ToEnvelope<A, Envelope<M>>,
    M: Message<Result = ()> + Send + 'static,
{
    while slot.ask(order()).await.is_err() {
        sleep(TICK_INTERVAL).await;
    }
}

/// Starts an actor on `arbiter` and publishes its address in `slot`.
fn start_in<A: Actor<Context = Context<A>>>(
    arbiter: &Arbiter,
    slot: &Slot<A>,
    actor: impl FnOnce() -> A + Send + 'static,
) {
    let own = slot.clone();
    let address = A::start_in_arbiter(&arbiter.handle(), move |context| {
        // `started` sends requests whose replies may arrive before `start_in_arbiter` returns.
        own.set(Some(context.address()));
        actor()
    });
    slot.set(Some(address));
}

impl Actor for SupervisorActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        let ids: Vec<ActorId> = self.children.iter().map(|child| child.id).collect();
        for id in ids {
            self.start(id, context);
        }
        watchdog::watch(Arc::clone(&self.mailbox), &self.observed, self.options.report_interval);
        context.run_interval(TICK_INTERVAL, Self::tick);
        context.run_interval(self.options.report_interval, |supervisor, _| {
            supervisor.report();
        });
        self.mailbox.set_state(ActorState::Running);
    }
}

impl Handler<ActorExited> for SupervisorActor {
    type Result = ();

    fn handle(&mut self, exited: ActorExited, context: &mut Self::Context) {
        let _handling = self.begin(exited.clone());
        let ActorExited { actor, generation, reason, cause } = exited;
        let current = self.children.iter().any(|child| child.id == actor && child.is_in_life(generation));
        // An actor replaced for its missing heartbeat may end much later, or before its successor starts.
        // Another restart would then run two of them.
        if current && is_needed(actor, self.ending) {
            self.restart(context, actor, reason, &cause);
        }
    }
}

impl Handler<Shutdown> for SupervisorActor {
    type Result = ();

    /// Disconnects from the broker first, so that the inbox stops growing, then drains inbox and outbox.
    fn handle(&mut self, _: Shutdown, context: &mut Self::Context) {
        let _handling = self.begin(Shutdown);
        if std::mem::replace(&mut self.ending, true) {
            return;
        }
        // Readiness turns false before the broker connection closes.
        self.observed.health.mark_draining();
        self.mailbox.set_state(ActorState::Draining);
        let (directory, deadline) = (self.directory.clone(), self.options.drain_deadline);
        let session_end = self.options.session_end;
        let (inbox, link) = (self.factories.router.inbox.clone(), self.factories.mqtt.link.clone());
        let observed = Arc::clone(&self.observed);
        let ending = async move {
            log::info!("Shutting down: disconnecting, then draining for at most {} s", deadline.as_secs());
            crash_point!("supervisor-leaves");
            let disconnecting = async {
                match directory.mqtt.ask(Disconnect { session_end }).await {
                    Ok(disconnected) => disconnected,
                    // The link outlives its actor.
                    Err(_) => link.disconnect_with(session_end).await,
                }
            };
            let disconnected = matches!(timeout(DISCONNECT_TIMEOUT, disconnecting).await, Ok(Ok(())));
            if disconnected {
                observed.metrics.broker.mark_disconnected();
                log::info!("Disconnected from the broker, the session is {session_end}");
            } else {
                log::warn!("DISCONNECT was not sent; the broker keeps the unacknowledged messages");
            }
            let draining = async {
                drain(&directory.router, || DrainInbox).await;
                drain(&directory.delivery, || DrainDelivery).await;
            };
            let drained = timeout(deadline, draining).await.is_ok();
            if drained {
                log::info!("Drained");
            } else {
                log::warn!(
                    "Not drained within the deadline: the rest stays in inbox and outbox for the next start"
                );
            }
            inbox.close();
            // Messages left in the inbox wait for the next start, which a retiring replica does not have.
            let left_behind = session_end == SessionEnd::ForgetSession && !(disconnected && drained);
            System::current().stop_with_code(i32::from(left_behind));
        };
        // The other actors end with the system; their exits need no handling.
        context.spawn(ending.into_actor(self).map(|(), _, context| context.stop()));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    fn router() -> Child {
        Child {
            id: ActorId::Router,
            mailbox: Mailbox::new("router", 1),
            generation: 0,
            arbiter: None,
            conditions: Conditions::default(),
            reports: MailboxReports::default(),
            ended: None,
        }
    }

    #[test]
    fn only_performed_restarts_are_counted() {
        let (child, mut budget) = (router(), RestartBudget::new(2, Duration::from_mins(1)));
        for _ in 0..5 {
            child.count_restart(ExitReason::Panic, &budget.record(0));
        }
        assert_eq!(child.mailbox.report().restarts, 2);
    }

    #[test]
    fn exit_during_replacement_restarts_once() {
        let mut child = router();
        let silent = child.generation;
        assert!(child.is_in_life(silent));
        child.end_life();
        assert!(!child.is_in_life(silent), "its end is dealt with, although no successor is started yet");
    }

    struct Asks {
        slot: Slot<Asks>,
        found: mpsc::Sender<bool>,
    }

    impl Actor for Asks {
        type Context = Context<Self>;

        fn started(&mut self, context: &mut Self::Context) {
            let found = self.slot.address() == Some(context.address());
            self.found.send(found).unwrap();
            System::current().stop();
        }
    }

    #[test]
    fn replies_reach_a_starting_actor() {
        let system = System::new();
        let (found, disconnected) = mpsc::channel();
        system.block_on(async {
            let slot = Slot::new("asks", 1);
            let own = slot.clone();
            start_in(&thread::arbiter().unwrap(), &slot, || Asks { slot: own, found });
        });
        system.run().unwrap();
        assert!(disconnected.recv().unwrap());
    }
}
