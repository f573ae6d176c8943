//! Loads the flows from the database and keeps the routing table and the broker's subscriptions consistent with them.
//!
//! [`Reconciliation`] decides the steps of each pass. [`Membership`] decides which flows belong to this gateway when
//! several share the database.

mod edits;
mod membership;
mod reading;
mod reconciliation;
mod records;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use tokio::sync::{Mutex, oneshot};

use self::edits::{EditWatch, REVISION_INTERVAL};
use self::membership::log_events;
use self::reading::refresh;
use self::reconciliation::perform;
pub use self::records::Records;
use super::actor_guard::ActorGuard;
use super::directory::Directory;
use super::mailbox::{ActorState, Envelope};
use super::messages::{
    AnnounceConnection, AnnounceTable, AwaitHandover, ConnectionLost, HandedOver, ReloadFlows,
};
use super::report::kind_of;
use crate::domain::broker::BrokerConnection;
use crate::domain::flow::Flow;
use crate::domain::reconciliation::{Pass, Reconciliation, SubscriptionRecord};
use crate::domain::replicas::{Membership, Replica};
use crate::domain::retry::jittered;
use crate::observe::Telemetry;
use crate::settings::DatabaseSettings;
use crate::store::{Database, StoreError, answer_timeout, with_timeout};

/// Delay before a retry while no flows are loaded or the broker has not confirmed the subscriptions.
const RETRY_DELAY: Duration = Duration::from_secs(1);

/// Maximum number of newly active flows that get a log line each.
const MAX_NAMED_ACTIVE: usize = 20;

/// Loads the flows and reconciles routing table and subscriptions.
#[derive(Debug)]
pub struct FlowRegistryActor {
    guard: ActorGuard,
    parts: RegistryParts,
    database: Rc<Mutex<Option<Database>>>,
    /// `None` while the tables are read.
    edits: Option<EditWatch>,
    reconciliation: Reconciliation,
    /// Zero of the times that the decisions get.
    clock: Instant,
    /// Callers that wait until other gateways have taken over all flows of this retiring gateway.
    awaiting_handover: Vec<oneshot::Sender<HandedOver>>,
}

/// Dependencies of the registry; the factory keeps them for a restart.
#[derive(Debug, Clone)]
pub struct RegistryParts {
    /// The database of the flows.
    pub database: DatabaseSettings,
    /// Interval between two reloads.
    pub reload_interval: Duration,
    /// Number of dead letters above which the log warns.
    pub dead_letters_warn_rows: u64,
    /// Addresses of the other actors.
    pub directory: Directory,
    /// This gateway's role among the gateways on the same database.
    pub replica: Replica,
    /// Records of earlier subscriptions.
    pub records: Records,
    /// Receives the loaded flows and the state of the subscriptions.
    pub observed: Arc<Telemetry>,
}

impl FlowRegistryActor {
    /// Creates a registry. It loads the flows in `started`.
    #[must_use]
    pub fn new(guard: ActorGuard, parts: RegistryParts) -> Self {
        Self {
            guard,
            reconciliation: Reconciliation::new(Membership::new(parts.replica.clone())),
            parts,
            database: Rc::default(),
            edits: Some(EditWatch::default()),
            clock: Instant::now(),
            awaiting_handover: Vec::new(),
        }
    }

    fn reconcile(&mut self, context: &mut Context<Self>) {
        if self.guard.is_superseded() {
            return;
        }
        let Some(mut pass) = self.reconciliation.start() else { return };
        let (database, parts, now) = (Rc::clone(&self.database), self.parts.clone(), self.clock.elapsed());
        let reconciling = async move {
            let refreshed = refresh(&mut pass, &database, &parts, now).await;
            if let Err(error) = &refreshed {
                parts.observed.metrics.database.failed(kind_of(error));
            }
            let failed = refreshed.as_ref().err().map(ToString::to_string);
            pass.plan(refreshed.unwrap_or(false), &parts.records, now);
            log_events(&mut pass.state.membership);
            perform(&mut pass, &parts).await;
            (pass, failed)
        };
        context.spawn(
            reconciling
                .into_actor(self)
                .map(|(pass, failed), registry, context| registry.apply(context, pass, failed)),
        );
    }

    fn apply(&mut self, context: &mut Context<Self>, pass: Pass, failed: Option<String>) {
        crash_point!("registry-settled");
        match failed {
            Some(error) => {
                log::error!("Error reloading flows: {error}; the flows in force stay");
                self.guard.mailbox().set_state(ActorState::Retrying);
            }
            None => self.guard.mailbox().set_state(ActorState::Running),
        }
        let result = self.reconciliation.finish(pass);
        if let Some(is_subscribed) = result.is_subscribed {
            self.parts.observed.health.set_subscribed(is_subscribed);
        }
        if result.has_handed_over {
            let handed_over = HandedOver {
                session_kept: self.reconciliation.terms().session_kept,
                has_record: self.parts.records.exists(),
            };
            // A caller that timed out has dropped its receiver.
            self.awaiting_handover.drain(..).for_each(|waiting| _ = waiting.send(handed_over));
        }
        log_active_flows(&result.newly_active);
        if result.needs_retry {
            context.run_later(RETRY_DELAY, Self::reconcile);
        } else {
            self.reconcile(context);
        }
    }

    /// Schedules periodic reloads. The first delay is random, so that replicas started together reload at different
    /// times.
    fn schedule_reload(context: &mut Context<Self>, wait: Duration) {
        context.run_later(wait, |registry, context| {
            context.notify(registry.guard.mailbox().enclose(ReloadFlows));
            let next = jittered(registry.parts.reload_interval, rand::random());
            Self::schedule_reload(context, next);
        });
    }

    /// Reloads the flows soon after an edit, and again after a failure.
    fn look_for_edits(&mut self, context: &mut Context<Self>) {
        let Some(mut edits) = self.edits.take() else { return };
        let database = Rc::clone(&self.database);
        let looking = async move {
            let found = match &mut *database.lock().await {
                Some(database) => look(&mut edits, database).await,
                None => Ok(false),
            };
            (edits, found)
        };
        context.spawn(looking.into_actor(self).map(|(edits, found), registry, context| {
            registry.edits = Some(edits);
            match found {
                // The edit that caused a failed reload is found no second time.
                Ok(is_edited) if is_edited || registry.reconciliation.is_outdated() => {
                    context.notify(registry.guard.mailbox().enclose(ReloadFlows));
                }
                Ok(_) => {}
                // The next reload reports it.
                Err(error) => log::debug!("Cannot look for edits of flows: {error}"),
            }
        }));
    }

    fn schedule_membership_update(&self, context: &mut Context<Self>) {
        let wait = jittered(self.reconciliation.membership.update_interval(), rand::random());
        context.run_later(wait, |registry, context| {
            let Reconciliation { work, membership, .. } = &mut registry.reconciliation;
            work.membership |= membership.row().is_some();
            registry.reconcile(context);
            registry.schedule_membership_update(context);
        });
    }
}

/// Looks for edits. Renews the connections after an error, because the next reload may be far away.
async fn look(edits: &mut EditWatch, database: &mut Database) -> Result<bool, StoreError> {
    let found = with_timeout(answer_timeout(), edits.look(database)).await;
    if let Err(error) = &found {
        database.recover(error).await?;
    }
    found
}

/// Logs the flows that became active.
fn log_active_flows(new: &[Flow]) {
    for flow in new.iter().take(MAX_NAMED_ACTIVE) {
        let (flow_id, code, topic) = (flow.id, &*flow.code, &*flow.topic);
        log::info!(flow_id, flow = code; "Flow {code} is active: {topic:?} is subscribed");
    }
    if new.len() > MAX_NAMED_ACTIVE {
        let flows = new.len() - MAX_NAMED_ACTIVE;
        log::info!(flows; "{flows} more flows are active");
    }
}

impl Actor for FlowRegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.guard.start_heartbeat(context);
        Self::schedule_reload(context, self.parts.reload_interval.mul_f64(rand::random()));
        self.schedule_membership_update(context);
        context.run_interval(REVISION_INTERVAL, Self::look_for_edits);
        context.notify(self.guard.mailbox().enclose(ReloadFlows));
        self.parts.directory.mqtt.tell(AnnounceConnection);
    }
}

impl Handler<Envelope<ReloadFlows>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<ReloadFlows>, context: &mut Self::Context) {
        let (ReloadFlows, _handling) = envelope.open();
        self.reconciliation.work.reload = true;
        self.reconcile(context);
    }
}

impl Handler<Envelope<BrokerConnection>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<BrokerConnection>, context: &mut Self::Context) {
        let (connection, _handling) = envelope.open();
        self.reconciliation.connect(connection);
        // A reconciliation of the previous connection may have ended meanwhile.
        self.parts.observed.health.set_subscribed(false);
        self.reconcile(context);
    }
}

impl Handler<Envelope<ConnectionLost>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<ConnectionLost>, _: &mut Self::Context) {
        let (ConnectionLost, _handling) = envelope.open();
        self.reconciliation.disconnect();
        // A reconciliation may have ended between the loss and this message.
        self.parts.observed.health.set_subscribed(false);
    }
}

impl Handler<Envelope<AnnounceTable>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<AnnounceTable>, context: &mut Self::Context) {
        let (AnnounceTable, _handling) = envelope.open();
        self.reconciliation.work.announce = true;
        self.reconcile(context);
    }
}

impl Handler<Envelope<AwaitHandover>> for FlowRegistryActor {
    type Result = ResponseFuture<Option<HandedOver>>;

    fn handle(&mut self, envelope: Envelope<AwaitHandover>, context: &mut Self::Context) -> Self::Result {
        let (AwaitHandover, handling) = envelope.open();
        let (sender, handed_over) = oneshot::channel();
        self.awaiting_handover.push(sender);
        // The handover may be complete already.
        self.reconciliation.resync();
        self.reconcile(context);
        Box::pin(async move {
            drop(handling);
            handed_over.await.ok()
        })
    }
}
