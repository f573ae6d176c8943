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

use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDateTime;
use mqtt_gateway_entity::outbox::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder,
    QuerySelect, Statement, Value,
};

use super::connect::Database;
use super::error::{StoreError, While};
use crate::domain::message::FlowId;
use crate::domain::outbox::{OutboxItem, OutboxKey, OutboxPayload};
use crate::domain::outbox_work::{LoadedFlow, LoadedItem, Outcome, WaitingFlow, cost};

/// How long a lease lasts. To be renewed several times within it.
pub const LEASE: Duration = Duration::from_mins(1);

/// The row of a lease that ran out is kept for so long: a transaction of its owner may still be
/// under way and leave rows behind.
const FORGET_OWNER_AFTER: Duration = Duration::from_hours(24);

/// `dead_letters.reason` of a message that could not be delivered in time.
pub const REASON_EXPIRED: &str = "outbox_expired";

/// What is kept of the reason of a failure, in characters.
const MAX_ERROR_CHARS: usize = 1000;

/// Rows addressed by one statement.
const MAX_KEYS: usize = 512;

/// The rows of one owner.
#[derive(Debug, Clone)]
pub struct Outbox {
    database: Database,
    owner: Arc<str>,
}

/// What a renewal found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lease {
    /// It was held all the time.
    Held,
    /// It is held from now on; before, there was none, or it had run out and others may have
    /// claimed the rows.
    Begun,
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
struct OwnerRow {
    owner: String,
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
            .filter(these(keys))
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
            let deletion = Entity::delete_many().filter(these(keys));
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

    /// Renews our lease, or begins one.
    pub async fn renew_lease(&self) -> Result<Lease, StoreError> {
        const DOING: &str = "renewing the lease on the outbox";
        let dialect = self.database.dialect;
        let (now, until) = (dialect.now(), dialect.now_plus_micros());
        let owner = || Value::from(&*self.owner);
        let lease = || Value::from(micros(LEASE));
        let transaction = self.database.begin().await?;
        let renewal = format!("UPDATE outbox_owners SET lease_until = {until} WHERE owner = ?");
        let held = format!("{renewal} AND lease_until > {now}");
        let mut found = Lease::Held;
        if self.execute(&transaction, held, [lease(), owner()]).await.while_doing(DOING)? == 0 {
            found = Lease::Begun;
            if self.execute(&transaction, renewal, [lease(), owner()]).await.while_doing(DOING)? == 0 {
                let insert = format!("INSERT INTO outbox_owners (lease_until, owner) VALUES ({until}, ?)");
                self.execute(&transaction, insert, [lease(), owner()]).await.while_doing(DOING)?;
            }
        }
        transaction.commit().await.while_doing(DOING)?;
        Ok(found)
    }

    /// Takes over the rows of owners whose lease ran out, and answers how many. Owners that have
    /// rows and no lease get one in their name: if they live, they renew it.
    pub async fn claim_abandoned(&self) -> Result<u64, StoreError> {
        const DOING: &str = "looking for abandoned deliveries";
        let dialect = self.database.dialect;
        let on = &self.database.connection;
        let adopt = format!(
            "INSERT INTO outbox_owners (owner, lease_until) SELECT owner, {} FROM \
             (SELECT DISTINCT owner FROM outbox) AS owners \
             WHERE owner NOT IN (SELECT owner FROM outbox_owners)",
            dialect.now_plus_micros()
        );
        self.execute(on, adopt, [micros(LEASE).into()]).await.while_doing(DOING)?;
        let expired =
            format!("SELECT owner FROM outbox_owners WHERE lease_until < {} AND owner <> ?", dialect.now());
        let expired = self.statement(expired, [Value::from(&*self.owner)]);
        let expired = OwnerRow::find_by_statement(expired).all(on).await.while_doing(DOING)?;
        let mut claimed = 0;
        for other in expired {
            claimed += self.claim_from(&other.owner).await?;
        }
        Ok(claimed)
    }

    /// Whoever holds the lock on the lease moves the rows; the next one finds none left.
    async fn claim_from(&self, other: &str) -> Result<u64, StoreError> {
        const DOING: &str = "taking over abandoned deliveries";
        let dialect = self.database.dialect;
        let transaction = self.database.begin().await?;
        let lock = format!(
            "SELECT owner FROM outbox_owners WHERE owner = ? AND lease_until < {}{}",
            dialect.now(),
            dialect.for_update()
        );
        let lock = self.statement(lock, [Value::from(other)]);
        if OwnerRow::find_by_statement(lock).one(&transaction).await.while_doing(DOING)?.is_none() {
            return Ok(0);
        }
        let values = [Value::from(&*self.owner), Value::from(other)];
        let claim = "UPDATE outbox SET owner = ? WHERE owner = ?".to_owned();
        let claimed = self.execute(&transaction, claim, values).await.while_doing(DOING)?;
        let forget = format!(
            "DELETE FROM outbox_owners WHERE owner = ? AND lease_until < {}",
            dialect.now_plus_micros()
        );
        let values = [Value::from(other), (-micros(FORGET_OWNER_AFTER)).into()];
        self.execute(&transaction, forget, values).await.while_doing(DOING)?;
        transaction.commit().await.while_doing(DOING)?;
        Ok(claimed)
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

/// The rows with these keys. The number of keys is rounded up to a power of two by repeating the
/// last, so that there are few statements to prepare.
fn these(keys: &[&OutboxKey]) -> Condition {
    if keys.is_empty() {
        // A condition without any part would hold for every row.
        return Condition::all().add(Expr::cust("1 = 0"));
    }
    let repeated = keys.last().into_iter().cycle();
    let padded = keys.iter().chain(repeated).take(keys.len().next_power_of_two());
    padded.fold(Condition::any(), |any, key| {
        any.add(
            Condition::all()
                .add(Column::InboxId.eq(&*key.inbox_id))
                .add(Column::FlowId.eq(key.flow_id))
                .add(Column::InboxOffset.eq(offset(key))),
        )
    })
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
