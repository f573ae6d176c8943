//! Statements with parameters, written once for all databases.

use std::fmt::Write;

use sea_orm::{ConnectionTrait, DbBackend, DbErr, QueryResult, Statement, Value};

use super::error::{StoreError, While};

/// Reads rows. `doing` names the work in an error.
pub(super) async fn read<R>(
    on: &impl ConnectionTrait,
    doing: &'static str,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
    row: impl Fn(&QueryResult) -> Result<R, DbErr>,
) -> Result<Vec<R>, StoreError> {
    let query = statement(on.get_database_backend(), sql, values);
    let rows = on.query_all_raw(query).await.while_doing(doing)?;
    rows.iter().map(row).collect::<Result<_, _>>().while_doing(doing)
}

/// Executes a statement, and returns the number of affected rows.
pub(super) async fn execute(
    on: &impl ConnectionTrait,
    doing: &'static str,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Result<u64, StoreError> {
    let statement = statement(on.get_database_backend(), sql, values);
    Ok(on.execute_raw(statement).await.while_doing(doing)?.rows_affected())
}

/// The marks of a list of parameters.
pub(super) fn marks(count: usize) -> String {
    vec!["?"; count].join(", ")
}

/// A statement whose parameters are question marks, which occur nowhere else in it.
pub(super) fn statement(
    backend: DbBackend,
    sql: impl Into<String>,
    values: impl IntoIterator<Item = Value>,
) -> Statement {
    Statement::from_sql_and_values(backend, marked(backend, sql.into()), values)
}

/// The text with its parameters marked as the database expects them: `PostgreSQL` numbers them.
pub(super) fn marked(backend: DbBackend, sql: String) -> String {
    if backend != DbBackend::Postgres {
        return sql;
    }
    let mut parts = sql.split('?');
    let mut numbered = String::with_capacity(sql.len() * 2);
    numbered.push_str(parts.next().unwrap_or_default());
    for (number, part) in (1..).zip(parts) {
        // Writing to a string cannot fail.
        let _ = write!(numbered, "${number}{part}");
    }
    numbered
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_postgresql_numbers_its_parameters() {
        let sql = "UPDATE t SET a = ? WHERE b IN (?, ?)";
        assert_eq!(marked(DbBackend::MySql, sql.into()), sql);
        assert_eq!(marked(DbBackend::Sqlite, sql.into()), sql);
        assert_eq!(marked(DbBackend::Postgres, sql.into()), "UPDATE t SET a = $1 WHERE b IN ($2, $3)");
    }
}
