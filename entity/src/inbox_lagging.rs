//! Flows that their lane has gone on without, because their rows are locked elsewhere.

use sea_orm::entity::prelude::*;

/// A row of `inbox_lagging`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "inbox_lagging")]
pub struct Model {
    /// Inbox: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Lane of that inbox.
    #[sea_orm(primary_key, auto_increment = false)]
    pub lane: i32,
    /// `flows.id` of the flow.
    #[sea_orm(primary_key, auto_increment = false)]
    pub flow_id: i64,
    /// All records below this offset are done for the flow.
    pub next_offset: i64,
    /// When the lane went on without it, UTC; for people.
    pub since: DateTime,
}

/// Nothing refers to anything: the tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
