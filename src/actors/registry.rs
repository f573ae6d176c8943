//! Knows the flows: reads them from the database, and makes router and broker follow.
//!
//! One settlement at a time. What comes in meanwhile is remembered and settled next, so that
//! table and subscriptions never overtake each other:
//!
//! ```text
//!   flows read ─▶ table of old and new ─▶ SUBSCRIBE new ─▶ UNSUBSCRIBE old, UNSUBACK ─▶ new table
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, WrapFuture};
use tokio::sync::Mutex;

use super::directory::Directory;
use super::life::Life;
use super::mailbox::{ActorState, Envelope};
use super::messages::{
    AnnounceConnection, AnnounceTable, ConnectionEstablished, ConnectionLost, NewRoutingTable, ReloadFlows,
    ResyncSubscriptions, Subscribe, SubscribeError, SubscribeOutcome, Unsubscribe,
};
use super::report::kind_of;
use crate::domain::flow::Flow;
use crate::domain::flow_diff::{FlowDiff, diff, leaving};
use crate::domain::message::FlowId;
use crate::domain::routing::RoutingTable;
use crate::domain::subscription_plan::plan;
use crate::domain::topic::TopicFilter;
use crate::observe::Observed;
use crate::settings::DatabaseSettings;
use crate::store::{Database, StoreError, answered, load_flows, load_limits, running_out, silence};

/// How soon to try again while there is no table at all, or the broker did not follow.
const RETRY: Duration = Duration::from_secs(1);

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
    /// Where the others are.
    pub directory: Directory,
    /// Where it shows which flows there are, and that the broker has followed.
    pub observed: Arc<Observed>,
}

/// What the broker holds for us.
#[derive(Debug, Clone, Default)]
struct Session {
    connected: bool,
    names_subscriptions: bool,
    subscribed: BTreeSet<TopicFilter>,
}

/// What is to be settled next.
#[derive(Debug, Default, PartialEq, Eq)]
struct Work {
    reload: bool,
    resync: bool,
    announce: bool,
}

/// What one settlement came to.
struct Settled {
    flows: Option<Vec<Flow>>,
    leaving: Vec<Flow>,
    rejections: Option<BTreeMap<FlowId, String>>,
    /// `None` when the connection went meanwhile: the next connect resynchronises everything.
    subscribed: Option<BTreeSet<TopicFilter>>,
}

impl FlowRegistryActor {
    /// A registry; it reads the flows when it has started.
    #[must_use]
    pub fn new(life: Life, parts: RegistryParts) -> Self {
        Self {
            life,
            parts,
            database: Rc::default(),
            flows: None,
            leaving: Vec::new(),
            rejections: BTreeMap::new(),
            session: Session::default(),
            settling: false,
            work: Work::default(),
        }
    }

    fn settle(&mut self, context: &mut Context<Self>) {
        if self.settling || self.work == Work::default() {
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
            resync: work.resync,
            announce: work.announce,
        };
        let (database, settings) = (Rc::clone(&self.database), self.parts.database.clone());
        let observed = Arc::clone(&self.parts.observed);
        let settling = async move {
            let read = if work.reload || settlement.before.is_none() {
                read_flows(&database, &settings).await.map(Some)
            } else {
                Ok(None)
            };
            if let Err(error) = &read {
                observed.metrics.database.failed(kind_of(error));
            }
            let failed = read.as_ref().err().map(ToString::to_string);
            (settlement.run(read.ok().flatten()).await, failed)
        };
        context.spawn(settling.into_actor(self).map(|(settled, failed), registry, context| {
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
            context.run_later(RETRY, Self::reload);
            return;
        }
        if let Some(subscribed) = settled.subscribed {
            self.session.subscribed = subscribed;
            // What was settled on an earlier connection says nothing of this one.
            if self.session.connected && !self.work.resync {
                self.parts.observed.health.subscribed();
            }
            self.settle(context);
        } else {
            self.parts.observed.health.not_subscribed();
            self.work.resync |= self.session.connected;
            context.run_later(RETRY, Self::settle);
        }
    }

    fn reload(&mut self, context: &mut Context<Self>) {
        self.work.reload = true;
        self.settle(context);
    }
}

impl Actor for FlowRegistryActor {
    type Context = Context<Self>;

    fn started(&mut self, context: &mut Self::Context) {
        self.life.keep_beating(context);
        context.run_interval(self.parts.reload_interval, |registry, context| {
            context.notify(registry.life.mailbox().enclose(ReloadFlows));
        });
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
        let (ConnectionEstablished { names_subscriptions }, _handling) = envelope.open();
        self.session = Session { connected: true, names_subscriptions, subscribed: BTreeSet::new() };
        self.work.resync = true;
        self.settle(context);
    }
}

impl Handler<Envelope<ConnectionLost>> for FlowRegistryActor {
    type Result = ();

    fn handle(&mut self, envelope: Envelope<ConnectionLost>, _: &mut Self::Context) {
        let (ConnectionLost, _handling) = envelope.open();
        self.session = Session::default();
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

/// Connects on the arbiter that calls, the first time.
async fn read_flows(
    database: &Mutex<Option<Database>>,
    settings: &DatabaseSettings,
) -> Result<Vec<Flow>, StoreError> {
    let mut database = database.lock().await;
    if database.is_none() {
        *database = Some(Database::connect(settings, 1).await?);
    }
    let Some(database) = database.as_mut() else { return Ok(Vec::new()) };
    let read = answered(silence(), read_all(database)).await;
    if matches!(read, Err(StoreError::Silent { .. })) {
        *database = database.anew();
    }
    read
}

async fn read_all(database: &Database) -> Result<Vec<Flow>, StoreError> {
    match numbers_running_out(database).await {
        Ok(warnings) => warnings.iter().for_each(|warning| log::warn!("{warning}")),
        // Flows are worth more than a warning.
        Err(error) => log::warn!("Cannot tell whether numbers run out: {error}"),
    }
    load_flows(database).await
}

async fn numbers_running_out(database: &Database) -> Result<Vec<String>, StoreError> {
    running_out(database, &load_limits(database).await?).await
}

/// One pass over everything that has to agree.
struct Settlement {
    directory: Directory,
    observed: Arc<Observed>,
    before: Option<Vec<Flow>>,
    leaving: Vec<Flow>,
    known_rejections: BTreeMap<FlowId, String>,
    session: Session,
    resync: bool,
    announce: bool,
}

impl Settlement {
    async fn run(self, read: Option<Vec<Flow>>) -> Settled {
        let changed = read.is_some() && read != self.before;
        let Some(flows) = read.or_else(|| self.before.clone()) else {
            let subscribed = Some(BTreeSet::new());
            return Settled { flows: None, leaving: self.leaving, rejections: None, subscribed };
        };
        let (table, rejections) = self.table(&flows);
        if changed {
            // Before a message of theirs can have come.
            self.observed.metrics.flows.set(flows.iter().map(|flow| flow.code.as_str()));
            log::info!(flows = flows.len(), rejected = rejections.len(); "Flows loaded");
        }
        let leaving = leaving(&flows, self.before.as_deref().unwrap_or_default(), &self.leaving);
        if changed || self.announce {
            self.swap(table_of_both(&flows, &leaving, &table)).await;
        }
        let wanted = plan(&table.filters(), self.session.names_subscriptions);
        let subscribed = self.subscribe(&wanted, &table).await;
        let confirmed = self.session.connected && subscribed.is_some();
        if !confirmed || leaving.is_empty() {
            return Settled { flows: Some(flows), leaving, rejections: Some(rejections), subscribed };
        }
        self.swap(table).await;
        Settled { flows: Some(flows), leaving: Vec::new(), rejections: Some(rejections), subscribed }
    }

    fn table(&self, flows: &[Flow]) -> (Arc<RoutingTable>, BTreeMap<FlowId, String>) {
        let (table, rejected) = RoutingTable::new(flows.to_vec());
        let mut rejections = BTreeMap::new();
        for rejected in rejected {
            let reason = rejected.error.to_string();
            if self.known_rejections.get(&rejected.flow.id) != Some(&reason) {
                log::error!(
                    flow_id = rejected.flow.id;
                    "Flow {} is not subscribed: its topic filter {:?} is not valid: {reason}",
                    rejected.flow.code, rejected.flow.topic
                );
            }
            rejections.insert(rejected.flow.id, reason);
        }
        (Arc::new(table), rejections)
    }

    async fn swap(&self, table: Arc<RoutingTable>) {
        // A router that is down asks for the table when it starts.
        let _ = self.directory.router.ask(NewRoutingTable { table }).await;
    }

    /// Makes the broker follow; answers what it holds afterwards.
    async fn subscribe(
        &self,
        wanted: &BTreeSet<TopicFilter>,
        table: &RoutingTable,
    ) -> Option<BTreeSet<TopicFilter>> {
        if !self.session.connected {
            return Some(BTreeSet::new());
        }
        let with_ids = self.session.names_subscriptions;
        let mqtt = &self.directory.mqtt;
        if self.resync {
            let outcomes = mqtt.ask(ResyncSubscriptions { filters: wanted.clone(), with_ids }).await;
            let outcomes = outcomes.ok()?.inspect_err(log_broker_error).ok()?;
            return Some(granted(outcomes, wanted.clone(), table));
        }
        let FlowDiff { subscribe, unsubscribe } = diff(&self.session.subscribed, wanted);
        let mut holds = self.session.subscribed.clone();
        if !subscribe.is_empty() {
            let outcomes = mqtt.ask(Subscribe { filters: subscribe.clone(), with_ids }).await;
            let outcomes = outcomes.ok()?.inspect_err(log_broker_error).ok()?;
            holds.extend(granted(outcomes, subscribe, table));
        }
        if !unsubscribe.is_empty() {
            let done = mqtt.ask(Unsubscribe { filters: unsubscribe.clone() }).await;
            done.ok()?.inspect_err(log_broker_error).ok()?;
            holds.retain(|filter| !unsubscribe.contains(filter));
        }
        Some(holds)
    }
}

/// Until the broker has been told, messages come by the old filters as well as by the new.
fn table_of_both(flows: &[Flow], leaving: &[Flow], table: &Arc<RoutingTable>) -> Arc<RoutingTable> {
    if leaving.is_empty() {
        return Arc::clone(table);
    }
    Arc::new(RoutingTable::new(flows.iter().chain(leaving).cloned().collect()).0)
}

/// The error is dealt with by saying so: the next connect, or the next try, settles everything.
fn log_broker_error(error: &SubscribeError) {
    log::warn!("The broker did not take the subscriptions, trying again when it is back: {error}");
}

/// What of `asked` the broker granted; each refusal is shown for every flow that it concerns.
fn granted(
    outcomes: Vec<SubscribeOutcome>,
    mut asked: BTreeSet<TopicFilter>,
    table: &RoutingTable,
) -> BTreeSet<TopicFilter> {
    for SubscribeOutcome { filter, refusal } in outcomes {
        let Some(refusal) = refusal else { continue };
        let Some(refused) = asked.iter().find(|asked| asked.as_str() == filter).cloned() else { continue };
        asked.remove(&refused);
        // Without subscription identifiers one filter may stand for those of several flows.
        let concerned = table
            .flows()
            .iter()
            .filter(|flow| TopicFilter::parse(&flow.topic).is_ok_and(|own| refused.covers(&own)));
        for flow in concerned {
            log::error!(flow_id = flow.id; "Flow {} gets no messages: the broker refused {filter:?}: {refusal}", flow.code);
        }
    }
    log::info!(filters = asked.len(); "Subscribed");
    asked
}
