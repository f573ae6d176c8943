//! The fields that the messages of each flow had.

use sea_orm::entity::prelude::*;

/// A row of `flow_fields`: the fields of one flow.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "flow_fields")]
pub struct Model {
    /// The flow.
    #[sea_orm(primary_key, auto_increment = false)]
    pub flow_id: i64,
    /// Number of fields with changes that are not accepted.
    pub changes: i64,
    /// The fields as JSON: kinds of values with counts, times and topics.
    pub fields: String,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
