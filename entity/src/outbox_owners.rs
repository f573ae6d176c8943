//! Leases of the processes that deliver outbox rows.

use sea_orm::entity::prelude::*;

/// A row of `outbox_owners`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox_owners")]
pub struct Model {
    /// Id of the process: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub owner: String,
    /// End of the lease, UTC by the database's clock. Other processes may then take its rows.
    pub lease_until: DateTime,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
