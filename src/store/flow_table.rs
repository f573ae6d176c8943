//! Reads and edits the rows of `flows` for operators.
//!
//! The table belongs to its users: only the columns of an edit are written, and values of any supported type are read.

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Value};

use super::batch::flow_columns;
use super::column_types::{OperatorTable, check_column_types_lately};
use super::connect::Database;
use super::dialect::Dialect;
use super::edit_history::write_edits;
use super::error::{StoreError, While};
use super::flow_revision::raise_flow_revision;
use super::statement::{execute, marks, read, statement};
use crate::domain::edit_history::{EditOrigin, NewEdit};
use crate::domain::flow_definition::{DraftBase, FlowDefinition, FlowDraft, FlowRecord};
use crate::domain::message::FlowId;

/// Reads all flows, in the order of their ids.
pub async fn read_flows(database: &Database) -> Result<Vec<FlowRecord>, StoreError> {
    check_column_types_lately(database, OperatorTable::Flows).await?;
    read_first_flows(database, i64::MAX).await
}

/// Reads at most `limit` flows, in the order of their ids.
pub async fn read_first_flows(database: &Database, limit: i64) -> Result<Vec<FlowRecord>, StoreError> {
    let sql = format!("SELECT {} FROM flows ORDER BY flows.id LIMIT {limit}", columns(database.dialect));
    read(&database.connection, "reading the flows", sql, [], flow_record).await
}

/// Reads the flow with exactly this code. A collation may find several.
pub async fn read_flow(database: &Database, code: &str) -> Result<Option<FlowRecord>, StoreError> {
    const DOING: &str = "reading the flow";
    check_column_types_lately(database, OperatorTable::Flows).await?;
    let sql = format!("SELECT {} FROM flows WHERE flows.code = ?", columns(database.dialect));
    let flows = read(&database.connection, DOING, sql, [code.into()], flow_record).await?;
    Ok(flows.into_iter().find(|flow| flow.definition.code == code))
}

/// As [`read_flow`], with the number of its posts that wait in the outbox.
pub async fn read_flow_with_posts(
    database: &Database,
    code: &str,
) -> Result<Option<(FlowRecord, u64)>, StoreError> {
    const DOING: &str = "reading the flow and counting its waiting posts";
    check_column_types_lately(database, OperatorTable::Flows).await?;
    let sql = format!(
        "SELECT {}, (SELECT COUNT(*) FROM outbox WHERE outbox.flow_id = flows.id) AS waiting_posts \
         FROM flows WHERE flows.code = ?",
        columns(database.dialect)
    );
    let found = |row: &QueryResult| {
        let posts: i64 = row.try_get("", "waiting_posts")?;
        Ok((flow_record(row)?, posts.unsigned_abs()))
    };
    let flows = read(&database.connection, DOING, sql, [code.into()], found).await?;
    Ok(flows.into_iter().find(|(flow, _)| flow.definition.code == code))
}

/// Reads at most `limit` flows after the id `after`, in the order of their ids.
pub async fn read_flows_after(
    database: &Database,
    after: Option<FlowId>,
    limit: usize,
) -> Result<Vec<FlowRecord>, StoreError> {
    const DOING: &str = "reading the flows";
    check_column_types_lately(database, OperatorTable::Flows).await?;
    let condition = if after.is_some() { "WHERE flows.id > ?" } else { "" };
    let columns = columns(database.dialect);
    let sql = format!("SELECT {columns} FROM flows {condition} ORDER BY flows.id LIMIT {limit}");
    read(&database.connection, DOING, sql, after.map(Value::from), flow_record).await
}

/// Reads the flows with these ids, in their order. Missing ones are left out.
pub(super) async fn read_flows_by_id(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    ids: &[FlowId],
) -> Result<Vec<FlowRecord>, StoreError> {
    const DOING: &str = "reading the flows";
    let mut flows = Vec::with_capacity(ids.len());
    for ids in ids.chunks(CHUNK_IDS) {
        let sql = format!(
            "SELECT {} FROM flows WHERE flows.id IN ({}) ORDER BY flows.id",
            columns(dialect),
            marks(ids.len()),
        );
        let ids = ids.iter().map(|id| Value::from(*id));
        flows.extend(read(connection, DOING, sql, ids, flow_record).await?);
    }
    Ok(flows)
}

/// Reads the flows with these ids, in their order. Missing ones are left out.
pub async fn read_these_flows(database: &Database, ids: &[FlowId]) -> Result<Vec<FlowRecord>, StoreError> {
    read_flows_by_id(&database.connection, database.dialect, ids).await
}

/// The number of posts of a flow that wait in the outbox.
pub async fn waiting_posts(database: &Database, flow: FlowId) -> Result<u64, StoreError> {
    let sql = "SELECT COUNT(*) FROM outbox WHERE flow_id = ?";
    let query = statement(database.dialect.backend(), sql, [flow.into()]);
    let rows = database.number(query, "counting the waiting posts").await?;
    Ok(u64::try_from(rows).unwrap_or(0))
}

fn columns(dialect: Dialect) -> String {
    format!("{}, flows.topic, flows.description", flow_columns(dialect, "flows."))
}

/// Reads texts as they are, also where the table allows NULL and the gateway does not.
fn flow_record(row: &QueryResult) -> Result<FlowRecord, sea_orm::DbErr> {
    let text = |column| row.try_get::<Option<String>>("", column);
    Ok(FlowRecord {
        id: row.try_get("", "id")?,
        definition: FlowDefinition {
            code: text("code")?.unwrap_or_default(),
            description: text("description")?.unwrap_or_default(),
            topic: text("topic")?.unwrap_or_default(),
            action: text("action")?.unwrap_or_default(),
            payload_schema: text("payload_schema")?,
            endpoint_url: text("endpoint_url")?,
            options: text("options")?,
            message_key: text("message_key")?,
            enabled: row.try_get("", "enabled")?,
        },
        last_msg_id: row.try_get("", "last_msg_id")?,
    })
}

/// Most ids of one statement.
const CHUNK_IDS: usize = 512;

/// A transaction that edits flows and brokers. Dropped without [`commit`](Self::commit), it changes nothing. The history
/// gets its edits.
pub struct FlowTransaction {
    pub(super) transaction: DatabaseTransaction,
    pub(super) dialect: Dialect,
    pub(super) edits: Vec<NewEdit>,
}

impl FlowTransaction {
    /// Begins a transaction.
    pub async fn begin(database: &Database) -> Result<Self, StoreError> {
        let transaction = database.begin().await?;
        Ok(Self { transaction, dialect: database.dialect, edits: Vec::new() })
    }

    /// Locks the row of a flow and reads it. The gateway numbers no message of the flow meanwhile.
    pub async fn lock(&self, flow: FlowId) -> Result<Option<FlowRecord>, StoreError> {
        Ok(self.lock_all(&[flow]).await?.pop())
    }

    /// Locks the rows of flows and reads them, without those that are missing. The ids are ascending, as the gateway
    /// locks them, so that the two cannot deadlock.
    pub async fn lock_all(&self, flows: &[FlowId]) -> Result<Vec<FlowRecord>, StoreError> {
        const DOING: &str = "locking the flow";
        let mut locked = Vec::with_capacity(flows.len());
        for ids in flows.chunks(CHUNK_IDS) {
            let sql = format!(
                "SELECT {} FROM flows {} WHERE flows.id IN ({}) ORDER BY flows.id{}",
                columns(self.dialect),
                self.dialect.by_primary_key(),
                marks(ids.len()),
                self.dialect.for_update(),
            );
            let ids = ids.iter().map(|id| Value::from(*id));
            locked.extend(read(&self.transaction, DOING, sql, ids, flow_record).await?);
        }
        Ok(locked)
    }

    /// Inserts a flow whose first message gets the number after `last_msg_id`.
    pub async fn insert(&mut self, flow: &FlowDefinition, last_msg_id: i64) -> Result<(), StoreError> {
        insert_flow(&self.transaction, self.dialect, None, (flow, last_msg_id)).await?;
        self.edits.extend(NewEdit::of_flow(None, Some(flow), last_msg_id.saturating_add(1)));
        Ok(())
    }

    /// Writes the columns in which `new` differs from the locked row.
    pub async fn update(&mut self, locked: &FlowRecord, new: &FlowDefinition) -> Result<(), StoreError> {
        let old = &locked.definition;
        if new == old {
            return Ok(());
        }
        update_flow(&self.transaction, self.dialect, locked.id, (old, new)).await?;
        self.edits.extend(NewEdit::of_flow(Some(old), Some(new), locked.next_msg_id()));
        Ok(())
    }

    /// Writes a draft, to find out whether the database accepts it. The history does not get it.
    pub async fn try_draft(&self, draft: &FlowDraft) -> Result<(), StoreError> {
        write_draft(&self.transaction, self.dialect, draft).await
    }

    /// Deletes a locked flow. Its rows in other tables stay.
    pub async fn delete(&mut self, locked: &FlowRecord) -> Result<(), StoreError> {
        let sql = "DELETE FROM flows WHERE id = ?".into();
        self.execute(sql, vec![locked.id.into()], "removing the flow").await?;
        self.edits.extend(NewEdit::of_flow(Some(&locked.definition), None, locked.next_msg_id()));
        Ok(())
    }

    /// Whether nothing was edited.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.edits.is_empty()
    }

    /// Makes the edits count, made by `origin`. Every gateway reads the flows again.
    pub async fn commit(self, origin: &EditOrigin) -> Result<(), StoreError> {
        const DOING: &str = "committing the edit of the flow";
        write_edits(&self.transaction, self.dialect, origin, &self.edits).await.while_doing(DOING)?;
        raise_flow_revision(&self.transaction, self.dialect).await.while_doing(DOING)?;
        self.transaction.commit().await.while_doing(DOING)
    }

    /// Undoes the edits at once. A dropped transaction ends a little later.
    pub async fn roll_back(self) -> Result<(), StoreError> {
        self.transaction.rollback().await.while_doing("undoing the edit of the flow")
    }

    pub(super) async fn execute(
        &self,
        sql: String,
        values: Vec<Value>,
        doing: &'static str,
    ) -> Result<(), StoreError> {
        execute(&self.transaction, doing, sql, values).await.map(drop)
    }
}

/// Writes a draft, in a transaction that is rolled back.
pub(super) async fn write_draft(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    FlowDraft { flow, base, new }: &FlowDraft,
) -> Result<(), StoreError> {
    match base {
        DraftBase::Row(old) => update_flow(connection, dialect, *flow, (old, new)).await,
        DraftBase::New(last_msg_id) => {
            insert_flow(connection, dialect, Some(*flow), (new, *last_msg_id)).await
        }
    }
}

/// Inserts a flow with a last sequence number. Without an id the database gives it one.
async fn insert_flow(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    id: Option<FlowId>,
    (flow, last_msg_id): (&FlowDefinition, i64),
) -> Result<(), StoreError> {
    let (id_column, id_mark) = if id.is_some() { ("id, ", "?, ") } else { ("", "") };
    let json = dialect.json_parameter();
    let sql = format!(
        "INSERT INTO flows ({id_column}code, description, topic, action, payload_schema, endpoint_url, options, \
         message_key, last_msg_id, enabled) VALUES ({id_mark}?, ?, ?, ?, {json}, ?, {json}, ?, ?, {enabled})",
        enabled = dialect.flag_value(flow.is_enabled()),
    );
    let columns = [
        flow.code.as_str().into(),
        flow.description.as_str().into(),
        flow.topic.as_str().into(),
        flow.action.as_str().into(),
        flow.payload_schema.clone().into(),
        flow.endpoint_url.clone().into(),
        flow.options.clone().into(),
        flow.message_key.clone().into(),
        last_msg_id.into(),
    ];
    let values = id.map(Value::from).into_iter().chain(columns);
    let insert = statement(dialect.backend(), sql, values);
    connection.execute_raw(insert).await.map(|_| ()).while_doing("adding the flow")
}

/// Writes the columns of a flow in which the second definition differs from the first.
async fn update_flow(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    flow: FlowId,
    (old, new): (&FlowDefinition, &FlowDefinition),
) -> Result<(), StoreError> {
    let (mut sets, mut values) = changes(dialect, old, new);
    if new.enabled != old.enabled {
        sets.push(format!("enabled = {}", dialect.flag_value(new.is_enabled())));
    }
    if sets.is_empty() {
        return Ok(());
    }
    values.push(flow.into());
    let sql = format!("UPDATE flows SET {} WHERE id = ?", sets.join(", "));
    let update = statement(dialect.backend(), sql, values);
    connection.execute_raw(update).await.map(|_| ()).while_doing("changing the flow")
}

fn changes(dialect: Dialect, old: &FlowDefinition, new: &FlowDefinition) -> (Vec<String>, Vec<Value>) {
    let json = dialect.json_parameter();
    let texts = [
        ("code", "?", Some(&old.code), Some(&new.code)),
        ("description", "?", Some(&old.description), Some(&new.description)),
        ("topic", "?", Some(&old.topic), Some(&new.topic)),
        ("action", "?", Some(&old.action), Some(&new.action)),
        ("payload_schema", json, old.payload_schema.as_ref(), new.payload_schema.as_ref()),
        ("endpoint_url", "?", old.endpoint_url.as_ref(), new.endpoint_url.as_ref()),
        ("options", json, old.options.as_ref(), new.options.as_ref()),
        ("message_key", "?", old.message_key.as_ref(), new.message_key.as_ref()),
    ];
    let changed = texts.into_iter().filter(|(_, _, old, new)| old != new);
    changed.map(|(column, mark, _, new)| (format!("{column} = {mark}"), Value::from(new.cloned()))).unzip()
}
