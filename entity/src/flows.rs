//! Flows: a topic filter each, and the action on its messages.

use sea_orm::entity::prelude::*;

/// A row of `flows`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "flows")]
pub struct Model {
    /// Key of the flow.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Unique name of the flow, repeated in `data.flow_code`.
    #[sea_orm(column_type = "String(StringLen::N(100))", unique)]
    pub code: String,
    /// Description for operators.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub description: String,
    /// MQTT topic filter.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub topic: String,
    /// `STORE_DB` or `POST_ENDPOINT`.
    #[sea_orm(column_type = "String(StringLen::N(30))")]
    pub action: String,
    /// Schema of the payload. A value that is not JSON fails to decode; a tolerant reader selects the column as text.
    pub payload_schema: Json,
    /// URL of the endpoint of a `POST_ENDPOINT` flow.
    #[sea_orm(column_type = "String(StringLen::N(500))", nullable)]
    pub endpoint_url: Option<String>,
    /// Sequence number of the last message; NULL counts as 0.
    pub last_msg_id: Option<i64>,
    /// NULL counts as not enabled.
    pub enabled: Option<bool>,
    /// Location of the message key: a JSON pointer or `property:NAME`; NULL for none.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub message_key: Option<String>,
    /// Options that have no column of their own; NULL for the defaults.
    pub options: Option<Json>,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
