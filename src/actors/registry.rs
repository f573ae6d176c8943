//! Knows the flows: reads them from the database, and makes router and broker follow.
//!
//! One settlement at a time. What comes in meanwhile is remembered and settled next, so that
//! table and subscriptions never overtake each other:
//!
//! ```text
//!   flows read ─▶ table of old and new ─▶ SUBSCRIBE new ─▶ UNSUBSCRIBE old, UNSUBACK ─▶ new table
//! ```
//!
//! A filter that stays with other flows than before is subscribed again, by an identifier that stands for these.
//!
//! Which of the flows are this gateway's own, where there are others, `membership` says.

mod membership;
mod reading;
mod settlement;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use tokio::sync::{Mutex, oneshot};

use self::membership::Membership;
pub use self::membership::Replica;
use self::reading::refresh;
use self::settlement::{Granted, Settled, Settlement};
use super::directory::Directory;
use super::life::Life;
use super::mailbox::{ActorState, Envelope};
use super::messages::{
    AnnounceConnection, AnnounceTable, AwaitHandover, ConnectionEstablished, ConnectionLost, HandedOver,
    ReloadFlows,
};
use super::report::kind_of;
use crate::domain::active_flows::ActiveFlows;
use crate::domain::flow::Flow;
use crate::domain::message::FlowId;
use crate::domain::replicas::Role;
use crate::domain::retry::jittered;
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::topic::TopicFilter;
use crate::observe::Telemetry;
use crate::settings::DatabaseSettings;
use crate::store::Database;

/// How soon to try again while there is no table at all, or the broker did not follow.
const RETRY: Duration = Duration::from_secs(1);

/// Flows that become active together and are named, a line for each.
const NAMED_ACTIVE: usize = 20;

/// The keeper of the flows.
#[derive(Debug)]
pub struct FlowRegistryActor {
    life: Life,
    parts: RegistryParts,
    database: Rc<Mutex<Option<Database>>>,
    /// The flows in force; `None` until they were read once.
    flows: Option<Vec<Flow>>,
    /// Flows as they were before an edit or their end, until the broker has confirmed that nothing
    /// more comes by their filters.
    leaving: Vec<Flow>,
    /// Why flows are not subscribed, by flow: to log it once and not at every reload.
    rejections: BTreeMap<FlowId, String>,
    session: Session,
    /// Of which flows it was said that they are subscribed.
    active: ActiveFlows,
    membership: Membership,
    /// Who waits until others have all flows of a gateway that goes for good.
    awaiting_handover: Vec<oneshot::Sender<HandedOver>>,
    settling: bool,
    work: Work,
}

/// What a registry is made of; the factory keeps it for the next one.
#[derive(Debug, Clone)]
pub struct RegistryParts {
    /// Where the flows stand.
    pub database: DatabaseSettings,
    /// Time between two reloads.
    pub reload_interval: Duration,
    /// Dead letters above which the log warns.
    pub dead_letters_warn_rows: u64,
    /// Where the others are.
    pub directory: Directory,
    /// What this gateway is among others on the same database.
    pub replica: Replica,
    /// Where it shows which flows there are, and that the broker has followed.
    pub observed: Arc<Telemetry>,
}

/// What the broker holds for us.
#[derive(Debug, Clone, Default)]
struct Session {
    connected: bool,
    /// What the broker said when it was.
    terms: ConnectionEstablished,
    holds: Holds,
}

/// What the broker has answered to what was wanted.
#[derive(Debug, Clone, Default)]
struct Holds {
    subscribed: Subscriptions,
    refused: BTreeSet<TopicFilter>,
}

/// What is to be settled next.
#[derive(Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
struct Work {
    reload: bool,
    /// How the other gateways stand.
    look: bool,
    resync: bool,
    announce: bool,
}

impl Holds {
    /// Where the broker names no subscriptions, a filter may stand for several flows, and all are wanted.
    fn have_subscribed(&self, flow: &Flow, names_subscriptions: bool) -> bool {
        let Ok(filter) = TopicFilter::parse(&flow.topic) else { return false };
        let stands_for_it = |other: &TopicFilter| other.covers(&filter);
        self.subscribed.contains_key(&filter)
            || !(names_subscriptions || self.subscribed.is_empty() || self.refused.iter().any(stands_for_it))
    }
}

impl FlowRegistryActor {
    /// A registry; it reads the flows when it has started.
    #[must_use]
    pub fn new(life: Life, parts: RegistryParts) -> Self {
        Self {
            life,
            membership: Membership::new(parts.replica.clone()),
            awaiting_handover: Vec::new(),
            parts,
            database: Rc::default(),
            flows: None,
            leaving: Vec::new(),
            rejections: BTreeMap::new(),
            session: Session::default(),
            active: ActiveFlows::default(),
            settling: false,
            work: Work::default(),
        }
    }

    fn settle(&mut self, context: &mut Context<Self>) {
        if self.settling || self.work == Work::default() || self.life.is_over() {
            return;
        }
        self.settling = true;
        let work = std::mem::take(&mut self.work);
        let settlement = Settlement {
            directory: self.parts.directory.clone(),
            observed: Arc::clone(&self.parts.observed),
            before: self.flows.clone(),
            leaving: self.leaving.clone(),
            known_rejections: self.rejections.clone(),
            session: self.session.clone(),
            group: self.membership.role().group().cloned(),
            resync: work.resync,
            announce: work.announce,
        };
        let (database, parts) = (Rc::clone(&self.database), self.parts.clone());
        let mut membership = self.membership.clone();
        let settling = async move {
            let before = settlement.before.as_deref();
            let refreshed = refresh(&mut membership, &database, &parts, &work, before).await;
            if let Err(error) = &refreshed {
                parts.observed.metrics.database.failed(kind_of(error));
            }
            let failed = refreshed.as_ref().err().map(ToString::to_string);
            let flows = refreshed.ok().flatten();
            (settlement.run(flows, &membership, work.is_only_a_look()).await, membership, failed)
        };
        context.spawn(settling.into_actor(self).map(|(settled, membership, failed), registry, context| {
            registry.membership = membership;
            registry.settled(context, settled, failed);
        }));
    }

    fn settled(&mut self, context: &mut Context<Self>, settled: Settled, failed: Option<String>) {
        crash_point!("registry-settled");
        self.settling = false;
        match failed {
            Some(error) => {
                log::error!("Error reloading flows: {error}; the flows in force stay");
                self.life.mailbox().set_state(ActorState::Retrying);
            }
            None => self.life.mailbox().set_state(ActorState::Running),
        }
        self.flows = settled.flows.or(self.flows.take());
        self.leaving = settled.leaving;
        self.rejections = settled.rejections.unwrap_or(std::mem::take(&mut self.rejections));
        if self.flows.is_none() {
            // Nothing was settled: what the broker kept of an earlier run is still to be looked at.
            self.work.resync |= self.session.connected;
            context.run_later(RETRY, Self::reload);
            return;
        }
        self.note_granted(settled.granted);
        if let Some(holds) = settled.holds {
            self.session.holds = holds;
            if settled.granted.is_some() {
                self.say_what_is_active();
            }
            self.settle(context);
        } else {
            self.work.resync |= self.session.connected;
            context.run_later(RETRY, Self::settle);
        }
    }

    /// A message that is published before its flow is subscribed does not come, so the log says when each one is.
    fn say_what_is_active(&mut self) {
        let Session { connected: true, terms, holds } = &self.session else { return };
        let flows = self.flows.iter().flatten();
        let active = flows.filter(|flow| holds.have_subscribed(flow, terms.names_subscriptions));
        let new = self.active.replace(active);
        for flow in new.iter().take(NAMED_ACTIVE) {
            let (flow_id, code, topic) = (flow.id, &*flow.code, &*flow.topic);
            log::info!(flow_id, flow = code; "Flow {code} is active: {topic:?} is subscribed");
        }
        if new.len() > NAMED_ACTIVE {
            log::info!(flows = new.len() - NAMED_ACTIVE; "So many more flows are active");
        }
    }

    fn reload(&mut self, context: &mut Context<Self>) {
        self.work.reload = true;
        self.settle(context);
    }

    /// A connection that came meanwhile has not been dealt with, and one that went holds nothing for sure.
    fn note_granted(&mut self, granted: Option<Granted>) {
        let is_sure = self.session.connected && !self.work.resync;
        if !is_sure {
            self.membership.are_subscribed(false);
        } else if let Some(granted) = granted {
            let complete = granted == Granted::All;
            self.membership.are_subscribed(complete);
            self.parts.observed.health.set_subscribed(granted != Granted::Nothing);
            if complete && self.has_handed_over_all() {
                let handed_over = HandedOver {
                    session_kept: self.session.terms.session_kept,
                    has_book: self.membership.has_book(),
                };
                // Whoever gave up waiting does not need to know.
                self.awaiting_handover.drain(..).for_each(|waiting| _ = waiting.send(handed_over));
            }
        }
        self.work.look |= self.membership.has_news();
    }

    /// What the broker has not kept, nobody can take over.
    fn has_handed_over_all(&self) -> bool {
        let has_none = self.flows.as_ref().is_some_and(Vec::is_empty) && self.leaving.is_empty();
        *self.membership.role() == Role::Leaving && (has_none || !self.session.terms.session_kept)
    }

    /// The first time after a part of the interval: replicas that were started together do not reload together.
    fn reload_later(context: &mut Context<Self>, wait: Duration) {
        context.run_later(wait, |registry, context| {
            context.notify(registry.life.mailbox().enclose(ReloadFlows));
            let next = jittered(registry.parts.reload_interval, rand::random());
            Self::reload_later(context, next);
        });
    }

    fn look_later(&self, context: &mut Context<Self>) {
        let wait = jittered(self.membership.time_between_looks(), rand::random());
        context.run_later(wait, |registry, context| {
            registry.work.look |= registry.membership.takes_part();
            registry.settle(context);
            registry.look_later(context);
        });
    }
}

impl Work {
    fn is_only_a_look(&self) -> bool {
        self.look && !self.reload && !self.resync && !self.announce
    }
}

impl Actor for FlowRegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.life.keep_beating(context);
        Self::reload_later(context, self.parts.reload_interval.mul_f64(rand::random()));
        self.look_later(context);
        context.notify(self.life.mailbox().enclose(ReloadFlows));
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

impl Handler<Envelope<ConnectionEstablished>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<ConnectionEstablished>, context: &mut Self::Context) {
        let (terms, _handling) = envelope.open();
        if !terms.session_kept {
            self.active = ActiveFlows::default();
        }
        self.session = Session { connected: true, terms, holds: Holds::default() };
        self.membership.are_subscribed(false);
        // A settlement of the connection before may have ended meanwhile.
        self.parts.observed.health.set_subscribed(false);
        self.work.resync = true;
        self.settle(context);
    }
}

impl Handler<Envelope<ConnectionLost>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<ConnectionLost>, _: &mut Self::Context) {
        let (ConnectionLost, _handling) = envelope.open();
        self.session = Session::default();
        self.membership.are_subscribed(false);
        // A settlement may have ended between the loss and this word of it.
        self.parts.observed.health.set_subscribed(false);
    }
}

impl Handler<Envelope<AnnounceTable>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<AnnounceTable>, context: &mut Self::Context) {
        let (AnnounceTable, _handling) = envelope.open();
        self.work.announce = true;
        self.settle(context);
    }
}

impl Handler<Envelope<AwaitHandover>> for FlowRegistryActor {
    type Result = ResponseFuture<Option<HandedOver>>;

    fn handle(&mut self, envelope: Envelope<AwaitHandover>, context: &mut Self::Context) -> Self::Result {
        let (AwaitHandover, handling) = envelope.open();
        let (sender, handed_over) = oneshot::channel();
        self.awaiting_handover.push(sender);
        // It may be over already.
        self.work.resync |= self.session.connected;
        self.settle(context);
        Box::pin(async move {
            drop(handling);
            handed_over.await.ok()
        })
    }
}
