//! Starts of gateways: which inbox directory ran when, and where its lanes stood when the next one took over.

use sea_orm::entity::prelude::*;

/// A row of `gateway_starts`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "gateway_starts")]
pub struct Model {
    /// Inbox: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// The start: 32 hexadecimal digits, which the inbox directory remembers.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub start_id: String,
    /// Rises with each start of an inbox.
    pub generation: i64,
    /// Name of the gateway at the broker.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub client_id: String,
    /// Host, directory and process, for people.
    #[sea_orm(column_type = "Text")]
    pub location: String,
    /// Which directory of which machine, so that a copy is told from it.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub place: String,
    /// The start that its directory had before: 32 hexadecimal digits.
    #[sea_orm(column_type = "Char(Some(32))", nullable)]
    pub parent_id: Option<String>,
    /// First offset that the start could issue.
    pub base: i64,
    /// Above the last record of its directory when it was registered.
    pub log_end: i64,
    /// `running`, `ended` (in order, with messages in the inbox) or `drained`.
    #[sea_orm(column_type = "String(StringLen::N(10))")]
    pub state: String,
    /// Raised by each heartbeat.
    pub beats: i64,
    /// When it started, UTC.
    pub started_at: DateTime,
    /// When it was heard of last, UTC by the database's clock.
    pub seen_at: DateTime,
    /// Where its lanes stood when the next start took over, as JSON; NULL for the last start of an inbox.
    #[sea_orm(column_type = "Text", nullable)]
    pub resume_at: Option<String>,
}

/// Nothing refers to anything: the tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
