//! Messages that could not be processed, kept for a replay.

use sea_orm::entity::prelude::*;

/// A row of `dead_letters`: a message that failed for one flow, or before it reached a flow.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "dead_letters")]
pub struct Model {
    /// Key of the row.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Time of the rejection, UTC.
    pub occurred_at: DateTime,
    /// Time at which it entered the inbox, UTC.
    pub received_at: DateTime,
    /// Inbox that received it: 32 hexadecimal digits.
    #[sea_orm(column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Its offset in this inbox.
    pub inbox_offset: i64,
    /// Its topic.
    #[sea_orm(column_type = "Text")]
    pub topic: String,
    /// The payload. It is only a beginning if `payload_bytes` is larger.
    #[sea_orm(column_type = "Blob")]
    pub payload: Vec<u8>,
    /// Length of the whole payload in bytes.
    pub payload_bytes: i64,
    /// SHA-256 of the whole payload in hexadecimal digits, if `payload` is only its beginning.
    #[sea_orm(column_type = "Char(Some(64))", nullable)]
    pub payload_sha256: Option<String>,
    /// The flow for which it failed; NULL if it failed before it reached a flow.
    pub flow_id: Option<i64>,
    /// `flows.code` at that time.
    #[sea_orm(column_type = "String(StringLen::N(100))", nullable)]
    pub flow_code: Option<String>,
    /// Its sequence number within the flow, if it had one.
    pub message_id: Option<i64>,
    /// The reason, for programs.
    #[sea_orm(column_type = "String(StringLen::N(64))")]
    pub reason: String,
    /// Description of the reason, for operators.
    #[sea_orm(column_type = "Text", nullable)]
    pub detail: Option<String>,
    /// The last failed attempts to post it, a JSON array.
    #[sea_orm(column_type = "Text", nullable)]
    pub recent_attempts: Option<String>,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
