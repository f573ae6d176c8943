//! Loads the flows from the database and keeps the routing table and the broker's subscriptions consistent with them.
//!
//! One reconciliation runs at a time. Work that arrives meanwhile is queued for the next one, so that table and
//! subscriptions never overtake each other:
//!
//! ```text
//!   flows read ─▶ table of old and new ─▶ SUBSCRIBE new ─▶ UNSUBSCRIBE old, UNSUBACK ─▶ new table
//! ```
//!
//! A filter whose set of flows changes is subscribed again, with an identifier for the new set.
//!
//! [`Membership`] decides which flows belong to this gateway when several share the database.

mod membership;
mod reading;
mod reconciliation;
mod records;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use tokio::sync::{Mutex, oneshot};

use self::reading::refresh;
use self::reconciliation::{Granted, Reconciled, Reconciliation};
pub use self::records::Records;
use super::actor_guard::ActorGuard;
use super::directory::Directory;
use super::mailbox::{ActorState, Envelope};
use super::messages::{
    AnnounceConnection, AnnounceTable, AwaitHandover, ConnectionLost, HandedOver, ReloadFlows,
};
use super::report::kind_of;
use crate::domain::active_flows::ActiveFlows;
use crate::domain::broker::BrokerConnection;
use crate::domain::flow::Flow;
use crate::domain::message::FlowId;
use crate::domain::replicas::{Membership, Replica, Role};
use crate::domain::retry::jittered;
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::topic::TopicFilter;
use crate::observe::Telemetry;
use crate::settings::DatabaseSettings;
use crate::store::Database;

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
    /// The flows in force; `None` until the first successful load.
    flows: Option<Vec<Flow>>,
    /// Former versions of edited or removed flows. They are routed until the broker confirms that their filters are
    /// unsubscribed.
    leaving: Vec<Flow>,
    /// Reason for which a flow is not subscribed, by flow; avoids logging it at every reload.
    rejections: BTreeMap<FlowId, String>,
    session: BrokerSession,
    /// Flows that were logged as subscribed.
    active: ActiveFlows,
    membership: Membership,
    /// Zero of the times that the decisions get.
    clock: Instant,
    /// Callers that wait until other gateways have taken over all flows of this retiring gateway.
    awaiting_handover: Vec<oneshot::Sender<HandedOver>>,
    reconciling: bool,
    work: PendingWork,
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

/// The broker's session of this gateway.
#[derive(Debug, Clone, Default)]
struct BrokerSession {
    connected: bool,
    /// Properties of the connection, from the CONNACK.
    terms: BrokerConnection,
    holds: Holds,
}

/// The broker's answers to the requested subscriptions.
#[derive(Debug, Clone, Default)]
struct Holds {
    subscribed: Subscriptions,
    refused: BTreeSet<TopicFilter>,
}

/// Work for the next reconciliation.
#[derive(Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
struct PendingWork {
    reload: bool,
    /// Read the state of the other gateways.
    membership: bool,
    resync: bool,
    announce: bool,
}

impl Holds {
    /// Without subscription identifiers one filter may cover several flows. A flow then counts as subscribed unless a
    /// covering filter was refused.
    fn has_subscribed(&self, flow: &Flow, names_subscriptions: bool) -> bool {
        let Ok(filter) = TopicFilter::parse(&flow.topic) else { return false };
        let covers_it = |other: &TopicFilter| other.covers(&filter);
        self.subscribed.contains_key(&filter)
            || !(names_subscriptions || self.subscribed.is_empty() || self.refused.iter().any(covers_it))
    }
}

impl FlowRegistryActor {
    /// Creates a registry. It loads the flows in `started`.
    #[must_use]
    pub fn new(guard: ActorGuard, parts: RegistryParts) -> Self {
        Self {
            guard,
            membership: Membership::new(parts.replica.clone()),
            clock: Instant::now(),
            awaiting_handover: Vec::new(),
            parts,
            database: Rc::default(),
            flows: None,
            leaving: Vec::new(),
            rejections: BTreeMap::new(),
            session: BrokerSession::default(),
            active: ActiveFlows::default(),
            reconciling: false,
            work: PendingWork::default(),
        }
    }

    fn reconcile(&mut self, context: &mut Context<Self>) {
        if self.reconciling || self.work == PendingWork::default() || self.guard.is_superseded() {
            return;
        }
        self.reconciling = true;
        let work = std::mem::take(&mut self.work);
        let reconciliation = Reconciliation {
            directory: self.parts.directory.clone(),
            observed: Arc::clone(&self.parts.observed),
            records: self.parts.records.clone(),
            before: self.flows.clone(),
            leaving: self.leaving.clone(),
            known_rejections: self.rejections.clone(),
            session: self.session.clone(),
            group: self.membership.role().group().cloned(),
            resync: work.resync,
            announce: work.announce,
        };
        let (database, parts, now) = (Rc::clone(&self.database), self.parts.clone(), self.clock.elapsed());
        let mut membership = self.membership.clone();
        let reconciling = async move {
            let before = reconciliation.before.as_deref();
            let refreshed = refresh(&mut membership, &database, &parts, &work, before, now).await;
            if let Err(error) = &refreshed {
                parts.observed.metrics.database.failed(kind_of(error));
            }
            let failed = refreshed.as_ref().err().map(ToString::to_string);
            let flows = refreshed.ok().flatten();
            (reconciliation.run(flows, &membership, work.is_only_membership()).await, membership, failed)
        };
        context.spawn(reconciling.into_actor(self).map(
            |(reconciled, membership, failed), registry, context| {
                registry.membership = membership;
                registry.apply(context, reconciled, failed);
            },
        ));
    }

    fn apply(&mut self, context: &mut Context<Self>, reconciled: Reconciled, failed: Option<String>) {
        crash_point!("registry-settled");
        self.reconciling = false;
        match failed {
            Some(error) => {
                log::error!("Error reloading flows: {error}; the flows in force stay");
                self.guard.mailbox().set_state(ActorState::Retrying);
            }
            None => self.guard.mailbox().set_state(ActorState::Running),
        }
        self.flows = reconciled.flows.or(self.flows.take());
        self.leaving = reconciled.leaving;
        self.rejections = reconciled.rejections.unwrap_or(std::mem::take(&mut self.rejections));
        if self.flows.is_none() {
            // The reconciliation did not run, so subscriptions kept from an earlier session have not been checked.
            self.work.resync |= self.session.connected;
            context.run_later(RETRY_DELAY, Self::reload);
            return;
        }
        self.publish_granted(reconciled.granted);
        if let Some(holds) = reconciled.holds {
            self.session.holds = holds;
            if reconciled.granted.is_some() {
                self.log_active_flows();
            }
            self.reconcile(context);
        } else {
            self.work.resync |= self.session.connected;
            context.run_later(RETRY_DELAY, Self::reconcile);
        }
    }

    /// Logs the flows that became active. A message published before its flow is subscribed is not received.
    fn log_active_flows(&mut self) {
        let BrokerSession { connected: true, terms, holds } = &self.session else { return };
        let flows = self.flows.iter().flatten();
        let active = flows.filter(|flow| holds.has_subscribed(flow, terms.names_subscriptions));
        let new = self.active.replace(active);
        for flow in new.iter().take(MAX_NAMED_ACTIVE) {
            let (flow_id, code, topic) = (flow.id, &*flow.code, &*flow.topic);
            log::info!(flow_id, flow = code; "Flow {code} is active: {topic:?} is subscribed");
        }
        if new.len() > MAX_NAMED_ACTIVE {
            let flows = new.len() - MAX_NAMED_ACTIVE;
            log::info!(flows; "{flows} more flows are active");
        }
    }

    fn reload(&mut self, context: &mut Context<Self>) {
        self.work.reload = true;
        self.reconcile(context);
    }

    /// Publishes the granted subscriptions, unless the connection was lost or replaced during the reconciliation.
    fn publish_granted(&mut self, granted: Option<Granted>) {
        let is_current = self.session.connected && !self.work.resync;
        if !is_current {
            self.membership.set_subscribed(false);
        } else if let Some(granted) = granted {
            let complete = granted == Granted::All;
            self.membership.set_subscribed(complete);
            self.parts.observed.health.set_subscribed(granted != Granted::Nothing);
            if complete && self.has_handed_over_all() {
                let handed_over = HandedOver {
                    session_kept: self.session.terms.session_kept,
                    has_record: self.parts.records.has_subscriptions(),
                };
                // A caller that timed out has dropped its receiver.
                self.awaiting_handover.drain(..).for_each(|waiting| _ = waiting.send(handed_over));
            }
        }
        self.work.membership |= self.membership.needs_update();
    }

    /// Whether other gateways have all flows of this retiring gateway. A session that the broker did not keep holds
    /// nothing to hand over.
    fn has_handed_over_all(&self) -> bool {
        let has_none = self.flows.as_ref().is_some_and(Vec::is_empty) && self.leaving.is_empty();
        *self.membership.role() == Role::Leaving && (has_none || !self.session.terms.session_kept)
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

    fn schedule_membership_update(&self, context: &mut Context<Self>) {
        let wait = jittered(self.membership.update_interval(), rand::random());
        context.run_later(wait, |registry, context| {
            registry.work.membership |= registry.membership.participates();
            registry.reconcile(context);
            registry.schedule_membership_update(context);
        });
    }
}

impl PendingWork {
    fn is_only_membership(&self) -> bool {
        self.membership && !self.reload && !self.resync && !self.announce
    }
}

impl Actor for FlowRegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.guard.start_heartbeat(context);
        Self::schedule_reload(context, self.parts.reload_interval.mul_f64(rand::random()));
        self.schedule_membership_update(context);
        context.notify(self.guard.mailbox().enclose(ReloadFlows));
        self.parts.directory.mqtt.tell(AnnounceConnection);
    }
}

impl Handler<Envelope<ReloadFlows>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<ReloadFlows>, context: &mut Self::Context) {
        let (ReloadFlows, _handling) = envelope.open();
        self.reload(context);
    }
}

impl Handler<Envelope<BrokerConnection>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<BrokerConnection>, context: &mut Self::Context) {
        let (terms, _handling) = envelope.open();
        if !terms.session_kept {
            self.active = ActiveFlows::default();
        }
        self.session = BrokerSession { connected: true, terms, holds: Holds::default() };
        self.membership.set_subscribed(false);
        // A reconciliation of the previous connection may have ended meanwhile.
        self.parts.observed.health.set_subscribed(false);
        self.work.resync = true;
        self.reconcile(context);
    }
}

impl Handler<Envelope<ConnectionLost>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<ConnectionLost>, _: &mut Self::Context) {
        let (ConnectionLost, _handling) = envelope.open();
        self.session = BrokerSession::default();
        self.membership.set_subscribed(false);
        // A reconciliation may have ended between the loss and this message.
        self.parts.observed.health.set_subscribed(false);
    }
}

impl Handler<Envelope<AnnounceTable>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<AnnounceTable>, context: &mut Self::Context) {
        let (AnnounceTable, _handling) = envelope.open();
        self.work.announce = true;
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
        self.work.resync |= self.session.connected;
        self.reconcile(context);
        Box::pin(async move {
            drop(handling);
            handed_over.await.ok()
        })
    }
}
