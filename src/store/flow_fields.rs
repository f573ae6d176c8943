//! The table of the fields that messages had. No message waits for it, and its loss is harmless.

use std::collections::{BTreeMap, BTreeSet};

use sea_orm::{ConnectionTrait, DatabaseTransaction, DbErr, QueryResult, Value};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::flow_table::read_flows_by_id;
use super::statement::statement;
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
        write_log(&transaction, database.dialect, flow.id, &log).await?;
        recorded.push(RecordedFields { flow: flow.id, code: flow.definition.code, log, changes });
    }
    transaction.commit().await.while_doing(WRITING)?;
    Ok(recorded)
}

/// Reads the fields of a flow; none if no message was seen.
pub async fn read_fields(database: &Database, flow: FlowId) -> Result<Option<FieldLog>, StoreError> {
    let sql = "SELECT flow_id, fields FROM flow_fields WHERE flow_id = ?";
    let query = statement(database.dialect.backend(), sql, [flow.into()]);
    let rows = database.connection.query_all_raw(query).await.while_doing(READING)?;
    rows.first().map(|row| Ok(log_of(row)?.1)).transpose().while_doing(READING)
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
    let query = statement(database.dialect.backend(), sql, [after.unwrap_or(i64::MIN).into()]);
    let rows = database.connection.query_all_raw(query).await.while_doing(READING)?;
    let logs: BTreeMap<FlowId, FieldLog> =
        rows.iter().map(log_of).collect::<Result<_, _>>().while_doing(READING)?;
    let next = logs.last_key_value().map(|(flow, _)| *flow).filter(|_| rows.len() == PAGE);
    Ok((logs, next))
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
        write_log(&transaction, database.dialect, flow, &log).await?;
    }
    transaction.commit().await.while_doing(WRITING)
}

/// Deletes the fields of removed flows. Reads without locks: a deletion that reads `flows` would lock rows of it.
pub async fn forget_removed_flows(database: &Database) -> Result<(), StoreError> {
    const DOING: &str = "deleting the fields of removed flows";
    let sql = "SELECT flow_id FROM flow_fields LEFT JOIN flows ON flows.id = flow_fields.flow_id \
               WHERE flows.id IS NULL";
    let query = statement(database.dialect.backend(), sql, []);
    let rows = database.connection.query_all_raw(query).await.while_doing(DOING)?;
    let removed: Vec<FlowId> =
        rows.iter().map(|row| row.try_get("", "flow_id")).collect::<Result<_, _>>().while_doing(DOING)?;
    for ids in removed.chunks(PAGE) {
        let sql = format!("DELETE FROM flow_fields WHERE flow_id IN ({})", marks(ids.len()));
        let deletion = statement(database.dialect.backend(), sql, ids.iter().map(|id| Value::from(*id)));
        database.connection.execute_raw(deletion).await.while_doing(DOING)?;
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
    let query = statement(dialect.backend(), sql, values());
    let rows = transaction.query_all_raw(query).await.while_doing(READING)?;
    let known: BTreeSet<FlowId> =
        rows.iter().map(|row| row.try_get("", "flow_id")).collect::<Result<_, _>>().while_doing(READING)?;
    for flow in flows.iter().filter(|flow| !known.contains(flow)) {
        // Another gateway may add the same row at this moment.
        let insert = dialect.insert_unless_there(
            "flow_fields (flow_id, changes, fields)",
            "VALUES (?, 0, '{\"fields\":[]}')",
        );
        let insert = statement(dialect.backend(), insert, [(*flow).into()]);
        transaction.execute_raw(insert).await.while_doing(WRITING)?;
    }
    let sql = format!(
        "SELECT flow_id, fields FROM flow_fields{} WHERE flow_id IN ({}) ORDER BY flow_id{}",
        dialect.by_primary_key(),
        marks(flows.len()),
        dialect.for_update(),
    );
    let query = statement(dialect.backend(), sql, values());
    let rows = transaction.query_all_raw(query).await.while_doing(READING)?;
    rows.iter().map(log_of).collect::<Result<_, _>>().while_doing(READING)
}

async fn write_log(
    transaction: &DatabaseTransaction,
    dialect: Dialect,
    flow: FlowId,
    log: &FieldLog,
) -> Result<(), StoreError> {
    let sql = "UPDATE flow_fields SET changes = ?, fields = ? WHERE flow_id = ?";
    let changes = i64::try_from(log.changes()).unwrap_or(i64::MAX);
    // Texts and numbers can always be written as JSON.
    let fields = serde_json::to_string(log).unwrap_or_default();
    let update = statement(dialect.backend(), sql, [changes.into(), fields.into(), flow.into()]);
    transaction.execute_raw(update).await.map(drop).while_doing(WRITING)
}

/// A row that cannot be read counts as empty: its facts are seen again.
fn log_of(row: &QueryResult) -> Result<(FlowId, FieldLog), DbErr> {
    let fields: String = row.try_get("", "fields")?;
    Ok((row.try_get("", "flow_id")?, serde_json::from_str(&fields).unwrap_or_default()))
}

fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}
