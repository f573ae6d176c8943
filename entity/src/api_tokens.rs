//! Tokens of the API.

use sea_orm::entity::prelude::*;

/// A row of `api_tokens`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "api_tokens")]
pub struct Model {
    /// Unique name.
    #[sea_orm(primary_key, auto_increment = false, column_type = "String(StringLen::N(64))")]
    pub name: String,
    /// SHA-256 hash of the token: 64 hexadecimal digits.
    #[sea_orm(column_type = "Char(Some(64))")]
    pub token_hash: String,
    /// `read`, `operate` or `admin`.
    #[sea_orm(column_type = "String(StringLen::N(10))")]
    pub scope: String,
    /// Time of its creation, UTC by the database's clock.
    pub created_at: DateTime,
    /// Time from which it is refused, UTC by the database's clock; NULL for never.
    pub expires_at: Option<DateTime>,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
