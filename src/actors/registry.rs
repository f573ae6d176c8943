//! Knows the flows: reads them from the database, and makes router and broker follow.
//!
//! One settlement at a time. What comes in meanwhile is remembered and settled next, so that
//! table and subscriptions never overtake each other:
//!
//! ```text
//!   flows read ─▶ table of old and new ─▶ SUBSCRIBE new ─▶ UNSUBSCRIBE old, UNSUBACK ─▶ new table
//! ```
//!
//! Which of the flows are this gateway's own, where there are others, `membership` says.

mod membership;

use std::collections::{BTreeMap, BTreeSet};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::{Actor, ActorFutureExt, AsyncContext, Context, Handler, ResponseFuture, WrapFuture};
use tokio::sync::{Mutex, oneshot};

use self::membership::Membership;
pub use self::membership::Replica;
use super::directory::Directory;
use super::life::Life;
use super::mailbox::{ActorState, Envelope};
use super::messages::{
    AnnounceConnection, AnnounceTable, AwaitHandover, ConnectionEstablished, ConnectionLost, NewRoutingTable,
    ReloadFlows, ResyncSubscriptions, Subscribe, SubscribeError, SubscribeOutcome, Unsubscribe, UseServers,
};
use super::report::kind_of;
use crate::domain::flow::Flow;
use crate::domain::flow_diff::{FlowDiff, diff, leaving};
use crate::domain::message::FlowId;
use crate::domain::replicas::{Role, ShareGroup};
use crate::domain::retry::jittered;
use crate::domain::routing::RoutingTable;
use crate::domain::subscription_plan::plan;
use crate::domain::topic::TopicFilter;
use crate::observe::Observed;
use crate::settings::DatabaseSettings;
use crate::store::{
    Database, MqttServers, Span, StoreError, answered, load_flows, load_limits, load_mqtt_servers,
    running_out, silence, timed,
};

/// How soon to try again while there is no table at all, or the broker did not follow.
const RETRY: Duration = Duration::from_secs(1);

const CANNOT_SHARE: &str = "Nothing is subscribed: SHARED_GROUP needs a broker that shares subscriptions by MQTT 5, and the \
     one that is connected does not say so. Use another broker, or divide the flows by SHARD_INDEX and SHARD_COUNT";

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
    membership: Membership,
    /// Who waits until others have all flows of a gateway that goes for good.
    awaiting_handover: Vec<oneshot::Sender<()>>,
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
    /// What this gateway is among others on the same database.
    pub replica: Replica,
    /// Where it shows which flows there are, and that the broker has followed.
    pub observed: Arc<Observed>,
}

/// What the broker holds for us.
#[derive(Debug, Clone, Default)]
struct Session {
    connected: bool,
    /// What the broker said when it was.
    terms: ConnectionEstablished,
    subscribed: BTreeSet<TopicFilter>,
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

/// What one settlement came to.
struct Settled {
    flows: Option<Vec<Flow>>,
    leaving: Vec<Flow>,
    rejections: Option<BTreeMap<FlowId, String>>,
    /// `None` when the connection went meanwhile: the next connect resynchronises everything.
    subscribed: Option<BTreeSet<TopicFilter>>,
    /// Whether the broker holds all that is wanted, where that was looked at.
    complete: Option<bool>,
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
            group: self.membership.role().group().cloned(),
            resync: work.resync,
            announce: work.announce,
        };
        let (database, settings) = (Rc::clone(&self.database), self.parts.database.clone());
        let mut membership = self.membership.clone();
        let observed = Arc::clone(&self.parts.observed);
        let settling = async move {
            let (directory, before) = (&settlement.directory, settlement.before.as_deref());
            let refreshed = refresh(&mut membership, &database, &settings, &work, before, directory).await;
            if let Err(error) = &refreshed {
                observed.metrics.database.failed(kind_of(error));
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
            context.run_later(RETRY, Self::reload);
            return;
        }
        self.note_completeness(settled.complete);
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

    /// A connection that came meanwhile has not been dealt with, and one that went holds nothing for sure.
    fn note_completeness(&mut self, complete: Option<bool>) {
        let is_sure = self.session.connected && !self.work.resync;
        if !is_sure {
            self.membership.are_subscribed(false);
        } else if let Some(complete) = complete {
            self.membership.are_subscribed(complete);
            if complete && self.has_handed_over_all() {
                // Whoever gave up waiting does not need to know.
                self.awaiting_handover.drain(..).for_each(|waiting| _ = waiting.send(()));
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
        self.session = Session { connected: true, terms, subscribed: BTreeSet::new() };
        self.membership.are_subscribed(false);
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
    type Result = ResponseFuture<()>;

    fn handle(&mut self, envelope: Envelope<AwaitHandover>, context: &mut Self::Context) -> Self::Result {
        let (AwaitHandover, handling) = envelope.open();
        let (sender, handed_over) = oneshot::channel();
        self.awaiting_handover.push(sender);
        // It may be over already.
        self.work.resync |= self.session.connected;
        self.settle(context);
        Box::pin(async move {
            drop(handling);
            // An error means that the registry ended: whoever asked asks its successor.
            let _ = handed_over.await;
        })
    }
}

/// Hears of the other gateways and reads the flows, as far as that is due. Gives the flows that are to be in force,
/// if anything can have changed.
async fn refresh(
    membership: &mut Membership,
    database: &Mutex<Option<Database>>,
    settings: &DatabaseSettings,
    work: &Work,
    before: Option<&[Flow]>,
    directory: &Directory,
) -> Result<Option<Vec<Flow>>, StoreError> {
    if !(work.reload || work.look || before.is_none()) {
        return Ok(None);
    }
    let mut database = database.lock().await;
    // Connects on the arbiter that calls, the first time.
    if database.is_none() {
        *database = Some(Database::connect(settings, 1).await?);
    }
    let Some(database) = database.as_mut() else { return Ok(None) };
    let due = work.reload || before.is_none();
    let refreshed = answered(silence(), hear_and_read(membership, database, directory, due)).await;
    if refreshed.as_ref().is_err_and(StoreError::wants_new_connections) {
        *database = database.anew();
    }
    let has_read = refreshed?;
    let may_have_changed = has_read || membership.is_handing_over();
    Ok(if may_have_changed { membership.flows_in_force(before) } else { None })
}

/// Answers whether the flows were read.
async fn hear_and_read(
    membership: &mut Membership,
    database: &Database,
    directory: &Directory,
    due: bool,
) -> Result<bool, StoreError> {
    // Flows are worth more than what others say: a look that failed was told of, and nothing is let go by it.
    let _ = if membership.takes_part() {
        membership.look(database).await
    } else {
        membership.look_whether_alone(database).await
    };
    let due = due || membership.is_asked_to_read();
    if due {
        let (flows, span): (_, Span) = timed(database, read_all(database, directory)).await?;
        membership.have_read(flows, span);
    }
    Ok(due)
}

async fn read_all(database: &Database, directory: &Directory) -> Result<Vec<Flow>, StoreError> {
    match numbers_running_out(database).await {
        Ok(warnings) => warnings.iter().for_each(|warning| log::warn!("{warning}")),
        // Flows are worth more than a warning.
        Err(error) => log::warn!("Cannot tell whether numbers run out: {error}"),
    }
    pass_on_brokers(database, directory).await;
    load_flows(database).await
}

/// The list of brokers is read with the flows; those in force stay where it cannot be.
async fn pass_on_brokers(database: &Database, directory: &Directory) {
    match load_mqtt_servers(database).await {
        Ok(MqttServers { usable, skipped }) => directory.mqtt.tell(UseServers {
            servers: usable.into_iter().map(Into::into).collect(),
            skipped: skipped.iter().map(ToString::to_string).collect(),
        }),
        Err(error) => log::error!("Error reloading the brokers: {error}; those in force stay"),
    }
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
    group: Option<ShareGroup>,
    resync: bool,
    announce: bool,
}

impl Settlement {
    /// With `only_if_changed` nothing is done where the flows are the same and none is leaving.
    async fn run(self, read: Option<Vec<Flow>>, membership: &Membership, only_if_changed: bool) -> Settled {
        let changed = read.is_some() && read != self.before;
        let unchanged = |subscribed| Settled {
            flows: None,
            leaving: self.leaving.clone(),
            rejections: None,
            subscribed: Some(subscribed),
            complete: None,
        };
        if only_if_changed && read.is_none() && self.leaving.is_empty() {
            return unchanged(self.session.subscribed.clone());
        }
        let Some(flows) = read.or_else(|| self.before.clone()) else {
            return unchanged(BTreeSet::new());
        };
        let (table, rejections) = self.table(&flows);
        if changed {
            // Before a message of theirs can have come.
            self.observed.metrics.flows.set(flows.iter().map(|flow| flow.code.as_str()));
            log::info!(flows = flows.len(), rejected = rejections.len(); "Flows loaded");
        }
        let leaving = leaving(&flows, self.before.as_deref().unwrap_or_default(), &self.leaving);
        let beyond = membership.routed_beyond(&flows);
        if changed || self.announce {
            let leaving: Vec<Flow> = leaving.iter().chain(&beyond).cloned().collect();
            self.swap(table_of_both(&flows, &leaving, &table)).await;
        }
        let wanted = self.wanted(&table, membership);
        let subscribed = self.subscribe(&wanted, &table).await;
        let confirmed = self.session.connected && self.can_share() && subscribed.is_some();
        let complete = Some(confirmed && subscribed.as_ref().is_some_and(|holds| wanted.is_subset(holds)));
        let leaving = if confirmed && !leaving.is_empty() {
            self.swap(table_of_both(&flows, &beyond, &table)).await;
            Vec::new()
        } else {
            leaving
        };
        Settled { flows: Some(flows), leaving, rejections: Some(rejections), subscribed, complete }
    }

    fn wanted(&self, table: &RoutingTable, membership: &Membership) -> BTreeSet<TopicFilter> {
        if *membership.role() != Role::Leaving {
            return plan(&table.filters(), self.session.terms.names_subscriptions, self.group.as_ref());
        }
        // One that goes for good takes up nothing, not even what the broker has lost.
        let keeps = self.session.terms.session_kept && table.filter_count() > 0;
        if keeps { membership.held() } else { BTreeSet::new() }
    }

    /// A broker that does not know shared subscriptions takes them for topics on which nothing ever comes.
    fn can_share(&self) -> bool {
        self.group.is_none() || self.session.terms.shares_subscriptions
    }

    fn table(&self, flows: &[Flow]) -> (Arc<RoutingTable>, BTreeMap<FlowId, String>) {
        let (table, rejected) = RoutingTable::new(flows.to_vec());
        let mut rejections = BTreeMap::new();
        for rejected in rejected {
            let reason = rejected.error.to_string();
            if self.known_rejections.get(&rejected.flow.id) != Some(&reason) {
                log::error!(
                    flow_id = rejected.flow.id, flow = &*rejected.flow.code;
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
        if !self.can_share() {
            if self.resync {
                log::error!("{CANNOT_SHARE}");
            }
            return Some(BTreeSet::new());
        }
        let with_ids = self.session.terms.names_subscriptions;
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
            log::error!(flow_id = flow.id, flow = &*flow.code; "Flow {} gets no messages: the broker refused {filter:?}: {refusal}", flow.code);
        }
    }
    log::info!(filters = asked.len(); "Subscribed");
    asked
}
