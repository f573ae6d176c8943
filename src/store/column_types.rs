//! Checks the types of the columns that people create: an error names a wrong type and the expected one.
//!
//! The types are read before the rows. `MySQL` would compare a text with a number, warn, and find nothing: a flow whose
//! `enabled` is a text would silently be disabled.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use sea_orm::{ConnectionTrait, FromQueryResult, Statement};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};

/// Time for which the types of the columns are taken as they were.
const TYPES_HOLD: Duration = Duration::from_secs(2);

/// A table whose rows people write, and its columns that are no texts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum OperatorTable {
    Flows,
    MqttServers,
}

/// The type that a column must have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ColumnKind {
    Integer,
    Flag,
}

#[derive(Debug, FromQueryResult)]
struct Declared {
    column_name: String,
    data_type: String,
    /// With length and sign.
    column_type: String,
}

impl OperatorTable {
    fn name(self) -> &'static str {
        match self {
            Self::Flows => "flows",
            Self::MqttServers => "mqtt_servers",
        }
    }

    fn columns(self) -> &'static [(&'static str, ColumnKind)] {
        match self {
            Self::Flows => &[
                ("id", ColumnKind::Integer),
                ("last_msg_id", ColumnKind::Integer),
                ("enabled", ColumnKind::Flag),
            ],
            Self::MqttServers => &[
                ("id", ColumnKind::Integer),
                ("port", ColumnKind::Integer),
                ("enabled", ColumnKind::Flag),
                ("is_default", ColumnKind::Flag),
                ("tls", ColumnKind::Flag),
            ],
        }
    }
}

impl ColumnKind {
    fn expected(self) -> &'static str {
        match self {
            Self::Integer => "an integer",
            Self::Flag => "a boolean or an integer",
        }
    }

    fn takes(self, data_type: &str) -> bool {
        const INTEGERS: [&str; 7] =
            ["tinyint", "smallint", "mediumint", "int", "integer", "bigint", "numeric"];
        const FLAGS: [&str; 2] = ["boolean", "bit"];
        let data_type = data_type.to_ascii_lowercase();
        INTEGERS.contains(&&*data_type) || (self == Self::Flag && FLAGS.contains(&&*data_type))
    }
}

/// Fails with [`StoreError::ColumnType`] if a column of the table has a type that cannot be read. A missing table has
/// no such column. On `SQLite` any column holds any value, so the driver finds out.
pub(super) async fn check_column_types(database: &Database, table: OperatorTable) -> Result<(), StoreError> {
    let Some(query) = declared(database.dialect, table) else { return Ok(()) };
    let found = async {
        let rows = database.connection.query_all_raw(query).await?;
        rows.iter().map(|row| Declared::from_query_result(row, "")).collect::<Result<Vec<_>, _>>()
    };
    for Declared { column_name, data_type, column_type } in
        found.await.while_doing("reading the types of the columns")?
    {
        let known = table.columns().iter().find(|(name, _)| column_name.eq_ignore_ascii_case(name));
        if let Some((column, kind)) = known.filter(|(_, kind)| !kind.takes(&data_type)) {
            let (table, found, expected) = (table.name(), column_type, kind.expected());
            return Err(StoreError::ColumnType { table, column, found, expected });
        }
    }
    Ok(())
}

/// As [`check_column_types`], unless that was done lately: for the server it is more work than a page of rows.
pub(super) async fn check_column_types_lately(
    database: &Database,
    table: OperatorTable,
) -> Result<(), StoreError> {
    let checked = || database.types_checked.lock().unwrap_or_else(PoisonError::into_inner);
    if checked().get(table.name()).is_none_or(|at| at.elapsed() >= TYPES_HOLD) {
        check_column_types(database, table).await?;
        checked().insert(table.name(), Instant::now());
    }
    Ok(())
}

fn declared(dialect: Dialect, table: OperatorTable) -> Option<Statement> {
    let select = match dialect {
        Dialect::MySql => {
            "SELECT CAST(column_name AS CHAR) AS column_name, CAST(data_type AS CHAR) AS data_type, \
             CAST(column_type AS CHAR) AS column_type \
             FROM information_schema.columns WHERE table_schema = DATABASE()"
        }
        Dialect::Postgres => {
            "SELECT CAST(column_name AS TEXT) AS column_name, CAST(data_type AS TEXT) AS data_type, \
             data_type || COALESCE('(' || character_maximum_length || ')', '') AS column_type \
             FROM information_schema.columns WHERE table_schema = current_schema()"
        }
        Dialect::Sqlite => return None,
    };
    let sql = format!("{select} AND table_name = '{}'", table.name());
    Some(Statement::from_string(dialect.backend(), sql))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_of_any_width_are_taken_and_texts_are_not() {
        for integer in ["tinyint", "SMALLINT", "mediumint", "int", "integer", "bigint", "numeric"] {
            assert!(ColumnKind::Integer.takes(integer) && ColumnKind::Flag.takes(integer), "{integer}");
        }
        for flag in ["boolean", "bit"] {
            assert!(ColumnKind::Flag.takes(flag) && !ColumnKind::Integer.takes(flag), "{flag}");
        }
        for other in ["varchar", "character varying", "enum", "json", "double", "datetime"] {
            assert!(!ColumnKind::Integer.takes(other) && !ColumnKind::Flag.takes(other), "{other}");
        }
    }
}
