//! Reconciliation of the flows in the database, the routing table, and the broker's subscriptions.
//!
//! One pass runs at a time. Work that arrives meanwhile is left to the next pass, so that table and subscriptions never
//! overtake each other:
//!
//! ```text
//!   flows read ─▶ table of old and new ─▶ SUBSCRIBE new ─▶ UNSUBSCRIBE old, UNSUBACK ─▶ new table
//! ```
//!
//! A filter whose set of flows changes is subscribed again, with an identifier for the new set.

mod pass;

use std::collections::{BTreeMap, BTreeSet};

pub use pass::{Pass, PassStep, SubscriptionRecord};

use super::active_flows::ActiveFlows;
use super::broker::BrokerConnection;
use super::flow::Flow;
use super::message::FlowId;
use super::replicas::{Membership, Role};
use super::subscription_ids::Subscriptions;
use super::topic::{FilterError, TopicFilter};

/// The state between two passes.
#[derive(Debug, Clone, Default)]
pub struct Reconciliation {
    /// Work for the next pass.
    pub work: PendingWork,
    /// The place of this gateway among the others.
    pub membership: Membership,
    flows: KnownFlows,
    session: BrokerSession,
    active: ActiveFlows,
    is_running: bool,
    /// The last load has failed, so an edit may not count yet.
    is_outdated: bool,
}

/// Work for the next pass.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked for by itself")]
pub struct PendingWork {
    /// Load the flows.
    pub reload: bool,
    /// Read the state of the other gateways.
    pub membership: bool,
    /// Make the broker's session hold exactly the wanted subscriptions.
    pub resync: bool,
    /// Send the routing table, even if it is unchanged.
    pub announce: bool,
}

#[derive(Debug, Clone, Default)]
struct KnownFlows {
    /// `None` until the first successful load.
    in_force: Option<Vec<Flow>>,
    /// Former versions of edited or removed flows. They are routed until the broker confirms that their filters are
    /// unsubscribed.
    leaving: Vec<Flow>,
    /// Flows that are not subscribed; avoids a report at every reload.
    rejections: BTreeMap<FlowId, FilterError>,
}

/// The broker's session of this gateway.
#[derive(Debug, Clone, Default)]
struct BrokerSession {
    connected: bool,
    terms: BrokerConnection,
    holds: HeldSubscriptions,
}

/// The broker's answers to the requested subscriptions.
#[derive(Debug, Clone, Default)]
struct HeldSubscriptions {
    subscribed: Subscriptions,
    refused: BTreeSet<TopicFilter>,
}

/// The result of a pass.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct PassResult {
    /// Whether messages can arrive; `None` if it was not determined on the current connection.
    pub is_subscribed: Option<bool>,
    /// Whether other gateways have taken over all flows of this retiring gateway.
    pub has_handed_over: bool,
    /// Flows that became active. A message published before its flow is subscribed is not received.
    pub newly_active: Vec<Flow>,
    /// Whether the next pass waits for a while, because the database or the broker has failed.
    pub needs_retry: bool,
}

impl Reconciliation {
    /// Creates the state of a gateway without flows and without a connection.
    #[must_use]
    pub fn new(membership: Membership) -> Self {
        Self { membership, ..Self::default() }
    }

    /// The properties of the connection.
    #[must_use]
    pub fn terms(&self) -> &BrokerConnection {
        &self.session.terms
    }

    /// Whether flows or brokers may have been edited since the last complete load, because a later one has failed.
    #[must_use]
    pub fn is_outdated(&self) -> bool {
        self.is_outdated
    }

    /// Sets a new connection, whose subscriptions are unknown.
    pub fn connect(&mut self, terms: BrokerConnection) {
        if !terms.session_kept {
            self.active = ActiveFlows::default();
        }
        self.disconnect();
        self.session = BrokerSession { connected: true, terms, ..BrokerSession::default() };
        self.work.resync = true;
    }

    /// Records the loss of the connection.
    pub fn disconnect(&mut self) {
        self.session = BrokerSession::default();
        self.membership.set_subscribed(false);
    }

    /// Requests a check of all subscriptions. Without a connection, the next connect causes it.
    pub fn resync(&mut self) {
        self.work.resync |= self.session.connected;
    }

    /// Starts the pass for the pending work; `None` without work or while another pass runs.
    pub fn start(&mut self) -> Option<Pass> {
        if self.is_running || self.work == PendingWork::default() {
            return None;
        }
        let pass = Pass::new(self.clone());
        (self.is_running, self.work) = (true, PendingWork::default());
        Some(pass)
    }

    /// Applies a pass whose steps are done.
    pub fn finish(&mut self, pass: Pass) -> PassResult {
        self.is_running = false;
        self.is_outdated = pass.has_failed_load || self.is_outdated && !pass.state.work.reload;
        let (is_planned, (has_all, has_any)) = (pass.table.is_some(), pass.granted());
        (self.membership, self.flows) = (pass.state.membership, pass.state.flows);
        if self.flows.in_force.is_none() {
            // The pass had no steps, so subscriptions kept from an earlier session have not been checked.
            self.resync();
            self.work.reload = true;
            return PassResult { needs_retry: true, ..PassResult::default() };
        }
        // The connection may have been lost or replaced during the pass.
        let is_current = self.session.connected && !self.work.resync;
        if is_planned || !is_current {
            self.membership.set_subscribed(is_current && has_all);
        }
        self.work.membership |= self.membership.needs_update();
        let mut result = PassResult {
            is_subscribed: (is_planned && is_current).then_some(has_any),
            has_handed_over: is_current && has_all && self.has_released_all(),
            ..PassResult::default()
        };
        if let Some(holds) = pass.holds {
            self.session.holds = holds;
            if is_planned && self.session.connected {
                result.newly_active = self.newly_active();
            }
        } else {
            self.resync();
            // The next pass finds no new flows, but has to send the table.
            self.work.announce |= pass.lacks_route;
            result.needs_retry = true;
        }
        result
    }

    /// Whether other gateways have all flows of this retiring gateway. A session that the broker did not keep holds
    /// nothing to hand over.
    fn has_released_all(&self) -> bool {
        let has_none =
            self.flows.in_force.as_ref().is_some_and(Vec::is_empty) && self.flows.leaving.is_empty();
        *self.membership.role() == Role::Leaving && (has_none || !self.session.terms.session_kept)
    }

    fn newly_active(&mut self) -> Vec<Flow> {
        let flows = self.flows.in_force.iter().flatten();
        let active = flows.filter(|flow| self.session.has_subscribed(flow));
        self.active.replace(active).into_iter().cloned().collect()
    }
}

impl BrokerSession {
    /// Without subscription identifiers one filter may cover several flows. A flow then counts as subscribed unless a
    /// covering filter was refused.
    fn has_subscribed(&self, flow: &Flow) -> bool {
        let Ok(filter) = TopicFilter::parse(&flow.topic) else { return false };
        let HeldSubscriptions { subscribed, refused } = &self.holds;
        let covers_it = |other: &TopicFilter| other.covers(&filter);
        subscribed.contains_key(&filter)
            || !(self.terms.names_subscriptions || subscribed.is_empty() || refused.iter().any(covers_it))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
