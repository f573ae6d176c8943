//! The newest values of a flow in `data`, which has no index on the flow.

use sea_orm::prelude::DateTime;
use sea_orm::{DbErr, QueryResult};

use super::connect::Database;
use super::error::StoreError;
use super::statement::read;
use crate::domain::value_series::StoredValue;

/// The newest rows of the table that are searched: by the primary key, whatever the size of the table.
const SEARCHED_ROWS: u32 = 20_000;

/// Most values that are read.
const MAX_VALUES: u32 = 4_000;

/// Longest value that is read, in bytes. A longer one is no number for a chart.
const MAX_VALUE_BYTES: u32 = 40;

/// The newest short values of a flow, the newest first, among the newest rows of all flows.
pub async fn newest_values(database: &Database, code: &str) -> Result<Vec<StoredValue>, StoreError> {
    const DOING: &str = "reading the newest values";
    let (exact, given) = (database.dialect.exact_text("flow_code"), database.dialect.exact_text("?"));
    let sql = format!(
        "SELECT received_at, attribute_name, attribute_value FROM data \
         WHERE id > (SELECT MAX(id) FROM data) - {SEARCHED_ROWS} AND flow_code = ? AND {exact} = {given} \
         AND attribute_name IS NOT NULL AND attribute_value IS NOT NULL \
         AND LENGTH(attribute_value) <= {MAX_VALUE_BYTES} ORDER BY id DESC LIMIT {MAX_VALUES}"
    );
    read(&database.connection, DOING, sql, [code.into(), code.into()], value).await
}

fn value(row: &QueryResult) -> Result<StoredValue, DbErr> {
    let received_at: DateTime = row.try_get("", "received_at")?;
    Ok(StoredValue {
        at_us: received_at.and_utc().timestamp_micros(),
        name: row.try_get("", "attribute_name")?,
        text: row.try_get("", "attribute_value")?,
    })
}
