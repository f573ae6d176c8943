//! Deletes expired message keys.

use std::collections::BTreeSet;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, Value};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::statement::statement;

/// Rows deleted by one statement: some milliseconds, in case a worker needs one of them.
const MAX_ROWS: usize = 512;

/// Deletes the oldest keys that were written longer ago than `age`, by the clock of the database; at most a few
/// hundred. Returns whether there may be more.
pub async fn forget_keys(database: &Database, age: Duration) -> Result<bool, StoreError> {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let forgotten = match database.dialect {
        Dialect::MySql => read_and_delete(database, -micros).await,
        Dialect::Postgres => delete_what_is_free(database, -micros).await,
        Dialect::Sqlite => delete_oldest(database, -micros).await,
    };
    Ok(forgotten.while_doing("deleting message keys")? >= MAX_ROWS as u64)
}

/// Reads the keys without locks and deletes them by primary key and in its order, as a worker writes them. A deletion
/// by its own search would lock them in another order than the workers. A key that was written again in between stays.
async fn read_and_delete(database: &Database, micros: i64) -> Result<u64, DbErr> {
    let sql = format!(
        "SELECT flow_id, key_hash FROM message_keys FORCE INDEX (message_keys_by_age) \
         WHERE written_at < {} ORDER BY written_at LIMIT {MAX_ROWS}",
        database.dialect.now_plus_micros()
    );
    let rows = database.connection.query_all_raw(bound(database, sql, [micros.into()])).await?;
    let keys = rows.iter().map(key).collect::<Result<BTreeSet<_>, _>>()?;
    let Some(last) = keys.last().cloned() else { return Ok(0) };
    // The padding keeps the number of statement shapes small.
    let padded = keys.len().next_power_of_two();
    let values = keys.into_iter().chain(std::iter::repeat(last)).take(padded);
    let values = values.flat_map(|(flow, hash)| [Value::from(flow), Value::from(hash)]);
    let sql = delete_sql(database.dialect, padded);
    let deleted = database
        .connection
        .execute_raw(bound(database, sql, values.chain([micros.into()])))
        .await?
        .rows_affected();
    // The number found, not deleted: a key that stayed must not end the deletion too early.
    Ok(deleted.max(rows.len() as u64))
}

/// By primary key whatever the size of the table: on a small one the optimiser would prefer a scan.
fn delete_sql(dialect: Dialect, keys: usize) -> String {
    let more = vec![" UNION ALL SELECT ?, ?"; keys - 1].concat();
    format!(
        "DELETE m FROM (SELECT ? AS flow_id, ? AS key_hash{more}) AS k \
         STRAIGHT_JOIN message_keys AS m FORCE INDEX (PRIMARY) \
         ON m.flow_id = k.flow_id AND m.key_hash = k.key_hash WHERE m.written_at < {}",
        dialect.now_plus_micros()
    )
}

/// Without waiting for locks, the deletion never blocks a worker for long: locked rows are left for the next time, in
/// whatever order the rows are found.
async fn delete_what_is_free(database: &Database, micros: i64) -> Result<u64, DbErr> {
    let sql = format!(
        "WITH old AS (SELECT flow_id, key_hash FROM message_keys WHERE written_at < {age} \
         ORDER BY written_at LIMIT {MAX_ROWS}{lock}) \
         DELETE FROM message_keys AS m USING old WHERE m.flow_id = old.flow_id AND m.key_hash = old.key_hash",
        age = database.dialect.now_plus_micros(),
        lock = database.dialect.for_update_skip_locked(),
    );
    Ok(database.connection.execute_raw(bound(database, sql, [micros.into()])).await?.rows_affected())
}

/// With one writer at a time the order is irrelevant.
async fn delete_oldest(database: &Database, micros: i64) -> Result<u64, DbErr> {
    let sql = format!(
        "DELETE FROM message_keys WHERE written_at < {} AND written_at <= (SELECT MAX(written_at) FROM \
         (SELECT written_at FROM message_keys ORDER BY written_at LIMIT {MAX_ROWS}))",
        database.dialect.now_plus_micros()
    );
    Ok(database.connection.execute_raw(bound(database, sql, [micros.into()])).await?.rows_affected())
}

fn key(row: &QueryResult) -> Result<(i64, Vec<u8>), DbErr> {
    Ok((row.try_get("", "flow_id")?, row.try_get("", "key_hash")?))
}

fn bound(database: &Database, sql: String, values: impl IntoIterator<Item = Value>) -> Statement {
    statement(database.dialect.backend(), sql, values)
}
