//! The counters of all flows of a batch, in one statement.

use sea_orm::{ConnectionTrait, Statement, Value};

use super::locked_flow::padded_to;
use crate::domain::message::FlowId;
use crate::store::dialect::Dialect;
use crate::store::error::{StoreError, While};

/// Most flows of one statement.
const CHUNK_FLOWS: usize = 512;

/// Sets `last_msg_id` of every flow given. Set-based, because a statement for each flow costs ten
/// times as much as all other work when a batch is spread over many flows.
pub(super) async fn write_counters(
    connection: &impl ConnectionTrait,
    dialect: Dialect,
    counters: &[(FlowId, i64)],
) -> Result<(), StoreError> {
    for chunk in counters.chunks(CHUNK_FLOWS) {
        let padded = chunk.len().next_power_of_two();
        let values = padded_to(chunk, padded).flat_map(|(flow, last)| [Value::from(flow), Value::from(last)]);
        let statement = Statement::from_sql_and_values(
            connection.get_database_backend(),
            dialect.update_counters(padded),
            values,
        );
        connection.execute_raw(statement).await.while_doing("writing the counters")?;
    }
    Ok(())
}
