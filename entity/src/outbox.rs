//! Messages that have a sequence number and wait for their delivery.

use sea_orm::entity::prelude::*;

/// A row of `outbox`. Its key is the position of the message in its inbox, so the key stays unique even if the counter
/// of a flow was set back.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox")]
pub struct Model {
    /// Inbox the message came through: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Its flow.
    #[sea_orm(primary_key, auto_increment = false)]
    pub flow_id: i64,
    /// Its offset in this inbox.
    #[sea_orm(primary_key, auto_increment = false)]
    pub inbox_offset: i64,
    /// Its sequence number within the flow.
    pub message_id: i64,
    /// `flows.code` at that time; for operators.
    #[sea_orm(column_type = "String(StringLen::N(100))", nullable)]
    pub flow_code: Option<String>,
    /// Its topic.
    #[sea_orm(column_type = "Text", nullable)]
    pub topic: Option<String>,
    /// URL of the flow at the time of numbering.
    #[sea_orm(column_type = "String(StringLen::N(500))")]
    pub url: String,
    /// Payload, byte for byte.
    #[sea_orm(column_type = "Blob")]
    pub payload: Vec<u8>,
    /// The process that delivers it, see `outbox_owners`.
    #[sea_orm(column_type = "Char(Some(32))")]
    pub owner: String,
    /// Number of failed attempts.
    pub attempts: i32,
    /// Time of the insert, UTC by the database's clock.
    pub created_at: DateTime,
    /// Earliest time of the next attempt, UTC by the database's clock.
    pub next_attempt_at: DateTime,
    /// Error of the last attempt.
    #[sea_orm(column_type = "Text", nullable)]
    pub last_error: Option<String>,
    /// The last failed attempts, a JSON array.
    #[sea_orm(column_type = "Text", nullable)]
    pub recent_attempts: Option<String>,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
