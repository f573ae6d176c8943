//! The destinations of waiting messages, by the present rows of their flows.

use std::collections::HashMap;

use mqtt_gateway_entity::flows::{Column, Entity};
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, FromQueryResult, QueryFilter, QuerySelect};

use super::Outbox;
use crate::domain::flow::endpoint_url;
use crate::domain::flow_options::FlowOptions;
use crate::domain::message::FlowId;
use crate::domain::outbox_work::{Destination, FlowDestination, HoldReason};
use crate::domain::posting::destination::PostDestination;
use crate::store::error::{StoreError, While};

/// Most ids of one statement.
const CHUNK_IDS: usize = 512;

#[derive(Debug, FromQueryResult)]
struct DestinationRow {
    id: i64,
    code: String,
    action: String,
    endpoint_url: Option<String>,
    options: Option<String>,
    is_enabled: Option<bool>,
}

impl Outbox {
    /// Reads the destinations of the messages of `flows`. A flow without a row was deleted: the row existed, and was
    /// locked, when its messages were put into the outbox.
    pub async fn destinations(&self, flows: &[FlowId]) -> Result<Vec<FlowDestination>, StoreError> {
        let mut found: HashMap<FlowId, DestinationRow> = HashMap::new();
        for ids in flows.chunks(CHUNK_IDS) {
            found.extend(self.flow_rows(ids).await?.into_iter().map(|row| (row.id, row)));
        }
        let deleted = |flow| FlowDestination { flow, code: String::new(), destination: Destination::Deleted };
        let destination =
            |flow: &FlowId| found.remove(flow).map_or_else(|| deleted(*flow), DestinationRow::destination);
        Ok(flows.iter().map(destination).collect())
    }

    async fn flow_rows(&self, ids: &[FlowId]) -> Result<Vec<DestinationRow>, StoreError> {
        let dialect = self.database.dialect;
        Entity::find()
            .select_only()
            .column_as(Expr::cust(dialect.wide("id")), "id")
            .columns([Column::Code, Column::Action, Column::EndpointUrl])
            .column_as(Expr::cust(dialect.json_text("options")), "options")
            .column_as(Expr::cust(dialect.flag("enabled")), "is_enabled")
            .filter(Column::Id.is_in(ids.iter().copied()))
            .into_model::<DestinationRow>()
            .all(&self.database.connection)
            .await
            .while_doing("reading the destinations of posts")
    }
}

impl DestinationRow {
    fn destination(self) -> FlowDestination {
        let destination = match self.endpoint() {
            Ok(destination) => Destination::Url(destination),
            Err(reason) => Destination::OnHold(reason),
        };
        FlowDestination { flow: self.id, code: self.code, destination }
    }

    fn endpoint(&self) -> Result<PostDestination, HoldReason> {
        if !self.is_enabled.unwrap_or(false) {
            return Err(HoldReason::Disabled);
        }
        let url = endpoint_url(self.endpoint_url.as_deref()).map_err(HoldReason::Url)?;
        let options =
            FlowOptions::parse_for(&self.action, self.options.as_deref()).map_err(HoldReason::Options)?;
        Ok(PostDestination { url: url.as_str().into(), options: options.delivery() })
    }
}
