//! Whether the gateway can work with the existing tables.

use super::column_types::{OperatorTable, check_column_types};
use super::connect::Database;
use super::engines::check_engines;
use super::error::StoreError;

/// Checks the storage engines of all tables and the types of the columns that people create. An operator has to fix any
/// finding. A missing table is fine: [`migrate`](super::migrate()) creates it.
///
/// ```no_run
/// # async fn example(database: &mqtt_gateway::store::Database) -> Result<(), mqtt_gateway::store::StoreError> {
/// mqtt_gateway::store::check_tables(database).await
/// # }
/// ```
///
/// # Errors
/// [`StoreError::NoTransactions`], [`StoreError::ColumnType`], or a failure of the database.
pub async fn check_tables(database: &Database) -> Result<(), StoreError> {
    check_engines(database).await?;
    check_column_types(database, OperatorTable::Flows).await?;
    check_column_types(database, OperatorTable::MqttServers).await
}
