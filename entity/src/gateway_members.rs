//! Gateways that share the flows or the messages, with the state of their subscriptions.

use sea_orm::entity::prelude::*;

/// A row of `gateway_members`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "gateway_members")]
pub struct Model {
    /// The inbox of the gateway: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Its MQTT client id.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub client_id: String,
    /// Its `SHARED_GROUP`.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub shared_group: Option<String>,
    /// Its `SHARD_INDEX`.
    pub shard_index: Option<i32>,
    /// Its `SHARD_COUNT`.
    pub shard_count: Option<i32>,
    /// All its flows that existed at this time are subscribed.
    pub subscribed_at: Option<DateTime>,
    /// It holds flows of other gateways; a reader after this time finds them.
    pub handing_over_since: Option<DateTime>,
    /// Time of the last heartbeat, UTC by the database's clock.
    pub seen_at: DateTime,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
