//! Combines two statements into one, for a batch of few flows.
//!
//! A small transaction consists of round trips: each one saved shortens the wait of a message. With many flows the
//! statements themselves are slow, and combining them gains nothing. `SQLite` has no round trips, and `PostgreSQL`
//! neither locks by an outer join nor updates two tables at once.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, Value};

use super::fence::{LaneKey, LaneState, NO_LANE, lane_columns, lane_state};
use super::locked_flow::{SchemaCache, flow_columns, locked_flow, padded_to};
use crate::domain::batch::LanePosition;
use crate::domain::message::FlowId;
use crate::domain::processing::{Counter, FlowState};
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};
use crate::store::statement::{marks, statement};

/// Most flows of a combined statement.
const MAX_COMBINED_FLOWS: usize = 16;

/// Whether a batch with this number of flows uses combined statements.
pub(super) fn fits_combined(flows: usize, dialect: Dialect) -> bool {
    dialect == Dialect::MySql && (1..=MAX_COMBINED_FLOWS).contains(&flows)
}

/// Locks the row of the lane and then the rows of `ids`, ascending, and reads them.
pub(super) async fn lock_lane_and_flows(
    connection: &impl ConnectionTrait,
    row: LaneKey<'_>,
    ids: &[FlowId],
    schemas: &mut SchemaCache,
) -> Result<(LaneState, BTreeMap<FlowId, FlowState>), StoreError> {
    let padded = ids.len().next_power_of_two();
    let lane = [row.inbox_id.into(), row.lane.into()];
    let values = padded_to(ids, padded).map(Value::from).chain(lane);
    let statement = statement(connection.get_database_backend(), lock_sql(padded), values);
    let rows = connection.query_all_raw(statement).await.while_doing("locking the lane and the flows")?;
    let read = || {
        let mut lane = NO_LANE;
        let mut flows = BTreeMap::new();
        for row in rows {
            lane = lane_state(&row)?;
            // For a missing flow the outer join gives the columns of the lane only.
            if row.try_get::<Option<i64>>("", "id")?.is_some() {
                let flow = locked_flow(&row, schemas)?;
                flows.insert(flow.id, flow);
            }
        }
        Ok((lane, flows))
    };
    read().while_doing("reading the locked lane and flows")
}

/// The optimiser reads the row of the lane first, since it is a constant, and then the flows by ascending primary key.
/// ORDER BY would only add a sort.
fn lock_sql(ids: usize) -> String {
    let dialect = Dialect::MySql;
    format!(
        "SELECT {lane}, {columns} FROM inbox_offsets AS o \
         LEFT JOIN flows AS f {index} ON f.id IN ({marks}) WHERE o.inbox_id = ? AND o.lane = ? {lock}",
        lane = lane_columns(dialect),
        columns = flow_columns(dialect, "f."),
        index = dialect.by_primary_key(),
        marks = marks(ids),
        lock = dialect.for_update(),
    )
}

/// Sets `last_msg_id` of the flows, and the position of the lane.
pub(super) async fn write_counters_and_lane(
    connection: &impl ConnectionTrait,
    row: LaneKey<'_>,
    counters: &[Counter],
    position: LanePosition,
) -> Result<(), StoreError> {
    let padded = counters.len().next_power_of_two();
    let counters = padded_to(counters, padded).flat_map(Counter::values);
    let lane = [
        position.epoch.into(),
        position.next_offset.cast_signed().into(),
        row.inbox_id.into(),
        row.lane.into(),
    ];
    let statement = statement(connection.get_database_backend(), update_sql(padded), counters.chain(lane));
    connection.execute_raw(statement).await.while_doing("writing the counters and the offset of the lane")?;
    Ok(())
}

fn update_sql(flows: usize) -> String {
    let dialect = Dialect::MySql;
    format!(
        "UPDATE inbox_offsets AS o STRAIGHT_JOIN ({new}) AS new \
         STRAIGHT_JOIN flows {index} ON flows.id = new.id \
         SET flows.last_msg_id = new.last, o.epoch = ?, o.next_offset = ?, o.updated_at = {now} \
         WHERE o.inbox_id = ? AND o.lane = ?",
        new = Dialect::rows_of_counters(flows),
        index = dialect.by_primary_key(),
        now = dialect.now(),
    )
}
