//! The list of flows that a lane has gone on without, each with an offset of its own.
//!
//! All of it happens under the lane's row: whoever holds that is the only one who reads or writes
//! the list, and a worker of an older epoch never gets as far.

use std::collections::HashSet;

use sea_orm::{ConnectionTrait, DatabaseTransaction, QueryResult, Value};

use super::fence::LaneRow;
use super::locked_flow::padded_to;
use super::position::{Lag, Position};
use super::transaction::{Failed, commit};
use crate::domain::batch::{LaggingFlow, LanePosition};
use crate::domain::message::{FlowId, Offset};
use crate::store::connect::Database;
use crate::store::error::{StoreError, While};
use crate::store::statement::statement;

/// Most flows of one statement.
const CHUNK_FLOWS: usize = 512;

/// A flow that its lane leaves behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeferredFlow {
    pub(super) id: FlowId,
    pub(super) code: String,
}

/// Writes down those of `flows` whose rows are locked elsewhere, as standing where the lane stands:
/// nothing of theirs was done from there on. None if there are more than `most`.
pub(super) async fn defer_locked(
    database: &Database,
    row: LaneRow<'_>,
    expected: LanePosition,
    flows: &[FlowId],
    most: usize,
) -> Result<Vec<DeferredFlow>, Failed> {
    let transaction = begin(database, row, expected).await?;
    let held = locked_elsewhere(database, &transaction, flows).await?;
    if held.is_empty() || held.len() > most {
        return Ok(Vec::new());
    }
    write_down(database, row, expected, transaction, held).await
}

/// Writes down `flows`, whose messages the database refuses, as standing where the lane stands.
pub(super) async fn set_aside(
    database: &Database,
    row: LaneRow<'_>,
    expected: LanePosition,
    flows: Vec<DeferredFlow>,
) -> Result<Vec<DeferredFlow>, Failed> {
    let transaction = begin(database, row, expected).await?;
    write_down(database, row, expected, transaction, flows).await
}

/// All locks of our earlier attempt are free once the lane's row is.
async fn begin(
    database: &Database,
    row: LaneRow<'_>,
    expected: LanePosition,
) -> Result<DatabaseTransaction, Failed> {
    let transaction = database.begin().await?;
    let found = row.lock(database, &transaction).await?.position;
    if found != expected {
        return Err(Failed::Fenced(Position { lane: found, lag: Lag::NotAsked }));
    }
    Ok(transaction)
}

async fn write_down(
    database: &Database,
    row: LaneRow<'_>,
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

/// Flows that there are, without those whose rows can be had at once. A server that cannot pass
/// over locked rows refuses the statement.
async fn locked_elsewhere(
    database: &Database,
    connection: &impl ConnectionTrait,
    flows: &[FlowId],
) -> Result<Vec<DeferredFlow>, StoreError> {
    const DOING: &str = "looking for flows that are locked elsewhere";
    let mut held = Vec::new();
    for chunk in flows.chunks(CHUNK_FLOWS) {
        let padded = chunk.len().next_power_of_two();
        let query = |columns: &str, index: &str, lock: &str| {
            let marks = vec!["?"; padded].join(", ");
            let sql = format!("SELECT {columns} FROM flows {index} WHERE id IN ({marks}) {lock}");
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
        held.extend(all.while_doing(DOING)?.into_iter().filter(|flow| !free.contains(&flow.id)));
    }
    Ok(held)
}

fn deferred_flow(row: &QueryResult) -> Result<DeferredFlow, sea_orm::DbErr> {
    Ok(DeferredFlow { id: row.try_get("", "id")?, code: row.try_get("", "code")? })
}

impl LaneRow<'_> {
    /// All flows that the lane has left behind, by flow.
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
        read.await.while_doing("reading which flows lag")
    }

    /// How far `flow` is. Nobody else writes it, so it need not be locked.
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
        let found = read.await.while_doing("reading how far a lagging flow is")?;
        Ok(found.map_or(Lag::Over, |found| Lag::At(found.next_offset)))
    }

    /// Writes where `flow` stands now; what is over is no longer written down.
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

    /// A flow that is there already is an error: its offset must not be lost.
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
