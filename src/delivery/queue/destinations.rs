//! Destinations of flows: the current destination in the flow's row overrides the recorded destination of a message.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use super::flow::{FlowQueue, TableRows};
use super::{DeliveryQueue, Moment};
use crate::domain::message::FlowId;
use crate::domain::outbox_work::{Destination, FlowDestination, Pause};
use crate::domain::posting::origin::Origin;

impl DeliveryQueue {
    /// Updates the destinations of all flows that have messages in the table. Returns the flows whose destination
    /// changed. Destinations of other flows are forgotten, unless they got messages after the table was read.
    pub fn follow(&mut self, destinations: Vec<FlowDestination>, now: Moment) -> Vec<FlowDestination> {
        let mut before = self.take_destinations();
        let mut changed = destinations;
        changed.retain(|found| {
            let queue = self.flows.entry(found.flow).or_default();
            queue.destination = Some(found.destination.clone());
            queue.goes_elsewhere(before.remove(&found.flow).as_ref(), &found.destination)
        });
        before.retain(|flow, destination| {
            self.forgets(*flow, destination) && !matches!(destination, Destination::Url(_))
        });
        let restarted = changed.iter().map(|found| found.flow).chain(before.into_keys());
        self.restart(&restarted.collect(), now);
        changed
    }

    /// Tries flows at once whose last pause ended after their last failure, or after that of their origin: an operator
    /// wants a retry. An open breaker lets one of them test its origin.
    pub fn resume(&mut self, pauses: &HashMap<FlowId, Pause>, now: Moment) {
        let resumed = pauses.iter().filter(|(flow, pause)| {
            let Pause::Ended { ago } = pause else { return false };
            self.flows.get(flow).is_some_and(|queue| self.resumes(queue, *ago, now))
        });
        let resumed: HashSet<FlowId> = resumed.map(|(flow, _)| *flow).collect();
        for flow in &resumed {
            let Some(queue) = self.flows.get_mut(flow) else { continue };
            queue.failed_at = None;
            if let Some(origin) = queue.origin() {
                self.origins.probe_now(origin, now);
            }
        }
        self.restart(&resumed, now);
    }

    /// Whether a retry that was requested `ago` is still to be made.
    fn resumes(&self, queue: &FlowQueue, ago: Duration, now: Moment) -> bool {
        let failed_at = queue.failed_at.filter(|_| queue.failing);
        let awaits_origin =
            || queue.origin().is_some_and(|origin| self.origins.probes_on_request(origin, ago, now));
        !queue.is_on_hold() && (failed_at.is_some_and(|failed_at| failed_at + ago < now) || awaits_origin())
    }

    /// Whether a flow without messages in the table forgets its destination.
    fn forgets(&mut self, flow: FlowId, destination: &Destination) -> bool {
        let Some(queue) = self.flows.get_mut(&flow).filter(|queue| queue.has_waiting_rows()) else {
            return true;
        };
        queue.destination = Some(destination.clone());
        false
    }

    fn take_destinations(&mut self) -> HashMap<FlowId, Destination> {
        let known = self.flows.iter_mut();
        known.filter_map(|(flow, queue)| Some((*flow, queue.destination.take()?))).collect()
    }

    /// The time before which no message of `flow` is given up, whatever its age.
    #[must_use]
    pub fn none_expires_before(&self, flow: FlowId) -> Moment {
        let of_flow = self.flows.get(&flow).map_or(Moment::ZERO, |queue| queue.none_expires_before);
        self.rule.none_expires_before().max(of_flow)
    }

    /// Resets the failure state of these flows.
    fn restart(&mut self, flows: &HashSet<FlowId>, now: Moment) {
        for flow in flows {
            self.unplace(*flow);
            let Some(queue) = self.flows.get_mut(flow) else {
                continue;
            };
            queue.failing = false;
            queue.refused_in_a_row = 0;
            queue.suspects = 0;
            queue.retry_at = None;
            queue.is_due = true;
            queue.none_expires_before = now + self.rule.none_expires_before();
            if queue.is_on_hold() {
                self.evict(*flow);
            }
            self.advance(*flow, now);
        }
    }

    /// The flows whose rows decide about messages that wait now.
    #[must_use]
    pub fn waiting_flows(&self) -> Vec<FlowId> {
        let waiting = self.flows.iter().filter(|(_, queue)| queue.has_waiting_rows());
        waiting.map(|(flow, _)| *flow).collect()
    }
}

impl FlowQueue {
    /// Whether posting and loading are suspended.
    pub(super) fn is_on_hold(&self) -> bool {
        matches!(self.destination, Some(Destination::OnHold(_)))
    }

    /// Whether the flow was deleted. Its messages become dead letters.
    pub(super) fn is_deleted(&self) -> bool {
        self.destination == Some(Destination::Deleted)
    }

    /// The origin to which the flow posted last.
    fn origin(&self) -> Option<&Origin> {
        self.course.as_ref().and_then(|course| course.origin.as_ref())
    }

    fn has_waiting_rows(&self) -> bool {
        self.messages() > 0 || self.unflushed > 0 || self.table != TableRows::Nothing || self.is_loading()
    }

    pub(super) fn goes_elsewhere(&self, before: Option<&Destination>, now: &Destination) -> bool {
        match (before, now) {
            (Some(before), now) => before != now,
            (None, Destination::Url(to)) => {
                self.course.as_ref().is_some_and(|before| before.destination.url != to.url)
            }
            (None, Destination::OnHold(_) | Destination::Deleted) => true,
        }
    }
}
