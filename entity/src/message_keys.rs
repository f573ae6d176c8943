//! Keys of messages that were numbered lately: what comes again with one of them is passed over.

use sea_orm::entity::prelude::*;

/// A row of `message_keys`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "message_keys")]
pub struct Model {
    /// Flow that it is a key of.
    #[sea_orm(primary_key, auto_increment = false)]
    pub flow_id: i64,
    /// First half of the SHA-256 of the key and of the place where the message has it.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Binary(16)")]
    pub key_hash: Vec<u8>,
    /// Number that the message got.
    pub message_id: i64,
    /// When the message entered its inbox, UTC by the gateway's clock: from here the time counts
    /// within which the key is known.
    pub received_at: DateTime,
    /// When the row was written, UTC by the database's clock: from here the time counts after which
    /// it is deleted.
    pub written_at: DateTime,
}

/// Nothing refers to anything: the tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
