//! Writes harmless rows and rolls them back, to find out whether the database accepts rows at all.
//!
//! The rows go to `data`, in a form that the site's own constraints accept, and to `outbox`, with the key of the
//! message and no content. `message_keys` and `dead_letters` are left out: no constraint of a site is about them. So
//! are the counters in `flows`: a constraint on those rejects all messages of one flow, which is then set aside.

use std::sync::Arc;

use chrono::Utc;
use sea_orm::{ConnectionTrait, DatabaseTransaction, Value};

use super::BatchRules;
use super::insert::{WriteContext, insert_rows};
use super::transaction::roll_back;
use crate::domain::message::{FlowId, Offset};
use crate::domain::outbox::{OutboxItem, OutboxKey, OutboxPayload};
use crate::domain::posting::attempts::RecentAttempts;
use crate::store::connect::Database;
use crate::store::error::{ErrorClass, StoreError, While};
use crate::store::exhaustion::has_ids_for;
use crate::store::statement::statement;

/// Rows of `data` that are tried in turn, as the SELECT list after `received_at`. The last parameter is the flow; the
/// others are a text that no other row has.
///
/// The plainest row is first: constraints on values, foreign keys and unique keys accept NULL. The next ones are for
/// constraints that reject NULL. The copies are for a column that is a foreign key and NOT NULL. The row of another
/// flow precedes one of any flow, since the constraint may be about this flow. If an empty table accepts none of the
/// others, the database counts as unavailable.
const CANDIDATES: [&str; 6] = [
    "code, NULL, NULL, NULL FROM flows WHERE id = ?",
    "NULL, NULL, NULL, NULL FROM flows WHERE id = ?",
    "code, ?, NULL, NULL FROM flows WHERE id = ?",
    "?, ?, ?, 0 FROM flows WHERE id = ?",
    "newest.flow_code, newest.attribute_name, newest.attribute_value, newest.last_msg_id \
     FROM (SELECT * FROM data ORDER BY id DESC LIMIT 20) AS newest CROSS JOIN flows \
     WHERE flows.id = ? AND newest.flow_code <> flows.code ORDER BY newest.id DESC LIMIT 1",
    "newest.flow_code, newest.attribute_name, newest.attribute_value, newest.last_msg_id \
     FROM (SELECT * FROM data ORDER BY id DESC LIMIT 1) AS newest CROSS JOIN flows WHERE flows.id = ?",
];

/// Whether the database accepts as many harmless rows as the message of `flow` at `offset` has.
///
/// The number matters: if identifiers are left for fewer rows only, the message is not at fault.
///
/// # Errors
/// The database was not reached, or a row was locked: the question stays open.
pub(super) async fn takes_harmless_rows(
    database: &Database,
    rules: &BatchRules,
    flow: FlowId,
    offset: Offset,
    rows: usize,
) -> Result<bool, StoreError> {
    if !has_ids_for(database, &rules.processing.limits, rows).await?
        || !is_taken(takes_post(database, rules, flow, offset).await)?
    {
        return Ok(false);
    }
    for candidate in CANDIDATES {
        if is_taken(takes_rows(database, candidate, flow, rows).await)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A rejection is an answer. Other errors leave the question open.
fn is_taken(outcome: Result<bool, StoreError>) -> Result<bool, StoreError> {
    match outcome {
        Err(error) if matches!(error.class(), ErrorClass::Poison | ErrorClass::Outage) => Ok(false),
        other => other,
    }
}

async fn takes_rows(
    database: &Database,
    candidate: &str,
    flow: FlowId,
    rows: usize,
) -> Result<bool, StoreError> {
    let transaction = database.begin().await?;
    let writing = async {
        for row in 0..rows {
            if !takes_row(&transaction, database, candidate, flow, row).await? {
                return Ok(false);
            }
        }
        Ok(true)
    };
    let written = writing.await;
    roll_back(transaction, written).await
}

/// Each row is one second older than the one before: a unique key may contain the time.
async fn takes_row(
    transaction: &DatabaseTransaction,
    database: &Database,
    candidate: &str,
    flow: FlowId,
    row: usize,
) -> Result<bool, StoreError> {
    let texts = candidate.matches('?').count().saturating_sub(1);
    let now_us = Utc::now().timestamp_micros();
    let received_at_us = now_us.saturating_sub(i64::try_from(row).unwrap_or(0).saturating_mul(1_000_000));
    let text = Value::from(format!("harmless row {row}"));
    let values = [database.dialect.datetime(received_at_us)]
        .into_iter()
        .chain(std::iter::repeat_n(text, texts))
        .chain([flow.into()]);
    let sql = format!(
        "INSERT INTO data (received_at, flow_code, attribute_name, attribute_value, last_msg_id) SELECT ?, {candidate}"
    );
    let statement = statement(database.dialect.backend(), sql, values);
    let written = transaction.execute_raw(statement).await.while_doing("writing a harmless row")?;
    Ok(written.rows_affected() == 1)
}

/// A message whose key exists is not at fault: it waits until the delivery deletes the row.
async fn takes_post(
    database: &Database,
    rules: &BatchRules,
    flow: FlowId,
    offset: Offset,
) -> Result<bool, StoreError> {
    let nothing: Arc<str> = Arc::default();
    let item = OutboxItem {
        key: OutboxKey {
            inbox_id: Arc::clone(&rules.processing.inbox_id),
            inbox_offset: offset,
            flow_id: flow,
        },
        message_id: 0,
        flow_code: Arc::clone(&nothing),
        destination: nothing.into(),
        topic: String::new(),
        payload: OutboxPayload::Loaded(Vec::new()),
        attempts: 0,
        recent_attempts: RecentAttempts::default(),
        created_at_us: 0,
    };
    let transaction = database.begin().await?;
    let written = insert_rows(&transaction, &WriteContext::new(database, rules), &[item]).await;
    roll_back(transaction, written.map(|()| true)).await
}
