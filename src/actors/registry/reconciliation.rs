//! Reconciles flows, routing table and the broker's subscriptions in one pass.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::{BrokerSession, Holds, Records};
use crate::actors::directory::Directory;
use crate::actors::messages::{
    NewRoutingTable, ResyncSubscriptions, Subscribe, SubscribeError, SubscribeOutcome, Unsubscribe,
};
use crate::domain::broker::BrokerConnection;
use crate::domain::flow::Flow;
use crate::domain::flow_diff::{FlowDiff, diff, leaving};
use crate::domain::message::FlowId;
use crate::domain::replicas::{Membership, Role, ShareGroup};
use crate::domain::routing::RoutingTable;
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::subscription_plan::plan;
use crate::domain::topic::TopicFilter;
use crate::observe::Telemetry;

const CANNOT_SHARE: &str = "Nothing is subscribed: SHARED_GROUP needs a broker that shares subscriptions by MQTT 5, and the \
     connected one does not announce that. Use another broker, or divide the flows by SHARD_INDEX and SHARD_COUNT";

/// Result of a reconciliation.
pub(super) struct Reconciled {
    pub(super) flows: Option<Vec<Flow>>,
    pub(super) leaving: Vec<Flow>,
    pub(super) rejections: Option<BTreeMap<FlowId, String>>,
    /// `None` if the connection was lost meanwhile: the next connect resynchronises everything.
    pub(super) holds: Option<Holds>,
    /// Extent to which the broker granted the wanted subscriptions; `None` if it was not determined.
    pub(super) granted: Option<Granted>,
}

/// Confirmed extent of the granted subscriptions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Granted {
    All,
    Some,
    /// No wanted subscription is granted, so no message can arrive.
    Nothing,
}

impl Granted {
    fn from_holds(wanted: &Subscriptions, holds: &Subscriptions) -> Self {
        if diff(holds, wanted).subscribe.is_empty() {
            Self::All
        } else if wanted.keys().any(|filter| holds.contains_key(filter)) {
            Self::Some
        } else {
            Self::Nothing
        }
    }
}

/// One pass over flows, routing table and subscriptions.
pub(super) struct Reconciliation {
    pub(super) directory: Directory,
    pub(super) observed: Arc<Telemetry>,
    pub(super) records: Records,
    pub(super) before: Option<Vec<Flow>>,
    pub(super) leaving: Vec<Flow>,
    pub(super) known_rejections: BTreeMap<FlowId, String>,
    pub(super) session: BrokerSession,
    pub(super) group: Option<ShareGroup>,
    pub(super) resync: bool,
    pub(super) announce: bool,
}

impl Reconciliation {
    /// Runs the pass. With `only_if_changed` it does nothing if the flows are unchanged and none is leaving.
    pub(super) async fn run(
        self,
        read: Option<Vec<Flow>>,
        membership: &Membership,
        only_if_changed: bool,
    ) -> Reconciled {
        let changed = read.is_some() && read != self.before;
        let unchanged = |holds| Reconciled {
            flows: None,
            leaving: self.leaving.clone(),
            rejections: None,
            holds: Some(holds),
            granted: None,
        };
        if only_if_changed && read.is_none() && self.leaving.is_empty() {
            return unchanged(self.session.holds.clone());
        }
        let Some(flows) = read.or_else(|| self.before.clone()) else {
            return unchanged(Holds::default());
        };
        let (table, rejections) = self.table(&flows);
        if changed {
            // The metrics know a flow before its first message can arrive.
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
        let holds = self.subscribe(wanted.as_ref(), &table).await;
        let ended = self.unsubscribe_unrecorded(&table, membership).await;
        let holds = holds.filter(|_| ended);
        let confirmed = holds.as_ref().filter(|_| self.session.connected && self.can_share());
        let both = wanted.as_ref().zip(confirmed);
        let granted =
            both.map_or(Granted::Nothing, |(wanted, holds)| Granted::from_holds(wanted, &holds.subscribed));
        let leaving = if confirmed.is_some() && !leaving.is_empty() {
            self.swap(table_of_both(&flows, &beyond, &table)).await;
            Vec::new()
        } else {
            leaving
        };
        Reconciled {
            flows: Some(flows),
            leaving,
            rejections: Some(rejections),
            holds,
            granted: Some(granted),
        }
    }

    /// The wanted subscriptions; `None` while they cannot be determined.
    fn wanted(&self, table: &RoutingTable, membership: &Membership) -> Option<Subscriptions> {
        let BrokerConnection { ref server, names_subscriptions, session_kept, .. } = self.session.terms;
        if *membership.role() != Role::Leaving {
            let filters = plan(&table.filters(), names_subscriptions, self.group.as_ref());
            let flows_of = |filter: &TopicFilter| {
                let flows = names_subscriptions.then(|| table.flows_of_filter(filter.as_str()).to_vec());
                flows.unwrap_or_default()
            };
            return Some(filters.into_iter().map(|filter| (filter.clone(), flows_of(&filter))).collect());
        }
        // A retiring gateway subscribes nothing, not even filters that the broker has lost.
        if !session_kept || table.filter_count() == 0 {
            return Some(Subscriptions::new());
        }
        // The record must belong to this broker's session; the record of another session would be incomplete.
        let held = self.records.held_at(server);
        held.inspect_err(|error| log::error!("Cannot read the recorded subscriptions, retrying: {error}"))
            .ok()
    }

    /// Unsubscribes every filter that a retiring gateway without a record of subscriptions may have subscribed. Other
    /// gateways store these flows already. Returns whether it succeeded.
    async fn unsubscribe_unrecorded(&self, table: &RoutingTable, membership: &Membership) -> bool {
        let may_have_some = self.session.connected && self.session.terms.session_kept;
        if !may_have_some || table.filter_count() > 0 || self.records.has_subscriptions() {
            return true;
        }
        let filters = membership.possible_filters();
        if filters.is_empty() {
            return true;
        }
        match self.directory.mqtt.ask(Unsubscribe { filters }).await {
            Ok(Ok(())) => true,
            Ok(Err(error)) => {
                log_broker_error(&error);
                false
            }
            Err(_) => false,
        }
    }

    /// Whether shared subscriptions are possible. A broker without them treats `$share/…` as a topic without
    /// publishers.
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
        // A router that is down requests the table when it starts.
        let _ = self.directory.router.ask(NewRoutingTable { table }).await;
    }

    /// Applies the wanted subscriptions at the broker and returns the resulting state.
    async fn subscribe(&self, wanted: Option<&Subscriptions>, table: &RoutingTable) -> Option<Holds> {
        let wanted = wanted?;
        if !self.session.connected {
            return Some(Holds::default());
        }
        if !self.can_share() {
            if self.resync {
                log::error!("{CANNOT_SHARE}");
            }
            return Some(Holds::default());
        }
        let subscribed = if self.resync {
            self.resync_subscriptions(wanted, table).await?
        } else {
            self.change_subscriptions(wanted, table).await?
        };
        let refused = wanted.keys().filter(|filter| !subscribed.contains_key(filter)).cloned().collect();
        Some(Holds { subscribed, refused })
    }

    async fn resync_subscriptions(
        &self,
        wanted: &Subscriptions,
        table: &RoutingTable,
    ) -> Option<Subscriptions> {
        let with_ids = self.session.terms.names_subscriptions;
        let (server, filters) = (Arc::clone(&self.session.terms.server), wanted.clone());
        let outcomes = self.directory.mqtt.ask(ResyncSubscriptions { server, filters, with_ids }).await;
        let outcomes = outcomes.ok()?.inspect_err(log_broker_error).ok()?;
        Some(granted(outcomes, wanted.clone(), table))
    }

    async fn change_subscriptions(
        &self,
        wanted: &Subscriptions,
        table: &RoutingTable,
    ) -> Option<Subscriptions> {
        let with_ids = self.session.terms.names_subscriptions;
        let (mqtt, before) = (&self.directory.mqtt, &self.session.holds);
        let FlowDiff { subscribe, mut unsubscribe } = diff(&before.subscribed, wanted);
        // The broker may hold a refused filter anyway, and a filter that is wanted again later must be retried.
        unsubscribe.extend(before.refused.iter().filter(|filter| !wanted.contains_key(filter)).cloned());
        let mut holds = before.subscribed.clone();
        if !subscribe.is_empty() {
            let outcomes = mqtt.ask(Subscribe { filters: subscribe.clone(), with_ids }).await;
            let outcomes = outcomes.ok()?.inspect_err(log_broker_error).ok()?;
            holds.extend(granted(outcomes, subscribe, table));
        }
        if !unsubscribe.is_empty() {
            let done = mqtt.ask(Unsubscribe { filters: unsubscribe.clone() }).await;
            done.ok()?.inspect_err(log_broker_error).ok()?;
            holds.retain(|filter, _| !unsubscribe.contains(filter));
        }
        Some(holds)
    }
}

/// Routes by old and new filters, because messages arrive by both until the broker confirms the change.
fn table_of_both(flows: &[Flow], leaving: &[Flow], table: &Arc<RoutingTable>) -> Arc<RoutingTable> {
    if leaving.is_empty() {
        return Arc::clone(table);
    }
    Arc::new(RoutingTable::new(flows.iter().chain(leaving).cloned().collect()).0)
}

/// Logs the error. The next connect or the next retry reconciles everything.
fn log_broker_error(error: &SubscribeError) {
    log::warn!("The broker did not accept the subscriptions, retrying after the next connect: {error}");
}

/// Returns the filters of `asked` that the broker granted. Logs each affected flow for a refusal or a lower `QoS`.
fn granted(outcomes: Vec<SubscribeOutcome>, mut asked: Subscriptions, table: &RoutingTable) -> Subscriptions {
    for SubscribeOutcome { filter, refusal, lowered_to } in outcomes {
        if refusal.is_none() && lowered_to.is_none() {
            continue;
        }
        let Some(own) = asked.keys().find(|asked| asked.as_str() == filter).cloned() else { continue };
        for flow in affected_flows(table, &own) {
            let (flow_id, code) = (flow.id, &*flow.code);
            if let Some(refusal) = &refusal {
                log::error!(flow_id, flow = code; "Flow {code} gets no messages: the broker refused {filter:?}: {refusal}");
            } else if let Some(qos) = lowered_to {
                log::error!(
                    flow_id, flow = code, qos;
                    "Flow {code} loses messages whenever the gateway is away: the broker granted {filter:?} at QoS {qos} only"
                );
            }
        }
        if refusal.is_some() {
            asked.remove(&own);
        }
    }
    log::info!(filters = asked.len(); "Subscribed");
    asked
}

/// Flows that a filter affects. Without subscription identifiers one filter may cover the filters of several flows.
fn affected_flows<'a>(table: &'a RoutingTable, filter: &'a TopicFilter) -> impl Iterator<Item = &'a Flow> {
    let flows = table.flows().iter();
    flows.filter(|flow| TopicFilter::parse(&flow.topic).is_ok_and(|own| filter.covers(&own)))
}
