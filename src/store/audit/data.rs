//! Reads `data` once, by its key and in bounded pieces: it has no other index, and may be huge.
//!
//! The database groups the rows of a piece into messages and their numbers into stretches of consecutive ones, so the
//! result has about one row for each flow.

use std::collections::BTreeMap;

use sea_orm::{FromQueryResult, Value};

use super::{AuditProgress, AuditSnapshot, ProgressCallback};
use crate::domain::audit::StoredFacts;
use crate::store::dialect::Dialect;
use crate::store::error::StoreError;

const DOING: &str = "reading data";

/// Rows of a piece: some tenths of a second.
const PIECE_ROWS: i64 = 50_000;

/// The rows of one message are written by one transaction, one after the other. Rows of other lanes may lie in between,
/// but never this many pieces.
const REACH_PIECES: u64 = 8;

/// Consecutive numbers of a flow in a piece.
#[derive(Debug, FromQueryResult)]
struct Stretch {
    flow_code: Option<String>,
    first_id: Option<i64>,
    last_id: Option<i64>,
    row_count: i64,
    /// Numbers whose rows are of more than one message, and the lowest of them.
    mixed: i64,
    first_mixed: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct Piece {
    last_key: Option<i64>,
    row_count: i64,
}

#[derive(Debug, FromQueryResult)]
struct HighestKey {
    highest: Option<i64>,
}

#[derive(Debug, FromQueryResult)]
struct Mixed {
    mixed: i64,
}

/// The keys of a piece: above `above`, up to `last`.
#[derive(Debug, Clone, Copy)]
struct Keys {
    index: u64,
    above: i64,
    last: i64,
}

/// A flow's rows so far, and the last piece that had its highest number.
#[derive(Debug, Default)]
struct Running {
    facts: StoredFacts,
    highest_in: Option<Keys>,
}

impl AuditSnapshot {
    /// The contents of `data` by code, or of one code. Rows without a code are under an empty one.
    pub(super) async fn stored(
        &self,
        only: Option<&str>,
        progress: &mut ProgressCallback<'_>,
    ) -> Result<BTreeMap<String, StoredFacts>, StoreError> {
        let mut flows: BTreeMap<String, Running> = BTreeMap::new();
        let highest_key = self.highest_key("data").await?;
        let (mut above, mut rows, mut index) = (i64::MIN, 0, 0);
        while let Some((last, count)) = self.piece("data", above, PIECE_ROWS).await? {
            let keys = Keys { index, above, last };
            for stretch in self.stretches(keys, only).await? {
                let code = stretch.flow_code.clone().unwrap_or_default();
                self.take(stretch, keys, flows.entry(code).or_default()).await?;
            }
            (above, rows, index) = (last, rows + count, index + 1);
            progress(AuditProgress { table: "data", rows, key: last, highest_key });
        }
        Ok(flows.into_iter().map(|(code, running)| (code, running.facts)).collect())
    }

    pub(super) async fn highest_key(&self, table: &'static str) -> Result<i64, StoreError> {
        let sql = format!("SELECT {} AS highest FROM {table}", self.dialect.integer("MAX(id)"));
        let found: Vec<HighestKey> = self.all(DOING, &sql, []).await?;
        Ok(found.into_iter().find_map(|row| row.highest).unwrap_or(0))
    }

    /// The last key and the number of the next rows, at most `most`.
    pub(super) async fn piece(
        &self,
        table: &'static str,
        above: i64,
        most: i64,
    ) -> Result<Option<(i64, u64)>, StoreError> {
        let sql = format!(
            "SELECT {} AS last_key, COUNT(*) AS row_count \
             FROM (SELECT id FROM {table} WHERE id > ? ORDER BY id LIMIT ?) AS piece",
            self.dialect.integer("MAX(id)")
        );
        let found: Vec<Piece> = self.all(DOING, &sql, [above.into(), most.into()]).await?;
        let piece = found.into_iter().next();
        Ok(piece.and_then(|piece| Some((piece.last_key?, piece.row_count.cast_unsigned()))))
    }

    async fn stretches(&self, keys: Keys, only: Option<&str>) -> Result<Vec<Stretch>, StoreError> {
        let mut values: Vec<Value> = vec![keys.above.into(), keys.last.into()];
        values.extend(only.map(Value::from));
        self.all(DOING, &stretches_sql(self.dialect, only), values).await
    }

    async fn take(&self, stretch: Stretch, keys: Keys, running: &mut Running) -> Result<(), StoreError> {
        let rows = stretch.row_count.cast_unsigned();
        let (Some(mut first), Some(last)) = (stretch.first_id, stretch.last_id) else {
            running.facts.rows_without_number += rows;
            return Ok(());
        };
        running.facts.rows += rows;
        let numbers = &mut running.facts.numbers;
        if let Some(first_mixed) = stretch.first_mixed {
            numbers.repeat(first_mixed, stretch.mixed.cast_unsigned());
        }
        if let Some(seen) = running.highest_in
            && numbers.last() == Some(first)
            && keys.index - seen.index <= REACH_PIECES
            && !self.is_mixed(stretch.flow_code.as_deref(), first, Keys { above: seen.above, ..keys }).await?
        {
            // One message, cut by the border of a piece.
            first = first.saturating_add(1);
        }
        if first <= last {
            numbers.add(first, last);
        }
        if numbers.last() == Some(last) {
            running.highest_in = Some(keys);
        }
        Ok(())
    }

    /// Whether the rows with a number are of more than one message.
    async fn is_mixed(&self, code: Option<&str>, id: i64, keys: Keys) -> Result<bool, StoreError> {
        let sql = format!(
            "SELECT {} AS mixed FROM data WHERE id > ? AND id <= ? AND flow_code = ? AND last_msg_id = ?",
            self.dialect.integer(&is_mixed_sql(self.dialect))
        );
        let values = [keys.above.into(), keys.last.into(), code.unwrap_or_default().into(), id.into()];
        let found: Vec<Mixed> = self.all(DOING, &sql, values).await?;
        Ok(found.into_iter().any(|row| row.mixed != 0))
    }
}

/// 1 for rows with one number that are of more than one message: a name occurs twice, or the times of receipt differ.
fn is_mixed_sql(dialect: Dialect) -> String {
    format!(
        "CASE WHEN COUNT(DISTINCT {}) < COUNT(attribute_name) OR MIN(received_at) <> MAX(received_at) \
         THEN 1 ELSE 0 END",
        dialect.exact_text("attribute_name")
    )
}

fn stretches_sql(dialect: Dialect, only: Option<&str>) -> String {
    let of_flow = if only.is_some() { " AND flow_code = ?" } else { "" };
    let code = dialect.exact_text("flow_code");
    format!(
        "SELECT MIN(flow_code) AS flow_code, MIN(message_id) AS first_id, MAX(message_id) AS last_id, \
         {rows} AS row_count, {all_mixed} AS mixed, \
         MIN(CASE WHEN mixed = 1 THEN message_id END) AS first_mixed \
         FROM (SELECT code, flow_code, message_id, row_count, mixed, \
                message_id - {place} AS stretch \
               FROM (SELECT {code} AS code, MIN(flow_code) AS flow_code, {number} AS message_id, \
                      COUNT(*) AS row_count, {mixed} AS mixed \
                     FROM data WHERE id > ? AND id <= ?{of_flow} \
                     GROUP BY {code}, last_msg_id) AS messages) AS numbered \
         GROUP BY code, stretch ORDER BY code, first_id",
        rows = dialect.integer("SUM(row_count)"),
        all_mixed = dialect.integer("SUM(mixed)"),
        place = dialect.integer("ROW_NUMBER() OVER (PARTITION BY code ORDER BY message_id)"),
        number = dialect.wide("last_msg_id"),
        mixed = is_mixed_sql(dialect),
    )
}
