//! The number that says whether flows or brokers were edited by a command.

use mqtt_gateway_entity::flow_revision::{Column, Entity};
use sea_orm::{ConnectionTrait, DbErr, EntityTrait, QuerySelect};

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::statement::statement;

/// The only row.
const ROW: i64 = 1;

/// Reads the revision; 0 before the first edit.
pub async fn flow_revision(database: &Database) -> Result<i64, StoreError> {
    let row = Entity::find_by_id(ROW).select_only().column(Column::Revision).into_tuple::<i64>();
    Ok(row.one(&database.connection).await.while_doing("reading the revision of the flows")?.unwrap_or(0))
}

/// Raises the revision, in the transaction of an edit.
pub(super) async fn raise_flow_revision(on: &impl ConnectionTrait, dialect: Dialect) -> Result<(), DbErr> {
    let first = dialect.insert_unless_there("flow_revision (id, revision)", "VALUES (?, 0)");
    on.execute_raw(statement(dialect.backend(), first, [ROW.into()])).await?;
    let raise = "UPDATE flow_revision SET revision = revision + 1 WHERE id = ?".to_owned();
    on.execute_raw(statement(dialect.backend(), raise, [ROW.into()])).await?;
    Ok(())
}
