//! Recognises messages by their keys: seen keys, and keys to remember.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use super::super::message::FlowId;
use super::super::message_key::KeyHash;
use super::flow_state::FlowState;
use super::message::ParsedMessage;

/// A key; each flow has keys of its own.
pub(crate) type FlowKey = (FlowId, KeyHash);

/// The message that has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyHolder {
    pub(crate) message_id: i64,
    pub(crate) received_at_us: i64,
}

/// A key, and the message that has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KeyRow {
    pub(crate) flow: FlowId,
    pub(crate) hash: KeyHash,
    pub(crate) holder: KeyHolder,
}

/// The keys of the messages of one transaction.
#[derive(Debug, Default)]
pub(crate) struct MessageKeys {
    /// By place in the batch and flow. Messages without a key are absent.
    hashes: HashMap<(usize, FlowId), KeyHash>,
    /// The holders that the table names, and those of this transaction.
    holders: HashMap<FlowKey, KeyHolder>,
    /// The keys to write. In the order of the primary key, in which old rows are deleted as well: two transactions that
    /// lock rows in the same order cannot deadlock.
    taken: BTreeMap<FlowKey, KeyHolder>,
    retention_us: u64,
}

impl MessageKeys {
    /// Reads the keys of `messages`, each with its place in the batch. What the table says of them follows by
    /// [`add_known`](Self::add_known).
    pub(crate) fn new<'m>(
        flows: &BTreeMap<FlowId, FlowState>,
        messages: impl Iterator<Item = (usize, &'m ParsedMessage<'m>)>,
        retention: Duration,
    ) -> Self {
        let retention_us = u64::try_from(retention.as_micros()).unwrap_or(u64::MAX);
        Self { hashes: hashes(flows, messages), retention_us, ..Self::default() }
    }

    /// The keys to look up: each once, ascending.
    pub(crate) fn wanted(&self) -> Vec<FlowKey> {
        let keys: BTreeSet<FlowKey> = self.hashes.iter().map(|((_, flow), hash)| (*flow, *hash)).collect();
        keys.into_iter().collect()
    }

    /// The message that has `key` by the table.
    pub(crate) fn add_known(&mut self, key: FlowKey, holder: KeyHolder) {
        self.holders.insert(key, holder);
    }

    /// The number of an earlier message with the key of this one.
    ///
    /// The times of receipt decide, in either order: a message that has waited, here or in the inbox of another
    /// gateway, is treated as if it had not. If a clock was wrong for once, a key is forgotten rather than kept for
    /// ever: a message may come twice, but none is lost.
    pub(super) fn first_holder(&self, message: (usize, FlowId), received_at_us: i64) -> Option<i64> {
        let hash = self.hashes.get(&message)?;
        let holder = self.holders.get(&(message.1, *hash))?;
        let apart = holder.received_at_us.abs_diff(received_at_us);
        (apart < self.retention_us).then_some(holder.message_id)
    }

    /// Remembers the key of this message, if it has one.
    pub(super) fn remember(&mut self, message: (usize, FlowId), message_id: i64, received_at_us: i64) {
        if let Some(hash) = self.hashes.get(&message) {
            let holder = KeyHolder { message_id, received_at_us };
            self.holders.insert((message.1, *hash), holder);
            self.taken.insert((message.1, *hash), holder);
        }
    }

    /// The keys to write.
    pub(super) fn into_rows(self) -> Vec<KeyRow> {
        let row = |((flow, hash), holder)| KeyRow { flow, hash, holder };
        self.taken.into_iter().map(row).collect()
    }
}

fn hashes<'m>(
    flows: &BTreeMap<FlowId, FlowState>,
    messages: impl Iterator<Item = (usize, &'m ParsedMessage<'m>)>,
) -> HashMap<(usize, FlowId), KeyHash> {
    let keyed: BTreeMap<_, _> = flows
        .values()
        .filter_map(|flow| Some((flow.id, flow.message_key.as_ref().ok()?.as_ref()?)))
        .collect();
    let mut found = HashMap::new();
    if keyed.is_empty() {
        return found;
    }
    for (index, message) in messages {
        let Ok(payload) = &message.payload else { continue };
        for flow in message.flows {
            let hash = keyed.get(flow).and_then(|key| key.hash_of(payload, &message.record.delivery));
            found.extend(hash.map(|hash| ((index, *flow), hash)));
        }
    }
    found
}
