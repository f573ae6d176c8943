//! The number of dead letters. The gateway deletes none, so an operator must.

use sea_orm::Statement;

use super::connect::Database;
use super::error::StoreError;

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
    const DOING: &str = "counting the dead letters";
    // Two subqueries: SQLite would scan the table for both ends in one.
    let range = "(SELECT MAX(id) FROM dead_letters) - (SELECT MIN(id) FROM dead_letters) + 1";
    let sql = format!("SELECT {} AS letters", database.dialect.integer(&format!("COALESCE({range}, 0)")));
    let query = Statement::from_string(database.dialect.backend(), sql);
    Ok(u64::try_from(database.number(query, DOING).await?).unwrap_or(0))
}

/// The warning with its remedy, if there are more rows than `warn_rows`.
pub(crate) fn too_many_dead_letters(rows: u64, warn_rows: u64) -> Option<String> {
    (rows > warn_rows).then(|| {
        format!(
            "The table dead_letters has up to {rows} rows, more than DEAD_LETTERS_WARN_ROWS={warn_rows}: \
             mend what makes them, publish again what is wanted, and delete the rest"
        )
    })
}
