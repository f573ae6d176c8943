//! Bindings of MQTT 5 subscription identifiers, and the subscriptions that the session at the broker may hold.
//!
//! A message carries the identifier of the subscription that matched it, while it waits at the broker and in the inbox.
//! Therefore the binding of an identifier never changes: one filter, and the flows of this filter at the time of the
//! subscription. When the flows of a filter change, the filter is subscribed again with a new identifier:
//!
//! ```text
//!   1: a/+ for X and Y ──▶ X gets another topic ──▶ 2: a/+ for Y        messages with 1 still belong to X and Y
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::{FlowId, SubscriptionId};
use super::topic::TopicFilter;

/// The maximum identifier of MQTT 5.
const MAX_ID: SubscriptionId = 268_435_455;

/// Maximum size of the replaced bindings: identifiers and their flows together. It bounds the memory and the size of
/// the file that is written at each change. Messages with a dropped identifier are routed by their topic.
const MAX_REPLACED: usize = 250_000;

/// Minimum number of kept replaced bindings.
const MIN_REPLACED: usize = 8;

/// Maximum number of filters that were unsubscribed and may be held by another broker. It bounds the UNSUBSCRIBEs after
/// a change of the broker. Two edits of the topics of 10,000 flows fit.
const MAX_UNSUBSCRIBED: usize = 25_000;

/// Filters and their flows. The list is empty if the broker does not support subscription identifiers.
pub type Subscriptions = BTreeMap<TopicFilter, Vec<FlowId>>;

/// The identifiers of all filters that were subscribed at any time, up to the limits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionIds {
    next_id: SubscriptionId,
    /// The subscribed filters, and a bounded number of unsubscribed ones.
    entries: BTreeMap<String, FilterEntry>,
    /// In order of replacement, the oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<Replaced>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct FilterEntry {
    id: SubscriptionId,
    /// Whether the session at the broker may hold a subscription to the filter.
    held: bool,
    /// Whether the broker closes the connection because of this filter. Such a filter is never unsubscribed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closes_connection: bool,
    /// Empty if the filter was never subscribed with its identifier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flows: Vec<FlowId>,
}

/// A former identifier of a filter, which need not be subscribed now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Replaced {
    id: SubscriptionId,
    filter: String,
    flows: Vec<FlowId>,
}

/// The binding of a subscription identifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The filter.
    pub filter: &'a str,
    /// The flows at the time of the subscription, in order of their ids; empty if unknown.
    pub flows: &'a [FlowId],
}

/// The bindings of all identifiers, for shared use.
#[derive(Debug, Clone, Default)]
pub struct Bindings(HashMap<SubscriptionId, (Arc<str>, Arc<[FlowId]>)>);

impl Bindings {
    /// Returns the binding of an identifier, or `None` if it is unknown.
    #[must_use]
    pub fn get(&self, id: SubscriptionId) -> Option<Binding<'_>> {
        self.0.get(&id).map(|(filter, flows)| Binding { filter, flows })
    }

    /// Whether there are no bindings.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl SubscriptionIds {
    /// Creates an empty table. Identifiers ascend from `first`.
    #[must_use]
    pub fn starting_at(first: SubscriptionId) -> SubscriptionIds {
        SubscriptionIds { next_id: first, entries: BTreeMap::new(), replaced: Vec::new() }
    }

    /// Returns the identifier of each subscription, and marks the filters as held.
    ///
    /// The flows must be in order of their ids. A filter without flows keeps its current binding. Returns `None` when
    /// all identifiers are used.
    pub fn assign<'a>(
        &mut self,
        subscriptions: impl Iterator<Item = (&'a str, &'a [FlowId])>,
    ) -> Option<Vec<SubscriptionId>> {
        let ids = subscriptions.map(|(filter, flows)| self.assign_one(filter, flows)).collect();
        self.drop_oldest();
        ids
    }

    fn assign_one(&mut self, filter: &str, flows: &[FlowId]) -> Option<SubscriptionId> {
        if let Some(entry) = self.entries.get_mut(filter)
            && (flows.is_empty() || entry.flows == flows)
        {
            entry.held = !entry.closes_connection;
            return Some(entry.id);
        }
        let id = self.next_id;
        if id > MAX_ID {
            return None;
        }
        self.next_id += 1;
        let closes_connection = self.entries.get(filter).is_some_and(|entry| entry.closes_connection);
        let entry = FilterEntry { id, held: !closes_connection, closes_connection, flows: flows.to_vec() };
        if let Some(FilterEntry { id, flows, .. }) = self.entries.insert(filter.to_owned(), entry) {
            self.replaced.push(Replaced { id, filter: filter.to_owned(), flows });
        }
        Some(id)
    }

    /// Marks a filter as unsubscribed. Its bindings stay known, because the broker may hold messages with its
    /// identifiers.
    pub fn mark_unsubscribed(&mut self, filter: &str) {
        if let Some(entry) = self.entries.get_mut(filter) {
            entry.held = false;
        }
    }

    /// Records that the broker has granted the filter.
    pub fn grant(&mut self, filter: &str) {
        if let Some(entry) = self.entries.get_mut(filter) {
            entry.held = true;
            entry.closes_connection = false;
        }
    }

    /// Records that the broker closes the connection when the filter is subscribed or unsubscribed. Until a broker
    /// grants it, the filter does not count as held.
    pub fn avoid(&mut self, filter: &str) {
        if let Some(entry) = self.entries.get_mut(filter) {
            entry.held = false;
            entry.closes_connection = true;
        }
    }

    /// The filters for which the broker closes the connection.
    pub fn avoided(&self) -> impl Iterator<Item = &str> {
        let avoided = self.entries.iter().filter(|(_, entry)| entry.closes_connection);
        avoided.map(|(filter, _)| filter.as_str())
    }

    /// Marks all filters as held, because the session may contain any former subscription.
    pub fn mark_all_held(&mut self) {
        self.drop_oldest();
        self.entries.values_mut().for_each(|entry| entry.held = !entry.closes_connection);
    }

    /// The filters that the session may hold, with the flows of their last subscription.
    pub fn held(&self) -> impl Iterator<Item = (&str, &[FlowId])> {
        let held = self.entries.iter().filter(|(_, entry)| entry.held);
        held.map(|(filter, entry)| (filter.as_str(), entry.flows.as_slice()))
    }

    /// Returns the bindings of all identifiers.
    #[must_use]
    pub fn bindings(&self) -> Bindings {
        let present = self.entries.iter().map(|(filter, entry)| (entry.id, filter, &entry.flows));
        let replaced = self.replaced.iter().map(|replaced| (replaced.id, &replaced.filter, &replaced.flows));
        let binding = |(id, filter, flows): (SubscriptionId, &String, &Vec<FlowId>)| {
            (id, (Arc::from(filter.as_str()), Arc::from(flows.as_slice())))
        };
        Bindings(present.chain(replaced).map(binding).collect())
    }

    fn drop_oldest(&mut self) {
        self.retire_unsubscribed();
        let mut weight = 0;
        let is_kept = |(place, replaced): &(usize, &Replaced)| {
            weight += 1 + replaced.flows.len();
            *place < MIN_REPLACED || weight <= MAX_REPLACED
        };
        let kept = self.replaced.iter().rev().enumerate().take_while(is_kept).count();
        self.replaced.drain(..self.replaced.len() - kept);
    }

    /// Counts the unsubscribed filters beyond the limit as replaced, the lowest identifiers first. Their bindings stay
    /// known. A filter over which the broker closes the connection stays: another attempt would cost the connection.
    fn retire_unsubscribed(&mut self) {
        let is_unsubscribed = |entry: &FilterEntry| !entry.held && !entry.closes_connection;
        let unsubscribed = self.entries.values().filter(|entry| is_unsubscribed(entry));
        let mut ids: Vec<SubscriptionId> = unsubscribed.map(|entry| entry.id).collect();
        let excess = ids.len().saturating_sub(MAX_UNSUBSCRIBED);
        ids.sort_unstable();
        let Some(lowest_kept) = ids.get(excess).copied().filter(|_| excess > 0) else { return };
        let retired =
            self.entries.extract_if(.., |_, entry| is_unsubscribed(entry) && entry.id < lowest_kept);
        let replaced = |(filter, FilterEntry { id, flows, .. })| Replaced { id, filter, flows };
        self.replaced.extend(retired.map(replaced));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
