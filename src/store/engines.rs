//! Tables whose storage engine has no transactions (`MyISAM`, Aria): a batch that is retried after a failure would
//! write its rows twice.

use std::collections::BTreeSet;

use mqtt_gateway_migration::{Step, steps};
use sea_orm::{ConnectionTrait, Statement};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::unsafe_table::UnsafeTable;

/// Fails with [`StoreError::NoTransactions`] when one of the gateway's tables has an engine without
/// transactions. Views have no engine and count as fine.
pub(super) async fn check_engines(database: &Database) -> Result<(), StoreError> {
    const DOING: &str = "reading the storage engines of the tables";
    if database.dialect != Dialect::MySql {
        return Ok(());
    }
    let ours: BTreeSet<&str> = steps(database.dialect.backend()).iter().map(Step::table).collect();
    let ours: Vec<String> = ours.into_iter().map(|name| format!("'{name}'")).collect();
    let sql = format!(
        "SELECT CAST(t.table_name AS CHAR) AS table_name, CAST(t.engine AS CHAR) AS engine \
         FROM information_schema.tables AS t \
         JOIN information_schema.engines AS e ON LOWER(e.engine) = LOWER(t.engine) \
         WHERE t.table_schema = DATABASE() AND t.table_name IN ({}) AND e.transactions = 'NO' \
         ORDER BY t.table_name",
        ours.join(", ")
    );
    let query = Statement::from_string(database.dialect.backend(), sql);
    let found = async {
        let rows = database.connection.query_all_raw(query).await?;
        let table = |row: &sea_orm::QueryResult| {
            Ok(UnsafeTable { table: row.try_get("", "table_name")?, engine: row.try_get("", "engine")? })
        };
        rows.iter().map(table).collect::<Result<Vec<_>, sea_orm::DbErr>>()
    };
    let tables = found.await.while_doing(DOING)?;
    if tables.is_empty() { Ok(()) } else { Err(StoreError::NoTransactions { tables }) }
}
