//! The clock of the database, which all processes share.

use chrono::NaiveDateTime;
use sea_orm::{FromQueryResult, Statement};

use super::connect::Database;
use super::error::{StoreError, While};

#[derive(Debug, FromQueryResult)]
struct Now {
    at: NaiveDateTime,
}

/// Time of the database: microseconds since 1970, UTC.
pub(super) async fn database_time(database: &Database) -> Result<i64, StoreError> {
    const DOING: &str = "reading the time";
    let sql = format!("SELECT {} AS at", database.dialect.now());
    let statement = Statement::from_string(database.dialect.backend(), sql);
    let row = Now::find_by_statement(statement).one(&database.connection).await.while_doing(DOING)?;
    Ok(row.map_or(0, |row| row.at.and_utc().timestamp_micros()))
}
