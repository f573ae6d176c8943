//! Serves one lane: writes one batch at a time, each in one transaction.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseActFuture, WrapFuture};
use tokio::sync::Mutex;

use super::actor_guard::ActorGuard;
use super::directory::Directory;
use super::mailbox::{ActorState, Envelope, Handling, Mailbox};
use super::messages::{Deliver, DeliverFromTable, LaneOpened, OpenLane, ProcessBatch, ReloadFlows};
use super::report::kind_of;
use crate::domain::batch::{
    BatchOutcome, LaggingFlow, Lane, LanePosition, ProcessError, ProcessedMessage, Rejection,
};
use crate::domain::message::FlowId;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::CommittedRows;
use crate::domain::stopped_flows::StoppedFlows;
use crate::observe::whole_milliseconds;
use crate::observe::{FieldRecorder, Telemetry};
use crate::settings::DatabaseSettings;
use crate::store::{
    BatchRules, BrokenOff, Committed, Database, LaneFenced, LaneObserver, LaneStore, LaneWaits, StoreError,
};

/// Interval at which an unused prepared transaction is dropped.
const DROP_STALE_INTERVAL: Duration = Duration::from_secs(1);

/// The worker of a lane.
#[derive(Debug)]
pub struct FlowWorkerActor {
    guard: ActorGuard,
    parts: WorkerParts,
    /// Locked while a batch runs, so that a takeover waits for the batch. Empty until the first takeover.
    store: Rc<Mutex<Option<LaneStore>>>,
    /// Origin of the times of `stopped_flows`.
    born: Instant,
    stopped_flows: Rc<StoppedFlows>,
}

/// Dependencies of a worker; the factory keeps them for a restart.
#[derive(Debug, Clone)]
pub struct WorkerParts {
    /// The worker's lane.
    pub lane: Lane,
    /// The database of the lane.
    pub database: DatabaseSettings,
    /// Limits and checks for messages.
    pub rules: Arc<BatchRules>,
    /// Maximum wait for a flow whose row another process locks.
    pub flow_lock_wait: Duration,
    /// Where it shows the rows that its lane waits for.
    pub waits: Arc<LaneWaits>,
    /// Addresses of the other actors.
    pub directory: Directory,
    /// Receives the worker's counters.
    pub observed: Arc<Telemetry>,
    /// Receives the fields of the messages.
    pub fields: Arc<FieldRecorder>,
}

impl FlowWorkerActor {
    /// Creates a worker. It connects in `started`, on its own arbiter.
    #[must_use]
    pub fn new(guard: ActorGuard, parts: WorkerParts) -> Self {
        Self { guard, parts, store: Rc::default(), born: Instant::now(), stopped_flows: Rc::default() }
    }

    /// Opens the next transaction ahead of time, after the reply was sent.
    fn prepare(&self, context: &mut Context<Self>) {
        let store = Rc::clone(&self.store);
        let preparing = async move {
            if let Some(store) = store.lock().await.as_mut() {
                store.prepare().await;
            }
        };
        context.spawn(preparing.into_actor(self));
    }

    fn observer(&self) -> WorkerObserver {
        WorkerObserver {
            lane: self.parts.lane,
            mailbox: Arc::clone(self.guard.mailbox()),
            observed: Arc::clone(&self.parts.observed),
            fields: Arc::clone(&self.parts.fields),
        }
    }
}

impl Actor for FlowWorkerActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.guard.start_heartbeat(context);
        context.notify(self.guard.mailbox().enclose(OpenLane));
        context.run_interval(DROP_STALE_INTERVAL, |worker, _| {
            // A locked store is processing a batch and has no unused transaction.
            if let Ok(mut store) = worker.store.try_lock()
                && let Some(store) = store.as_mut()
            {
                store.drop_stale();
            }
        });
    }
}

impl Handler<Envelope<OpenLane>> for FlowWorkerActor {
    type Result = ResponseActFuture<Self, ()>;

    fn handle(&mut self, envelope: Envelope<OpenLane>, _: &mut Self::Context) -> Self::Result {
        let (store, parts, observer) = (Rc::clone(&self.store), self.parts.clone(), self.observer());
        let opening = async move {
            let (OpenLane, _handling) = envelope.open();
            let mut store = store.lock().await;
            if store.is_none() {
                let database = connect(&parts, &observer).await;
                let lane = LaneStore::new(database, Arc::clone(&parts.rules), parts.lane);
                *store = Some(lane.with_waits(Arc::clone(&parts.waits)));
            }
            if let Some(store) = store.as_mut() {
                let opened = store.open(&observer).await;
                parts.directory.router.tell(LaneOpened { lane: parts.lane, opened });
                // Rows that the predecessor committed without handing them over exist only in the table.
                parts.directory.delivery.tell(DeliverFromTable { rows: None });
            }
        };
        Box::pin(opening.into_actor(self))
    }
}

impl Handler<Envelope<ProcessBatch>> for FlowWorkerActor {
    type Result = ResponseActFuture<Self, Result<BatchOutcome, LaneFenced>>;

    fn handle(&mut self, envelope: Envelope<ProcessBatch>, _: &mut Self::Context) -> Self::Result {
        let (store, directory, observer) =
            (Rc::clone(&self.store), self.parts.directory.clone(), self.observer());
        let (born, stopped_flows) = (self.born, Rc::clone(&self.stopped_flows));
        let processing = async move {
            let (ProcessBatch { batch }, mut handling) = envelope.open();
            let batch = Arc::new(batch);
            handling.describe(Arc::clone(&batch));
            crash_point!("worker-batch");
            let mut store = store.lock().await;
            let never_opened = LaneFenced(LanePosition { epoch: 0, next_offset: 0 });
            let store = store.as_mut().ok_or(never_opened)?;
            let (mut done, failure) = match store.process(&batch, &observer).await {
                Ok(outcome) => (outcome, None),
                Err(BrokenOff { failure, done }) => (done, Some(failure)),
            };
            observer.observed.metrics.processed(&done.results);
            observer.observed.events.emit_results(&batch, &done.results);
            report_failures(&done, &mut handling);
            if stopped_flows.wants_reload(&done.results, born.elapsed()) {
                directory.registry.tell(ReloadFlows);
            }
            deliver(&directory, std::mem::take(&mut done.posts));
            failure.map_or(Ok(done), Err)
        };
        Box::pin(processing.into_actor(self).map(|reply, worker, context| {
            worker.prepare(context);
            reply
        }))
    }
}

/// Connects on the calling arbiter and retries until the database accepts. A lane has one transaction at a time; the
/// second connection replaces one that a lost transaction still occupies.
async fn connect(parts: &WorkerParts, observer: &WorkerObserver) -> Database {
    const RETRY: Duration = Duration::from_secs(1);
    let mut failures = 0;
    loop {
        match Database::connect_with(&parts.database, 2, parts.flow_lock_wait).await {
            Ok(database) => return database,
            Err(error) => {
                failures += 1;
                observer.failed(&error);
                observer.retrying(&error, failures, RETRY);
                tokio::time::sleep(RETRY).await;
            }
        }
    }
}

fn report_failures(outcome: &BatchOutcome, handling: &mut Handling) {
    let failures = outcome.results.iter().filter_map(|result| result.as_ref().err());
    for failure in failures {
        handling.fail(1);
        // A repeated message is an event, and has its line there.
        if let ProcessError::Rejected(rejection) = failure {
            log_rejection(rejection);
        }
    }
}

fn log_rejection(rejection: &Rejection) {
    let (topic, reason) = (rejection.topic.as_str(), rejection.reason.as_str());
    match &rejection.flow {
        Some((flow_id, Some(flow))) => log::error!(topic, flow_id, flow = &**flow, reason; "{rejection}"),
        Some((flow_id, None)) => log::error!(topic, flow_id, reason; "{rejection}"),
        None => log::error!(topic, reason; "{rejection}"),
    }
}

/// Hands committed messages to the delivery, or only their row ranges if its mailbox is full.
fn deliver(directory: &Directory, items: Vec<OutboxItem>) {
    if items.is_empty() {
        return;
    }
    let delivery = &directory.delivery;
    let weight = items.len();
    match (delivery.mailbox().try_enclose(Deliver { items }, weight), delivery.address()) {
        (Ok(envelope), Some(address)) => address.do_send(envelope),
        // A delivery that is down reads the table when it starts.
        (Ok(_), None) => {}
        (Err(Deliver { items }), _) => {
            delivery.tell(DeliverFromTable { rows: Some(CommittedRows::from_items(&items)) });
        }
    }
}

/// Publishes the state of the lane in its mailbox, the metrics and the log.
struct WorkerObserver {
    lane: Lane,
    mailbox: Arc<Mailbox>,
    observed: Arc<Telemetry>,
    fields: Arc<FieldRecorder>,
}

impl LaneObserver for WorkerObserver {
    fn failed(&self, error: &StoreError) {
        self.observed.metrics.database.failed(kind_of(error));
    }

    fn retrying(&self, error: &StoreError, failures: u32, delay: Duration) {
        self.mailbox.set_state(ActorState::Retrying);
        let (lane, delay_ms) = (self.lane, whole_milliseconds(delay));
        // The first failure and every tenth are errors; the failures between them are warnings.
        if failures == 1 || failures.is_multiple_of(10) {
            log::error!(lane, failures, retry_in_ms = delay_ms; "Database refuses, nothing is lost, trying again: {error}");
        } else {
            log::warn!(lane, failures, retry_in_ms = delay_ms; "Database still refuses: {error}");
        }
    }

    fn progressing(&self) {
        self.mailbox.count_transaction();
        self.mailbox.set_state(ActorState::Running);
        self.observed.metrics.database.mark_up();
    }

    fn committed(&self, transaction: Committed) {
        let Committed { took, messages, bytes } = transaction;
        self.observed.metrics.database.committed(took, messages, bytes);
    }

    fn processed(&self, messages: &mut dyn Iterator<Item = ProcessedMessage<'_>>, outcome: &BatchOutcome) {
        self.fields.note(self.lane, messages, outcome);
    }

    fn deferred(&self, lagging: LaggingFlow, code: &str) {
        let LaggingFlow { flow: flow_id, next_offset } = lagging;
        log::warn!(lane = self.lane, flow_id, flow = code, next_offset; "Flow {code} is locked by somebody else: its messages wait, the others of its lane go on");
    }

    fn set_aside(&self, flow: LaggingFlow, code: &str, refused: u32, refusal: &StoreError) {
        let LaggingFlow { flow: flow_id, next_offset } = flow;
        log::error!(
            lane = self.lane, flow_id, flow = code, next_offset, refused;
            "Flow {code} is set aside: the database has refused {refused} of its messages in a row. The next ones wait \
             in the inbox, the other flows of its lane go on. Mend the constraint or the trigger; or disable the flow, \
             and they become dead letters (flow_disabled). {refusal}"
        );
    }

    fn rejoined(&self, flow_id: FlowId) {
        log::info!(lane = self.lane, flow_id; "A flow that was left behind has caught up with its lane");
    }
}
