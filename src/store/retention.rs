//! Deletes old rows in small portions, by primary key.

use std::time::Duration;

use sea_orm::{QueryResult, Value};

use super::connect::Database;
use super::dead_letters::max_dead_letters;
use super::error::StoreError;
use super::statement::{execute, marks, read, statement};

/// Rows of one portion: some milliseconds.
const PORTION_ROWS: usize = 512;

const DOING: &str = "deleting old rows";

/// A row by its id, and whether it is too old.
type AgedRow = (i64, bool);

/// The result for a portion of the dead letters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LetterPortion {
    /// Number of deleted letters.
    pub deleted: u64,
    /// The id after which the next portion begins; none at the end of the table.
    pub last_id: Option<i64>,
}

/// Deletes the dead letters that are older than `age` among the next few hundred rows after the id `after`. A dead
/// letter whose replay was refused counts from the replay, so young ones may have the lowest ids.
pub async fn delete_old_letters(
    database: &Database,
    age: Duration,
    after: Option<i64>,
) -> Result<LetterPortion, StoreError> {
    let rows = next_rows(database, ("dead_letters", "occurred_at"), age, after).await?;
    let last_id = rows.last().map(|(id, _)| *id).filter(|_| rows.len() == PORTION_ROWS);
    let old: Vec<i64> = rows.into_iter().filter(|(_, is_old)| *is_old).map(|(id, _)| id).collect();
    // A replay may have refused one meanwhile, which counts from then.
    let is_old = format!(" AND occurred_at < {}", database.dialect.now_plus_micros());
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let condition = (is_old.as_str(), vec![micros.saturating_neg().into()]);
    let deleted = delete_where(database, "dead_letters", &old, condition).await?;
    Ok(LetterPortion { deleted, last_id })
}

/// Deletes the oldest rows of `data`, up to the first row that is younger than `age`; at most a few hundred. Returns
/// how many there were. The numbers of a flow rise with the ids, so its remaining numbers have no gap.
pub async fn delete_old_data(database: &Database, age: Duration) -> Result<u64, StoreError> {
    let rows = next_rows(database, ("data", "received_at"), age, None).await?;
    let old: Vec<i64> = rows.into_iter().take_while(|(_, is_old)| *is_old).map(|(id, _)| id).collect();
    delete(database, "data", &old).await
}

/// The row of `data` with the lowest id, if its time is more than a day ahead: written while the clock was wrong. It
/// counts as young until then, so nothing behind it is deleted.
pub async fn oldest_row_ahead(database: &Database) -> Result<Option<i64>, StoreError> {
    const DAY: Duration = Duration::from_hours(24);
    let dialect = database.dialect;
    let is_ahead = format!("CASE WHEN received_at > {} THEN id ELSE 0 END", dialect.now_plus_micros());
    let sql = format!("SELECT {} FROM data ORDER BY id LIMIT 1", dialect.integer(&is_ahead));
    let micros = i64::try_from(DAY.as_micros()).unwrap_or(i64::MAX);
    let id = |row: &QueryResult| row.try_get_by_index(0);
    let id: Option<i64> = read(&database.connection, DOING, sql, [micros.into()], id).await?.pop();
    Ok(id.filter(|id| *id > 0))
}

/// Deletes the oldest dead letters beyond the newest `max_rows`; at most a few hundred. Returns how many there were.
pub async fn delete_excess_letters(database: &Database, max_rows: u64) -> Result<u64, StoreError> {
    // The range of the ids costs nothing to read, and is an upper bound of the number.
    if max_dead_letters(database).await? <= max_rows {
        return Ok(0);
    }
    let backend = database.dialect.backend();
    let sql = format!("SELECT id FROM dead_letters ORDER BY id DESC LIMIT 1 OFFSET {max_rows}");
    let newest = database.number(statement(backend, sql, []), DOING).await?;
    let sql = format!("SELECT id FROM dead_letters WHERE id <= ? ORDER BY id LIMIT {PORTION_ROWS}");
    let id = |row: &QueryResult| row.try_get("", "id");
    let ids: Vec<i64> = read(&database.connection, DOING, sql, [newest.into()], id).await?;
    delete(database, "dead_letters", &ids).await
}

/// The rows of `table` with the lowest ids after `after`. Reads without locks.
async fn next_rows(
    database: &Database,
    (table, time): (&str, &str),
    age: Duration,
    after: Option<i64>,
) -> Result<Vec<AgedRow>, StoreError> {
    let dialect = database.dialect;
    let micros = i64::try_from(age.as_micros()).unwrap_or(i64::MAX);
    let is_old = format!("CASE WHEN {time} < {} THEN 1 ELSE 0 END", dialect.now_plus_micros());
    let condition = if after.is_some() { format!("WHERE {table}.id > ?") } else { String::new() };
    let sql = format!(
        "SELECT {} AS id, {} AS is_old FROM {table} {condition} ORDER BY {table}.id LIMIT {PORTION_ROWS}",
        dialect.wide("id"),
        dialect.integer(&is_old),
    );
    let values = [Value::from(micros.saturating_neg())].into_iter().chain(after.map(Value::from));
    let row = |row: &QueryResult| {
        let is_old: i64 = row.try_get("", "is_old")?;
        Ok((row.try_get("", "id")?, is_old == 1))
    };
    read(&database.connection, DOING, sql, values, row).await
}

async fn delete(database: &Database, table: &str, ids: &[i64]) -> Result<u64, StoreError> {
    delete_where(database, table, ids, ("", Vec::new())).await
}

/// Deletes the rows with these ids for which a further condition holds when they are locked.
async fn delete_where(
    database: &Database,
    table: &str,
    ids: &[i64],
    (condition, values): (&str, Vec<Value>),
) -> Result<u64, StoreError> {
    if ids.is_empty() {
        return Ok(0);
    }
    let sql = format!("DELETE FROM {table} WHERE id IN ({}){condition}", marks(ids.len()));
    let values = ids.iter().map(|id| Value::from(*id)).chain(values);
    execute(&database.connection, DOING, sql, values).await
}
