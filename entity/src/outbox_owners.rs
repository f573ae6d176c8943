//! Processes that deliver outbox rows, each with a lease.

use sea_orm::entity::prelude::*;

/// A row of `outbox_owners`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox_owners")]
pub struct Model {
    /// Process: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub owner: String,
    /// Its rows are free for others after this, UTC by the database's clock.
    pub lease_until: DateTime,
}

/// Nothing refers to anything: the tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
