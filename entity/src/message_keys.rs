//! Keys of recent messages. A message with a known key is a duplicate.

use sea_orm::entity::prelude::*;

/// A row of `message_keys`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "message_keys")]
pub struct Model {
    /// The flow of the message.
    #[sea_orm(primary_key, auto_increment = false)]
    pub flow_id: i64,
    /// First half of the SHA-256 of the key and its location in the message.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Binary(16)")]
    pub key_hash: Vec<u8>,
    /// Sequence number of the message.
    pub message_id: i64,
    /// Time at which the message entered its inbox, UTC by the gateway's clock. `MESSAGE_KEY_SECONDS` begins here.
    pub received_at: DateTime,
    /// Time of the insert, UTC by the database's clock. The row is deleted a fixed time later.
    pub written_at: DateTime,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
