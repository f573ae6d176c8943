//! Membership of a gateway among the gateways on the same database: the state that it publishes, and the flows that
//! belong to it.
//!
//! A single gateway publishes nothing, unless it finds rows of other gateways. Every `now` is the time since an
//! arbitrary fixed moment; times in microseconds are by the clock of the database.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use super::super::flow::Flow;
use super::super::message::FlowId;
use super::super::topic::TopicFilter;
use super::{Dispute, Handover, Holders, Member, Role, ShareGroup, disputes, must_wait_for_others};

/// Interval between two membership updates; several fit into the time after which a member counts as dead.
const UPDATE_INTERVAL: Duration = Duration::from_secs(3);

/// Interval between two membership updates during a handover, because flows then move within seconds.
const HANDOVER_UPDATE_INTERVAL: Duration = Duration::from_secs(1);

/// Interval between two reports of an unfinished handover.
const REMINDER_INTERVAL: Duration = Duration::from_secs(30);

/// Identity of this gateway among the gateways.
#[derive(Debug, Clone, Default)]
pub struct Replica {
    /// The role.
    pub role: Role,
    /// The group of which this gateway is or was a member.
    pub group: Option<ShareGroup>,
    /// The id of this gateway's inbox.
    pub inbox_id: Arc<str>,
    /// The MQTT client id.
    pub client_id: String,
    /// Whether this gateway releases its flows although no other gateway has them.
    pub is_last_replica: bool,
}

/// Flows that this gateway may have had before it started.
#[derive(Debug, Clone, Default)]
pub struct FormerFlows {
    /// The flows of the last routing table; `None` if the tables are lost.
    pub routed: Option<BTreeSet<FlowId>>,
    /// Filters that the session at the broker may hold, with their flows.
    pub held: BTreeMap<String, Vec<FlowId>>,
}

/// A change of the membership to log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MembershipEvent {
    /// A single gateway has found this number of others, and publishes its state from now on.
    OthersFound(usize),
    /// The settings of the gateways have been in conflict for a while. Repeated.
    Disputed(Vec<Dispute>),
    /// A dispute that was reported is over.
    Agreed,
    /// This number of assigned flows stays with other gateways for now.
    Waiting(usize),
    /// This number of flows was taken over from other gateways.
    TakenOver(usize),
    /// A handover of these flows has started.
    HandoverStarted(Vec<Flow>),
    /// These flows still wait for their new owner. Repeated.
    HandoverContinues(Vec<Flow>),
    /// This number of flows was handed over, and `left` still wait.
    HandedOver { flows: usize, left: usize },
    /// The last flows, of this number, were handed over.
    HandoverFinished(usize),
}

/// The flows as last loaded: all enabled flows, with the filters that this gateway subscribes.
#[derive(Debug, Clone)]
struct LoadedFlows {
    flows: Vec<Flow>,
    from_us: i64,
    until_us: i64,
}

/// The place of this gateway among the others.
#[derive(Debug, Clone, Default)]
pub struct Membership {
    /// The row as last published.
    pub published: Option<Member>,
    /// Whether the last update failed.
    pub update_failed: bool,
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
    reminded: Duration,
    disputed: Vec<Dispute>,
    disputed_since: Duration,
    dispute_reported: bool,
    events: Vec<MembershipEvent>,
}

impl Membership {
    /// Creates the membership of a gateway that has loaded no flows.
    #[must_use]
    pub fn new(replica: Replica) -> Self {
        Self { participates: replica.role != Role::ALONE, replica, ..Self::default() }
    }

    /// The role of this gateway.
    #[must_use]
    pub fn role(&self) -> &Role {
        &self.replica.role
    }

    /// Interval until the next update.
    #[must_use]
    pub fn update_interval(&self) -> Duration {
        if self.is_moving_flows() { HANDOVER_UPDATE_INTERVAL } else { UPDATE_INTERVAL }
    }

    /// Returns the changes since the last call.
    pub fn take_events(&mut self) -> Vec<MembershipEvent> {
        std::mem::take(&mut self.events)
    }

    // ---- publishing and reading the membership

    /// Returns the state to publish; `None` if this gateway publishes nothing.
    #[must_use]
    pub fn row(&self) -> Option<Member> {
        self.participates.then(|| Member {
            inbox_id: self.replica.inbox_id.to_string(),
            client_id: self.replica.client_id.clone(),
            role: self.replica.role.clone(),
            subscribed_at_us: self.subscribed_at_us,
            handing_over_since_us: self.handover.since_us(),
            silent_for_us: 0,
        })
    }

    /// Whether the state should be published before the next interval. A failed write waits for the next update.
    #[must_use]
    pub fn needs_update(&self) -> bool {
        self.participates && !self.update_failed && self.published != self.row()
    }

    /// Applies the rows of all gateways. A dispute is reported after `dispute_delay`, because replicas that start one
    /// after the other disagree for a while.
    pub fn apply_members(&mut self, all: Vec<Member>, now: Duration, dispute_delay: Duration) {
        let is_other = |member: &Member| *member.inbox_id != *self.replica.inbox_id;
        let others: Vec<Member> = all.into_iter().filter(is_other).collect();
        self.apply_disputes(disputes(&self.replica.role, &others), now, dispute_delay);
        if !self.participates && !others.is_empty() {
            self.participates = true;
            self.events.push(MembershipEvent::OthersFound(others.len()));
        }
        // Gateways with the same client id share one session: each takes the subscriptions of the other.
        let client_id = &self.replica.client_id;
        self.others = others.into_iter().filter(|other| !other.is_named(client_id)).collect();
    }

    fn apply_disputes(&mut self, mut found: Vec<Dispute>, now: Duration, delay: Duration) {
        found.sort_unstable();
        if found != self.disputed {
            if self.dispute_reported && found.is_empty() {
                self.events.push(MembershipEvent::Agreed);
            }
            self.disputed = found;
            self.disputed_since = now;
            self.dispute_reported = false;
        }
        if !self.disputed.is_empty() && now.saturating_sub(self.disputed_since) >= delay {
            self.disputed_since = now;
            self.dispute_reported = true;
            self.events.push(MembershipEvent::Disputed(self.disputed.clone()));
        }
    }

    /// Whether another gateway holds flows for this one that the last load did not contain.
    #[must_use]
    pub fn needs_reload(&self) -> bool {
        let Some(read_at_us) = self.reading.as_ref().map(|reading| reading.from_us) else { return false };
        let mut holding = self.living_others().filter_map(|other| other.handing_over_since_us);
        holding.any(|since_us| since_us > read_at_us)
    }

    /// The other living gateways.
    pub fn living_others(&self) -> impl Iterator<Item = &Member> {
        self.others.iter().filter(|other| other.is_alive())
    }

    // ---- which flows belong to this gateway

    /// Sets the enabled flows, as read between these times.
    pub fn set_flows(&mut self, mut flows: Vec<Flow>, from_us: i64, until_us: i64) {
        for flow in &mut flows {
            flow.topic = self.replica.role.subscribes(&flow.topic);
        }
        self.reading = Some(LoadedFlows { flows, from_us, until_us });
    }

    /// Decides which flows are subscribed, from the last load and the other members. `before` are the flows subscribed
    /// until now; at startup it is `None`, and `former` returns what is known of earlier processes.
    pub fn flows_in_force(
        &mut self,
        before: Option<&[Flow]>,
        former: impl FnOnce() -> FormerFlows,
        now: Duration,
    ) -> Option<Vec<Flow>> {
        let reading = self.reading.as_ref()?;
        let had = match before {
            Some(before) => before.iter().map(|flow| flow.id).collect(),
            None => flows_before_start(&reading.flows, &former(), self.role()),
        };
        let holders = match before {
            // At startup no flow is released, because the routed flows are not known yet.
            None => Holders::Members(&[]),
            Some(_) if self.replica.is_last_replica => Holders::NotNeeded,
            Some(_) => Holders::Members(&self.others),
        };
        let role = &self.replica.role;
        let next = |holders| self.handover.next(role, &reading.flows, reading.until_us, &had, holders);
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
        self.set_waiting(if waits { new.len() } else { 0 });
        if before.is_none() {
            self.initial_flows = had;
        }
        self.set_handover(handover, now);
        Some(in_force)
    }

    fn set_waiting(&mut self, flows: usize) {
        let before = std::mem::replace(&mut self.waiting, flows);
        if before == 0 && flows > 0 {
            self.events.push(MembershipEvent::Waiting(flows));
        } else if before > 0 && flows == 0 {
            self.events.push(MembershipEvent::TakenOver(before));
        }
    }

    fn set_handover(&mut self, handover: Handover, now: Duration) {
        let before = std::mem::replace(&mut self.handover, handover).flows().len();
        let flows = self.handover.flows();
        let event = if before == 0 && !flows.is_empty() {
            MembershipEvent::HandoverStarted(flows.to_vec())
        } else if before > 0 && flows.is_empty() {
            MembershipEvent::HandoverFinished(before)
        } else if flows.len() < before {
            MembershipEvent::HandedOver { flows: before - flows.len(), left: flows.len() }
        } else if !flows.is_empty() && now.saturating_sub(self.reminded) >= REMINDER_INTERVAL {
            MembershipEvent::HandoverContinues(flows.to_vec())
        } else {
            return;
        };
        self.reminded = now;
        self.events.push(event);
    }

    /// Flows that are no longer subscribed but still routed. A retiring gateway accepts every message that the broker
    /// has queued for it.
    #[must_use]
    pub fn routed_beyond(&self, in_force: &[Flow]) -> Vec<Flow> {
        let (Role::Leaving, Some(reading)) = (&self.replica.role, &self.reading) else { return Vec::new() };
        let beyond = |flow: &&Flow| self.initial_flows.contains(&flow.id) && !in_force.contains(flow);
        reading.flows.iter().filter(beyond).cloned().collect()
    }

    /// Filters that the session of a retiring gateway may hold when the record of its subscriptions was lost with its
    /// inbox: every topic, in each form in which it may have been subscribed.
    #[must_use]
    pub fn possible_filters(&self) -> BTreeSet<TopicFilter> {
        let (Role::Leaving, Some(reading)) = (&self.replica.role, &self.reading) else {
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
    #[must_use]
    pub fn is_moving_flows(&self) -> bool {
        !self.handover.flows().is_empty() || self.waiting > 0
    }

    /// Whether other gateways are still starting with matching settings. A lasting dispute is not waited for.
    fn others_are_being_started(&self) -> bool {
        !self.disputed.is_empty() && !self.dispute_reported
    }

    /// Records whether every flow of the last load is subscribed.
    pub fn set_subscribed(&mut self, complete: bool) {
        let read_at_us = self.reading.as_ref().map(|reading| reading.from_us);
        self.subscribed_at_us = read_at_us.filter(|_| complete && self.waiting == 0);
    }
}

/// Flows that this gateway routed when it was stopped, or that its session may hold.
fn flows_before_start(flows: &[Flow], former: &FormerFlows, role: &Role) -> BTreeSet<FlowId> {
    let FormerFlows { routed, held } = former;
    // A retiring gateway whose routing tables are lost may have owned any flow.
    let any = routed.is_none() && *role == Role::Leaving;
    // With known tables the topic proves nothing, because another shard may have a flow with the same topic.
    let by_topic = |flow: &Flow| routed.is_none() && held.contains_key(&flow.topic);
    let known: BTreeSet<FlowId> = routed.iter().flatten().chain(held.values().flatten()).copied().collect();
    let had = flows.iter().filter(|flow| any || known.contains(&flow.id) || by_topic(flow));
    had.map(|flow| flow.id).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
