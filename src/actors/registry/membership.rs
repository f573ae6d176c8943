//! Membership of this gateway among the gateways on the same database: publishes its state, reads the state of the
//! others, and decides which flows belong to this gateway.
//!
//! A single gateway publishes nothing, unless it finds rows of other gateways when it loads the flows.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::Level;

use crate::domain::flow::Flow;
use crate::domain::message::FlowId;
use crate::domain::replicas::{
    Dispute, Handover, Holders, Member, Role, ShareGroup, disputes, must_wait_for_others,
};
use crate::domain::routing_history::RoutingHistory;
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::topic::TopicFilter;
use crate::inbox::{InboxError, SubscriptionIdStore};
use crate::store::{Database, Span, StoreError, announce, members};

/// Interval between two membership updates; several fit into the time after which a member counts as dead.
const UPDATE_INTERVAL: Duration = Duration::from_secs(3);

/// Interval between two membership updates during a handover, because flows then move within seconds.
const HANDOVER_UPDATE_INTERVAL: Duration = Duration::from_secs(1);

/// Duration of a dispute above which the log warns. Replicas that start one after the other disagree for a while.
const LASTING: Duration = Duration::from_mins(1);

/// Interval between two log lines about an unfinished handover.
const REMINDER_INTERVAL: Duration = Duration::from_secs(30);

/// Maximum number of flows that a log line lists.
const MAX_NAMED: usize = 5;

/// Identity of this gateway among the gateways; the factory of the registry keeps it for a restart.
#[derive(Debug, Clone)]
pub struct Replica {
    /// The role.
    pub role: Role,
    /// The group of which this gateway is or was a member.
    pub group: Option<ShareGroup>,
    /// The id of this gateway's inbox.
    pub inbox_id: Arc<str>,
    /// The MQTT client id.
    pub client_id: String,
    /// The routed flows, shared with earlier registries and restored from earlier processes.
    pub tables: Arc<Mutex<RoutingHistory>>,
    /// Subscriptions that the broker's session may hold.
    pub subscription_ids: Arc<Mutex<SubscriptionIdStore>>,
    /// Whether this gateway releases its flows although no other gateway has them.
    pub is_last_replica: bool,
}

/// The flows as last loaded: all enabled flows, with the filters that this gateway subscribes.
#[derive(Debug, Clone)]
struct LoadedFlows {
    flows: Vec<Flow>,
    span: Span,
}

#[derive(Debug, Clone)]
pub(super) struct Membership {
    replica: Replica,
    /// Whether this gateway publishes its row.
    participates: bool,
    others: Vec<Member>,
    reading: Option<LoadedFlows>,
    handover: Handover,
    /// Number of assigned flows that other gateways still hold.
    waiting: usize,
    /// Flows of this gateway at process start; used when it retires.
    initial_flows: BTreeSet<FlowId>,
    /// Time at which all assigned flows were subscribed, in microseconds.
    subscribed_at_us: Option<i64>,
    /// The row as last published; `None` after a failed write.
    published: Option<Member>,
    update_failed: bool,
    reminded: Instant,
    disputed: Vec<Dispute>,
    disputed_since: Instant,
    dispute_logged: bool,
}

impl Membership {
    pub(super) fn new(replica: Replica) -> Self {
        let participates = replica.role != Role::ALONE;
        let now = Instant::now();
        Self {
            replica,
            participates,
            others: Vec::new(),
            reading: None,
            handover: Handover::default(),
            waiting: 0,
            initial_flows: BTreeSet::new(),
            subscribed_at_us: None,
            published: None,
            update_failed: false,
            reminded: now,
            disputed: Vec::new(),
            disputed_since: now,
            dispute_logged: false,
        }
    }

    pub(super) fn role(&self) -> &Role {
        &self.replica.role
    }

    pub(super) fn participates(&self) -> bool {
        self.participates
    }

    pub(super) fn update_interval(&self) -> Duration {
        if self.is_moving_flows() { HANDOVER_UPDATE_INTERVAL } else { UPDATE_INTERVAL }
    }

    // ---- publishing and reading the membership

    fn me(&self) -> Member {
        Member {
            inbox_id: self.replica.inbox_id.to_string(),
            client_id: self.replica.client_id.clone(),
            role: self.replica.role.clone(),
            subscribed_at_us: self.subscribed_at_us,
            handing_over_since_us: self.handover.since_us(),
            silent_for_us: 0,
        }
    }

    /// Whether the state should be published before the next interval.
    pub(super) fn needs_update(&self) -> bool {
        self.participates && !self.update_failed && self.published.as_ref() != Some(&self.me())
    }

    /// Publishes the state of this gateway and reads the others. Returns the number of other rows. A failed write is
    /// retried at the next update.
    pub(super) async fn update(&mut self, database: &Database) -> Result<usize, StoreError> {
        let result = self.try_update(database).await;
        let failed_before = std::mem::replace(&mut self.update_failed, result.is_err());
        if let Err(error) = &result {
            // Only the first failure in a row is a warning.
            let level = if failed_before { Level::Debug } else { Level::Warn };
            log::log!(level, "Cannot publish the state of this gateway to the others, retrying: {error}");
        }
        result
    }

    async fn try_update(&mut self, database: &Database) -> Result<usize, StoreError> {
        let me = self.me();
        if self.participates {
            announce(database, &me).await?;
            self.published = Some(me);
        }
        let all = members(database).await?;
        let is_other = |member: &Member| *member.inbox_id != *self.replica.inbox_id;
        let others: Vec<Member> = all.into_iter().filter(is_other).collect();
        self.log_disputes(&others);
        let rows = others.len();
        // Gateways with the same client id share one session: each takes the subscriptions of the other.
        let client_id = &self.replica.client_id;
        self.others = others.into_iter().filter(|other| !other.is_named(client_id)).collect();
        Ok(rows)
    }

    /// Whether another gateway holds flows for this one that the last load did not contain.
    pub(super) fn needs_reload(&self) -> bool {
        let Some(read_at_us) = self.reading.as_ref().map(|reading| reading.span.from_us) else {
            return false;
        };
        let mut holding =
            self.others.iter().filter(|other| other.is_alive()).filter_map(|o| o.handing_over_since_us);
        holding.any(|since_us| since_us > read_at_us)
    }

    /// Checks whether a single gateway still is the only one on the database.
    pub(super) async fn detect_others(&mut self, database: &Database) -> Result<usize, StoreError> {
        let others = self.update(database).await?;
        if !self.participates && others > 0 {
            self.participates = true;
            log::info!(others; "Other gateways found on this database; publishing the state of this one");
        }
        Ok(others)
    }

    // ---- which flows belong to this gateway

    pub(super) fn have_read(&mut self, mut flows: Vec<Flow>, span: Span) {
        for flow in &mut flows {
            flow.topic = self.replica.role.subscribes(&flow.topic);
        }
        self.reading = Some(LoadedFlows { flows, span });
    }

    /// Decides which flows are subscribed, from the last load and the other members. `before` are the flows subscribed
    /// until now; `None` at startup.
    pub(super) fn flows_in_force(&mut self, before: Option<&[Flow]>) -> Option<Vec<Flow>> {
        let reading = self.reading.as_ref()?;
        let had = match before {
            Some(before) => before.iter().map(|flow| flow.id).collect(),
            None => self.flows_before_start(&reading.flows),
        };
        let holders = match before {
            // At startup no flow is released, because the routed flows are not known yet.
            None => Holders::Members(&[]),
            Some(_) if self.replica.is_last_replica => Holders::NotNeeded,
            Some(_) => Holders::Members(&self.others),
        };
        let (role, until_us) = (&self.replica.role, reading.span.until_us);
        let next = |holders| self.handover.next(role, &reading.flows, until_us, &had, holders);
        let (mut in_force, mut handover) = next(&holders);
        if *role == Role::Leaving && !handover.flows().is_empty() {
            // A retiring gateway keeps its session unchanged and releases everything at once.
            (in_force, handover) = next(&Holders::Members(&[]));
        }
        let new: Vec<FlowId> =
            in_force.iter().map(|flow| flow.id).filter(|flow| !had.contains(flow)).collect();
        let waits = self.others_are_being_started() && must_wait_for_others(&new, role, &self.others);
        if waits {
            in_force.retain(|flow| had.contains(&flow.id));
        }
        self.log_waiting(if waits { new.len() } else { 0 });
        if before.is_none() {
            self.initial_flows = had;
        }
        self.log_handover(&handover);
        self.handover = handover;
        Some(in_force)
    }

    /// Flows that this gateway routed when it was stopped, or that its session may hold.
    fn flows_before_start(&self, flows: &[Flow]) -> BTreeSet<FlowId> {
        let routed = self.replica.tables.lock().unwrap_or_else(PoisonError::into_inner).routed_last();
        let held = self.subscription_ids().held();
        // A retiring gateway whose routing tables are lost may have owned any flow.
        let any = routed.is_none() && self.replica.role == Role::Leaving;
        // With known tables the topic proves nothing, because another shard may have a flow with the same topic.
        let by_topic = |flow: &Flow| routed.is_none() && held.contains_key(&flow.topic);
        let known: BTreeSet<FlowId> =
            routed.iter().flatten().chain(held.values().flatten()).copied().collect();
        let had = flows.iter().filter(|flow| any || known.contains(&flow.id) || by_topic(flow));
        had.map(|flow| flow.id).collect()
    }

    fn subscription_ids(&self) -> MutexGuard<'_, SubscriptionIdStore> {
        self.replica.subscription_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Flows that are no longer subscribed but still routed. A retiring gateway accepts every message that the broker
    /// has queued for it.
    pub(super) fn routed_beyond(&self, in_force: &[Flow]) -> Vec<Flow> {
        let (Role::Leaving, Some(reading)) = (&self.replica.role, &self.reading) else { return Vec::new() };
        let beyond = |flow: &&Flow| self.initial_flows.contains(&flow.id) && !in_force.contains(flow);
        reading.flows.iter().filter(beyond).cloned().collect()
    }

    /// Subscriptions that the session at this broker may hold.
    pub(super) fn held_at(&self, broker: &str) -> Result<Subscriptions, InboxError> {
        let mut subscription_ids = self.subscription_ids();
        subscription_ids.switch_broker(broker)?;
        let held = subscription_ids.held().into_iter();
        Ok(held.filter_map(|(filter, flows)| Some((TopicFilter::parse(&filter).ok()?, flows))).collect())
    }

    /// Whether a record of all earlier subscriptions exists.
    pub(super) fn has_record(&self) -> bool {
        !self.subscription_ids().bindings().is_empty()
    }

    /// Filters that the session of a retiring gateway may hold when the record of its subscriptions was lost with its
    /// inbox: every topic, in each form in which it may have been subscribed.
    pub(super) fn possible_filters(&self) -> BTreeSet<TopicFilter> {
        let (Role::Leaving, Some(reading), false) = (&self.replica.role, &self.reading, self.has_record())
        else {
            return BTreeSet::new();
        };
        let member = self.replica.group.clone().map(Role::InGroup);
        let forms = |flow: &Flow| {
            let shared = member.as_ref().map(|member| member.subscribes(&flow.topic));
            shared.into_iter().chain([flow.topic.clone()])
        };
        let topics = reading.flows.iter().flat_map(forms);
        topics.filter_map(|topic| TopicFilter::parse(&topic).ok()).collect()
    }

    /// Whether flows are being handed over to or awaited from other gateways.
    pub(super) fn is_moving_flows(&self) -> bool {
        !self.handover.flows().is_empty() || self.waiting > 0
    }

    /// Whether other gateways are still starting with matching settings. A lasting dispute is not waited for.
    fn others_are_being_started(&self) -> bool {
        !self.disputed.is_empty() && !self.dispute_logged
    }

    /// Records whether every flow of the last load is subscribed.
    pub(super) fn set_subscribed(&mut self, complete: bool) {
        let read_at_us = self.reading.as_ref().map(|reading| reading.span.from_us);
        self.subscribed_at_us = read_at_us.filter(|_| complete && self.waiting == 0);
    }

    // ---- logging

    fn log_waiting(&mut self, flows: usize) {
        let before = std::mem::replace(&mut self.waiting, flows);
        if before == 0 && flows > 0 {
            log::info!(flows; "{flows} flows of this gateway stay for now with gateways that divide them differently: it subscribes them when those gateways run with its settings, or after a minute");
        } else if before > 0 && flows == 0 {
            log::info!(flows = before; "{before} flows were taken over from other gateways and are subscribed here");
        }
    }

    fn log_handover(&mut self, next: &Handover) {
        let (before, after) = (self.handover.flows().len(), next.flows().len());
        let others = self.others.iter().filter(|other| other.is_alive()).count();
        if before == 0 && after > 0 {
            let flows = named(next.flows());
            log::info!(flows = after, others; "Handing over {after} flows ({flows}): they stay subscribed here until others have subscribed them");
            self.reminded = Instant::now();
        } else if before > 0 && after == 0 {
            log::info!(flows = before; "Handover finished: other gateways have subscribed all flows that left this one");
        } else if after < before {
            log::info!(flows = before - after, left = after; "Handed over {} flows, {after} are left", before - after);
            self.reminded = Instant::now();
        } else if after > 0 && self.reminded.elapsed() >= REMINDER_INTERVAL {
            let flows = named(next.flows());
            log::warn!(flows = after, others; "Still handing over {after} flows ({flows}): no living gateway to which they fall has subscribed them");
            self.reminded = Instant::now();
        }
    }

    fn log_disputes(&mut self, others: &[Member]) {
        let mut now = disputes(&self.replica.role, others);
        now.sort_unstable();
        if now != self.disputed {
            if self.dispute_logged && now.is_empty() {
                log::info!("The gateways on this database agree again on the distribution of flows");
            }
            self.disputed = now;
            self.disputed_since = Instant::now();
            self.dispute_logged = false;
        }
        if !self.disputed.is_empty() && self.disputed_since.elapsed() >= lasting() {
            self.disputed_since = Instant::now();
            self.dispute_logged = true;
            for dispute in self.disputed.iter().take(MAX_NAMED) {
                log::warn!("This gateway is {}, and {dispute}", self.replica.role);
            }
        }
    }
}

/// Duration above which a dispute is logged.
fn lasting() -> Duration {
    // Tests shorten the duration.
    fail::fail_point!("dispute-lasts", |ms| {
        ms.and_then(|ms| ms.parse().ok()).map_or(LASTING, Duration::from_millis)
    });
    LASTING
}

/// Lists the codes of the first flows.
fn named(flows: &[Flow]) -> String {
    let mut named: Vec<&str> = flows.iter().take(MAX_NAMED).map(|flow| flow.code.as_str()).collect();
    if flows.len() > MAX_NAMED {
        named.push("…");
    }
    named.join(", ")
}
