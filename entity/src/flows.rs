//! What to do with the messages of a topic filter.

use sea_orm::entity::prelude::*;

/// A row of `flows`.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "flows")]
pub struct Model {
    /// Key of the flow.
    #[sea_orm(primary_key)]
    pub id: i64,
    /// Name of the flow, as `data.flow_code` repeats it.
    #[sea_orm(column_type = "String(StringLen::N(100))", unique)]
    pub code: String,
    /// For people.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub description: String,
    /// MQTT topic filter.
    #[sea_orm(column_type = "String(StringLen::N(255))")]
    pub topic: String,
    /// `STORE_DB` or `POST_ENDPOINT`.
    #[sea_orm(column_type = "String(StringLen::N(30))")]
    pub action: String,
    /// Fields a payload must have, with their types. What is not JSON fails to decode here: where
    /// that must not stop the reader, select the column as text instead.
    pub payload_schema: Json,
    /// Where `POST_ENDPOINT` posts to.
    #[sea_orm(column_type = "String(StringLen::N(500))", nullable)]
    pub endpoint_url: Option<String>,
    /// Number of the last message; NULL counts as 0.
    pub last_msg_id: Option<i64>,
    /// NULL counts as not enabled.
    pub enabled: Option<bool>,
    /// Where a message has the key by which its repetition is recognised: a JSON pointer or
    /// `property:NAME`; NULL for nowhere.
    #[sea_orm(column_type = "String(StringLen::N(255))", nullable)]
    pub message_key: Option<String>,
}

/// Nothing refers to anything: the tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
