//! Reads, counts and deletes dead letters. [`LetterReplay`](super::LetterReplay) replays them.

use std::collections::{BTreeMap, HashMap};

use sea_orm::prelude::DateTime;
use sea_orm::{DbErr, QueryResult, Statement, Value};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::StoreError;
use super::statement::{execute, marks, read};
use crate::domain::dead_letter::{DeadLetter, LetterFilter};

/// The columns of [`dead_letter`].
pub(super) const LETTER_COLUMNS: &str = "id, occurred_at, received_at, inbox_id, inbox_offset, topic, payload, \
     payload_bytes, flow_id, flow_code, message_id, reason, detail, recent_attempts";

const READING: &str = "reading the dead letters";
const COUNTING: &str = "counting the dead letters";

/// Rows of one search.
const PAGE: usize = 512;

/// Most ids of one deletion.
const CHUNK: usize = 256;

/// A row of a list: everything but the payload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterSummary {
    /// Key of the row.
    pub id: i64,
    /// When it became a dead letter: microseconds since 1970, UTC.
    pub occurred_at_us: i64,
    /// Its topic.
    pub topic: String,
    /// Code of the flow at that time.
    pub flow_code: Option<String>,
    /// Its sequence number, if it had one.
    pub message_id: Option<i64>,
    /// Length of the whole payload.
    pub payload_bytes: u64,
    /// The reason.
    pub reason: String,
    /// The reason in a sentence.
    pub detail: Option<String>,
}

/// Number of dead letters of a flow with a reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LetterCount {
    /// Code of the flow at that time.
    pub flow_code: Option<String>,
    /// The reason.
    pub reason: String,
    /// Number of rows.
    pub rows: u64,
}

/// Reads a row with [`LETTER_COLUMNS`].
pub(super) fn dead_letter(row: &QueryResult) -> Result<DeadLetter, DbErr> {
    let inbox_offset: i64 = row.try_get("", "inbox_offset")?;
    let payload_bytes: i64 = row.try_get("", "payload_bytes")?;
    Ok(DeadLetter {
        id: row.try_get("", "id")?,
        occurred_at_us: micros(row, "occurred_at")?,
        received_at_us: micros(row, "received_at")?,
        inbox_id: row.try_get("", "inbox_id")?,
        inbox_offset: inbox_offset.cast_unsigned(),
        topic: row.try_get("", "topic")?,
        payload: row.try_get("", "payload")?,
        payload_bytes: payload_bytes.unsigned_abs(),
        flow_id: row.try_get("", "flow_id")?,
        flow_code: row.try_get("", "flow_code")?,
        message_id: row.try_get("", "message_id")?,
        reason: row.try_get("", "reason")?,
        detail: row.try_get("", "detail")?,
        recent_attempts: row.try_get("", "recent_attempts")?,
    })
}

fn summary(row: &QueryResult) -> Result<LetterSummary, DbErr> {
    let payload_bytes: i64 = row.try_get("", "payload_bytes")?;
    Ok(LetterSummary {
        id: row.try_get("", "id")?,
        occurred_at_us: micros(row, "occurred_at")?,
        topic: row.try_get("", "topic")?,
        flow_code: row.try_get("", "flow_code")?,
        message_id: row.try_get("", "message_id")?,
        payload_bytes: payload_bytes.unsigned_abs(),
        reason: row.try_get("", "reason")?,
        detail: row.try_get("", "detail")?,
    })
}

fn micros(row: &QueryResult, column: &str) -> Result<i64, DbErr> {
    let at: DateTime = row.try_get("", column)?;
    Ok(at.and_utc().timestamp_micros())
}

/// The dead letters that `filter` selects and whose id is below `before`, the newest first.
pub async fn list_letters(
    database: &Database,
    filter: &LetterFilter,
    before: Option<i64>,
    limit: usize,
) -> Result<Vec<LetterSummary>, StoreError> {
    const COLUMNS: &str = "id, occurred_at, topic, flow_code, message_id, payload_bytes, reason, detail";
    let (mut found, mut before) = (Vec::new(), before.unwrap_or(i64::MAX));
    while found.len() < limit {
        let conditions = LetterConditions::new(database.dialect, filter).and("id < ?", [before.into()]);
        // Only of a topic's filter the database knows nothing.
        let rows = if filter.topic.is_some() { PAGE } else { PAGE.min(limit - found.len()) };
        let sql = format!(
            "SELECT {COLUMNS} FROM dead_letters WHERE {} ORDER BY id DESC LIMIT {rows}",
            conditions.sql()
        );
        let page = read(&database.connection, READING, sql, conditions.values, summary).await?;
        let Some(last) = page.last().map(|letter| letter.id) else { break };
        found.extend(page.into_iter().filter(|letter| filter.matches_topic(&letter.topic)));
        before = last;
    }
    found.truncate(limit);
    Ok(found)
}

/// Counts the selected dead letters by flow and reason.
pub async fn count_letters(
    database: &Database,
    filter: &LetterFilter,
) -> Result<Vec<LetterCount>, StoreError> {
    let by_topic = if filter.topic.is_some() { ", topic" } else { "" };
    let conditions = LetterConditions::new(database.dialect, filter);
    let sql = format!(
        "SELECT flow_code, reason{by_topic}, COUNT(*) AS row_count FROM dead_letters WHERE {} \
         GROUP BY flow_code, reason{by_topic}",
        conditions.sql()
    );
    let row = |row: &QueryResult| {
        let topic: Option<String> = if by_topic.is_empty() { None } else { row.try_get("", "topic")? };
        let rows: i64 = row.try_get("", "row_count")?;
        Ok((topic, (row.try_get("", "flow_code")?, row.try_get("", "reason")?), rows.unsigned_abs()))
    };
    let mut counts: BTreeMap<(Option<String>, String), u64> = BTreeMap::new();
    for (topic, key, rows) in read(&database.connection, READING, sql, conditions.values, row).await? {
        if topic.is_none_or(|topic| filter.matches_topic(&topic)) {
            *counts.entry(key).or_default() += rows;
        }
    }
    let count = |((flow_code, reason), rows)| LetterCount { flow_code, reason, rows };
    Ok(counts.into_iter().map(count).collect())
}

/// The id of the letter that precedes the newest `rows` letters below `before`, of one flow or of all. None if there are
/// no more than these.
pub async fn letter_before_newest(
    database: &Database,
    flow: Option<&str>,
    before: Option<i64>,
    rows: u64,
) -> Result<Option<i64>, StoreError> {
    let filter = LetterFilter { flow: flow.map(str::to_owned), ..LetterFilter::default() };
    let range = [before.unwrap_or(i64::MAX).into()];
    let conditions = LetterConditions::new(database.dialect, &filter).and("id < ?", range);
    let sql = format!(
        "SELECT id FROM dead_letters WHERE {} ORDER BY id DESC LIMIT 1 OFFSET {rows}",
        conditions.sql()
    );
    let id = |row: &QueryResult| row.try_get("", "id");
    Ok(read(&database.connection, READING, sql, conditions.values, id).await?.pop())
}

/// Counts the dead letters since `since_us` by reason, among the newest `limit` of all. Returns also how many of these
/// were counted.
pub async fn count_recent_letters(
    database: &Database,
    since_us: i64,
    limit: u64,
) -> Result<(Vec<LetterCount>, u64), StoreError> {
    let counts = count_newest(database, "reason", since_us, limit).await?;
    let counted = counts.iter().map(|(_, rows)| rows).sum();
    let count = |(reason, rows): (Option<String>, u64)| LetterCount {
        flow_code: None,
        reason: reason.unwrap_or_default(),
        rows,
    };
    Ok((counts.into_iter().map(count).collect(), counted))
}

/// As [`count_recent_letters`], by the code of the flow.
pub async fn count_recent_letters_by_flow(
    database: &Database,
    since_us: i64,
    limit: u64,
) -> Result<HashMap<String, u64>, StoreError> {
    let counts = count_newest(database, "flow_code", since_us, limit).await?;
    Ok(counts.into_iter().filter_map(|(code, rows)| Some((code?, rows))).collect())
}

/// Counts by a column. The newest rows are read by their ids, so a large table costs no more.
async fn count_newest(
    database: &Database,
    column: &str,
    since_us: i64,
    limit: u64,
) -> Result<Vec<(Option<String>, u64)>, StoreError> {
    let sql = format!(
        "SELECT {column} AS counted, COUNT(*) AS row_count FROM (SELECT {column}, occurred_at FROM dead_letters \
         ORDER BY id DESC LIMIT {limit}) AS newest WHERE occurred_at >= ? GROUP BY {column} ORDER BY {column}"
    );
    let row = |row: &QueryResult| {
        let rows: i64 = row.try_get("", "row_count")?;
        Ok((row.try_get("", "counted")?, rows.unsigned_abs()))
    };
    read(&database.connection, READING, sql, [database.dialect.instant(since_us)], row).await
}

/// Ids of selected dead letters in `(after, last]`, ascending, and the id to continue after. A page may be empty;
/// without a next id there are no more.
pub async fn select_letters(
    database: &Database,
    filter: &LetterFilter,
    (after, last): (i64, i64),
) -> Result<(Vec<i64>, Option<i64>), StoreError> {
    let range = [after.into(), last.into()];
    let conditions = LetterConditions::new(database.dialect, filter).and("id > ? AND id <= ?", range);
    let sql =
        format!("SELECT id, topic FROM dead_letters WHERE {} ORDER BY id LIMIT {PAGE}", conditions.sql());
    let row = |row: &QueryResult| Ok((row.try_get("", "id")?, row.try_get("", "topic")?));
    let page: Vec<(i64, String)> = read(&database.connection, READING, sql, conditions.values, row).await?;
    let next = page.last().map(|(id, _)| *id).filter(|_| page.len() == PAGE);
    let selected = page.into_iter().filter(|(_, topic)| filter.matches_topic(topic));
    Ok((selected.map(|(id, _)| id).collect(), next))
}

/// The highest id of a dead letter, 0 without any.
pub async fn last_letter(database: &Database) -> Result<i64, StoreError> {
    let sql = "SELECT COALESCE(MAX(id), 0) FROM dead_letters";
    database.number(Statement::from_string(database.dialect.backend(), sql), READING).await
}

/// Reads dead letters with their payloads, ascending by id. Missing ones are left out.
pub async fn read_letters(database: &Database, ids: &[i64]) -> Result<Vec<DeadLetter>, StoreError> {
    let mut letters = Vec::with_capacity(ids.len());
    for chunk in ids.chunks(CHUNK) {
        let sql = format!(
            "SELECT {LETTER_COLUMNS} FROM dead_letters WHERE id IN ({}) ORDER BY id",
            marks(chunk.len())
        );
        let ids = chunk.iter().map(|id| Value::from(*id));
        letters.extend(read(&database.connection, READING, sql, ids, dead_letter).await?);
    }
    Ok(letters)
}

/// Deletes dead letters, and returns how many there were.
pub async fn discard_letters(database: &Database, ids: &[i64]) -> Result<u64, StoreError> {
    let mut deleted = 0;
    for chunk in ids.chunks(CHUNK) {
        let sql = format!("DELETE FROM dead_letters WHERE id IN ({})", marks(chunk.len()));
        let ids = chunk.iter().map(|id| Value::from(*id));
        deleted += execute(&database.connection, "deleting dead letters", sql, ids).await?;
    }
    Ok(deleted)
}

/// The conditions of a search, with their parameters.
struct LetterConditions {
    all: Vec<String>,
    values: Vec<Value>,
}

impl LetterConditions {
    /// The conditions of the filter, without that on the topic.
    fn new(dialect: Dialect, filter: &LetterFilter) -> Self {
        let mut conditions = Self { all: vec!["1 = 1".to_owned()], values: Vec::new() };
        if let Some(flow) = &filter.flow {
            conditions = conditions.and("flow_code = ?", [flow.as_str().into()]);
        }
        if let Some(reason) = filter.reason {
            conditions = conditions.and("reason = ?", [reason.as_str().into()]);
        }
        if let Some(since) = filter.since_us {
            conditions = conditions.and("occurred_at >= ?", [dialect.instant(since)]);
        }
        if let Some(until) = filter.until_us {
            conditions = conditions.and("occurred_at < ?", [dialect.instant(until)]);
        }
        if let Some(above) = filter.above {
            conditions = conditions.and("id > ?", [above.into()]);
        }
        if let Some(last) = filter.up_to {
            conditions = conditions.and("id <= ?", [last.into()]);
        }
        if filter.is_unnumbered {
            conditions = conditions.and("message_id IS NULL", []);
        }
        if let Some(text) = &filter.text {
            let [topic, detail, payload] =
                ["topic", "detail", "payload"].map(|column| dialect.contains(column));
            let bytes = text.as_bytes().to_vec();
            let values = [text.as_str().into(), text.as_str().into(), bytes.into()];
            conditions = conditions.and(&format!("({topic} OR {detail} OR {payload})"), values);
        }
        conditions
    }

    fn and(mut self, condition: &str, values: impl IntoIterator<Item = Value>) -> Self {
        self.all.push(condition.to_owned());
        self.values.extend(values);
        self
    }

    fn sql(&self) -> String {
        self.all.join(" AND ")
    }
}

/// Reads how many rows the table has at most: from the lowest to the highest id, which costs no scan. Where
/// rows between them were deleted there are fewer.
///
/// ```no_run
/// # async fn example(database: &mqtt_gateway::store::Database) -> Result<(), mqtt_gateway::store::StoreError> {
/// let rows = mqtt_gateway::store::max_dead_letters(database).await?;
/// # Ok(())
/// # }
/// ```
pub async fn max_dead_letters(database: &Database) -> Result<u64, StoreError> {
    // Two subqueries: SQLite would scan the table for both ends in one.
    let range = "(SELECT MAX(id) FROM dead_letters) - (SELECT MIN(id) FROM dead_letters) + 1";
    let sql = format!("SELECT {} AS letters", database.dialect.integer(&format!("COALESCE({range}, 0)")));
    let query = Statement::from_string(database.dialect.backend(), sql);
    Ok(u64::try_from(database.number(query, COUNTING).await?).unwrap_or(0))
}

/// Counts the rows of the table if they may be more than `exact_up_to`, and returns that number if they are not.
/// Otherwise returns the upper bound of [`max_dead_letters`].
pub async fn count_dead_letters(database: &Database, exact_up_to: u64) -> Result<u64, StoreError> {
    let range = max_dead_letters(database).await?;
    if range <= exact_up_to {
        return Ok(range);
    }
    let some = format!("SELECT id FROM dead_letters LIMIT {}", exact_up_to.saturating_add(1));
    let sql = format!("SELECT {} FROM ({some}) AS first_rows", database.dialect.integer("COUNT(*)"));
    let query = Statement::from_string(database.dialect.backend(), sql);
    let counted = u64::try_from(database.number(query, COUNTING).await?).unwrap_or(0);
    Ok(if counted <= exact_up_to { counted } else { range })
}

/// The warning with its remedy, if there are more rows than `warn_rows`.
pub(crate) fn too_many_dead_letters(rows: u64, warn_rows: u64) -> Option<String> {
    (rows > warn_rows).then(|| {
        format!(
            "The table dead_letters has up to {rows} rows, more than DEAD_LETTERS_WARN_ROWS={warn_rows}: \
             mend what makes them, replay what is wanted (mqtt-gateway dead-letters), and discard the rest"
        )
    })
}
