//! The identity of the database, by which an inbox recognises its database.

use sea_orm::entity::prelude::*;

/// The only row of `database_identity`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "database_identity")]
pub struct Model {
    /// Always 1.
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: i64,
    /// 32 hexadecimal digits, chosen at random by the first gateway.
    #[sea_orm(column_type = "Char(Some(32))")]
    pub database_id: String,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
