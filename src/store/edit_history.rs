//! The history of edits, written in the transactions of the edits.

use std::collections::HashMap;

use chrono::NaiveDateTime as DateTime;
use sea_orm::{ConnectionTrait, DbErr, QueryResult, Value};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::StoreError;
use super::statement::{marks, read, statement};
use crate::domain::edit_history::{EditOrigin, EditedKind, HistoryEntry, HistoryFilter, NewEdit};

const READING: &str = "reading the history of edits";

/// Most rows of one insert.
const CHUNK: usize = 128;

/// Longest text of a name, in characters.
const MAX_CHARS: usize = 255;

/// Writes edits into the history, in their transaction.
pub(super) async fn write_edits(
    on: &impl ConnectionTrait,
    dialect: Dialect,
    origin: &EditOrigin,
    edits: &[NewEdit],
) -> Result<(), DbErr> {
    let by = shortened(&origin.to_string());
    for chunk in edits.chunks(CHUNK) {
        let row = format!("({}, ?, ?, ?, ?, ?, ?, ?)", dialect.now());
        let sql = format!(
            "INSERT INTO edit_history (edited_at, edited_by, kind, name, changed, old_row, new_row, counts_from) \
             VALUES {}",
            vec![row; chunk.len()].join(", ")
        );
        let values = chunk.iter().flat_map(|edit| -> [Value; 7] {
            [
                by.clone().into(),
                edit.kind.as_str().into(),
                shortened(&edit.name).into(),
                edit.changed.join(",").into(),
                edit.old_row.clone().into(),
                edit.new_row.clone().into(),
                edit.counts_from.into(),
            ]
        });
        on.execute_raw(statement(dialect.backend(), sql, values)).await?;
    }
    Ok(())
}

fn shortened(text: &str) -> String {
    text.chars().take(MAX_CHARS).collect()
}

/// Reads selected entries with numbers below `before`, the newest first.
pub async fn read_edits(
    database: &Database,
    filter: &HistoryFilter,
    before: Option<i64>,
    limit: u64,
) -> Result<Vec<HistoryEntry>, StoreError> {
    let dialect = database.dialect;
    let (mut conditions, mut values) = (vec!["id < ?".to_owned()], vec![before.unwrap_or(i64::MAX).into()]);
    let mut and = |condition: String, given: &[Value]| {
        conditions.push(condition);
        values.extend_from_slice(given);
    };
    if let Some(kind) = filter.kind {
        and("kind = ?".to_owned(), &[kind.as_str().into()]);
    } else if filter.name.is_some() {
        // The index of names begins with the kind.
        let kinds = EditedKind::ALL.map(|kind| kind.as_str().into());
        and(format!("kind IN ({})", marks(kinds.len())), &kinds);
    }
    if let Some(name) = &filter.name {
        let name = Value::from(shortened(name));
        // The first condition can use the index, the second one compares exactly.
        let (exact, bytes) = (dialect.exact_text("name"), dialect.exact_text("?"));
        and(format!("name = ? AND {exact} = {bytes}"), &[name.clone(), name]);
    }
    if let Some(by) = &filter.by {
        and(dialect.contains("edited_by"), &[by.as_str().into()]);
    }
    if let Some(since) = filter.since_us {
        and("edited_at >= ?".to_owned(), &[dialect.instant(since)]);
    }
    if let Some(until) = filter.until_us {
        and("edited_at < ?".to_owned(), &[dialect.instant(until)]);
    }
    let sql = format!(
        "SELECT id, edited_at, edited_by, kind, name, changed, old_row, new_row, counts_from FROM edit_history \
         WHERE {} ORDER BY id DESC LIMIT {limit}",
        conditions.join(" AND ")
    );
    read(&database.connection, READING, sql, values, entry).await
}

fn entry(row: &QueryResult) -> Result<HistoryEntry, DbErr> {
    let edited_at: DateTime = row.try_get("", "edited_at")?;
    let changed: String = row.try_get("", "changed")?;
    Ok(HistoryEntry {
        id: row.try_get("", "id")?,
        edited_at_us: edited_at.and_utc().timestamp_micros(),
        edited_by: row.try_get("", "edited_by")?,
        kind: row.try_get("", "kind")?,
        name: row.try_get("", "name")?,
        changed: changed.split(',').filter(|column| !column.is_empty()).map(str::to_owned).collect(),
        old_row: row.try_get("", "old_row")?,
        new_row: row.try_get("", "new_row")?,
        counts_from: row.try_get("", "counts_from")?,
    })
}

/// The last sequence numbers of those flows whose newest entry is their removal, by their codes.
pub async fn last_removals(
    database: &Database,
    codes: &[String],
) -> Result<HashMap<String, i64>, StoreError> {
    let mut found = HashMap::new();
    for chunk in codes.chunks(CHUNK) {
        let exact = database.dialect.exact_text("name");
        let sql = format!(
            "SELECT name, counts_from FROM edit_history WHERE new_row IS NULL AND id IN \
             (SELECT MAX(id) FROM edit_history WHERE kind = 'flow' AND name IN ({marks}) GROUP BY {exact})",
            marks = marks(chunk.len()),
        );
        let values = chunk.iter().map(|code| Value::from(shortened(code)));
        let row = |row: &QueryResult| Ok((row.try_get("", "name")?, row.try_get("", "counts_from")?));
        let removals: Vec<(String, Option<i64>)> =
            read(&database.connection, READING, sql, values, row).await?;
        for (code, counts_from) in removals {
            found.insert(code, counts_from.unwrap_or(1).saturating_sub(1));
        }
    }
    Ok(found)
}
