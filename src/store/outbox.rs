//! The outbox, as the process sees it that delivers from it.
//!
//! Every row carries its owner, the process that posts it. An owner holds a *lease*, one row in
//! `outbox_owners`, and renews it; when it runs out, the others may claim its rows. The lease is the
//! owner's and not the row's because of what it costs: one small update every few seconds, whereas a
//! lease on every row would be an update of every row, before its post, for a message that is on
//! its way from memory already and will be deleted a moment later.
//!
//! What holds is *at least once*: a process that was stopped for longer than its lease goes on with
//! the posts it has in flight while another posts the same rows, with the same keys. It finds out
//! when it renews ([`Lease::Begun`]), and reads from the table what is still its own.
//!
//! All times are the database's. Rows are locked by primary key; a claim locks the lease first.

mod lease;

use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDateTime;
use mqtt_gateway_entity::outbox::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
    Statement, Value,
};

pub use self::lease::{LEASE, Lease};
use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use crate::domain::message::FlowId;
use crate::domain::outbox::{OutboxItem, OutboxKey, OutboxPayload};
use crate::domain::outbox_work::{LoadedFlow, LoadedItem, Outcome, WaitingFlow, cost};

/// `dead_letters.reason` of a message that could not be delivered in time.
pub const REASON_EXPIRED: &str = "outbox_expired";

/// What is kept of the reason of a failure, in characters.
const MAX_ERROR_CHARS: usize = 1000;

/// Rows addressed by one statement. Three values each: from 1,000 values on MariaDB makes a subquery of the list, and may
/// scan the table for it.
const MAX_KEYS: usize = 256;

/// The rows of one owner.
#[derive(Debug, Clone)]
pub struct Outbox {
    database: Database,
    owner: Arc<str>,
}

#[derive(Debug, FromQueryResult)]
struct KeyRow {
    inbox_id: String,
    inbox_offset: i64,
    bytes: i64,
}

#[derive(Debug, FromQueryResult)]
struct WaitingRow {
    flow_id: i64,
    row_count: i64,
    lowest: i64,
}

#[derive(Debug, FromQueryResult)]
struct Row {
    inbox_id: String,
    flow_id: i64,
    inbox_offset: i64,
    message_id: i64,
    flow_code: Option<String>,
    topic: Option<String>,
    url: String,
    payload: Vec<u8>,
    attempts: i32,
    created_at: NaiveDateTime,
    created_in_us: i64,
    due_in_us: i64,
}

impl Outbox {
    /// The rows of `owner`, the id of this process' inbox.
    #[must_use]
    pub fn new(database: Database, owner: Arc<str>) -> Self {
        Self { database, owner }
    }

    /// The same rows by new connections, for when those of this one say nothing any more.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { database: self.database.anew(), owner: Arc::clone(&self.owner) }
    }

    /// The database that it is in.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Reads the first rows of `flow`, at most `max_messages` and at most `max_bytes` by
    /// [`cost`], but at least one.
    pub async fn load(
        &self,
        flow: FlowId,
        max_messages: usize,
        max_bytes: usize,
    ) -> Result<LoadedFlow, StoreError> {
        // The sizes first: a payload may be as large as all that is allowed for all of them.
        let found = self.first_keys(flow, max_messages.saturating_add(1)).await.while_doing(LOADING)?;
        let mut bytes = 0_usize;
        let wanted: Vec<OutboxKey> = found
            .iter()
            .take(max_messages.max(1))
            .enumerate()
            .take_while(|(index, row)| {
                bytes = bytes.saturating_add(cost(usize::try_from(row.bytes).unwrap_or(0)));
                *index == 0 || bytes <= max_bytes
            })
            .map(|(_, row)| OutboxKey {
                inbox_id: row.inbox_id.as_str().into(),
                inbox_offset: row.inbox_offset.unsigned_abs(),
                flow_id: flow,
            })
            .collect();
        let complete = wanted.len() == found.len();
        let mut items = Vec::with_capacity(wanted.len());
        for keys in wanted.chunks(MAX_KEYS) {
            let rows = self.rows(&keys.iter().collect::<Vec<_>>()).await.while_doing(LOADING)?;
            items.extend(rows.into_iter().map(LoadedItem::from));
        }
        Ok(LoadedFlow { items, complete })
    }

    async fn first_keys(&self, flow: FlowId, limit: usize) -> Result<Vec<KeyRow>, DbErr> {
        Entity::find()
            .select_only()
            .columns([Column::InboxId, Column::InboxOffset])
            .column_as(Expr::cust("LENGTH(payload)"), "bytes")
            .filter(Column::Owner.eq(&*self.owner))
            .filter(Column::FlowId.eq(flow))
            .order_by_asc(Column::MessageId)
            .order_by_asc(Column::InboxId)
            .order_by_asc(Column::InboxOffset)
            .limit(u64::try_from(limit).unwrap_or(u64::MAX))
            .into_model::<KeyRow>()
            .all(&self.database.connection)
            .await
    }

    async fn rows(&self, keys: &[&OutboxKey]) -> Result<Vec<Row>, DbErr> {
        let dialect = self.database.dialect;
        Entity::find()
            .column_as(Expr::cust(dialect.micros_until("created_at")), "created_in_us")
            .column_as(Expr::cust(dialect.micros_until("next_attempt_at")), "due_in_us")
            .filter(these(self.database.dialect, keys))
            .filter(Column::Owner.eq(&*self.owner))
            .order_by_asc(Column::MessageId)
            .order_by_asc(Column::InboxId)
            .order_by_asc(Column::InboxOffset)
            .into_model::<Row>()
            .all(&self.database.connection)
            .await
    }

    /// Counts the rows of each flow.
    pub async fn waiting(&self) -> Result<Vec<WaitingFlow>, StoreError> {
        let rows = Entity::find()
            .select_only()
            .column(Column::FlowId)
            .column_as(Expr::cust("COUNT(*)"), "row_count")
            .column_as(Column::MessageId.min(), "lowest")
            .filter(Column::Owner.eq(&*self.owner))
            .group_by(Column::FlowId)
            .into_model::<WaitingRow>()
            .all(&self.database.connection)
            .await
            .while_doing("counting the outbox")?;
        let flows = rows.into_iter().map(|row| WaitingFlow {
            flow: row.flow_id,
            rows: row.row_count.unsigned_abs(),
            lowest_message_id: row.lowest,
        });
        Ok(flows.collect())
    }

    /// Writes what became of messages, all or none. To do it twice does no harm.
    pub async fn settle(&self, outcomes: &[Outcome]) -> Result<(), StoreError> {
        let transaction = self.database.begin().await?;
        let mut delivered = Vec::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Delivered { key } => delivered.push(key),
                Outcome::Failed { key, attempts, retry_in, error } => {
                    let written = self.reschedule(&transaction, key, *attempts, *retry_in, error).await;
                    written.while_doing("putting off a delivery")?;
                }
                Outcome::Expired { key, detail } => {
                    let written = self.give_up(&transaction, key, detail).await;
                    written.while_doing("giving up a delivery")?;
                }
            }
        }
        for keys in delivered.chunks(MAX_KEYS) {
            // Delivered is delivered, whoever owns the row now.
            let deletion = Entity::delete_many().filter(these(self.database.dialect, keys));
            deletion.exec(&transaction).await.while_doing("deleting what was delivered")?;
        }
        transaction.commit().await.while_doing("committing what was delivered")
    }

    async fn reschedule(
        &self,
        on: &impl ConnectionTrait,
        key: &OutboxKey,
        attempts: u32,
        retry_in: Duration,
        error: &str,
    ) -> Result<(), DbErr> {
        let sql = format!(
            "UPDATE outbox SET attempts = ?, next_attempt_at = {}, last_error = ? \
             WHERE inbox_id = ? AND flow_id = ? AND inbox_offset = ? AND owner = ?",
            self.database.dialect.now_plus_micros()
        );
        let values = [
            i32::try_from(attempts).unwrap_or(i32::MAX).into(),
            micros(retry_in).into(),
            beginning(error).into(),
        ];
        self.execute(on, sql, values.into_iter().chain(self.one(key))).await?;
        Ok(())
    }

    /// The row goes to the dead letters within the database, without a way through our memory.
    async fn give_up(&self, on: &impl ConnectionTrait, key: &OutboxKey, detail: &str) -> Result<(), DbErr> {
        const THIS_ROW: &str = "WHERE inbox_id = ? AND flow_id = ? AND inbox_offset = ? AND owner = ?";
        let sql = format!(
            "INSERT INTO dead_letters (occurred_at, received_at, inbox_id, inbox_offset, topic, payload, \
             payload_bytes, flow_id, flow_code, message_id, reason, detail) \
             SELECT {}, created_at, inbox_id, inbox_offset, COALESCE(topic, ''), payload, \
             LENGTH(payload), flow_id, flow_code, message_id, ?, ? FROM outbox {THIS_ROW}",
            self.database.dialect.now()
        );
        let values = [REASON_EXPIRED.into(), beginning(detail).into()];
        self.execute(on, sql, values.into_iter().chain(self.one(key))).await?;
        self.execute(on, format!("DELETE FROM outbox {THIS_ROW}"), self.one(key)).await?;
        Ok(())
    }

    /// The parameters that address one row of ours.
    fn one(&self, key: &OutboxKey) -> [Value; 4] {
        [(&*key.inbox_id).into(), key.flow_id.into(), offset(key).into(), (&*self.owner).into()]
    }

    fn statement(&self, sql: String, values: impl IntoIterator<Item = Value>) -> Statement {
        Statement::from_sql_and_values(self.database.dialect.backend(), sql, values)
    }

    async fn execute(
        &self,
        on: &impl ConnectionTrait,
        sql: String,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<u64, DbErr> {
        Ok(on.execute_raw(self.statement(sql, values)).await?.rows_affected())
    }
}

const LOADING: &str = "reading the outbox";

impl From<Row> for LoadedItem {
    fn from(row: Row) -> Self {
        let key = OutboxKey {
            inbox_id: row.inbox_id.into(),
            inbox_offset: row.inbox_offset.unsigned_abs(),
            flow_id: row.flow_id,
        };
        let item = OutboxItem {
            key,
            message_id: row.message_id,
            flow_code: row.flow_code.unwrap_or_default().into(),
            url: row.url.into(),
            topic: row.topic.unwrap_or_default(),
            payload: OutboxPayload::Loaded(row.payload),
            attempts: row.attempts.unsigned_abs(),
            created_at_us: row.created_at.and_utc().timestamp_micros(),
        };
        Self { item, age: positive(row.created_in_us.saturating_neg()), due_in: positive(row.due_in_us) }
    }
}

/// The rows with these keys, found by primary key. The number of keys is rounded up to a power of
/// two by repeating the last, so that there are few statements to prepare.
fn these(dialect: Dialect, keys: &[&OutboxKey]) -> Expr {
    let count = keys.len().next_power_of_two();
    let padded = keys.iter().chain(keys.last().into_iter().cycle()).take(count);
    let values: Vec<Value> =
        padded.flat_map(|key| [(&*key.inbox_id).into(), key.flow_id.into(), offset(key).into()]).collect();
    if values.is_empty() {
        return Expr::cust("1 = 0");
    }
    let keys = vec!["(?, ?, ?)"; count].join(", ");
    Expr::cust_with_values(dialect.outbox_keys(&keys), values)
}

fn offset(key: &OutboxKey) -> i64 {
    i64::try_from(key.inbox_offset).unwrap_or(i64::MAX)
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

fn positive(micros: i64) -> Duration {
    Duration::from_micros(u64::try_from(micros).unwrap_or(0))
}

fn beginning(text: &str) -> String {
    text.chars().take(MAX_ERROR_CHARS).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]
mod tests {
    use sea_orm::QueryTrait;

    use super::*;
    use crate::settings::DatabaseSettings;
    use crate::store::migrate;

    /// `MariaDB` says `range` over `PRIMARY` to its form, at 20 rows and at 20,000.
    #[tokio::test]
    async fn sqlite_searches_for_keys_and_does_not_scan_the_table() {
        let directory = tempfile::tempdir().unwrap();
        let settings = DatabaseSettings::Sqlite { path: directory.path().join("gateway.db") };
        let database = Database::connect(&settings, 1).await.unwrap();
        migrate(&database).await.unwrap();
        let key = |offset| OutboxKey { inbox_id: "a".into(), inbox_offset: offset, flow_id: 1 };
        let keys = [key(1), key(2), key(3)];
        let deletion =
            Entity::delete_many().filter(these(database.dialect, &keys.iter().collect::<Vec<_>>()));
        let mut explain = deletion.build(database.dialect.backend());
        explain.sql = format!("EXPLAIN QUERY PLAN {}", explain.sql);
        let plan = database.connection.query_all_raw(explain).await.unwrap();
        let plan: Vec<String> = plan.iter().map(|row| row.try_get("", "detail").unwrap()).collect();
        assert!(plan.iter().all(|step| step != "SCAN outbox" && step != "SCAN o"), "{plan:?}");
    }

    #[test]
    fn no_keys_are_no_rows() {
        assert_eq!(these(Dialect::Sqlite, &[]), Expr::cust("1 = 0"));
    }
}
