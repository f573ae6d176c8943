//! The limits of the database, read from the live schema: tables differ from one site to the next.

use mqtt_gateway_entity::{data, flows};
use sea_orm::{ConnectionTrait, Statement};

use super::columns::{LiveColumn, live_columns, of_data, of_flows};
use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
pub use crate::domain::processing::StoreLimits;

/// Bytes of one statement if the database sets no limit: `SQLite`'s default for the longest text.
const SQLITE_MAX_STATEMENT_BYTES: usize = 1_000_000_000;

/// `PostgreSQL` accepts up to 1 GiB, and holds it in memory several times. A quarter of this is more than any
/// reasonable payload.
const POSTGRES_MAX_STATEMENT_BYTES: usize = 256 << 20;

/// Characters of an attribute's name if the column declares none.
const DEFAULT_NAME_CHARS: usize = 255;

/// Reads the limits. They change when someone alters the tables or the server's settings, so they are worth reading
/// again after an outage.
pub async fn load_limits(database: &Database) -> Result<StoreLimits, StoreError> {
    let dialect = database.dialect;
    let columns = live_columns(database, &database.connection)
        .await
        .while_doing("reading the schema of data and flows")?;
    let max_of = |column: Option<&LiveColumn>| column.map_or(i64::MAX, |live| live.max_integer(dialect));
    let name = of_data(&columns, data::Column::AttributeName);
    let value = of_data(&columns, data::Column::AttributeValue);
    Ok(StoreLimits {
        max_packet_bytes: max_packet_bytes(database).await?,
        attribute_name_chars: name.and_then(LiveColumn::declared_length).unwrap_or(DEFAULT_NAME_CHARS),
        attribute_value_bytes: value.and_then(bytes_of_utf8),
        takes_nul: dialect != Dialect::Postgres,
        max_message_id: max_of(of_data(&columns, data::Column::LastMsgId))
            .min(max_of(of_flows(&columns, flows::Column::LastMsgId))),
        max_data_id: max_of(of_data(&columns, data::Column::Id)),
    })
}

/// In other character sets than UTF-8 a text has another number of bytes.
fn bytes_of_utf8(column: &LiveColumn) -> Option<usize> {
    let is_utf8 = column.character_set.as_deref().is_some_and(|name| name.starts_with("utf8"));
    column.octets.filter(|_| is_utf8).and_then(|octets| usize::try_from(octets).ok())
}

/// Bytes of the largest statement, for new sessions.
pub(super) async fn max_packet_bytes(database: &Database) -> Result<usize, StoreError> {
    match database.dialect {
        Dialect::MySql => {}
        Dialect::Postgres => return Ok(POSTGRES_MAX_STATEMENT_BYTES),
        Dialect::Sqlite => return Ok(SQLITE_MAX_STATEMENT_BYTES),
    }
    let sql = "SELECT CAST(@@max_allowed_packet AS SIGNED)";
    let query = Statement::from_string(database.dialect.backend(), sql);
    let answer = async {
        let row = database.connection.query_one_raw(query).await?;
        row.map(|row| row.try_get_by_index::<i64>(0)).transpose()
    };
    let answer = answer.await.while_doing("reading max_allowed_packet")?;
    Ok(answer.and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(SQLITE_MAX_STATEMENT_BYTES))
}
