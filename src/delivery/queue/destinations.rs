//! Where flows post: what their rows say now, against what their messages were told when they were numbered.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::flow::{FlowQueue, Place};
use super::{DeliveryQueue, Moment};
use crate::domain::message::FlowId;
use crate::domain::outbox::OutboxItem;
use crate::domain::outbox_work::{Destination, FlowDestination};

impl DeliveryQueue {
    /// Follows the rows of all flows that have messages in the table. Gives those that go elsewhere from now on, or
    /// nowhere. Of all other flows nothing is known any more.
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

    /// Whether the flow was deleted: its messages are given up instead of posted.
    #[must_use]
    pub fn is_deleted(&self, flow: FlowId) -> bool {
        self.flows.get(&flow).is_some_and(|queue| queue.destination == Some(Destination::Deleted))
    }

    /// What failures have taught of these flows does not count any more.
    fn restart(&mut self, flows: &HashSet<FlowId>, now: Moment) {
        self.fresh.retain(|flow| !flows.contains(flow));
        self.retrying.retain(|flow| !flows.contains(flow));
        self.parked.retain(|(_, flow)| !flows.contains(flow));
        for flow in flows {
            let Some(queue) = self.flows.get_mut(flow) else {
                continue;
            };
            // A post under way still counts as the retry that it began as.
            queue.failing &= queue.in_flight.is_some();
            queue.refused_in_a_row = 0;
            queue.retry_at = None;
            queue.is_due = true;
            queue.none_expires_before = now + self.rule.none_expires_before();
            if matches!(queue.place, Place::Ready | Place::Parked) {
                queue.place = Place::Idle;
            }
            if queue.is_on_hold() {
                self.evict(*flow);
            }
            self.advance(*flow, now);
        }
    }
}

impl FlowQueue {
    /// Nothing is posted or loaded.
    pub(super) fn is_on_hold(&self) -> bool {
        matches!(self.destination, Some(Destination::OnHold(_)))
    }

    /// Whether a failure to post `item` says nothing of where the flow posts now.
    pub(super) fn posts_elsewhere_than(&self, item: &OutboxItem) -> bool {
        matches!(&self.destination, Some(Destination::Url(url)) if item.url != *url)
    }

    /// Sends `item` to where the flow posts now.
    pub(super) fn address(&mut self, item: &mut Arc<OutboxItem>) {
        if let Some(Destination::Url(url)) = &self.destination
            && item.url != *url
        {
            Arc::make_mut(item).url = Arc::clone(url);
        }
        self.posted_to = Some(Arc::clone(&item.url));
    }

    fn goes_elsewhere(&self, before: Option<&Destination>, now: &Destination) -> bool {
        match (before, now) {
            (Some(before), now) => before != now,
            (None, Destination::Url(url)) => self.posted_to.as_ref().is_some_and(|before| before != url),
            (None, Destination::OnHold(_) | Destination::Deleted) => true,
        }
    }
}
