//! Gateways that divide the flows or the messages among themselves, and what each has subscribed.

use sea_orm::entity::prelude::*;

/// A row of `gateway_members`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "gateway_members")]
pub struct Model {
    /// Its inbox: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Its name at the broker.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub client_id: String,
    /// The group of shared subscriptions, of a member of one.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub shared_group: Option<String>,
    /// Which shard, of one that takes a shard.
    pub shard_index: Option<i32>,
    /// Of how many.
    pub shard_count: Option<i32>,
    /// All flows that fall to it and were there at this moment are subscribed.
    pub subscribed_at: Option<DateTime>,
    /// It holds flows for others; who looks after this moment finds them.
    pub handing_over_since: Option<DateTime>,
    /// When it was heard of last, UTC by the database's clock.
    pub seen_at: DateTime,
}

/// Nothing refers to anything: the tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
