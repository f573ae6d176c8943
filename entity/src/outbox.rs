//! Messages that are numbered and not yet delivered to their endpoint.

use sea_orm::entity::prelude::*;

/// A row of `outbox`. Its key is the place of the message in its inbox, so a flow whose counter
/// was set back cannot meet its own older messages here.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox")]
pub struct Model {
    /// Inbox the message came through: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Flow it belongs to.
    #[sea_orm(primary_key, auto_increment = false)]
    pub flow_id: i64,
    /// Its offset in that inbox.
    #[sea_orm(primary_key, auto_increment = false)]
    pub inbox_offset: i64,
    /// Its number within the flow.
    pub message_id: i64,
    /// `flows.code` at that moment; for people.
    #[sea_orm(column_type = "String(StringLen::N(100))", nullable)]
    pub flow_code: Option<String>,
    /// Topic it was published to.
    #[sea_orm(column_type = "Text", nullable)]
    pub topic: Option<String>,
    /// Where to post it: the URL of the flow when the message was numbered.
    #[sea_orm(column_type = "String(StringLen::N(500))")]
    pub url: String,
    /// Payload, byte for byte.
    #[sea_orm(column_type = "Blob")]
    pub payload: Vec<u8>,
    /// Process that delivers it; see `outbox_owners`.
    #[sea_orm(column_type = "Char(Some(32))")]
    pub owner: String,
    /// Posts that failed so far.
    pub attempts: i32,
    /// When the row was written, UTC by the database's clock.
    pub created_at: DateTime,
    /// Not to be tried before, UTC by the database's clock.
    pub next_attempt_at: DateTime,
    /// Why the last post failed.
    #[sea_orm(column_type = "Text", nullable)]
    pub last_error: Option<String>,
}

/// Nothing refers to anything: the tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
