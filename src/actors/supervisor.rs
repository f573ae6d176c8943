//! Starts the other actors, restarts them from their factories, reports their mailboxes, and ends
//! everything in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::dev::ToEnvelope;
use actix::{
    Actor, ActorContext, ActorFutureExt, Arbiter, AsyncContext, Context, Handler, Message, System, WrapFuture,
};
use chrono::{DateTime, Utc};
use tokio::time::{sleep, timeout};

use super::ActorId;
use super::delivery::{DeliveryActor, DeliveryParts};
use super::directory::{Directory, Slot};
use super::life::{ExitReason, Life};
use super::mailbox::{ActorState, Envelope, Handling, Mailbox};
use super::messages::{ActorExited, Disconnect, DrainDelivery, DrainInbox, Shutdown};
use super::mqtt::{MqttActor, MqttParts};
use super::registry::{FlowRegistryActor, RegistryParts};
use super::report::{
    Episodes, in_words, log_episodes, log_given_up, log_mailbox, timestamp, whole_milliseconds,
};
use super::router::{RouterActor, RouterParts};
use super::thread;
use super::watchdog;
use super::worker::{FlowWorkerActor, WorkerParts};
use crate::domain::restart_budget::{RestartBudget, RestartDecision};
use crate::domain::suspend_detector::SuspendDetector;
pub use crate::mqtt::SessionEnd;
use crate::observe::Telemetry;

/// How often changes of state, heartbeats and stuck handlers are looked for.
const TICK: Duration = Duration::from_millis(500);

/// An actor that has not taken its turn for this long is replaced. Well above any pause that a
/// loaded machine makes: waiting for input and output does not silence an actor.
const SILENCE: Duration = Duration::from_secs(30);

/// How long the broker may take to be told goodbye.
const DISCONNECT: Duration = Duration::from_secs(5);

/// Exit code when a part of the gateway failed for good and a new process may do better: Kubernetes takes over.
pub const EXIT_FAILED: i32 = 3;

/// The factories of all actors.
#[derive(Clone)]
pub struct Factories {
    /// For the broker connection.
    pub mqtt: MqttParts,
    /// For the keeper of the flows.
    pub registry: RegistryParts,
    /// For the reader of the inbox.
    pub router: RouterParts,
    /// For the workers, by lane.
    pub workers: Vec<WorkerParts>,
    /// For the posts.
    pub delivery: DeliveryParts,
}

/// Times of the supervisor.
#[derive(Debug, Clone, Copy)]
pub struct SupervisorOptions {
    /// Time between two mailbox reports.
    pub report_interval: Duration,
    /// Restarts of all actors together within `restart_window`.
    pub max_restarts: u32,
    /// See `max_restarts`.
    pub restart_window: Duration,
    /// How long the end may take.
    pub drain_deadline: Duration,
    /// How the broker is left.
    pub session_end: SessionEnd,
}

/// The actor above all others.
pub struct SupervisorActor {
    directory: Directory,
    factories: Factories,
    options: SupervisorOptions,
    /// Where it shows that it is alive, and that the end has begun.
    observed: Arc<Telemetry>,
    /// Of its own, from the directory.
    mailbox: Arc<Mailbox>,
    children: Vec<Child>,
    /// One for all: ten workers that each fail twice are as broken as one that fails twenty times.
    budget: RestartBudget,
    born: Instant,
    suspend_detector: SuspendDetector,
    ending: bool,
}

/// An actor that is supervised.
#[derive(Debug)]
struct Child {
    id: ActorId,
    mailbox: Arc<Mailbox>,
    /// Which of its lives it is in, or will be in when it is started.
    generation: u64,
    /// The thread it runs on; none while it is down.
    arbiter: Option<Arbiter>,
    episodes: Episodes,
    /// Why and when it ended, until its successor is at work.
    ended: Option<(ExitReason, Instant, DateTime<Utc>)>,
}

/// Its own doings, by the names under which the log has them.
struct Tick;

impl Child {
    /// Ends the life it is in; answers the thread to stop. Whatever that life still says is no news.
    fn end_life(&mut self) -> Option<Arbiter> {
        self.generation += 1;
        self.mailbox.belongs_to(self.generation);
        self.arbiter.take()
    }

    /// An end over which the gateway gives up is no restart.
    fn count_restart(&self, reason: ExitReason, decision: &RestartDecision) {
        if let RestartDecision::Restart { .. } = decision {
            self.mailbox.count_restart(reason);
        }
    }

    fn is_in_life(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// Says that it is at work again, once it is.
    fn tell_if_back(&mut self) {
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
    /// A supervisor; it starts the others when it has started.
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
            episodes: Episodes::default(),
            ended: None,
        };
        // In the order of starting: whoever is asked for something is there first.
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
        let life = Life::new(id, child.generation, Arc::clone(&child.mailbox), exited);
        let arbiter = match thread::arbiter() {
            Ok(arbiter) => arbiter,
            Err(error) => {
                let actor = child.mailbox.name();
                log::error!(
                    actor;
                    "There is no thread for actor {id}, giving up with exit code {EXIT_FAILED}: {error}"
                );
                return self.end(context, EXIT_FAILED);
            }
        };
        let factories = self.factories.clone();
        match id {
            ActorId::Mqtt => {
                start_in(&arbiter, &self.directory.mqtt, || MqttActor::new(life, factories.mqtt));
            }
            ActorId::Registry => {
                start_in(&arbiter, &self.directory.registry, || {
                    FlowRegistryActor::new(life, factories.registry)
                });
            }
            ActorId::Router => {
                start_in(&arbiter, &self.directory.router, || RouterActor::new(life, factories.router));
            }
            ActorId::Worker(lane) => {
                let lane = lane as usize;
                let parts = factories.workers.into_iter().nth(lane);
                if let Some((slot, parts)) = self.directory.workers.get(lane).zip(parts) {
                    start_in(&arbiter, slot, || FlowWorkerActor::new(life, parts));
                }
            }
            ActorId::Delivery => {
                start_in(&arbiter, &self.directory.delivery, || DeliveryActor::new(life, factories.delivery));
            }
        }
        child.arbiter = Some(arbiter);
    }

    /// Nobody sends to it any more, and its thread ends when it can.
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

    /// Counts what it does until the guard is dropped.
    fn begin<D>(&self, doing: D) -> Handling {
        self.mailbox.enclose(doing).open().1
    }

    fn restart(&mut self, context: &mut Context<Self>, id: ActorId, reason: ExitReason, cause: &str) {
        self.forget(id);
        let now_ms = whole_milliseconds(self.born.elapsed());
        let Some(child) = self.children.iter_mut().find(|child| child.id == id) else { return };
        child.mailbox.set_state(ActorState::Down);
        log_given_up(&child.mailbox, &mut child.episodes);
        child.ended.get_or_insert((reason, Instant::now(), Utc::now()));
        let decision = self.budget.record(now_ms);
        child.count_restart(reason, &decision);
        let (actor, reason) = (child.mailbox.name(), reason.as_str());
        let in_hand = in_words(child.mailbox.take_last_in_hand());
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
        crash_point!("beat-supervisor");
        self.observed.mark_supervisor_alive();
        let watched = self.suspend_detector.awake_for(self.born.elapsed());
        let mut silent: Vec<(ActorId, Duration)> = Vec::new();
        for child in &mut self.children {
            // One that is down is not silent.
            let silence =
                child.arbiter.as_ref().map_or(Duration::ZERO, |_| child.mailbox.silence().min(watched));
            if child.mailbox.take_state_change() {
                log_mailbox(&child.mailbox);
            }
            child.tell_if_back();
            log_episodes(&child.mailbox, &mut child.episodes, silence, self.options.report_interval);
            if silence > SILENCE && is_needed(child.id, self.ending) {
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

    fn end(&mut self, context: &mut Context<Self>, exit_code: i32) {
        self.ending = true;
        System::current().stop_with_code(exit_code);
        context.stop();
    }
}

/// At the end everything is needed for the drain but a new connection.
fn is_needed(id: ActorId, ending: bool) -> bool {
    !(ending && id == ActorId::Mqtt)
}

/// Waits until it has drained. One that ends meanwhile is replaced, and its successor asked again.
async fn drain<A, M>(slot: &Slot<A>, order: impl Fn() -> M)
where
    A: Handler<Envelope<M>>,
    A::Context: ToEnvelope<A, Envelope<M>>,
    M: Message<Result = ()> + Send + 'static,
{
    while slot.ask(order()).await.is_err() {
        sleep(TICK).await;
    }
}

/// Starts an actor on its thread.
fn start_in<A: Actor<Context = Context<A>>>(
    arbiter: &Arbiter,
    slot: &Slot<A>,
    actor: impl FnOnce() -> A + Send + 'static,
) {
    let own = slot.clone();
    let address = A::start_in_arbiter(&arbiter.handle(), move |context| {
        // When it starts it asks others, and their answers may be quicker than the line below.
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
        context.run_interval(TICK, Self::tick);
        context.run_interval(self.options.report_interval, |supervisor, _| {
            log_mailbox(&supervisor.mailbox);
            supervisor.children.iter().for_each(|child| log_mailbox(&child.mailbox));
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
        // One that was replaced because of its silence may end much later, or before its successor
        // is started: to start another one then would make two.
        if current && is_needed(actor, self.ending) {
            self.restart(context, actor, reason, &cause);
        }
    }
}

impl Handler<Shutdown> for SupervisorActor {
    type Result = ();

    /// Away from the broker first, so that the inbox ends; then everything that is in it.
    fn handle(&mut self, _: Shutdown, context: &mut Self::Context) {
        let _handling = self.begin(Shutdown);
        if std::mem::replace(&mut self.ending, true) {
            return;
        }
        // Whoever looks knows it before the broker does.
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
                    // The actor is down; the link is not.
                    Err(_) => link.disconnect_with(session_end).await,
                }
            };
            let told = matches!(timeout(DISCONNECT, disconnecting).await, Ok(Ok(())));
            if told {
                observed.metrics.broker.mark_disconnected();
                log::info!("Disconnected from the broker, the session is {session_end}");
            } else {
                log::warn!("The broker could not be told; it keeps what it has not got acknowledged");
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
            // There is a next start, unless it goes for good.
            let left_behind = session_end == SessionEnd::ForgetSession && !(told && drained);
            System::current().stop_with_code(i32::from(left_behind));
        };
        // All others end now, which is no news any more.
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
            episodes: Episodes::default(),
            ended: None,
        }
    }

    #[test]
    fn only_restarts_that_are_made_are_counted() {
        let (child, mut budget) = (router(), RestartBudget::new(2, Duration::from_mins(1)));
        for _ in 0..5 {
            child.count_restart(ExitReason::Panic, &budget.record(0));
        }
        assert_eq!(child.mailbox.report().restarts, 2);
    }

    #[test]
    fn an_actor_that_ends_while_it_is_being_replaced_is_replaced_once() {
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
    fn an_actor_can_be_answered_as_soon_as_it_asks() {
        let system = System::new();
        let (found, told) = mpsc::channel();
        system.block_on(async {
            let slot = Slot::new("asks", 1);
            let own = slot.clone();
            start_in(&thread::arbiter().unwrap(), &slot, || Asks { slot: own, found });
        });
        system.run().unwrap();
        assert!(told.recv().unwrap());
    }
}
