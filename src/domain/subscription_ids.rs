//! What subscription identifiers of MQTT 5 stand for, and which subscriptions the broker's session may hold.
//!
//! A message names the subscription by which the broker has matched it: for as long as it waits at the broker, and then in
//! the inbox. So an identifier stands for one filter and for the flows that had it when it was subscribed, and never for
//! anything else. When the flows of a filter change, it is subscribed again under another identifier:
//!
//! ```text
//!   1: a/+ for X and Y ──▶ X goes elsewhere ──▶ 2: a/+ for Y        what names 1 stays X's and Y's
//! ```

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::message::{FlowId, SubscriptionId};
use super::topic::TopicFilter;

/// The largest identifier that MQTT can carry.
const MAX_ID: SubscriptionId = 268_435_455;

/// So much is remembered of identifiers that were replaced: they and their flows counted together. It bounds the memory,
/// and the size of a text that is written at each change. What names one that is forgotten goes by its topic.
const MAX_REPLACED: usize = 250_000;

/// Replaced identifiers that are remembered in any case.
const MIN_REPLACED: usize = 8;

/// Filters, and the flows for which each is subscribed: none where messages do not name their subscriptions.
pub type Subscriptions = BTreeMap<TopicFilter, Vec<FlowId>>;

/// The identifiers of all filters that were ever subscribed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubscriptionIds {
    next_id: SubscriptionId,
    entries: BTreeMap<String, Entry>,
    /// In the order in which they were replaced.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    replaced: Vec<Replaced>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Entry {
    id: SubscriptionId,
    /// The broker's session may hold a subscription to it.
    held: bool,
    /// The broker closes the connection over it, so it is never unsubscribed.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    closes_connection: bool,
    /// Empty where it was never subscribed by its identifier.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    flows: Vec<FlowId>,
}

/// An identifier whose filter has another one by now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Replaced {
    id: SubscriptionId,
    filter: String,
    flows: Vec<FlowId>,
}

/// What an identifier stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Binding<'a> {
    /// The filter.
    pub filter: &'a str,
    /// The flows for which it was subscribed, in order of their ids; empty where that is not known.
    pub flows: &'a [FlowId],
}

/// What all identifiers stand for, to be shared.
#[derive(Debug, Clone, Default)]
pub struct Bindings(HashMap<SubscriptionId, (Arc<str>, Arc<[FlowId]>)>);

impl Bindings {
    /// `None` for an identifier that is not known.
    #[must_use]
    pub fn get(&self, id: SubscriptionId) -> Option<Binding<'_>> {
        self.0.get(&id).map(|(filter, flows)| Binding { filter, flows })
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl SubscriptionIds {
    /// No filters yet; identifiers begin with this one.
    #[must_use]
    pub fn starting_at(first: SubscriptionId) -> SubscriptionIds {
        SubscriptionIds { next_id: first, entries: BTreeMap::new(), replaced: Vec::new() }
    }

    /// Each filter is to be subscribed for these flows, which are in order of their ids: by which identifiers. No flows:
    /// as it was subscribed before. `None` when all identifiers are used up.
    pub fn assign<'a>(
        &mut self,
        subscriptions: impl Iterator<Item = (&'a str, &'a [FlowId])>,
    ) -> Option<Vec<SubscriptionId>> {
        let ids = subscriptions.map(|(filter, flows)| self.assign_one(filter, flows)).collect();
        self.forget_beyond_the_bound();
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
        let entry = Entry { id, held: !closes_connection, closes_connection, flows: flows.to_vec() };
        if let Some(Entry { id, flows, .. }) = self.entries.insert(filter.to_owned(), entry) {
            self.replaced.push(Replaced { id, filter: filter.to_owned(), flows });
        }
        Some(id)
    }

    /// The filter is unsubscribed. Its identifiers stay known: the broker may still have messages that name them.
    pub fn mark_unsubscribed(&mut self, filter: &str) {
        if let Some(entry) = self.entries.get_mut(filter) {
            entry.held = false;
        }
    }

    /// The broker has granted the filter.
    pub fn grant(&mut self, filter: &str) {
        if let Some(entry) = self.entries.get_mut(filter) {
            entry.held = true;
            entry.closes_connection = false;
        }
    }

    /// The broker closes the connection over the filter, be it subscribed or unsubscribed. Until it is granted it does not
    /// count as held, at no broker.
    pub fn shun(&mut self, filter: &str) {
        if let Some(entry) = self.entries.get_mut(filter) {
            entry.held = false;
            entry.closes_connection = true;
        }
    }

    /// The filters over which the broker closes the connection.
    pub fn shunned(&self) -> impl Iterator<Item = &str> {
        let shunned = self.entries.iter().filter(|(_, entry)| entry.closes_connection);
        shunned.map(|(filter, _)| filter.as_str())
    }

    /// The session is one that may hold whatever was ever subscribed.
    pub fn mark_all_held(&mut self) {
        self.entries.values_mut().for_each(|entry| entry.held = !entry.closes_connection);
    }

    /// The filters that the broker's session may hold, and the flows for which each was subscribed last.
    pub fn held(&self) -> impl Iterator<Item = (&str, &[FlowId])> {
        let held = self.entries.iter().filter(|(_, entry)| entry.held);
        held.map(|(filter, entry)| (filter.as_str(), entry.flows.as_slice()))
    }

    /// What each identifier stands for.
    #[must_use]
    pub fn bindings(&self) -> Bindings {
        let present = self.entries.iter().map(|(filter, entry)| (entry.id, filter, &entry.flows));
        let replaced = self.replaced.iter().map(|replaced| (replaced.id, &replaced.filter, &replaced.flows));
        let binding = |(id, filter, flows): (SubscriptionId, &String, &Vec<FlowId>)| {
            (id, (Arc::from(filter.as_str()), Arc::from(flows.as_slice())))
        };
        Bindings(present.chain(replaced).map(binding).collect())
    }

    fn forget_beyond_the_bound(&mut self) {
        let mut weight = 0;
        let is_kept = |(place, replaced): &(usize, &Replaced)| {
            weight += 1 + replaced.flows.len();
            *place < MIN_REPLACED || weight <= MAX_REPLACED
        };
        let kept = self.replaced.iter().rev().enumerate().take_while(is_kept).count();
        self.replaced.drain(..self.replaced.len() - kept);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
