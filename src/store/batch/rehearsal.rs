//! Rehearses one message for one flow: does all that the processing of the message does, and rolls back.

use std::collections::BTreeSet;
use std::slice;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, Statement, Value};

use super::BatchRules;
use super::locked_flow::{IfLocked, SchemaCache};
use super::part::{BatchPart, FlowScope};
use super::suspects::refusal_of;
use super::transaction::{rehearse_within, roll_back};
use crate::domain::batch::{BatchEntry, ProcessError, ProcessResult};
use crate::domain::flow_definition::FlowDraft;
use crate::domain::message::{FlowId, Record};
use crate::domain::outbox::OutboxItem;
use crate::domain::processing::{ParsedMessage, PoisonMessages, ProcessingOutcome};
use crate::store::connect::{Database, with_timeout};
use crate::store::error::{ErrorClass, StoreError, While};
use crate::store::statement::statement;

/// Timeout of a transaction. It holds the row of the flow, for which the gateway waits.
const TRANSACTION_TIMEOUT: Duration = Duration::from_secs(10);

/// The outcome that a message would have in a flow.
#[derive(Debug)]
pub struct RehearsedMessage {
    /// Its number and action, or why it would not be processed.
    pub result: Result<ProcessResult, ProcessError>,
    /// Its rows of `data`, as the database has them after its triggers.
    pub rows: Vec<RehearsedRow>,
    /// Its row of `outbox`.
    pub post: Option<OutboxItem>,
}

/// A row of `data`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RehearsedRow {
    /// The column `attribute_name`.
    pub name: Option<String>,
    /// The column `attribute_value`.
    pub value: Option<String>,
}

/// Rehearses a message for a flow, as `draft` has it if there is one. If the database rejects the rows, the message is
/// examined as the gateway examines it.
///
/// Each transaction locks the row of the flow and is rolled back, so it uses up no sequence number. The database may
/// use up values of `data.id`. It must accept the draft: its rejection would be taken for one of the message.
///
/// # Errors
/// The row stayed locked, or the database failed. A database that accepts no rows at all is an error as well: the
/// gateway would wait.
pub async fn rehearse_message(
    database: &Database,
    rules: &BatchRules,
    flow: FlowId,
    record: Record,
    draft: Option<&FlowDraft>,
) -> Result<RehearsedMessage, StoreError> {
    let entry = BatchEntry { record: record.into(), flows: vec![flow], reports_invalid_payload: true };
    let message = ParsedMessage::new(&entry, &rules.processing.payload);
    let no_flows = BTreeSet::new();
    let mut schemas = SchemaCache::default();
    let mut poison = PoisonMessages::new();
    loop {
        let part = BatchPart {
            messages: slice::from_ref(&message),
            range: 0..1,
            scope: FlowScope::Except(&no_flows),
            if_locked: IfLocked::Wait,
            poison: &poison,
            draft,
            waits: None,
        };
        let rehearsed = rehearse_once(database, rules, &mut schemas, &part);
        match with_timeout(TRANSACTION_TIMEOUT, rehearsed).await {
            Err(error) if error.class() == ErrorClass::Poison && poison.is_empty() => {
                let examined =
                    refusal_of(database, rules, &mut schemas, &part, flow, TRANSACTION_TIMEOUT).await?;
                let refusal = examined.ok_or(error)?;
                poison.insert((0, flow), refusal.to_string());
            }
            rehearsed => return rehearsed,
        }
    }
}

async fn rehearse_once(
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    part: &BatchPart<'_>,
) -> Result<RehearsedMessage, StoreError> {
    let transaction = database.begin().await?;
    let rehearsing = async {
        let last = last_row(&transaction, database).await?;
        let mut outcome = rehearse_within(&transaction, database, rules, schemas, part).await?;
        let rows = written_rows(&transaction, database, last, &outcome).await?;
        let result = outcome.results.pop().ok_or_else(|| DbErr::Custom("it has no result".to_owned()));
        let result = result.while_doing("rehearsing the message")?;
        Ok(RehearsedMessage { result, rows, post: outcome.posts.pop() })
    };
    let rehearsed = rehearsing.await;
    roll_back(transaction, rehearsed).await
}

/// The highest id in `data`.
async fn last_row(transaction: &DatabaseTransaction, database: &Database) -> Result<i64, StoreError> {
    const DOING: &str = "reading the highest id of data";
    let sql = format!("SELECT {} AS highest FROM data", database.dialect.integer("MAX(id)"));
    let query = Statement::from_string(database.dialect.backend(), sql);
    let row = transaction.query_one_raw(query).await.while_doing(DOING)?;
    let highest: Option<i64> = row.map_or(Ok(None), |row| row.try_get("", "highest")).while_doing(DOING)?;
    Ok(highest.unwrap_or(0))
}

/// The rows of the message above the id `last`. If the database shows none of them, for example because a trigger has
/// moved them to another table, the rows as they were inserted.
async fn written_rows(
    transaction: &DatabaseTransaction,
    database: &Database,
    last: i64,
    outcome: &ProcessingOutcome<'_>,
) -> Result<Vec<RehearsedRow>, StoreError> {
    const DOING: &str = "reading the rows of data";
    let Some(first) = outcome.data.first() else { return Ok(Vec::new()) };
    let sql = "SELECT attribute_name, attribute_value FROM data \
               WHERE id > ? AND flow_code = ? AND last_msg_id = ? ORDER BY id";
    let values = [Value::from(last), Value::from(&*first.flow_code), Value::from(first.message_id)];
    let query = statement(database.dialect.backend(), sql.to_owned(), values);
    let found = transaction.query_all_raw(query).await.while_doing(DOING)?;
    // The columns of a site may have types that are no texts.
    let read = |row: &QueryResult| {
        let (name, value) = (row.try_get("", "attribute_name")?, row.try_get("", "attribute_value")?);
        Ok(RehearsedRow { name, value })
    };
    let found: Vec<RehearsedRow> = found.iter().map(read).collect::<Result<_, DbErr>>().unwrap_or_default();
    if !found.is_empty() {
        return Ok(found);
    }
    let inserted = outcome.data.iter();
    Ok(inserted
        .map(|row| RehearsedRow { name: Some(row.name.to_owned()), value: Some(row.value.to_string()) })
        .collect())
}
