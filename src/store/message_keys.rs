//! Forgets the keys of messages that are long past.

use std::collections::BTreeSet;
use std::time::Duration;

use sea_orm::{ConnectionTrait, DbErr, QueryResult, Statement, Value};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::statement::statement;

/// Rows deleted at once: a matter of milliseconds, should a worker want one of them.
const MAX_ROWS: usize = 512;

/// Deletes the oldest keys among those written longer ago than `age`, by the database's clock; at
/// most a few hundred. Answers whether there may be more.
pub async fn forget_keys(database: &Database, age: Duration) -> Result<bool, StoreError> {
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let forgotten = match database.dialect {
        Dialect::MySql => read_and_delete(database, -micros).await,
        Dialect::Postgres => delete_what_is_free(database, -micros).await,
        Dialect::Sqlite => delete_oldest(database, -micros).await,
    };
    Ok(forgotten.while_doing("forgetting keys")? >= MAX_ROWS as u64)
}

/// Read without locks, then deleted by primary key and in its order, as a worker writes them: a
/// deletion that looks for its rows itself would lock them in another order than the workers do. One
/// that was written anew in between stays.
async fn read_and_delete(database: &Database, micros: i64) -> Result<u64, DbErr> {
    let sql = format!(
        "SELECT flow_id, key_hash FROM message_keys FORCE INDEX (message_keys_by_age) \
         WHERE written_at < {} ORDER BY written_at LIMIT {MAX_ROWS}",
        database.dialect.now_plus_micros()
    );
    let rows = database.connection.query_all_raw(bound(database, sql, [micros.into()])).await?;
    let keys = rows.iter().map(key).collect::<Result<BTreeSet<_>, _>>()?;
    let Some(last) = keys.last().cloned() else { return Ok(0) };
    // Few shapes of statements: the last is named again.
    let padded = keys.len().next_power_of_two();
    let values = keys.into_iter().chain(std::iter::repeat(last)).take(padded);
    let values = values.flat_map(|(flow, hash)| [Value::from(flow), Value::from(hash)]);
    let sql = delete_sql(database.dialect, padded);
    let deleted = database
        .connection
        .execute_raw(bound(database, sql, values.chain([micros.into()])))
        .await?
        .rows_affected();
    // As many as were found, lest one that stayed ends it all too soon.
    Ok(deleted.max(rows.len() as u64))
}

/// By primary key whatever the table's size: on a small one the optimiser would rather scan.
fn delete_sql(dialect: Dialect, keys: usize) -> String {
    let more = vec![" UNION ALL SELECT ?, ?"; keys - 1].concat();
    format!(
        "DELETE m FROM (SELECT ? AS flow_id, ? AS key_hash{more}) AS k \
         STRAIGHT_JOIN message_keys AS m FORCE INDEX (PRIMARY) \
         ON m.flow_id = k.flow_id AND m.key_hash = k.key_hash WHERE m.written_at < {}",
        dialect.now_plus_micros()
    )
}

/// Who waits for nobody cannot be in anybody's way for long: what a worker holds is left for the next
/// time, whatever the order in which the rows are found.
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

/// With one writer at a time there is no order to keep.
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
