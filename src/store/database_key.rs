//! A key of the database, for hashes that people see.

use sea_orm::ConnectionTrait;

use super::connect::Database;
use super::error::{StoreError, While};
use super::statement::statement;

/// A key that is known to this database alone, for hashes that give nothing away: its identity. Gives the database an
/// identity if it has none.
pub async fn database_key(database: &Database) -> Result<String, StoreError> {
    const DOING: &str = "reading the identity of the database";
    let backend = database.dialect.backend();
    for has_tried in [false, true] {
        let query = statement(backend, "SELECT database_id FROM database_identity WHERE id = 1", []);
        if let Some(row) = database.connection.query_one_raw(query).await.while_doing(DOING)? {
            return row.try_get("", "database_id").while_doing(DOING);
        }
        if !has_tried {
            let insert =
                database.dialect.insert_unless_there("database_identity (id, database_id)", "VALUES (1, ?)");
            let new = format!("{:032x}", rand::random::<u128>());
            database
                .connection
                .execute_raw(statement(backend, insert, [new.into()]))
                .await
                .while_doing(DOING)?;
        }
    }
    Ok(String::new())
}
