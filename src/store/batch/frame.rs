//! The first and the last statements of a transaction: they lock the rows of lane and flows, and write counters and
//! offset.

use std::collections::BTreeMap;

use sea_orm::DatabaseTransaction;

use super::combined_statements::{fits_combined, lock_lane_and_flows, write_counters_and_lane};
use super::counters::write_counters;
use super::failed::Failed;
use super::fence::Fence;
use super::locked_flow::{SchemaCache, lock_flows};
use super::part::BatchPart;
use super::position::Lag;
use crate::domain::message::FlowId;
use crate::domain::processing::{Counter, FlowState};
use crate::store::connect::Database;
use crate::store::error::{ErrorClass, StoreError};

/// Locks the row of the lane, checks that the batch is the next one, and locks the rows of the flows. Shows that it
/// waits for them.
pub(super) async fn lock_and_fence(
    transaction: &DatabaseTransaction,
    database: &Database,
    schemas: &mut SchemaCache,
    fence: Option<Fence<'_>>,
    part: &BatchPart<'_>,
) -> Result<BTreeMap<FlowId, FlowState>, Failed> {
    let ids = part.flows();
    if let Some(waits) = part.waits {
        waits.begin(&ids);
    }
    let flows = lock(transaction, database, schemas, fence, part, &ids).await?;
    if let Some(waits) = part.waits {
        waits.end();
    }
    Ok(flows)
}

async fn lock(
    transaction: &DatabaseTransaction,
    database: &Database,
    schemas: &mut SchemaCache,
    fence: Option<Fence<'_>>,
    part: &BatchPart<'_>,
    ids: &[FlowId],
) -> Result<BTreeMap<FlowId, FlowState>, Failed> {
    let Some(fence) = fence else {
        return Ok(lock_flows(transaction, database.dialect, ids, part.if_locked, schemas).await?);
    };
    if fence.flow.is_none() && fits_combined(ids.len(), database.dialect) {
        let (lane, flows) = lock_lane_and_flows(transaction, fence.row, ids, schemas).await?;
        return fence.check(lane, Lag::NotAsked).map(|()| flows);
    }
    let (lane, lag) = fence.lock_and_read(database, transaction).await?;
    fence.check(lane, lag)?;
    match lock_flows(transaction, database.dialect, ids, part.if_locked, schemas).await {
        Err(error) if fence.flow.is_some() && error.class() == ErrorClass::LockTimeout => {
            Err(Failed::StillLocked)
        }
        locked => Ok(locked?),
    }
}

/// Writes the counters, and the new offset of lane or flow.
pub(super) async fn advance_offset(
    transaction: &DatabaseTransaction,
    database: &Database,
    fence: Option<Fence<'_>>,
    counters: &[Counter],
) -> Result<(), StoreError> {
    if let Some(fence) = fence
        && fence.flow.is_none()
        && fits_combined(counters.len(), database.dialect)
    {
        return write_counters_and_lane(transaction, fence.row, counters, fence.next.lane).await;
    }
    write_counters(transaction, database.dialect, counters).await?;
    match fence {
        Some(fence) => fence.write(database, transaction, fence.next).await,
        None => Ok(()),
    }
}
