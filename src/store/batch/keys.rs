//! Reads and writes `message_keys`.
//!
//! The rows are read after the rows of the flows are locked, and written in the same transaction. Only the holder of a
//! flow's row adds keys of that flow, in this process or another. So what is read here stays true until the commit, and
//! is rolled back with the transaction.

use std::collections::BTreeMap;
use std::time::Duration;

use sea_orm::prelude::DateTime;
use sea_orm::{ConnectionTrait, QueryResult, Value};

use super::insert::{InsertRow, WriteContext};
use super::locked_flow::padded_to;
use super::part::BatchPart;
use crate::domain::message::FlowId;
use crate::domain::message_key::KeyHash;
use crate::domain::processing::{FlowKey, FlowState, KeyHolder, KeyRow, MessageKeys};
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::statement::statement;

/// Most keys of one statement. `MariaDB` makes a subquery of a list of 1,000 values or more, two for each key, and then
/// scans a small table for it.
const CHUNK_KEYS: usize = 256;

/// Reads which keys of the messages of `part` are known. Without flows whose messages have keys it executes no
/// statement.
pub(super) async fn load_keys(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    flows: &BTreeMap<FlowId, FlowState>,
    part: &BatchPart<'_>,
    retention: Duration,
) -> Result<MessageKeys, StoreError> {
    let mut keys = MessageKeys::new(flows, part.numbered_messages(), retention);
    for chunk in keys.wanted().chunks(CHUNK_KEYS) {
        let padded = chunk.len().next_power_of_two();
        let values =
            padded_to(chunk, padded).flat_map(|(flow, hash)| [Value::from(flow), Value::from(hash.to_vec())]);
        let sql = dialect.known_message_keys(padded);
        let statement = statement(connection.get_database_backend(), sql, values);
        let rows = connection.query_all_raw(statement).await.while_doing("looking up message keys")?;
        for row in rows {
            if let Some((key, holder)) = known_key(&row).while_doing("reading the message keys")? {
                keys.add_known(key, holder);
            }
        }
    }
    Ok(keys)
}

/// A row of the table; `None` for a hash of another length, which is not the gateway's.
fn known_key(row: &QueryResult) -> Result<Option<(FlowKey, KeyHolder)>, sea_orm::DbErr> {
    let flow: i64 = row.try_get("", "flow_id")?;
    let hash: Vec<u8> = row.try_get("", "key_hash")?;
    let received_at: DateTime = row.try_get("", "received_at")?;
    let holder = KeyHolder {
        message_id: row.try_get("", "message_id")?,
        received_at_us: received_at.and_utc().timestamp_micros(),
    };
    Ok(KeyHash::try_from(hash).ok().map(|hash| ((flow, hash), holder)))
}

impl InsertRow for KeyRow {
    const TABLE: &'static str = "message_keys";
    const DOING: &'static str = "writing message keys";
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
