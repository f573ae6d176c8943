//! Edits of flows and brokers by commands and the API.

use sea_orm::entity::prelude::*;

/// A row of `edit_history`: one edit of one row.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "edit_history")]
pub struct Model {
    /// Number of the edit, assigned by the database.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Time of the edit, UTC by the database's clock.
    pub edited_at: DateTime,
    /// Who made the edit.
    pub edited_by: String,
    /// `flow` or `server`.
    pub kind: String,
    /// Code of the flow, or id of the broker.
    pub name: String,
    /// Names of the changed columns, separated by commas.
    pub changed: String,
    /// The columns before the edit as JSON, secrets masked; NULL for a new row.
    pub old_row: Option<String>,
    /// The columns after the edit as JSON, secrets masked; NULL for a removed row.
    pub new_row: Option<String>,
    /// The first sequence number that the edit of a flow concerns.
    pub counts_from: Option<i64>,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
