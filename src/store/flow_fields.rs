//! The table of the fields that messages had. No message waits for it, and its loss is harmless.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{DatabaseTransaction, DbErr, QueryResult, Value};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::flow_table::read_flows_by_id;
use super::statement::{execute, marks, read};
use crate::domain::drift::{FieldLog, NewChange, SchemaExpectation, SeenFlow};
use crate::domain::message::FlowId;

const READING: &str = "reading the fields of flows";
const WRITING: &str = "writing the fields of flows";

/// Most rows that are read at once: they are long.
const PAGE: usize = 100;

/// The fields of a flow, after a write.
#[derive(Debug)]
pub struct RecordedFields {
    /// The flow.
    pub flow: FlowId,
    /// Its code.
    pub code: String,
    /// Its fields.
    pub log: FieldLog,
    /// The changes that were not known before.
    pub changes: Vec<NewChange>,
}

/// Writes facts of flows. Removed flows are left out.
pub async fn record_fields(
    database: &Database,
    seen: &[SeenFlow],
) -> Result<Vec<RecordedFields>, StoreError> {
    let ids: BTreeSet<FlowId> = seen.iter().map(|seen| seen.flow).collect();
    let ids: Vec<FlowId> = ids.into_iter().collect();
    let transaction = database.begin().await?;
    let flows = read_flows_by_id(&transaction, database.dialect, &ids).await?;
    let ids: Vec<FlowId> = flows.iter().map(|flow| flow.id).collect();
    let mut logs = locked_logs(&transaction, database.dialect, &ids).await?;
    let mut recorded = Vec::new();
    for flow in flows {
        let schema = SchemaExpectation::new(flow.definition.payload_schema.as_deref().unwrap_or_default());
        let mut log = logs.remove(&flow.id).unwrap_or_default();
        let of_flow = seen.iter().filter(|seen| seen.flow == flow.id).cloned();
        let changes = of_flow.flat_map(|seen| log.merge(seen, &schema)).collect();
        write_log(&transaction, flow.id, &log).await?;
        recorded.push(RecordedFields { flow: flow.id, code: flow.definition.code, log, changes });
    }
    transaction.commit().await.while_doing(WRITING)?;
    Ok(recorded)
}

/// Reads the fields of a flow; none if no message was seen.
pub async fn read_fields(database: &Database, flow: FlowId) -> Result<Option<FieldLog>, StoreError> {
    let sql = "SELECT flow_id, fields FROM flow_fields WHERE flow_id = ?";
    let found = read(&database.connection, READING, sql, [flow.into()], log_of).await?.pop();
    Ok(found.map(|(_, log)| log))
}

/// Reads the fields of flows with changes, in the order of their ids after `after`. The second value is the id to
/// continue after, if there may be more.
pub async fn read_changed_fields(
    database: &Database,
    after: Option<FlowId>,
) -> Result<(BTreeMap<FlowId, FieldLog>, Option<FlowId>), StoreError> {
    let sql = format!(
        "SELECT flow_id, fields FROM flow_fields WHERE changes > 0 AND flow_id > ? ORDER BY flow_id LIMIT {PAGE}"
    );
    let after = after.unwrap_or(i64::MIN);
    let logs = read(&database.connection, READING, sql, [after.into()], log_of).await?;
    let next = logs.last().map(|(flow, _)| *flow).filter(|_| logs.len() == PAGE);
    Ok((logs.into_iter().collect(), next))
}

/// Edits the fields of a flow.
pub async fn edit_fields(
    database: &Database,
    flow: FlowId,
    edit: impl FnOnce(&mut FieldLog),
) -> Result<(), StoreError> {
    let transaction = database.begin().await?;
    if let Some(mut log) = locked_logs(&transaction, database.dialect, &[flow]).await?.remove(&flow) {
        edit(&mut log);
        write_log(&transaction, flow, &log).await?;
    }
    transaction.commit().await.while_doing(WRITING)
}

/// Deletes the fields of removed flows. Reads without locks: a deletion that reads `flows` would lock rows of it.
pub async fn forget_removed_flows(database: &Database) -> Result<(), StoreError> {
    const DOING: &str = "deleting the fields of removed flows";
    let sql = "SELECT flow_id FROM flow_fields LEFT JOIN flows ON flows.id = flow_fields.flow_id \
               WHERE flows.id IS NULL";
    let removed: Vec<FlowId> = read(&database.connection, DOING, sql, [], flow_id).await?;
    for ids in removed.chunks(PAGE) {
        let sql = format!("DELETE FROM flow_fields WHERE flow_id IN ({})", marks(ids.len()));
        execute(&database.connection, DOING, sql, ids.iter().map(|id| Value::from(*id))).await?;
    }
    Ok(())
}

/// Locks the rows of these flows, which are added if they are missing, and reads them.
async fn locked_logs(
    transaction: &DatabaseTransaction,
    dialect: Dialect,
    flows: &[FlowId],
) -> Result<BTreeMap<FlowId, FieldLog>, StoreError> {
    if flows.is_empty() {
        return Ok(BTreeMap::new());
    }
    let values = || flows.iter().map(|flow| Value::from(*flow));
    let sql = format!("SELECT flow_id FROM flow_fields WHERE flow_id IN ({})", marks(flows.len()));
    let known: Vec<FlowId> = read(transaction, READING, sql, values(), flow_id).await?;
    for flow in flows.iter().filter(|flow| !known.contains(flow)) {
        // Another gateway may add the same row at this moment.
        let insert = dialect.insert_unless_there(
            "flow_fields (flow_id, changes, fields)",
            "VALUES (?, 0, '{\"fields\":[]}')",
        );
        execute(transaction, WRITING, insert, [(*flow).into()]).await?;
    }
    let sql = format!(
        "SELECT flow_id, fields FROM flow_fields{} WHERE flow_id IN ({}) ORDER BY flow_id{}",
        dialect.by_primary_key(),
        marks(flows.len()),
        dialect.for_update(),
    );
    Ok(read(transaction, READING, sql, values(), log_of).await?.into_iter().collect())
}

async fn write_log(
    transaction: &DatabaseTransaction,
    flow: FlowId,
    log: &FieldLog,
) -> Result<(), StoreError> {
    let sql = "UPDATE flow_fields SET changes = ?, fields = ? WHERE flow_id = ?";
    let changes = i64::try_from(log.changes()).unwrap_or(i64::MAX);
    // Texts and numbers can always be written as JSON.
    let fields = serde_json::to_string(log).unwrap_or_default();
    execute(transaction, WRITING, sql, [changes.into(), fields.into(), flow.into()]).await.map(drop)
}

/// A row that cannot be read counts as empty: its facts are seen again.
fn log_of(row: &QueryResult) -> Result<(FlowId, FieldLog), DbErr> {
    let fields: String = row.try_get("", "fields")?;
    Ok((row.try_get("", "flow_id")?, serde_json::from_str(&fields).unwrap_or_default()))
}

fn flow_id(row: &QueryResult) -> Result<FlowId, DbErr> {
    row.try_get("", "flow_id")
}
