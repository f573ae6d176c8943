//! Lagging flows: their rows were locked, and their lanes continued without them.

use sea_orm::entity::prelude::*;

/// A row of `inbox_lagging`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "inbox_lagging")]
pub struct Model {
    /// The inbox: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Lane of this inbox.
    #[sea_orm(primary_key, auto_increment = false)]
    pub lane: i32,
    /// `flows.id` of the flow.
    #[sea_orm(primary_key, auto_increment = false)]
    pub flow_id: i64,
    /// All records below this offset are processed for the flow.
    pub next_offset: i64,
    /// Time at which the lane continued without it, UTC; for operators.
    pub since: DateTime,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
