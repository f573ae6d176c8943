//! Starts of gateways: the directory of each start, and the lane positions at the start of its successor.

use sea_orm::entity::prelude::*;

/// A row of `gateway_starts`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "gateway_starts")]
pub struct Model {
    /// The inbox: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub inbox_id: String,
    /// Id of the start, also stored in the inbox directory: 32 hexadecimal digits.
    #[sea_orm(primary_key, auto_increment = false, column_type = "Char(Some(32))")]
    pub start_id: String,
    /// Increases with each start of an inbox.
    pub generation: i64,
    /// MQTT client id of the gateway.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub client_id: String,
    /// Host, directory and process, for operators.
    #[sea_orm(column_type = "Text")]
    pub location: String,
    /// Identifies directory and machine, so that a copy is detected.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub place: String,
    /// The previous start of its directory: 32 hexadecimal digits.
    #[sea_orm(column_type = "Char(Some(32))", nullable)]
    pub parent_id: Option<String>,
    /// First offset that this start could assign.
    pub base: i64,
    /// End of the log in its directory at the time of registration.
    pub log_end: i64,
    /// `running`, `ended` (an orderly shutdown with messages in the inbox) or `drained`.
    #[sea_orm(column_type = "String(StringLen::N(10))")]
    pub state: String,
    /// Number of heartbeats.
    pub beats: i64,
    /// Time of the start, UTC.
    pub started_at: DateTime,
    /// Time of the last heartbeat, UTC by the database's clock.
    pub seen_at: DateTime,
    /// Lane positions at the start of its successor, as JSON; NULL for the last start of an inbox.
    #[sea_orm(column_type = "Text", nullable)]
    pub resume_at: Option<String>,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
