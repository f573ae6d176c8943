//! The outbox, for the process that delivers from it.
//!
//! Every row carries its owner, the process that posts it. An owner holds a *lease*, one row in `outbox_owners`, and
//! renews it; when it expires, others may claim the rows. The lease belongs to the owner because of the cost: one small
//! update every few seconds. A lease on every row would cost an update of each row before its post, for a message that
//! is in memory already and is deleted a moment later.
//!
//! The guarantee is *at least once*: a process that was stopped for longer than its lease continues the posts in flight
//! while another posts the same rows, with the same keys. It notices at the renewal ([`Lease::Acquired`]), and reads from
//! the table which rows are still its own.
//!
//! All times are the database's. Rows are locked by primary key; a claim locks the lease first.

mod destinations;
mod keys;
mod lease;
mod operate;
mod pauses;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::NaiveDateTime;
use mqtt_gateway_entity::outbox::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, FromQueryResult, QueryFilter, QueryOrder, QuerySelect,
    QueryTrait, Statement, Value,
};

use self::keys::rows_with;
pub(super) use self::lease::owner_insertion;
pub use self::lease::{LEASE, Lease};
pub use self::operate::{
    WaitingDeliveries, WaitingPost, cancel_deliveries, count_posts, count_waiting, delivery_keys,
    retry_deliveries, waiting_deliveries, waiting_post_list,
};
use super::connect::{Database, Recovery};
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::sentence::sentence;
use super::statement::{marked, statement};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message::FlowId;
use crate::domain::outbox::{OutboxItem, OutboxKey, OutboxPayload};
use crate::domain::outbox_work::{
    LoadOrder, LoadedFlow, LoadedItem, Outcome, Pause, Remainder, WaitingFlow, cost,
};
use crate::domain::posting::attempts::RecentAttempts;

/// Longest stored reason of a failure, in characters: enough for the 2 KiB of an answer.
const MAX_ERROR_CHARS: usize = 2500;

/// The rows of one owner.
#[derive(Debug, Clone)]
pub struct Outbox {
    database: Database,
    owner: Arc<str>,
}

#[derive(Debug, FromQueryResult)]
struct WaitingRow {
    flow_id: i64,
    row_count: i64,
    lowest: i64,
    oldest_in_us: i64,
}

#[derive(Debug, FromQueryResult)]
struct OutboxRow {
    inbox_id: String,
    flow_id: i64,
    inbox_offset: i64,
    message_id: i64,
    flow_code: Option<String>,
    topic: Option<String>,
    url: String,
    payload: Option<Vec<u8>>,
    payload_bytes: i64,
    attempts: i32,
    recent_attempts: Option<String>,
    created_at: NaiveDateTime,
    created_in_us: i64,
    due_in_us: i64,
    lowest_of_others: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct PayloadRow {
    inbox_id: String,
    flow_id: i64,
    inbox_offset: i64,
    payload: Vec<u8>,
}

impl Outbox {
    /// The rows of `owner`, the id of this process' inbox.
    #[must_use]
    pub fn new(database: Database, owner: Arc<str>) -> Self {
        Self { database, owner }
    }

    /// The same rows by new connections, after the present ones have stopped answering.
    #[must_use]
    pub fn anew(&self) -> Self {
        Self { database: self.database.anew(), owner: Arc::clone(&self.owner) }
    }

    /// Replaces the connections after `error`, if that may help: [`Database::recover`].
    pub(crate) async fn recover(&mut self, error: &StoreError) -> Result<Recovery, StoreError> {
        self.database.recover(error).await
    }

    /// The database of the table.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.database
    }

    /// Reads the rows of `order`.
    pub async fn load(&self, order: &LoadOrder) -> Result<LoadedFlow, StoreError> {
        let LoadOrder { flow, after, max_messages, max_bytes, .. } = *order;
        let most = max_messages.max(1);
        // A single payload may be as large as the limit for all of them, so the first query reads only payloads that
        // are small enough to fit together.
        let small = max_bytes / most;
        let mut rows =
            self.first_rows(flow, after, most.saturating_add(1), small).await.while_doing(LOADING)?;
        let mut bytes = 0_usize;
        let fits = |(index, row): &(usize, &OutboxRow)| {
            bytes = bytes.saturating_add(cost(usize::try_from(row.payload_bytes).unwrap_or(0)));
            *index == 0 || bytes <= max_bytes
        };
        let precedes_others = |row: &&OutboxRow| !order.waits_for_others || row.precedes_others();
        let within = rows.iter().take(most).take_while(precedes_others).enumerate().take_while(fits).count();
        let is_behind = within == 0 && !rows.is_empty();
        let beyond = rows.get(within).map(|row| row.message_id);
        rows.truncate(within);
        let remainder = match (rows.last(), beyond) {
            (_, None) => Remainder::Nothing,
            (Some(last), Some(next)) if last.message_id == next => Remainder::Same,
            (_, Some(_)) => Remainder::Above,
        };
        self.fetch_large(&mut rows).await.while_doing(LOADING)?;
        let pause = self.pauses(Some(flow)).await?.get(&flow).copied();
        let items = rows.into_iter().filter_map(|row| loaded_item(row, pause)).collect();
        let destination = if order.wants_destination {
            self.destinations(&[flow]).await?.pop().map(|found| found.destination)
        } else {
            None
        };
        Ok(LoadedFlow { items, remainder, destination, is_behind })
    }

    /// Reads the rows together with the lowest number of other owners' rows. Between two statements a claim could make
    /// these rows our own, and neither statement would find them.
    async fn first_rows(
        &self,
        flow: FlowId,
        after: Option<i64>,
        limit: usize,
        small_bytes: usize,
    ) -> Result<Vec<OutboxRow>, DbErr> {
        let dialect = self.database.dialect;
        let small_bytes = i64::try_from(small_bytes).unwrap_or(i64::MAX);
        let small = marked(dialect.backend(), "CASE WHEN LENGTH(payload) <= ? THEN payload END".to_owned());
        // A lookup in the index for each owner. MIN over all their rows would read the rows.
        let lowest_of_others = "(SELECT MIN((SELECT message_id FROM outbox WHERE owner = others.owner AND flow_id = ? \
                                ORDER BY message_id LIMIT 1)) FROM outbox_owners AS others WHERE owner <> ?)";
        let lowest_of_others = marked(dialect.backend(), lowest_of_others.to_owned());
        let others = [Value::from(flow), Value::from(&*self.owner)];
        Entity::find()
            .select_only()
            .columns([Column::InboxId, Column::FlowId, Column::InboxOffset, Column::MessageId])
            .columns([Column::FlowCode, Column::Topic, Column::Url, Column::CreatedAt])
            .columns([Column::Attempts, Column::RecentAttempts])
            .column_as(Expr::cust_with_values(small, [small_bytes]), "payload")
            .column_as(Expr::cust(dialect.integer("LENGTH(payload)")), "payload_bytes")
            .column_as(Expr::cust_with_values(lowest_of_others, others), "lowest_of_others")
            .column_as(Expr::cust(dialect.micros_until("created_at")), "created_in_us")
            .column_as(Expr::cust(dialect.micros_until("next_attempt_at")), "due_in_us")
            .filter(Column::Owner.eq(&*self.owner))
            .filter(Column::FlowId.eq(flow))
            .apply_if(after, |rows, after| rows.filter(Column::MessageId.gt(after)))
            .order_by_asc(Column::MessageId)
            .order_by_asc(Column::InboxId)
            .order_by_asc(Column::InboxOffset)
            .limit(u64::try_from(limit).unwrap_or(u64::MAX))
            .into_model::<OutboxRow>()
            .all(&self.database.connection)
            .await
    }

    /// Reads the payloads that the first query left out.
    async fn fetch_large(&self, rows: &mut [OutboxRow]) -> Result<(), DbErr> {
        let mut large: HashMap<OutboxKey, &mut OutboxRow> =
            rows.iter_mut().filter(|row| row.payload.is_none()).map(|row| (row.key(), row)).collect();
        let keys: Vec<OutboxKey> = large.keys().cloned().collect();
        for these in rows_with(self.database.dialect, &keys.iter().collect::<Vec<_>>()) {
            let found = Entity::find()
                .select_only()
                .columns([Column::InboxId, Column::FlowId, Column::InboxOffset, Column::Payload])
                .filter(these)
                .filter(Column::Owner.eq(&*self.owner))
                .into_model::<PayloadRow>()
                .all(&self.database.connection)
                .await?;
            for found in found {
                if let Some(row) = large.get_mut(&found.key()) {
                    row.payload = Some(found.payload);
                }
            }
        }
        Ok(())
    }

    /// Counts the rows of each flow.
    pub async fn waiting(&self) -> Result<Vec<WaitingFlow>, StoreError> {
        let oldest = self.database.dialect.micros_until("MIN(created_at)");
        let rows = Entity::find()
            .select_only()
            .column(Column::FlowId)
            .column_as(Expr::cust("COUNT(*)"), "row_count")
            .column_as(Column::MessageId.min(), "lowest")
            .column_as(Expr::cust(oldest), "oldest_in_us")
            .filter(Column::Owner.eq(&*self.owner))
            .group_by(Column::FlowId)
            .into_model::<WaitingRow>()
            .all(&self.database.connection)
            .await
            .while_doing("counting the outbox")?;
        let pauses = self.pauses(None).await?;
        let flows = rows.into_iter().map(|row| WaitingFlow {
            flow: row.flow_id,
            rows: row.row_count.unsigned_abs(),
            lowest_message_id: row.lowest,
            oldest_age: Pause::counted_age(
                pauses.get(&row.flow_id).copied(),
                positive(row.oldest_in_us.saturating_neg()),
            ),
        });
        Ok(flows.collect())
    }

    /// Writes the outcomes of messages, all or none. Idempotent.
    pub async fn write_outcomes(&self, outcomes: &[Outcome]) -> Result<(), StoreError> {
        let transaction = self.database.begin().await?;
        let mut delivered = Vec::new();
        for outcome in outcomes {
            match outcome {
                Outcome::Delivered { key } => delivered.push(key),
                Outcome::Failed { key, attempts, retry_in, error, recent_attempts } => {
                    let failure = (error.as_str(), recent_attempts);
                    let written = self.reschedule(&transaction, key, *attempts, *retry_in, failure).await;
                    written.while_doing("rescheduling a delivery")?;
                }
                Outcome::GivenUp { key, reason, detail, recent_attempts } => {
                    let written = self.give_up(&transaction, key, *reason, (detail, recent_attempts)).await;
                    written.while_doing("giving up a delivery")?;
                }
            }
        }
        for rows in rows_with(self.database.dialect, &delivered) {
            // A delivered row is deleted, whichever process owns it now.
            let deletion = Entity::delete_many().filter(rows);
            deletion.exec(&transaction).await.while_doing("deleting delivered messages")?;
        }
        transaction.commit().await.while_doing("committing deliveries")
    }

    async fn reschedule(
        &self,
        on: &impl ConnectionTrait,
        key: &OutboxKey,
        attempts: u32,
        retry_in: Duration,
        (error, recent_attempts): (&str, &RecentAttempts),
    ) -> Result<(), DbErr> {
        let sql = format!(
            "UPDATE outbox SET attempts = ?, next_attempt_at = {}, last_error = ?, \
             recent_attempts = COALESCE(?, recent_attempts) \
             WHERE inbox_id = ? AND flow_id = ? AND inbox_offset = ? AND owner = ?",
            self.database.dialect.now_plus_micros()
        );
        let values = [
            i32::try_from(attempts).unwrap_or(i32::MAX).into(),
            micros(retry_in).into(),
            beginning(error).into(),
            recent_attempts.to_json().into(),
        ];
        self.execute(on, sql, values.into_iter().chain(self.one(key))).await?;
        Ok(())
    }

    /// Moves the row to the dead letters within the database, without reading it.
    async fn give_up(
        &self,
        on: &impl ConnectionTrait,
        key: &OutboxKey,
        reason: DeadLetterReason,
        (detail, recent_attempts): (&str, &RecentAttempts),
    ) -> Result<(), DbErr> {
        const THIS_ROW: &str = "WHERE inbox_id = ? AND flow_id = ? AND inbox_offset = ? AND owner = ?";
        let dialect = self.database.dialect;
        // An operator may be cancelling it, or another process claiming it.
        let locked = format!("{THIS_ROW}{}", dialect.for_update());
        let sql = Self::move_to_dead_letters(dialect, &locked);
        let values = [reason.as_str().into(), beginning(detail).into(), recent_attempts.to_json().into()];
        self.execute(on, sql, values.into_iter().chain(self.one(key))).await?;
        self.execute(on, format!("DELETE FROM outbox {THIS_ROW}"), self.one(key)).await?;
        Ok(())
    }

    /// Copies rows to the dead letters; the first parameters are reason, detail and recent attempts.
    fn move_to_dead_letters(dialect: Dialect, rows: &str) -> String {
        format!(
            "INSERT INTO dead_letters (occurred_at, received_at, inbox_id, inbox_offset, topic, payload, \
             payload_bytes, flow_id, flow_code, message_id, reason, detail, recent_attempts) \
             SELECT {}, created_at, inbox_id, inbox_offset, COALESCE(topic, ''), payload, \
             LENGTH(payload), flow_id, flow_code, message_id, ?, ?, COALESCE(?, recent_attempts) FROM outbox {rows}",
            dialect.now()
        )
    }

    /// The parameters that address one of the own rows.
    fn one(&self, key: &OutboxKey) -> [Value; 4] {
        [(&*key.inbox_id).into(), key.flow_id.into(), offset(key).into(), (&*self.owner).into()]
    }

    fn statement(&self, sql: String, values: impl IntoIterator<Item = Value>) -> Statement {
        statement(self.database.dialect.backend(), sql, values)
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

impl OutboxRow {
    /// Whether no other owner has a row of the flow with a lower number.
    fn precedes_others(&self) -> bool {
        self.lowest_of_others.is_none_or(|lowest| self.message_id <= lowest)
    }

    fn key(&self) -> OutboxKey {
        key(&self.inbox_id, self.inbox_offset, self.flow_id)
    }
}

impl PayloadRow {
    fn key(&self) -> OutboxKey {
        key(&self.inbox_id, self.inbox_offset, self.flow_id)
    }
}

fn key(inbox_id: &str, inbox_offset: i64, flow_id: FlowId) -> OutboxKey {
    OutboxKey { inbox_id: inbox_id.into(), inbox_offset: inbox_offset.unsigned_abs(), flow_id }
}

/// `None` for a row that was gone when its payload was read.
fn loaded_item(row: OutboxRow, pause: Option<Pause>) -> Option<LoadedItem> {
    let item = OutboxItem {
        key: row.key(),
        message_id: row.message_id,
        flow_code: row.flow_code.unwrap_or_default().into(),
        destination: row.url.into(),
        topic: row.topic.unwrap_or_default(),
        payload: OutboxPayload::Loaded(row.payload?),
        attempts: row.attempts.unsigned_abs(),
        recent_attempts: row.recent_attempts.as_deref().map(RecentAttempts::parse).unwrap_or_default(),
        created_at_us: row.created_at.and_utc().timestamp_micros(),
    };
    let age = Pause::counted_age(pause, positive(row.created_in_us.saturating_neg()));
    Some(LoadedItem { item, age, due_in: positive(row.due_in_us) })
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
    sentence(text, MAX_ERROR_CHARS)
}
