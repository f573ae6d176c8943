//! The keys of a step's messages: which of them are known, and which are to be remembered.
//!
//! The rows of `message_keys` are read after the flows' rows are locked, and written in the same
//! transaction. Whoever holds a flow's row is the only one who adds to its keys, in this process or
//! another; so what is read here stays true until the commit, and goes with the transaction.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::Duration;

use sea_orm::prelude::DateTime;
use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::insert::Row;
use super::locked_flow::{LockedFlow, padded_to};
use super::transaction::Work;
use super::writes::WriteContext;
use crate::domain::message::FlowId;
use crate::domain::message_key::KeyHash;
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::statement::statement;

/// Most keys of one statement. `MariaDB` makes a subquery of a list of 1,000 values or more, two for
/// each key, and then scans a small table for it.
const CHUNK_KEYS: usize = 256;

/// A key belongs to a flow.
type FlowKey = (FlowId, KeyHash);

/// The message that has a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Holder {
    message_id: i64,
    received_at_us: i64,
}

/// The keys of the messages of one transaction.
#[derive(Debug, Default)]
pub(super) struct Keys {
    /// By place in the batch; messages without a key are not in it.
    of_messages: HashMap<(usize, FlowId), KeyHash>,
    /// Who has a key, by what the table says and by what this transaction has decided.
    holders: HashMap<FlowKey, Holder>,
    /// What is to be written. In the order of the primary key, in which old rows are deleted as well:
    /// two who lock rows in the same order do not wait for each other in a circle.
    taken: BTreeMap<FlowKey, Holder>,
    /// Two messages received at least so far apart may have the same key.
    known_for_us: u64,
}

/// A row of `message_keys` to be.
#[derive(Debug)]
pub(super) struct KeyRow {
    flow: FlowId,
    hash: KeyHash,
    holder: Holder,
}

impl Keys {
    /// Finds the keys of the messages of `work`, and those of them that are known. Without flows
    /// whose messages have keys it asks nothing of the database.
    pub(super) async fn recall(
        connection: &impl ConnectionTrait,
        dialect: Dialect,
        flows: &BTreeMap<FlowId, LockedFlow>,
        work: &Work<'_>,
        known_for: Duration,
    ) -> Result<Self, StoreError> {
        let of_messages = keys_of(flows, work);
        let wanted: BTreeSet<FlowKey> = of_messages.iter().map(|((_, flow), hash)| (*flow, *hash)).collect();
        let wanted: Vec<_> = wanted.into_iter().collect();
        let mut holders = HashMap::new();
        for chunk in wanted.chunks(CHUNK_KEYS) {
            let padded = chunk.len().next_power_of_two();
            let values = padded_to(chunk, padded)
                .flat_map(|(flow, hash)| [Value::from(flow), Value::from(hash.to_vec())]);
            let sql = dialect.known_message_keys(padded);
            let statement = statement(connection.get_database_backend(), sql, values);
            let rows = connection.query_all_raw(statement).await.while_doing("looking for known keys")?;
            for row in rows {
                holders.extend(holder(&row).while_doing("reading the known keys")?);
            }
        }
        let known_for_us = u64::try_from(known_for.as_micros()).unwrap_or(u64::MAX);
        Ok(Self { of_messages, holders, taken: BTreeMap::new(), known_for_us })
    }

    /// The number of the message that has the key of this one already.
    ///
    /// What counts is when the two were received, in either order: a message that has waited, here
    /// or in the inbox of another gateway, is judged as if it had not. And where a clock was wrong
    /// for once, a key is forgotten and not kept for ever: rather twice than lost.
    pub(super) fn holder(&self, message: (usize, FlowId), received_at_us: i64) -> Option<i64> {
        let hash = self.of_messages.get(&message)?;
        let holder = self.holders.get(&(message.1, *hash))?;
        let apart = holder.received_at_us.abs_diff(received_at_us);
        (apart < self.known_for_us).then_some(holder.message_id)
    }

    /// Remembers that this message has taken its key, if it has one.
    pub(super) fn take(&mut self, message: (usize, FlowId), message_id: i64, received_at_us: i64) {
        if let Some(hash) = self.of_messages.get(&message) {
            let holder = Holder { message_id, received_at_us };
            self.holders.insert((message.1, *hash), holder);
            self.taken.insert((message.1, *hash), holder);
        }
    }

    /// What is to be written.
    pub(super) fn into_rows(self) -> Vec<KeyRow> {
        let row = |((flow, hash), holder)| KeyRow { flow, hash, holder };
        self.taken.into_iter().map(row).collect()
    }
}

fn keys_of(flows: &BTreeMap<FlowId, LockedFlow>, work: &Work<'_>) -> HashMap<(usize, FlowId), KeyHash> {
    let keyed: BTreeMap<_, _> = flows
        .values()
        .filter_map(|flow| Some((flow.id, flow.message_key.as_ref().ok()?.as_ref()?)))
        .collect();
    let mut found = HashMap::new();
    if keyed.is_empty() {
        return found;
    }
    let messages = work.messages();
    for (index, message) in work.range.clone().zip(messages) {
        let Ok(payload) = &message.payload else { continue };
        for flow in message.flows {
            let hash = keyed.get(flow).and_then(|key| key.of(payload, &message.record.delivery));
            found.extend(hash.map(|hash| ((index, *flow), hash)));
        }
    }
    found
}

/// A row of the table; a hash of another length is none of ours.
fn holder(row: &QueryResult) -> Result<Option<(FlowKey, Holder)>, sea_orm::DbErr> {
    let flow: i64 = row.try_get("", "flow_id")?;
    let hash: Vec<u8> = row.try_get("", "key_hash")?;
    let received_at: DateTime = row.try_get("", "received_at")?;
    let holder = Holder {
        message_id: row.try_get("", "message_id")?,
        received_at_us: received_at.and_utc().timestamp_micros(),
    };
    Ok(KeyHash::try_from(hash).ok().map(|hash| ((flow, hash), holder)))
}

impl Row for KeyRow {
    const TABLE: &'static str = "message_keys";
    const DOING: &'static str = "remembering keys";
    const COLUMNS: &'static [&'static str] = &["flow_id", "key_hash", "message_id", "received_at"];
    const NOW_COLUMNS: &'static [&'static str] = &["written_at"];

    fn ending(dialect: Dialect) -> &'static str {
        dialect.or_replace_message_key()
    }

    fn bytes(&self) -> usize {
        120
    }

    fn bind(&self, context: &WriteContext<'_>, values: &mut Vec<Value>) {
        values.push(Value::from(self.flow));
        values.push(Value::from(self.hash.to_vec()));
        values.push(Value::from(self.holder.message_id));
        values.push(context.dialect.instant(self.holder.received_at_us));
    }
}
