//! Posts what the workers have numbered: the outgoing hand of the flows.
//!
//! What is decided is decided by [`DeliveryQueue`]; this performs it. It asks the queue for posts
//! and loads whenever something has happened, and gives back what became of them. Posts run as
//! tasks of this thread, at most one piece of each kind of work on the table at a time
//! (`table_work`).

mod table_work;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use self::table_work::{Chore, TableWork};
use super::life::Life;
use super::mailbox::{ActorState, Envelope};
use super::messages::{Deliver, DeliverFromTable, DrainDelivery, FollowFlows};
use crate::delivery::client::{EndpointClients, PostError};
use crate::delivery::queue::{DeliveryQueue, Limits, MAX_REFUSED_IN_A_ROW, Moment, RetryRule};
use crate::delivery::redaction::redacted;
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::{CommittedRows, Outcome};
use crate::domain::retry::Backoff;
use crate::observe::Telemetry;
use crate::settings::{DatabaseSettings, HttpRoute};
use crate::store::OutboxGauge;

/// Time between two attempts at the same message.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_mins(1) };

/// How often the state is told and idle connections are looked for.
const TICK: Duration = Duration::from_secs(1);

/// The poster.
#[derive(Debug)]
pub struct DeliveryActor {
    life: Life,
    parts: DeliveryParts,
    queue: DeliveryQueue,
    /// The moments of the queue count from here.
    born: Instant,
    clients: Rc<EndpointClients>,
    /// Posts under way; they end with the actor.
    posts: JoinSet<()>,
    table: TableWork,
    /// The next time at which the queue is to be asked although nothing has happened.
    wake: Option<(Moment, SpawnHandle)>,
    /// Who waits for the last post.
    drained: Vec<oneshot::Sender<()>>,
    draining: bool,
}

/// What a delivery is made of; the factory keeps it for the next one.
#[derive(Debug, Clone)]
pub struct DeliveryParts {
    /// Where the outbox is.
    pub database: DatabaseSettings,
    /// The inbox of this process: the owner of its rows.
    pub inbox_id: Arc<str>,
    /// How many messages wait, for the workers.
    pub gauge: Arc<OutboxGauge>,
    /// For one post, from the connect to the last byte of the answer.
    pub http_timeout: Duration,
    /// The way to the endpoints.
    pub http_route: HttpRoute,
    /// A message that fails at this age becomes a dead letter.
    pub max_age: Duration,
    /// Time between two messages from which on they may have the same key.
    pub keys_known_for: Duration,
    /// Where it counts what it has done.
    pub observed: Arc<Telemetry>,
}

/// To itself: a post is over.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct PostEnded {
    item: Arc<OutboxItem>,
    outcome: Result<(), PostError>,
}

/// Says that a post is over when it is dropped, be it by a panic: its flow would wait for ever.
struct PostReport {
    actor: Addr<DeliveryActor>,
    item: Arc<OutboxItem>,
    outcome: Option<Result<(), PostError>>,
}

impl PostReport {
    fn send(mut self, outcome: Result<(), PostError>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for PostReport {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Err(PostError::Panicked));
        self.actor.do_send(PostEnded { item: Arc::clone(&self.item), outcome });
    }
}

impl DeliveryActor {
    /// A delivery; it connects to the database when it has started, on its own arbiter.
    #[must_use]
    pub fn new(life: Life, parts: DeliveryParts) -> Self {
        let rule = RetryRule { backoff: BACKOFF, max_age: parts.max_age };
        Self {
            queue: DeliveryQueue::new(Arc::clone(&parts.inbox_id), Limits::default(), rule),
            clients: Rc::new(EndpointClients::new(parts.http_timeout, &parts.http_route)),
            life,
            parts,
            born: Instant::now(),
            posts: JoinSet::new(),
            table: TableWork::default(),
            wake: None,
            drained: Vec::new(),
            draining: false,
        }
    }

    fn now(&self) -> Moment {
        self.born.elapsed()
    }

    /// Begins whatever may begin now.
    fn pump(&mut self, context: &mut Context<Self>) {
        let now = self.now();
        while let Some(item) = self.queue.next_post(now) {
            if self.queue.is_deleted(item.key.flow_id) {
                self.give_up_deleted(&item);
            } else {
                self.post(context, item);
            }
        }
        self.work_on_table(context);
        self.set_alarm(context);
        if self.draining && self.queue.is_quiet() {
            for waiting in self.drained.drain(..) {
                // Whoever asked may have gone.
                let _ = waiting.send(());
            }
        }
    }

    /// That the flow was deleted, the log says once for all of its messages.
    fn give_up_deleted(&mut self, item: &OutboxItem) {
        let detail = "the flow was deleted while the post waited".to_owned();
        let outcome =
            self.queue.given_up(item.key.flow_id, DeadLetterReason::FlowDeleted, detail, self.now());
        if let Some(outcome) = outcome {
            self.table.add(outcome);
        }
    }

    fn post(&mut self, context: &mut Context<Self>, item: Arc<OutboxItem>) {
        crash_point!("delivery-post");
        let clients = Rc::clone(&self.clients);
        let report = PostReport { actor: context.address(), item, outcome: None };
        self.posts.spawn_local(async move {
            let outcome = clients.post(Arc::clone(&report.item)).await;
            report.send(outcome);
        });
    }

    fn failed(&mut self, item: &OutboxItem, error: &PostError) -> Option<Outcome> {
        log_failure(item, error);
        let (flow, text, now, random_unit) =
            (item.key.flow_id, error.to_string(), self.now(), rand::random());
        if !error.blames_message() {
            return self.queue.failed(flow, text, now, random_unit);
        }
        let outcome = self.queue.refused(flow, text, now, random_unit);
        if let Some(Outcome::Failed { .. }) = outcome {
            log_refusals(item);
        }
        outcome
    }

    fn set_alarm(&mut self, context: &mut Context<Self>) {
        let next = self.queue.next_wake();
        if self.wake.map(|(at, _)| at) == next {
            return;
        }
        if let Some((_, alarm)) = self.wake.take() {
            context.cancel_future(alarm);
        }
        self.wake = next.map(|at| {
            let alarm = context.run_later(at.saturating_sub(self.now()), |delivery, context| {
                delivery.wake = None;
                delivery.pump(context);
            });
            (at, alarm)
        });
    }

    fn tick(&self) {
        self.clients.drop_idle();
        let state = if self.draining {
            ActorState::Draining
        } else if self.table.is_failing() || self.queue.is_failing() {
            ActorState::Retrying
        } else if self.table.is_ready() {
            ActorState::Running
        } else {
            ActorState::Starting
        };
        self.life.mailbox().set_state(state);
    }
}

impl Actor for DeliveryActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.life.keep_beating(context);
        self.open_table(context);
        context.run_interval(TICK, |delivery, _| delivery.tick());
    }
}

impl Handler<Envelope<Deliver>> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Deliver>, context: &mut Self::Context) {
        let (Deliver { items }, _handling) = envelope.open();
        let now = self.now();
        if self.table.is_ready() {
            self.queue.deliver(items, now);
        } else {
            // Rows from before may be in the table, and they come first.
            self.queue.committed(&CommittedRows::from_items(&items), now);
        }
        self.pump(context);
    }
}

impl Handler<Envelope<DeliverFromTable>> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<DeliverFromTable>, context: &mut Self::Context) {
        let (DeliverFromTable { rows }, _handling) = envelope.open();
        match rows {
            Some(rows) => self.queue.committed(&rows, self.now()),
            None => self.table.want(Chore::ThoroughSweep),
        }
        self.pump(context);
    }
}

impl Handler<Envelope<FollowFlows>> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<FollowFlows>, context: &mut Self::Context) {
        let (FollowFlows, _handling) = envelope.open();
        self.table.want(Chore::RoutineSweep);
        self.pump(context);
    }
}

impl Handler<PostEnded> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, ended: PostEnded, context: &mut Self::Context) {
        crash_point!("delivery-answered");
        // Its task is over, or about to be.
        while self.posts.try_join_next().is_some() {}
        let PostEnded { item, outcome } = ended;
        let outcome = match outcome {
            Ok(()) => {
                log_delivery(&item);
                self.parts.observed.metrics.flows.count_post(&item.flow_code);
                self.queue.posted(item.key.flow_id, self.now())
            }
            Err(error) => self.failed(&item, &error),
        };
        if let Some(outcome) = outcome {
            log_dead_letter(&item, &outcome);
            self.table.add(outcome);
        }
        self.pump(context);
    }
}

impl Handler<Envelope<DrainDelivery>> for DeliveryActor {
    type Result = ResponseFuture<()>;

    fn handle(&mut self, envelope: Envelope<DrainDelivery>, context: &mut Self::Context) -> Self::Result {
        let (tell, told) = oneshot::channel();
        self.drained.push(tell);
        self.draining = true;
        self.queue.stop();
        self.tick();
        self.pump(context);
        Box::pin(async move {
            let (DrainDelivery, _handling) = envelope.open();
            // An error means that the actor is gone, and so is whoever waits for it.
            let _ = told.await;
        })
    }
}

fn log_failure(item: &OutboxItem, error: &PostError) {
    let (message_id, attempts) = (item.message_id, item.attempts.saturating_add(1));
    let (flow_id, flow) = (item.key.flow_id, &*item.flow_code);
    let endpoint = redacted(&item.url);
    let endpoint = endpoint.as_str();
    log::error!(
        flow_id, flow, endpoint, message_id, attempts;
        "Error posting flow {flow} to endpoint {endpoint}: {error}"
    );
}

fn log_delivery(item: &OutboxItem) {
    let (message_id, attempts) = (item.message_id, item.attempts);
    let (flow_id, flow) = (item.key.flow_id, &*item.flow_code);
    if attempts > 0 {
        let endpoint = redacted(&item.url);
        let endpoint = endpoint.as_str();
        log::info!(
            flow_id, flow, endpoint, message_id, attempts;
            "Endpoint {endpoint} of flow {flow} takes messages again, after {attempts} failed attempts"
        );
    } else if log::log_enabled!(log::Level::Debug) {
        // For each post, so that it costs nothing where nobody reads it.
        let endpoint = redacted(&item.url);
        let endpoint = endpoint.as_str();
        log::debug!(flow_id, flow, endpoint, message_id; "Posted flow {flow} to endpoint {endpoint}");
    }
}

fn log_refusals(item: &OutboxItem) {
    let message_id = item.message_id;
    let (flow_id, flow) = (item.key.flow_id, &*item.flow_code);
    log::error!(
        flow_id, flow, message_id;
        "Flow {flow} waits: its endpoint has refused the {MAX_REFUSED_IN_A_ROW} messages before message {message_id}. Mend \
         the endpoint or endpoint_url, or disable the flow"
    );
}

fn log_dead_letter(item: &OutboxItem, outcome: &Outcome) {
    if let Outcome::GivenUp { detail, .. } = outcome {
        let message_id = item.message_id;
        let (flow_id, flow) = (item.key.flow_id, &*item.flow_code);
        log::error!(
            flow_id, flow, message_id;
            "Message {message_id} of flow {flow} becomes a dead letter: {detail}"
        );
    }
}
