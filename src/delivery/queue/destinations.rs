//! Destinations of flows: the current destination in the flow's row overrides the one recorded with a message.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::flow::{FlowQueue, WaitState};
use super::{DeliveryQueue, Moment};
use crate::domain::message::FlowId;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::{Destination, FlowDestination};

impl DeliveryQueue {
    /// Updates the destinations of all flows that have messages in the table. Returns the flows whose destination
    /// changed. Destinations of all other flows are forgotten.
    pub fn follow(&mut self, destinations: Vec<FlowDestination>, now: Moment) -> Vec<FlowDestination> {
        let mut before = self.take_destinations();
        let mut changed = destinations;
        changed.retain(|found| {
            let queue = self.flows.entry(found.flow).or_default();
            queue.destination = Some(found.destination.clone());
            queue.goes_elsewhere(before.remove(&found.flow).as_ref(), &found.destination)
        });
        before.retain(|_, destination| !matches!(destination, Destination::Url(_)));
        let restarted = changed.iter().map(|found| found.flow).chain(before.into_keys());
        self.restart(&restarted.collect(), now);
        changed
    }

    fn take_destinations(&mut self) -> HashMap<FlowId, Destination> {
        let known = self.flows.iter_mut();
        known.filter_map(|(flow, queue)| Some((*flow, queue.destination.take()?))).collect()
    }

    /// Whether the flow was deleted. Its messages become dead letters.
    #[must_use]
    pub fn is_deleted(&self, flow: FlowId) -> bool {
        self.flows.get(&flow).is_some_and(|queue| queue.destination == Some(Destination::Deleted))
    }

    /// Resets the failure state of these flows.
    fn restart(&mut self, flows: &HashSet<FlowId>, now: Moment) {
        self.fresh.retain(|flow| !flows.contains(flow));
        self.retrying.retain(|flow| !flows.contains(flow));
        self.parked.retain(|(_, flow)| !flows.contains(flow));
        for flow in flows {
            let Some(queue) = self.flows.get_mut(flow) else {
                continue;
            };
            // A post in flight still counts as the retry as which it began.
            queue.failing &= queue.in_flight.is_some();
            queue.refused_in_a_row = 0;
            queue.retry_at = None;
            queue.is_due = true;
            queue.none_expires_before = now + self.rule.none_expires_before();
            if matches!(queue.place, WaitState::Ready | WaitState::Parked) {
                queue.place = WaitState::Idle;
            }
            if queue.is_on_hold() {
                self.evict(*flow);
            }
            self.advance(*flow, now);
        }
    }
}

impl FlowQueue {
    /// Whether posting and loading are suspended.
    pub(super) fn is_on_hold(&self) -> bool {
        matches!(self.destination, Some(Destination::OnHold(_)))
    }

    /// Whether `item` was posted to another destination, so that its failure does not concern the current one.
    pub(super) fn posts_elsewhere_than(&self, item: &OutboxItem) -> bool {
        matches!(&self.destination, Some(Destination::Url(to)) if item.destination != *to)
    }

    /// Addresses `item` to the current destination of the flow.
    pub(super) fn address(&mut self, item: &mut Arc<OutboxItem>) {
        if let Some(Destination::Url(destination)) = &self.destination
            && item.destination != *destination
        {
            Arc::make_mut(item).destination = destination.clone();
        }
        self.posted_to = Some(Arc::clone(&item.destination.url));
    }

    fn goes_elsewhere(&self, before: Option<&Destination>, now: &Destination) -> bool {
        match (before, now) {
            (Some(before), now) => before != now,
            (None, Destination::Url(to)) => self.posted_to.as_ref().is_some_and(|before| *before != to.url),
            (None, Destination::OnHold(_) | Destination::Deleted) => true,
        }
    }
}
