//! Position and epoch of each lane, the fence of every batch.

use sea_orm::entity::prelude::*;

/// A row of `inbox_offsets`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "inbox_offsets")]
pub struct Model {
    /// The inbox: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Lane of this inbox.
    #[sea_orm(primary_key, auto_increment = false)]
    pub lane: i32,
    /// Epoch of the lane, increased by each worker that opens it. A batch with an older epoch is rejected.
    pub epoch: i64,
    /// All records of the lane below this offset are processed.
    pub next_offset: i64,
    /// Time of the last write, UTC; for operators.
    pub updated_at: Option<DateTime>,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
