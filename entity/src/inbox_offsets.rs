//! How far each lane of each inbox has come: the fence of every batch.

use sea_orm::entity::prelude::*;

/// A row of `inbox_offsets`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "inbox_offsets")]
pub struct Model {
    /// Inbox: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Lane of that inbox.
    #[sea_orm(primary_key, auto_increment = false)]
    pub lane: i32,
    /// Raised by each worker that takes the lane over; what carries an older one is void.
    pub epoch: i64,
    /// All records of the lane below this offset are done.
    pub next_offset: i64,
    /// When the row was last written, UTC; for people.
    pub updated_at: Option<DateTime>,
}

/// Nothing refers to anything: the tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
