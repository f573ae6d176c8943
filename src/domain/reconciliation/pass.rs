//! One pass over flows, routing table and subscriptions: its steps, and the answers to them.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use super::super::broker::BrokerConnection;
use super::{HeldSubscriptions, PendingWork, Reconciliation};
use crate::domain::flow::Flow;
use crate::domain::flow_diff::{FlowDiff, diff, leaving};
use crate::domain::replicas::{FormerFlows, Role};
use crate::domain::routing::{RejectedFlow, RoutingTable};
use crate::domain::subscription_ids::Subscriptions;
use crate::domain::subscription_plan::plan;
use crate::domain::topic::TopicFilter;

/// A request to the router or the broker.
#[derive(Debug, Clone)]
pub enum PassStep {
    /// Route by this table.
    Route(Arc<RoutingTable>),
    /// Subscribe these filters.
    Subscribe(Subscriptions),
    /// Make the session hold exactly these filters.
    Resync(Subscriptions),
    /// Unsubscribe these filters.
    Unsubscribe(BTreeSet<TopicFilter>),
}

/// The records of earlier connections and processes.
pub trait SubscriptionRecord {
    /// Returns the flows that this gateway may have had before it started.
    fn former_flows(&self) -> FormerFlows;
    /// Returns the subscriptions that the session at this broker may hold; `None` after an error.
    fn held_at(&self, broker: &str) -> Option<Subscriptions>;
    /// Whether a record of all earlier subscriptions exists.
    fn exists(&self) -> bool;
}

/// A pass. It applies to the session of its start; the next connect resynchronises everything.
#[derive(Debug, Default)]
pub struct Pass {
    /// The state at the start, with the work to do. Flows and membership change during the pass.
    pub state: Reconciliation,
    /// Whether the flows in force have changed.
    pub has_new_flows: bool,
    /// Flows with an invalid filter that were not reported yet.
    pub new_rejections: Vec<RejectedFlow>,
    /// Whether the flows or the brokers could not be loaded.
    pub has_failed_load: bool,
    /// The table of the flows in force; `None` if the pass has nothing to do.
    pub(super) table: Option<Arc<RoutingTable>>,
    /// Flows that are routed but not subscribed.
    beyond: Vec<Flow>,
    /// `None` while the wanted subscriptions cannot be determined.
    wanted: Option<Subscriptions>,
    /// The subscriptions as confirmed so far; `None` after a failed step.
    pub(super) holds: Option<HeldSubscriptions>,
    /// Whether the router did not get a table.
    pub(super) lacks_route: bool,
    steps: VecDeque<PassStep>,
}

impl Pass {
    pub(super) fn new(state: Reconciliation) -> Self {
        Self { holds: Some(state.session.holds.clone()), state, ..Self::default() }
    }

    /// Whether the flows must be loaded.
    #[must_use]
    pub fn needs_load(&self) -> bool {
        self.state.work.reload || self.state.flows.in_force.is_none()
    }

    /// Whether the database must be read.
    #[must_use]
    pub fn needs_database(&self) -> bool {
        self.state.work.membership || self.needs_load()
    }

    /// The flows in force.
    #[must_use]
    pub fn flows(&self) -> &[Flow] {
        self.state.flows.in_force.as_deref().unwrap_or_default()
    }

    /// Number of flows in force with an invalid filter.
    #[must_use]
    pub fn rejected(&self) -> usize {
        self.state.flows.rejections.len()
    }

    /// Flows that a filter affects. Without subscription identifiers one filter may cover the filters of several flows.
    pub fn affected_flows<'a>(&'a self, filter: &'a TopicFilter) -> impl Iterator<Item = &'a Flow> {
        let covers = |flow: &&Flow| TopicFilter::parse(&flow.topic).is_ok_and(|own| filter.covers(&own));
        self.flows().iter().filter(covers)
    }

    /// Decides the steps. `has_read`: whether the flows or the other gateways were read. If nothing has changed, a pass
    /// for the membership alone has no steps.
    pub fn plan(&mut self, has_read: bool, record: &impl SubscriptionRecord, now: Duration) {
        self.has_failed_load |= self.needs_load() && !has_read;
        let before = self.state.flows.in_force.clone();
        let Reconciliation { work, membership, flows: known, session, .. } = &mut self.state;
        let read = has_read
            .then(|| membership.flows_in_force(before.as_deref(), || record.former_flows(), now))
            .flatten();
        let is_only_membership = *work == PendingWork { membership: true, ..PendingWork::default() };
        if is_only_membership && read.is_none() && known.leaving.is_empty() {
            return;
        }
        let Some(flows) = read.or_else(|| before.clone()) else { return };
        self.has_new_flows = before.as_ref() != Some(&flows);
        known.leaving = leaving(&flows, before.as_deref().unwrap_or_default(), &known.leaving);
        self.beyond = membership.routed_beyond(&flows);
        let (table, rejected) = RoutingTable::new(flows.clone());
        let errors = rejected.iter().map(|rejected| (rejected.flow.id, rejected.error.clone())).collect();
        let reported = std::mem::replace(&mut known.rejections, errors);
        let is_new = |rejected: &RejectedFlow| reported.get(&rejected.flow.id) != Some(&rejected.error);
        self.new_rejections = rejected.into_iter().filter(is_new).collect();
        known.in_force = Some(flows);
        // Other gateways store the flows of a retiring gateway already.
        let may_hold_some = session.connected && session.terms.session_kept && table.filter_count() == 0;
        let unrecorded = Some(membership.possible_filters())
            .filter(|filters| may_hold_some && !filters.is_empty() && !record.exists());
        let table = self.table.insert(Arc::new(table)).clone();
        if self.has_new_flows || self.state.work.announce {
            self.steps.extend(self.route(&self.state.flows.leaving));
        }
        self.wanted = self.wanted(&table, record);
        self.plan_subscriptions();
        self.steps.extend(unrecorded.map(PassStep::Unsubscribe));
    }

    /// The wanted subscriptions; `None` while they cannot be determined.
    fn wanted(&self, table: &RoutingTable, record: &impl SubscriptionRecord) -> Option<Subscriptions> {
        let BrokerConnection { ref server, names_subscriptions, session_kept, .. } = self.state.session.terms;
        let role = self.state.membership.role();
        if *role != Role::Leaving {
            let filters = plan(&table.filters(), names_subscriptions, role.group());
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
        record.held_at(server)
    }

    fn plan_subscriptions(&mut self) {
        let HeldSubscriptions { subscribed, refused } = std::mem::take(&mut self.state.session.holds);
        self.holds = self.wanted.as_ref().map(|_| HeldSubscriptions::default());
        let Some(wanted) = self.wanted.as_ref().filter(|_| self.can_subscribe()) else { return };
        if self.state.work.resync {
            self.steps.push_back(PassStep::Resync(wanted.clone()));
            return;
        }
        let FlowDiff { subscribe, mut unsubscribe } = diff(&subscribed, wanted);
        // The broker may hold a refused filter anyway, and a filter that is wanted again later must be retried.
        unsubscribe.extend(refused.into_iter().filter(|filter| !wanted.contains_key(filter)));
        self.steps.extend((!subscribe.is_empty()).then_some(PassStep::Subscribe(subscribe)));
        self.steps.extend((!unsubscribe.is_empty()).then_some(PassStep::Unsubscribe(unsubscribe)));
        self.holds = Some(HeldSubscriptions { subscribed, ..HeldSubscriptions::default() });
    }

    fn can_subscribe(&self) -> bool {
        self.state.session.connected && self.can_share()
    }

    /// Whether shared subscriptions are possible. A broker without them treats `$share/…` as a topic without
    /// publishers.
    fn can_share(&self) -> bool {
        self.state.membership.role().group().is_none() || self.state.terms().shares_subscriptions
    }

    /// Whether nothing is subscribed on a new connection, because its broker cannot share subscriptions.
    #[must_use]
    pub fn is_on_unfit_broker(&self) -> bool {
        self.table.is_some() && self.state.session.connected && self.state.work.resync && !self.can_share()
    }

    /// Returns the next step, after the answer to the last one was applied.
    pub fn next_step(&mut self) -> Option<PassStep> {
        if let Some(step) = self.steps.pop_front() {
            return Some(step);
        }
        self.confirmed().filter(|_| !self.state.flows.leaving.is_empty())?;
        self.state.flows.leaving.clear();
        self.route(&[])
    }

    /// Routes by old and new filters, because messages arrive by both until the broker confirms the change.
    fn route(&self, leaving: &[Flow]) -> Option<PassStep> {
        let table = self.table.as_ref()?;
        if leaving.is_empty() && self.beyond.is_empty() {
            return Some(PassStep::Route(Arc::clone(table)));
        }
        let flows = [self.flows(), leaving, &self.beyond].concat();
        Some(PassStep::Route(Arc::new(RoutingTable::new(flows).0)))
    }

    /// Applies the answer to a step: the filters that the broker refused, or `None` after an error. After an error the
    /// pass ends, and another one follows.
    pub fn apply_answer(&mut self, step: PassStep, refused: Option<BTreeSet<TopicFilter>>) {
        self.lacks_route |= refused.is_none() && matches!(step, PassStep::Route(_));
        let (Some(mut refused), Some(holds)) = (refused, &mut self.holds) else {
            self.holds = None;
            self.steps.clear();
            return;
        };
        match step {
            PassStep::Route(_) => {}
            PassStep::Subscribe(filters) | PassStep::Resync(filters) => {
                holds.subscribed.extend(filters.into_iter().filter(|(filter, _)| !refused.contains(filter)));
                refused.retain(|filter| !holds.subscribed.contains_key(filter));
                holds.refused = refused;
            }
            PassStep::Unsubscribe(filters) => holds.subscribed.retain(|filter, _| !filters.contains(filter)),
        }
    }

    fn confirmed(&self) -> Option<&HeldSubscriptions> {
        self.holds.as_ref().filter(|_| self.table.is_some() && self.can_subscribe())
    }

    /// Whether the broker has confirmed all wanted subscriptions, and whether messages can arrive by any of them.
    pub(super) fn granted(&self) -> (bool, bool) {
        let Some((wanted, held)) = self.wanted.as_ref().zip(self.confirmed()) else { return (false, false) };
        let has_all = diff(&held.subscribed, wanted).subscribe.is_empty();
        (has_all, has_all || wanted.keys().any(|filter| held.subscribed.contains_key(filter)))
    }
}
