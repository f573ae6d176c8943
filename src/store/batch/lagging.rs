//! The table of the flows that lag behind their lane, each with its own offset.
//!
//! The locked row of the lane guards the table: only its holder reads or writes it, and a worker of an older epoch is
//! fenced before.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Value};

use super::failed::Failed;
use super::fence::LaneKey;
use super::locked_flow::padded_to;
use super::position::{Lag, Position};
use super::transaction::commit;
use crate::domain::batch::{LaggingFlow, LanePosition};
use crate::domain::message::{FlowId, Offset};
use crate::store::connect::Database;
use crate::store::error::{StoreError, While};
use crate::store::statement::{marks, statement};

/// Most flows of one statement.
const CHUNK_FLOWS: usize = 512;

/// A flow that its lane defers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeferredFlow {
    pub(super) id: FlowId,
    pub(super) code: String,
}

/// Defers those of `flows` whose rows are locked elsewhere, at the offset of the lane: from there on nothing of theirs
/// was done. Defers none if there are more than `max`.
pub(super) async fn defer_locked(
    database: &Database,
    row: LaneKey<'_>,
    expected: LanePosition,
    flows: &[FlowId],
    max: usize,
) -> Result<Vec<DeferredFlow>, Failed> {
    let transaction = begin(database, row, expected).await?;
    let locked = locked_elsewhere(database, &transaction, flows).await?;
    if locked.is_empty() || locked.len() > max {
        return Ok(Vec::new());
    }
    insert_deferred(database, row, expected, transaction, locked).await
}

/// Defers `flows`, whose messages the database rejects, at the offset of the lane.
pub(super) async fn set_aside(
    database: &Database,
    row: LaneKey<'_>,
    expected: LanePosition,
    flows: Vec<DeferredFlow>,
) -> Result<Vec<DeferredFlow>, Failed> {
    let transaction = begin(database, row, expected).await?;
    insert_deferred(database, row, expected, transaction, flows).await
}

/// Begins with the row of the lane. Once that is free, so are all other locks of the earlier attempt.
async fn begin(
    database: &Database,
    row: LaneKey<'_>,
    expected: LanePosition,
) -> Result<DatabaseTransaction, Failed> {
    let transaction = database.begin().await?;
    let found = row.lock(database, &transaction).await?.position;
    if found != expected {
        return Err(Failed::Fenced(Position { lane: found, lag: Lag::NotAsked }));
    }
    Ok(transaction)
}

async fn insert_deferred(
    database: &Database,
    row: LaneKey<'_>,
    lane: LanePosition,
    transaction: DatabaseTransaction,
    flows: Vec<DeferredFlow>,
) -> Result<Vec<DeferredFlow>, Failed> {
    for flow in &flows {
        row.insert_lagging(database, &transaction, flow.id, lane.next_offset).await?;
    }
    match commit(transaction).await {
        Ok(()) => Ok(flows),
        Err(error) => Err(Failed::Unknown(error, Box::default())),
    }
}

/// The flows that exist and whose rows are locked. A server without SKIP LOCKED rejects the statement.
async fn locked_elsewhere(
    database: &Database,
    connection: &impl ConnectionTrait,
    flows: &[FlowId],
) -> Result<Vec<DeferredFlow>, StoreError> {
    const DOING: &str = "finding the flows that are locked elsewhere";
    let mut locked = Vec::new();
    for chunk in flows.chunks(CHUNK_FLOWS) {
        let padded = chunk.len().next_power_of_two();
        let query = |columns: &str, index: &str, lock: &str| {
            let list = marks(padded);
            let sql = format!("SELECT {columns} FROM flows {index} WHERE id IN ({list}) {lock}");
            let values = padded_to(chunk, padded).map(Value::from);
            statement(database.dialect.backend(), sql, values)
        };
        let dialect = database.dialect;
        let id = dialect.integer("id");
        let free = query(&format!("{id} AS id"), dialect.by_primary_key(), dialect.for_update_skip_locked());
        let free = connection.query_all_raw(free).await.while_doing(DOING)?;
        let free: Result<HashSet<FlowId>, _> = free.iter().map(|row| row.try_get("", "id")).collect();
        let free = free.while_doing(DOING)?;
        let all =
            connection.query_all_raw(query(&format!("{id} AS id, code"), "", "")).await.while_doing(DOING)?;
        let all: Result<Vec<DeferredFlow>, _> = all.iter().map(deferred_flow).collect();
        locked.extend(all.while_doing(DOING)?.into_iter().filter(|flow| !free.contains(&flow.id)));
    }
    Ok(locked)
}

fn deferred_flow(row: &QueryResult) -> Result<DeferredFlow, sea_orm::DbErr> {
    Ok(DeferredFlow { id: row.try_get("", "id")?, code: row.try_get("", "code")? })
}

impl LaneKey<'_> {
    /// The lagging flows of the lane, by flow.
    pub(super) async fn lagging(
        &self,
        connection: &impl ConnectionTrait,
    ) -> Result<Vec<LaggingFlow>, StoreError> {
        let sql =
            "SELECT flow_id, next_offset FROM inbox_lagging WHERE inbox_id = ? AND lane = ? ORDER BY flow_id";
        let values = [self.inbox_id.into(), self.lane.into()];
        let statement = statement(connection.get_database_backend(), sql, values);
        let read = async {
            let rows = connection.query_all_raw(statement).await?;
            rows.iter().map(lagging_flow).collect::<Result<_, _>>()
        };
        read.await.while_doing("reading the lagging flows")
    }

    /// The offset of `flow`. The row of the lane guards it, so it is not locked.
    pub(super) async fn lag_of(
        &self,
        connection: &impl ConnectionTrait,
        flow: FlowId,
    ) -> Result<Lag, StoreError> {
        let sql =
            "SELECT flow_id, next_offset FROM inbox_lagging WHERE inbox_id = ? AND lane = ? AND flow_id = ?";
        let values = [self.inbox_id.into(), self.lane.into(), flow.into()];
        let statement = statement(connection.get_database_backend(), sql, values);
        let read = async {
            let row = connection.query_one_raw(statement).await?;
            row.as_ref().map(lagging_flow).transpose()
        };
        let found = read.await.while_doing("reading the offset of a lagging flow")?;
        Ok(found.map_or(Lag::Over, |found| Lag::At(found.next_offset)))
    }

    /// Writes the offset of `flow`, or deletes its row when the lag is over.
    pub(super) async fn write_lag(
        &self,
        connection: &impl ConnectionTrait,
        flow: FlowId,
        lag: Lag,
    ) -> Result<(), StoreError> {
        match lag {
            Lag::NotAsked => Ok(()),
            Lag::At(offset) => {
                let sql = "UPDATE inbox_lagging SET next_offset = ? WHERE flow_id = ? AND inbox_id = ? AND lane = ?";
                self.execute(connection, sql.to_owned(), [offset.cast_signed().into(), flow.into()]).await
            }
            Lag::Over => {
                let sql = "DELETE FROM inbox_lagging WHERE flow_id = ? AND inbox_id = ? AND lane = ?";
                self.execute(connection, sql.to_owned(), [flow.into()]).await
            }
        }
    }

    /// Fails for a flow that already lags: its offset must not be lost.
    async fn insert_lagging(
        &self,
        database: &Database,
        connection: &impl ConnectionTrait,
        flow: FlowId,
        at: Offset,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "INSERT INTO inbox_lagging (flow_id, next_offset, since, inbox_id, lane) VALUES (?, ?, {}, ?, ?)",
            database.dialect.now()
        );
        self.execute(connection, sql, [flow.into(), at.cast_signed().into()]).await
    }
}

fn lagging_flow(row: &QueryResult) -> Result<LaggingFlow, sea_orm::DbErr> {
    let next_offset: i64 = row.try_get("", "next_offset")?;
    Ok(LaggingFlow { flow: row.try_get("", "flow_id")?, next_offset: next_offset.cast_unsigned() })
}
