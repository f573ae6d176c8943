//! Pauses of flows whose messages wait for their delivery.

use sea_orm::entity::prelude::*;

/// A row of `outbox_pauses`: the last pause of a flow that has waiting messages.
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "outbox_pauses")]
pub struct Model {
    /// The flow.
    #[sea_orm(primary_key, auto_increment = false)]
    pub flow_id: i64,
    /// Start of the pause, UTC by the database's clock.
    pub paused_at: DateTime,
    /// End of the pause, UTC by the database's clock; NULL while it lasts.
    pub resumed_at: Option<DateTime>,
}

/// The tables have no foreign keys.
#[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
pub enum Relation {}

impl ActiveModelBehavior for ActiveModel {}
