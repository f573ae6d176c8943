//! Waiting posts for operators: counts them, makes them due, and cancels them. Works on the rows of all owners.

use sea_orm::prelude::DateTime;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Value};

use super::{Outbox, beginning, key, offset};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::message::FlowId;
use crate::domain::outbox::{CountedPosts, OutboxKey, PostPlace};
use crate::store::clock::database_time;
use crate::store::connect::Database;
use crate::store::error::{StoreError, While};
use crate::store::statement::{execute, read, statement};

const DOING: &str = "reading the outbox";

/// Rows of one transaction of a cancellation.
const CANCEL_ROWS: usize = 128;

/// The waiting posts of a flow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingDeliveries {
    /// The flow.
    pub flow: FlowId,
    /// Its code, or the code in the first post if the flow was deleted.
    pub code: Option<String>,
    /// Number of posts.
    pub posts: u64,
    /// When the first post was numbered: microseconds since 1970, UTC.
    pub oldest_at_us: i64,
    /// Key of the first post, for which the others wait.
    pub first: OutboxKey,
    /// Its sequence number.
    pub message_id: i64,
    /// The highest sequence number of the posts.
    pub last_message_id: i64,
    /// Failed attempts of the first post.
    pub attempts: u32,
    /// Earliest time of its next attempt: microseconds since 1970, UTC.
    pub next_attempt_at_us: i64,
    /// Reason of its last failure.
    pub last_error: Option<String>,
    /// Its last failed attempts, as JSON.
    pub recent_attempts: Option<String>,
}

/// The waiting posts of all flows, or of one, by flow. Counts by the index alone, because an outbox may be large.
pub async fn waiting_deliveries(
    database: &Database,
    flow: Option<FlowId>,
) -> Result<Vec<WaitingDeliveries>, StoreError> {
    let condition = if flow.is_some() { "WHERE flow_id = ?" } else { "" };
    let join = database.dialect.join_to_subquery();
    let sql = format!(
        "SELECT h.flow_id, h.row_count, COALESCE(f.code, o.flow_code) AS code, o.created_at, o.inbox_id, \
         o.inbox_offset, o.message_id, o.attempts, o.next_attempt_at, o.last_error, o.recent_attempts, h.owner, \
         h.highest FROM (SELECT owner, flow_id, COUNT(*) AS row_count, MIN(message_id) AS lowest, \
         MAX(message_id) AS highest FROM outbox {condition} GROUP BY owner, flow_id) AS h \
         {join} outbox AS o ON o.owner = h.owner AND o.flow_id = h.flow_id AND o.message_id = h.lowest \
         LEFT JOIN flows AS f ON f.id = h.flow_id ORDER BY h.flow_id, h.lowest, h.owner"
    );
    let rows = read(&database.connection, DOING, sql, flow.map(Value::from), waiting_row).await?;
    let (mut waiting, mut last_owner): (Vec<WaitingDeliveries>, _) = (Vec::new(), None);
    for (found, owner) in rows {
        let of_owner = (found.flow, owner);
        match waiting.last_mut() {
            // After a counter was set back, two posts may have the same number.
            Some(_) if last_owner.as_ref() == Some(&of_owner) => {}
            Some(first) if first.flow == found.flow => first.add(&found),
            _ => waiting.push(found),
        }
        last_owner = Some(of_owner);
    }
    Ok(waiting)
}

/// The number of waiting posts, and when the oldest was numbered: microseconds since 1970, UTC. The oldest is the first
/// of a flow, because reading the times of all rows would read the rows.
pub async fn count_waiting(database: &Database) -> Result<(u64, Option<i64>), StoreError> {
    let join = database.dialect.join_to_subquery();
    let sql = format!(
        "SELECT (SELECT COUNT(*) FROM outbox) AS row_count, (SELECT MIN(o.created_at) \
         FROM (SELECT owner, flow_id, MIN(message_id) AS lowest FROM outbox GROUP BY owner, flow_id) AS h \
         {join} outbox AS o ON o.owner = h.owner AND o.flow_id = h.flow_id AND o.message_id = h.lowest) AS oldest"
    );
    let query = statement(database.dialect.backend(), sql, []);
    let found = database.connection.query_one_raw(query).await.while_doing(DOING)?;
    let Some(row) = found else { return Ok((0, None)) };
    let posts: i64 = row.try_get("", "row_count").while_doing(DOING)?;
    let oldest: Option<DateTime> = row.try_get("", "oldest").while_doing(DOING)?;
    Ok((posts.unsigned_abs(), oldest.map(|oldest| oldest.and_utc().timestamp_micros())))
}

impl WaitingDeliveries {
    /// Adds posts of the same flow that another process delivers.
    fn add(&mut self, others: &Self) {
        self.posts += others.posts;
        self.oldest_at_us = self.oldest_at_us.min(others.oldest_at_us);
        self.last_message_id = self.last_message_id.max(others.last_message_id);
    }
}

fn waiting_row(row: &QueryResult) -> Result<(WaitingDeliveries, String), DbErr> {
    let (rows, attempts): (i64, i32) = (row.try_get("", "row_count")?, row.try_get("", "attempts")?);
    let inbox_id: String = row.try_get("", "inbox_id")?;
    let flow = row.try_get("", "flow_id")?;
    let waiting = WaitingDeliveries {
        flow,
        code: row.try_get("", "code")?,
        posts: rows.unsigned_abs(),
        oldest_at_us: micros(row, "created_at")?,
        first: key(&inbox_id, row.try_get("", "inbox_offset")?, flow),
        message_id: row.try_get("", "message_id")?,
        last_message_id: row.try_get("", "highest")?,
        attempts: attempts.unsigned_abs(),
        next_attempt_at_us: micros(row, "next_attempt_at")?,
        last_error: row.try_get("", "last_error")?,
        recent_attempts: row.try_get("", "recent_attempts")?,
    };
    Ok((waiting, row.try_get("", "owner")?))
}

/// A post that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WaitingPost {
    /// Its place among the posts of its flow.
    pub place: PostPlace,
    /// Topic of the message.
    pub topic: Option<String>,
    /// When it was numbered: microseconds since 1970, UTC.
    pub created_at_us: i64,
    /// Its failed attempts.
    pub attempts: u32,
    /// Earliest time of its next attempt: microseconds since 1970, UTC.
    pub next_attempt_at_us: i64,
    /// Reason of its last failure.
    pub last_error: Option<String>,
    /// Its last failed attempts, as JSON.
    pub recent_attempts: Option<String>,
}

/// At most `limit` waiting posts of a flow behind a place, in their order, without payloads.
pub async fn waiting_post_list(
    database: &Database,
    flow: FlowId,
    after: Option<&PostPlace>,
    limit: usize,
) -> Result<Vec<WaitingPost>, StoreError> {
    let mut values = vec![Value::from(flow)];
    let mut condition = "flow_id = ?";
    if let Some(PostPlace { message_id, key }) = after {
        condition = "flow_id = ? AND (message_id > ? OR (message_id = ? AND (inbox_id > ? OR \
                     (inbox_id = ? AND inbox_offset > ?))))";
        let inbox_id = || Value::from(&*key.inbox_id);
        let (number, offset) = (*message_id, offset(key));
        values.extend([number.into(), number.into(), inbox_id(), inbox_id(), offset.into()]);
    }
    let sql = format!(
        "SELECT inbox_id, inbox_offset, flow_id, message_id, topic, attempts, created_at, next_attempt_at, \
         last_error, recent_attempts FROM outbox WHERE {condition} \
         ORDER BY message_id, inbox_id, inbox_offset LIMIT {limit}"
    );
    read(&database.connection, DOING, sql, values, waiting_post).await
}

fn waiting_post(row: &QueryResult) -> Result<WaitingPost, DbErr> {
    let inbox_id: String = row.try_get("", "inbox_id")?;
    let attempts: i32 = row.try_get("", "attempts")?;
    Ok(WaitingPost {
        place: PostPlace {
            message_id: row.try_get("", "message_id")?,
            key: key(&inbox_id, row.try_get("", "inbox_offset")?, row.try_get("", "flow_id")?),
        },
        topic: row.try_get("", "topic")?,
        created_at_us: micros(row, "created_at")?,
        attempts: attempts.unsigned_abs(),
        next_attempt_at_us: micros(row, "next_attempt_at")?,
        last_error: row.try_get("", "last_error")?,
        recent_attempts: row.try_get("", "recent_attempts")?,
    })
}

fn micros(row: &QueryResult, column: &str) -> Result<i64, DbErr> {
    let at: DateTime = row.try_get("", column)?;
    Ok(at.and_utc().timestamp_micros())
}

/// Makes the posts of a flow due at once. A pause that ends now tells a running gateway, and the age of the posts
/// counts from it.
pub async fn retry_deliveries(database: &Database, flow: FlowId) -> Result<(), StoreError> {
    const DOING: &str = "making the posts due";
    let (dialect, now) = (database.dialect, database.dialect.now());
    let later = keys(database, &format!("next_attempt_at > {now}"), flow, []).await?;
    let transaction = database.begin().await?;
    for key in later {
        let sql = format!("UPDATE outbox SET next_attempt_at = {now} {THIS_ROW}");
        execute(&transaction, DOING, sql, row_of(&key)).await?;
    }
    let pause = dialect.insert_unless_there(
        "outbox_pauses (flow_id, paused_at, resumed_at)",
        &format!("VALUES (?, {now}, {now})"),
    );
    execute(&transaction, DOING, pause, [flow.into()]).await?;
    // The pause of a disabled flow lasts.
    let ended =
        format!("UPDATE outbox_pauses SET resumed_at = {now} WHERE flow_id = ? AND resumed_at IS NOT NULL");
    execute(&transaction, DOING, ended, [flow.into()]).await?;
    transaction.commit().await.while_doing(DOING)
}

/// Counts the waiting posts of a flow; none if there are none.
pub async fn count_posts(
    database: &Database,
    flow: FlowId,
) -> Result<Option<(u64, CountedPosts)>, StoreError> {
    let at_us = database_time(database).await?;
    let waiting = waiting_deliveries(database, Some(flow)).await?;
    let counted =
        |waiting: &WaitingDeliveries| CountedPosts { last_message_id: waiting.last_message_id, at_us };
    Ok(waiting.first().map(|waiting| (waiting.posts, counted(waiting))))
}

/// The keys of the counted posts of a flow, or of all, in order of their numbers.
pub async fn delivery_keys(
    database: &Database,
    flow: FlowId,
    counted: Option<CountedPosts>,
) -> Result<Vec<OutboxKey>, StoreError> {
    let Some(CountedPosts { last_message_id, at_us }) = counted else {
        return keys(database, "1 = 1", flow, []).await;
    };
    let bounds = [Value::from(last_message_id), database.dialect.instant(at_us)];
    keys(database, "message_id <= ? AND created_at <= ?", flow, bounds).await
}

async fn keys(
    database: &Database,
    condition: &str,
    flow: FlowId,
    values: impl IntoIterator<Item = Value>,
) -> Result<Vec<OutboxKey>, StoreError> {
    let sql = format!(
        "SELECT inbox_id, flow_id, inbox_offset FROM outbox WHERE flow_id = ? AND {condition} \
         ORDER BY message_id, inbox_id, inbox_offset"
    );
    let row = |row: &QueryResult| {
        let inbox_id: String = row.try_get("", "inbox_id")?;
        Ok(key(&inbox_id, row.try_get("", "inbox_offset")?, row.try_get("", "flow_id")?))
    };
    let values = std::iter::once(flow.into()).chain(values);
    read(&database.connection, DOING, sql, values, row).await
}

/// Moves posts to the dead letters, and returns how many there were. Calls `done` after each transaction.
pub async fn cancel_deliveries(
    database: &Database,
    posts: &[OutboxKey],
    done: &mut (dyn FnMut(u64) + Send),
) -> Result<(), StoreError> {
    const DOING: &str = "cancelling posts";
    let detail = "cancelled by an operator";
    let move_row = Outbox::move_to_dead_letters(database.dialect, THIS_ROW);
    for posts in posts.chunks(CANCEL_ROWS) {
        let mut cancelled = 0;
        let transaction = database.begin().await?;
        for post in posts {
            // The delivery cannot delete the row between the two statements.
            let lock = format!("SELECT flow_id FROM outbox {THIS_ROW}{}", database.dialect.for_update());
            let lock = statement(database.dialect.backend(), lock, row_of(post));
            if transaction.query_one_raw(lock).await.while_doing(DOING)?.is_none() {
                continue;
            }
            let values = [
                Value::from(DeadLetterReason::Cancelled.as_str()),
                Value::from(beginning(detail)),
                Value::from(None::<String>),
            ];
            let values = values.into_iter().chain(row_of(post));
            execute(&transaction, DOING, move_row.clone(), values).await?;
            let delete = format!("DELETE FROM outbox {THIS_ROW}");
            cancelled += execute(&transaction, DOING, delete, row_of(post)).await?;
        }
        transaction.commit().await.while_doing(DOING)?;
        done(cancelled);
    }
    Ok(())
}

fn row_of(key: &OutboxKey) -> [Value; 3] {
    [(&*key.inbox_id).into(), key.flow_id.into(), offset(key).into()]
}

const THIS_ROW: &str = "WHERE inbox_id = ? AND flow_id = ? AND inbox_offset = ?";
