//! The row of a lane: how far it has got, and who may carry it on.
//!
//! Every batch first locks its lane's row and compares epoch and offset with the ones it carries.
//! A restarted worker raises the epoch, so whatever its predecessor still has under way is void;
//! and a commit whose outcome is unknown is resolved by the same locking read, because that waits
//! for a COMMIT that still runs, which a plain read would not.

use sea_orm::{ConnectionTrait, DbErr, QueryResult};

use super::standing::{Lag, Standing};
use super::transaction::Failed;
use crate::domain::batch::{Lane, LanePosition, OpenedLane};
use crate::domain::message::FlowId;
use crate::store::connect::Database;
use crate::store::error::{StoreError, While};
use crate::store::statement::statement;

/// Where a lane stands that has no row; no batch expects that.
pub(super) const NOWHERE: LanePosition = LanePosition { epoch: -1, next_offset: 0 };

/// Where a lane stands, as its row says.
pub(super) fn lane_position(row: &QueryResult) -> Result<LanePosition, DbErr> {
    let next_offset: i64 = row.try_get("", "next_offset")?;
    Ok(LanePosition { epoch: row.try_get("", "epoch")?, next_offset: next_offset.cast_unsigned() })
}

/// The row that a transaction holds while it works for a lane.
#[derive(Debug, Clone, Copy)]
pub(super) struct LaneRow<'a> {
    pub(super) inbox_id: &'a str,
    pub(super) lane: Lane,
}

/// What must be so for a batch to count, and what it makes of it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fence<'a> {
    pub(super) row: LaneRow<'a>,
    /// The flow, for a batch of one that lags.
    pub(super) flow: Option<FlowId>,
    pub(super) expected: Standing,
    pub(super) next: Standing,
}

impl Fence<'_> {
    /// Locks the lane's row, and so all that is written under it, and reads where things stand.
    pub(super) async fn find(
        &self,
        database: &Database,
        connection: &impl ConnectionTrait,
    ) -> Result<Standing, StoreError> {
        let lane = self.row.lock(database, connection).await?;
        let lag = match self.flow {
            None => Lag::NotAsked,
            Some(flow) => self.row.lag_of(connection, flow).await?,
        };
        Ok(Standing { lane, lag })
    }

    /// Whether the batch is the one that comes next where things stand so.
    pub(super) fn let_in(&self, found: Standing) -> Result<(), Failed> {
        if found == self.expected { Ok(()) } else { Err(Failed::Fenced(found)) }
    }

    /// Writes where things stand now. A batch of one flow leaves the lane where it is.
    pub(super) async fn write(
        &self,
        database: &Database,
        connection: &impl ConnectionTrait,
        reached: Standing,
    ) -> Result<(), StoreError> {
        match self.flow {
            None => self.row.write(database, connection, reached.lane).await,
            Some(flow) => self.row.write_lag(connection, flow, reached.lag).await,
        }
    }
}

impl LaneRow<'_> {
    /// Takes the lane over: from now on only batches of the returned epoch count.
    pub(super) async fn take_over(&self, database: &Database) -> Result<OpenedLane, StoreError> {
        let transaction = database.begin().await?;
        self.create(database, &transaction).await?;
        let before = self.lock(database, &transaction).await?;
        let now = LanePosition { epoch: before.epoch + 1, ..before };
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
    ) -> Result<LanePosition, StoreError> {
        let sql = format!(
            "SELECT epoch, next_offset FROM inbox_offsets WHERE inbox_id = ? AND lane = ? {}",
            database.dialect.for_update()
        );
        let values = [self.inbox_id.into(), self.lane.into()];
        let statement = statement(connection.get_database_backend(), sql, values);
        let read = async {
            let row = connection.query_one_raw(statement).await?;
            row.as_ref().map_or(Ok(NOWHERE), lane_position)
        };
        read.await.while_doing("locking the lane's row")
    }

    /// Writes where the lane stands now.
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
        connection.execute_raw(statement).await.while_doing("writing how far lane and flows are")?;
        Ok(())
    }
}
