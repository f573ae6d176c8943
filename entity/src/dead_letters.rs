//! Messages that could not be processed, kept so that they can be replayed.

use sea_orm::entity::prelude::*;

/// A row of `dead_letters`: one message for one flow, or for none.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "dead_letters")]
pub struct Model {
    /// Key of the row.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// When it was given up, UTC.
    pub occurred_at: DateTime,
    /// When it entered the inbox, UTC.
    pub received_at: DateTime,
    /// Inbox it came through: 32 hexadecimal digits.
    #[sea_orm(column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Its offset in that inbox.
    pub inbox_offset: i64,
    /// Topic it was published to.
    #[sea_orm(column_type = "Text")]
    pub topic: String,
    /// Payload, or only its beginning: `payload_bytes` tells.
    #[sea_orm(column_type = "Blob")]
    pub payload: Vec<u8>,
    /// Length of the whole payload in bytes.
    pub payload_bytes: i64,
    /// SHA-256 of the whole payload in hexadecimal, where `payload` is only its beginning.
    #[sea_orm(column_type = "Char(Some(64))", nullable)]
    pub payload_sha256: Option<String>,
    /// Flow it failed for; NULL where it belongs to none.
    pub flow_id: Option<i64>,
    /// `flows.code` at that moment.
    #[sea_orm(column_type = "String(StringLen::N(100))", nullable)]
    pub flow_code: Option<String>,
    /// Its number within the flow, where it had one already.
    pub message_id: Option<i64>,
    /// One word for the cause, for machines.
    #[sea_orm(column_type = "String(StringLen::N(64))")]
    pub reason: String,
    /// The cause, for people.
    #[sea_orm(column_type = "Text", nullable)]
    pub detail: Option<String>,
}

/// Nothing refers to anything: the tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
