//! Attributes of stored messages.

use sea_orm::entity::prelude::*;

/// A row of `data`. All rows of a message share `flow_code`, `last_msg_id` and `received_at`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "data")]
pub struct Model {
    /// Key of the row, unrelated to the message.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Time at which the message entered the inbox, UTC.
    pub received_at: DateTime,
    /// `flows.code` of the flow that stored it.
    #[sea_orm(column_type = "String(StringLen::N(100))", nullable)]
    pub flow_code: Option<String>,
    /// Name of the attribute in the payload.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub attribute_name: Option<String>,
    /// Its value, as text.
    #[sea_orm(column_type = "Text", nullable)]
    pub attribute_value: Option<String>,
    /// Sequence number of the message within its flow.
    pub last_msg_id: Option<i64>,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
