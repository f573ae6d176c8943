//! Posts messages from the outbox to HTTP endpoints.
//!
//! [`DeliveryQueue`] and [`TableWork`] make the decisions and this actor performs them. After every event the actor asks
//! them for posts, loads and writes, and reports their outcomes to them. Posts run as tasks on the actor's thread. Work
//! on the table runs in `table_work`, at most one piece of each kind at a time.
mod table_work;

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::{Actor, Addr, AsyncContext, Context, Handler, Message, ResponseFuture, SpawnHandle};
use chrono::Utc;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::actor_guard::ActorGuard;
use super::mailbox::{ActorState, Envelope};
use super::messages::{CountOutbox, Deliver, DeliverFromTable, DrainDelivery};
use crate::delivery::client::{Delivered, EndpointClients, PostError};
use crate::delivery::queue::{
    DeliveryQueue, MAX_REFUSED_IN_A_ROW, Moment, OriginChange, OriginEvent, PostFailure, PostResult,
    QueueLimits, QueuedPost, RetryRule, Turn,
};
use crate::delivery::redaction::redacted;
use crate::delivery::table_work::{MaintenanceTask, TableWork};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message_event::MessageEvent;
use crate::domain::outbox::{OutboxItem, OutboxKey};
use crate::domain::outbox_work::Outcome;
use crate::domain::posting::age_warnings::AgeWarnings;
use crate::domain::posting::attempts::Attempt;
use crate::domain::retry::Backoff;
use crate::observe::metrics::AttemptOutcome;
use crate::observe::{Telemetry, dead_post, whole_milliseconds};
use crate::settings::{DatabaseSettings, HttpRoute};
use crate::store::OutboxGauge;
use crate::store::outbox::{LEASE, Outbox};

/// Delay between two attempts at the same message.
const BACKOFF: Backoff = Backoff { base: Duration::from_millis(500), max: Duration::from_mins(1) };

/// Interval between two renewals. Three renewals may fail before the lease expires.
const RENEW_INTERVAL: Duration = Duration::from_secs(LEASE.as_secs() / 4);

/// Interval at which the state is published and idle connections are closed.
const TICK_INTERVAL: Duration = Duration::from_secs(1);

/// Posts messages to endpoints.
#[derive(Debug)]
pub struct DeliveryActor {
    guard: ActorGuard,
    parts: DeliveryParts,
    queue: DeliveryQueue,
    work: TableWork,
    /// `None` until the database was reached.
    outbox: Option<Outbox>,
    /// Origin of the moments of `queue` and `work`.
    born: Instant,
    clients: Rc<EndpointClients>,
    age_warnings: AgeWarnings,
    /// Events of dead letters whose outcomes are not written yet; empty if nothing listens.
    unwritten_dead: HashMap<OutboxKey, MessageEvent>,
    /// Posts in flight; they end with the actor.
    posts: JoinSet<()>,
    /// Next time at which `queue` and `work` must be asked without an event.
    wake: Option<(Moment, SpawnHandle)>,
    /// Callers that wait for the last post.
    drained: Vec<oneshot::Sender<()>>,
    draining: bool,
}

/// Dependencies of the delivery; the factory keeps them for a restart.
#[derive(Debug, Clone)]
pub struct DeliveryParts {
    /// The database of the outbox.
    pub database: DatabaseSettings,
    /// The inbox id of this process, which owns its rows.
    pub inbox_id: Arc<str>,
    /// Number of waiting messages, shared with the workers.
    pub gauge: Arc<OutboxGauge>,
    /// Timeout of one post, from the connect to the last byte of the answer.
    pub http_timeout: Duration,
    /// Proxy and TLS options for the endpoints.
    pub http_route: HttpRoute,
    /// Age at which a failing message becomes a dead letter.
    pub max_age: Duration,
    /// The posts of a flow wait while another process has earlier ones: not in a group of replicas.
    pub waits_for_others: bool,
    /// Receives the delivery's counters.
    pub observed: Arc<Telemetry>,
}

/// Sent by the delivery to itself: a post has ended.
#[derive(Debug, Message)]
#[rtype(result = "()")]
struct PostEnded {
    post: QueuedPost,
    began_at_us: i64,
    took: Duration,
    outcome: Result<Delivered, PostError>,
}

/// Reports the end of a post when dropped, including by a panic. Without the report its flow would wait forever.
struct PostReport {
    actor: Addr<DeliveryActor>,
    post: QueuedPost,
    began_at_us: i64,
    began: Instant,
    outcome: Option<Result<Delivered, PostError>>,
}

impl PostReport {
    fn new(actor: Addr<DeliveryActor>, post: QueuedPost) -> Self {
        let began_at_us = Utc::now().timestamp_micros();
        Self { actor, post, began_at_us, began: Instant::now(), outcome: None }
    }

    fn send(mut self, outcome: Result<Delivered, PostError>) {
        self.outcome = Some(outcome);
    }
}

impl Drop for PostReport {
    fn drop(&mut self) {
        let outcome = self.outcome.take().unwrap_or(Err(PostError::Panicked));
        let QueuedPost { id, origin, items } = &mut self.post;
        let post = QueuedPost { id: *id, origin: origin.take(), items: std::mem::take(items) };
        let (began_at_us, took) = (self.began_at_us, self.began.elapsed());
        self.actor.do_send(PostEnded { post, began_at_us, took, outcome });
    }
}

impl DeliveryActor {
    /// Creates a delivery. It connects to the database in `started`, on its own arbiter.
    #[must_use]
    pub fn new(guard: ActorGuard, parts: DeliveryParts) -> Self {
        let rule =
            RetryRule { backoff: BACKOFF, max_age: parts.max_age, waits_for_others: parts.waits_for_others };
        Self {
            queue: DeliveryQueue::new(Arc::clone(&parts.inbox_id), QueueLimits::default(), rule),
            work: TableWork::new(RENEW_INTERVAL, LEASE),
            outbox: None,
            age_warnings: AgeWarnings::default(),
            clients: Rc::new(EndpointClients::new(parts.http_timeout, &parts.http_route)),
            guard,
            parts,
            born: Instant::now(),
            unwritten_dead: HashMap::new(),
            posts: JoinSet::new(),
            wake: None,
            drained: Vec::new(),
            draining: false,
        }
    }

    fn now(&self) -> Moment {
        self.born.elapsed()
    }

    /// Starts all posts and loads that are possible now.
    fn pump(&mut self, context: &mut Context<Self>) {
        let now = self.now();
        while let Some(turn) = self.work.next_turn(&mut self.queue, now) {
            match turn {
                Turn::Post(post) => self.post(context, post),
                Turn::GiveUp { items, outcomes } => {
                    log_given_up(&outcomes);
                    self.note_dead(&items, &outcomes);
                }
            }
        }
        let events = self.queue.take_origin_events();
        if !events.is_empty() {
            events.iter().for_each(log_origin);
            self.report_breakers();
        }
        self.work_on_table(context);
        self.set_alarm(context);
        if self.draining && self.queue.is_quiet() {
            for waiting in self.drained.drain(..) {
                // A caller that timed out has dropped its receiver.
                let _ = waiting.send(());
            }
        }
    }

    fn post(&mut self, context: &mut Context<Self>, post: QueuedPost) {
        crash_point!("delivery-post");
        let clients = Rc::clone(&self.clients);
        let report = PostReport::new(context.address(), post);
        self.posts.spawn_local(async move {
            let outcome = clients.post(&report.post.items).await;
            report.send(outcome);
        });
    }

    fn posted(&mut self, post: &QueuedPost, status: u16) -> Vec<Outcome> {
        for item in &post.items {
            log_recovery(item);
            self.parts.observed.events.emit_posted(item, || redacted(&item.destination.url), status);
        }
        self.queue.ended(post.id, PostResult::Delivered, self.now(), 0.0)
    }

    fn count_attempt(&self, post: &QueuedPost, outcome: &Result<Delivered, PostError>, took: Duration) {
        let outcome = match outcome {
            Ok(_) => AttemptOutcome::Delivered,
            Err(error) if error.blames_message() => AttemptOutcome::MessageFault,
            Err(error) if error.status().is_some() => AttemptOutcome::EndpointFault,
            Err(_) => AttemptOutcome::NoAnswer,
        };
        let metrics = &self.parts.observed.metrics;
        for item in &post.items {
            metrics.flows.count_attempt(&item.flow_code, outcome);
        }
        metrics.endpoints.count(post.origin.as_ref(), outcome, took);
    }

    fn failed(&mut self, post: &QueuedPost, error: &PostError, attempt: &Attempt) -> Vec<Outcome> {
        let Some(item) = post.items.first() else { return Vec::new() };
        log_failure(item, post.items.len(), error);
        let result = if error.blames_message() {
            PostResult::Refused(error.to_string())
        } else {
            let retry_after = error.answer().and_then(|answer| answer.retry_after);
            let blames_origin = error.blames_origin();
            PostResult::Failed(PostFailure { error: error.to_string(), retry_after, blames_origin })
        };
        let outcomes = self.queue.ended(post.id, result, self.now(), rand::random());
        for (item, outcome) in post.items.iter().zip(&outcomes) {
            match outcome {
                Outcome::Failed { .. } if error.blames_message() => log_refusals(item),
                Outcome::GivenUp { detail, .. } => log_dead_letter(item, detail),
                _ => {}
            }
        }
        self.note_dead(&post.items, &outcomes);
        // The answer may repeat credentials, so only the row of the message has it.
        let text = error.answer().map_or("", |answer| answer.text.as_str());
        let attempt = match error.answer() {
            Some(answer) => attempt.clone().with_answer(answer.status, text),
            None => attempt.clone().with_error(error.status(), &error.to_string()),
        };
        let with_attempt = |(item, outcome): (&Arc<OutboxItem>, Outcome)| {
            outcome.with_answer(text).with_attempt(item, attempt.clone())
        };
        post.items.iter().zip(outcomes).map(with_attempt).collect()
    }

    /// Keeps the events of dead letters until these are written.
    fn note_dead(&mut self, items: &[Arc<OutboxItem>], outcomes: &[Outcome]) {
        let events = &self.parts.observed.events;
        for (item, outcome) in items.iter().zip(outcomes) {
            if let Outcome::GivenUp { key, reason, detail, .. } = outcome
                && events.want(&item.flow_code)
            {
                self.unwritten_dead.insert(key.clone(), dead_post(item, *reason, detail));
            }
        }
    }

    fn set_alarm(&mut self, context: &mut Context<Self>) {
        let next = self.queue.next_wake().into_iter().chain(self.work.next_wake()).min();
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

    fn tick(&mut self) {
        self.clients.drop_idle();
        self.queue.forget_unused_origins(self.now());
        let state = if self.draining {
            ActorState::Draining
        } else if self.work.is_failing() || self.queue.is_failing() {
            ActorState::Retrying
        } else if self.work.is_ready() {
            ActorState::Running
        } else {
            ActorState::Starting
        };
        self.guard.mailbox().set_state(state);
        self.report_breakers();
    }

    fn report_breakers(&self) {
        let failing = self.queue.failing_origins(self.now()).into_iter();
        let breakers = failing.map(|found| (found.origin, (found.state, SystemTime::now() - found.since)));
        self.parts.observed.metrics.endpoints.set_breakers(breakers);
    }
}

impl Actor for DeliveryActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.guard.start_heartbeat(context);
        self.open_table(context);
        context.run_interval(TICK_INTERVAL, |delivery, _| delivery.tick());
    }
}

impl Handler<Envelope<Deliver>> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<Deliver>, context: &mut Self::Context) {
        let (Deliver { items }, _handling) = envelope.open();
        self.work.deliver(&mut self.queue, items, self.born.elapsed());
        self.pump(context);
    }
}

impl Handler<Envelope<DeliverFromTable>> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<DeliverFromTable>, context: &mut Self::Context) {
        let (DeliverFromTable { rows }, _handling) = envelope.open();
        match rows {
            Some(rows) => self.queue.committed(&rows, self.now()),
            None => self.work.search_rows(),
        }
        self.pump(context);
    }
}

impl Handler<Envelope<CountOutbox>> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<CountOutbox>, context: &mut Self::Context) {
        let (CountOutbox, _handling) = envelope.open();
        self.work.want(MaintenanceTask::RoutineSweep);
        self.pump(context);
    }
}

impl Handler<PostEnded> for DeliveryActor {
    type Result = ();

    fn handle(&mut self, ended: PostEnded, context: &mut Self::Context) {
        crash_point!("delivery-answered");
        // The task of the post has ended or is about to end.
        while self.posts.try_join_next().is_some() {}
        let PostEnded { post, began_at_us, took, outcome } = ended;
        self.count_attempt(&post, &outcome, took);
        let outcomes = match outcome {
            Ok(Delivered { status }) => self.posted(&post, status),
            Err(error) => self.failed(&post, &error, &Attempt::new(began_at_us, took)),
        };
        for outcome in outcomes {
            self.work.add(outcome);
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
            // An error means that the actor has ended.
            let _ = told.await;
        })
    }
}

fn log_failure(item: &OutboxItem, messages: usize, error: &PostError) {
    let (message_id, attempts) = (item.message_id, item.attempts.saturating_add(1));
    let (flow_id, flow) = (item.key.flow_id, &*item.flow_code);
    let endpoint = redacted(&item.destination.url);
    let endpoint = endpoint.as_str();
    log::error!(
        flow_id, flow, endpoint, message_id, messages, attempts;
        "Error posting flow {flow} to endpoint {endpoint}: {error}"
    );
}

/// Logs that a message was posted after failed attempts.
fn log_recovery(item: &OutboxItem) {
    let (message_id, attempts) = (item.message_id, item.attempts);
    let (flow_id, flow) = (item.key.flow_id, &*item.flow_code);
    if attempts > 0 {
        let endpoint = redacted(&item.destination.url);
        let endpoint = endpoint.as_str();
        log::info!(
            flow_id, flow, endpoint, message_id, attempts;
            "Endpoint {endpoint} of flow {flow} takes messages again, after {attempts} failed attempts"
        );
    }
}

fn log_origin(event: &OriginEvent) {
    let origin = event.origin.to_string();
    let origin = origin.as_str();
    match &event.change {
        OriginChange::Opened { error } => log::warn!(
            origin;
            "No posts to {origin} for now, because it failed repeatedly: {error}. One post at a time tests it; all flows to it wait"
        ),
        OriginChange::Forgotten => log::debug!(origin; "No flow posts to {origin} any more"),
        OriginChange::Closed { after, flows } => {
            let after_ms = whole_milliseconds(*after);
            log::info!(
                origin, after_ms, flows;
                "{origin} answers again after {} s: {flows} flows go on", after.as_secs()
            );
        }
    }
}

/// Logs dead letters of one flow that were made without a post. Those of a deleted flow are logged once for all.
fn log_given_up(outcomes: &[Outcome]) {
    if let Some(Outcome::GivenUp { key, reason: DeadLetterReason::OutboxExpired, detail, .. }) =
        outcomes.first()
    {
        let (flow_id, messages) = (key.flow_id, outcomes.len());
        log::error!(
            flow_id, messages;
            "{messages} messages of the flow with the id {flow_id} become dead letters: {detail}"
        );
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

fn log_dead_letter(item: &OutboxItem, detail: &str) {
    let message_id = item.message_id;
    let (flow_id, flow) = (item.key.flow_id, &*item.flow_code);
    log::error!(
        flow_id, flow, message_id;
        "Message {message_id} of flow {flow} becomes a dead letter: {detail}"
    );
}
