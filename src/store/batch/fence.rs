//! The row of a lane: its offset, and the epoch of the worker that may advance it.
//!
//! Every batch first locks the row of its lane and compares epoch and offset with the expected ones. A restarted worker
//! raises the epoch, which voids any batch of its predecessor. The same locking read resolves a commit whose outcome is
//! unknown: unlike a plain read it waits for a COMMIT that is still running.

use sea_orm::{ConnectionTrait, DbErr, QueryResult};

use super::failed::Failed;
use super::position::{Lag, Position};
use crate::domain::batch::{Lane, LanePosition, OpenedLane};
use crate::domain::message::FlowId;
use crate::store::connect::Database;
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::statement::statement;

/// A batch was void: another worker has taken the lane over, which is at this position. Reopen the lane. The records of
/// the batch are still in the inbox, or already committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the lane is at offset {} in epoch {}", .0.next_offset, .0.epoch)]
pub struct LaneFenced(pub LanePosition);

/// The position of a lane without a row; no batch expects it.
pub(super) const NO_POSITION: LanePosition = LanePosition { epoch: -1, next_offset: 0 };

/// The position of a lane, and a checksum of its lagging flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LaneState {
    pub(super) position: LanePosition,
    /// The sum of the flows' ids. A batch that was made for another list must not count: a database that was restored
    /// may have another list at the same epoch and offset.
    pub(super) lagging_sum: i64,
}

/// The state of a lane without a row.
pub(super) const NO_LANE: LaneState = LaneState { position: NO_POSITION, lagging_sum: 0 };

/// The columns that [`lane_state`] reads, with `o` as the alias of `inbox_offsets`.
pub(super) fn lane_columns(dialect: Dialect) -> String {
    let sum = dialect.integer(
        "(SELECT COALESCE(SUM(l.flow_id), 0) FROM inbox_lagging AS l WHERE l.inbox_id = o.inbox_id AND l.lane = o.lane)",
    );
    format!("o.epoch, o.next_offset, {sum} AS lagging_sum")
}

/// Reads the state of a lane from its row.
pub(super) fn lane_state(row: &QueryResult) -> Result<LaneState, DbErr> {
    let next_offset: i64 = row.try_get("", "next_offset")?;
    let position =
        LanePosition { epoch: row.try_get("", "epoch")?, next_offset: next_offset.cast_unsigned() };
    Ok(LaneState { position, lagging_sum: row.try_get("", "lagging_sum")? })
}

/// The next epoch: higher than `before`, and never used before. In a restored database a plain count would repeat an
/// epoch that older batches and messages still carry.
fn next_epoch(before: i64) -> i64 {
    chrono::Utc::now().timestamp_micros().max(before + 1)
}

/// See [`LaneState::lagging_sum`].
pub(super) fn lagging_sum<'a>(flows: impl IntoIterator<Item = &'a FlowId>) -> i64 {
    flows.into_iter().fold(0, |sum, flow| sum.wrapping_add(*flow))
}

/// Addresses the row of a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneKey<'a> {
    pub(super) inbox_id: &'a str,
    pub(super) lane: Lane,
}

/// The condition under which a batch counts, and the position that it leads to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fence<'a> {
    pub(super) row: LaneKey<'a>,
    /// The flow of a batch of a lagging flow.
    pub(super) flow: Option<FlowId>,
    pub(super) expected: Position,
    pub(super) next: Position,
    /// The checksum of the lagging flows that the worker knows.
    pub(super) lagging_sum: i64,
}

impl Fence<'_> {
    /// Locks the row of the lane, which guards all its other rows, and reads the positions.
    pub(super) async fn lock_and_read(
        &self,
        database: &Database,
        connection: &impl ConnectionTrait,
    ) -> Result<(LaneState, Lag), StoreError> {
        let lane = self.row.lock(database, connection).await?;
        let lag = match self.flow {
            None => Lag::NotAsked,
            Some(flow) => self.row.lag_of(connection, flow).await?,
        };
        Ok((lane, lag))
    }

    /// Checks that the batch is the next one. The batch of a lagging flow does not depend on the list of the others.
    pub(super) fn check(&self, lane: LaneState, lag: Lag) -> Result<(), Failed> {
        let found = Position { lane: lane.position, lag };
        let is_same_list = self.flow.is_some() || lane.lagging_sum == self.lagging_sum;
        if found == self.expected && is_same_list { Ok(()) } else { Err(Failed::Fenced(found)) }
    }

    /// Writes the new position. The batch of a lagging flow does not move its lane.
    pub(super) async fn write(
        &self,
        database: &Database,
        connection: &impl ConnectionTrait,
        reached: Position,
    ) -> Result<(), StoreError> {
        match self.flow {
            None => self.row.write(database, connection, reached.lane).await,
            Some(flow) => self.row.write_lag(connection, flow, reached.lag).await,
        }
    }
}

impl LaneKey<'_> {
    /// Takes the lane over. From then on only batches of the returned epoch count.
    pub(super) async fn take_over(&self, database: &Database) -> Result<OpenedLane, StoreError> {
        let transaction = database.begin().await?;
        self.create(database, &transaction).await?;
        let before = self.lock(database, &transaction).await?.position;
        let now = LanePosition { epoch: next_epoch(before.epoch), ..before };
        self.write(database, &transaction, now).await?;
        let lagging = self.lagging(&transaction).await?;
        transaction.commit().await.while_doing("taking the lane over")?;
        Ok(OpenedLane { position: now, lagging })
    }

    async fn create(&self, database: &Database, connection: &impl ConnectionTrait) -> Result<(), StoreError> {
        let sql = database
            .dialect
            .insert_unless_there("inbox_offsets (inbox_id, lane, epoch, next_offset)", "VALUES (?, ?, 0, 0)");
        self.execute(connection, sql, []).await
    }

    /// Locks the row and reads it.
    pub(super) async fn lock(
        &self,
        database: &Database,
        connection: &impl ConnectionTrait,
    ) -> Result<LaneState, StoreError> {
        let lock = match database.dialect {
            // Locks only the named table.
            Dialect::Postgres => " FOR UPDATE OF o",
            other => other.for_update(),
        };
        let columns = lane_columns(database.dialect);
        let sql =
            format!("SELECT {columns} FROM inbox_offsets AS o WHERE o.inbox_id = ? AND o.lane = ? {lock}");
        let values = [self.inbox_id.into(), self.lane.into()];
        let statement = statement(connection.get_database_backend(), sql, values);
        let read = async {
            let row = connection.query_one_raw(statement).await?;
            row.as_ref().map_or(Ok(NO_LANE), lane_state)
        };
        read.await.while_doing("locking the lane's row")
    }

    /// Writes the position of the lane.
    pub(super) async fn write(
        &self,
        database: &Database,
        connection: &impl ConnectionTrait,
        position: LanePosition,
    ) -> Result<(), StoreError> {
        let sql = format!(
            "UPDATE inbox_offsets SET epoch = ?, next_offset = ?, updated_at = {} WHERE inbox_id = ? AND lane = ?",
            database.dialect.now()
        );
        self.execute(connection, sql, [position.epoch.into(), position.next_offset.cast_signed().into()])
            .await
    }

    /// Executes a statement whose last two values are the inbox and the lane.
    pub(super) async fn execute<const N: usize>(
        &self,
        connection: &impl ConnectionTrait,
        sql: String,
        first: [sea_orm::Value; N],
    ) -> Result<(), StoreError> {
        let values = first.into_iter().chain([self.inbox_id.into(), self.lane.into()]);
        let statement = statement(connection.get_database_backend(), sql, values);
        connection.execute_raw(statement).await.while_doing("writing the offset of the lane or flow")?;
        Ok(())
    }
}
