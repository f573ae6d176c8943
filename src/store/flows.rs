//! Loads the flows.

use mqtt_gateway_entity::flows;
use sea_orm::sea_query::Expr;
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter, QueryOrder, QuerySelect};

use super::column_types::{OperatorTable, check_column_types};
use super::connect::Database;
use super::error::{StoreError, While};
use crate::domain::flow::Flow;
use crate::domain::flow_options::{FlowOptions, UnusableOptions};

/// The columns that are loaded; `payload_schema` and the counter are read when the row is locked.
type FlowRow = (i64, String, String, String, Option<String>);

/// Loads all enabled flows, in the order of their ids. A flow is enabled unless its `enabled` is NULL or 0.
///
/// ```no_run
/// # async fn example(database: &mqtt_gateway::store::Database) -> Result<(), mqtt_gateway::store::StoreError> {
/// for flow in mqtt_gateway::load_flows(database).await? {
///     println!("{} listens to {}", flow.code, flow.topic);
/// }
/// # Ok(())
/// # }
/// ```
pub async fn load_flows(database: &Database) -> Result<Vec<Flow>, StoreError> {
    const DOING: &str = "reading the flows";
    fail::fail_point!("flows-read", |_| Err(sea_orm::DbErr::Custom("injected".into())).while_doing(DOING));
    check_column_types(database, OperatorTable::Flows).await?;
    let rows: Vec<FlowRow> = flows::Entity::find()
        .select_only()
        .column_as(Expr::cust(database.dialect.wide("id")), "id")
        .columns([
            flows::Column::Code,
            flows::Column::Topic,
            flows::Column::Action,
            flows::Column::EndpointUrl,
        ])
        .filter(Expr::cust(database.dialect.is_set("enabled")))
        .order_by_asc(flows::Column::Id)
        .into_tuple()
        .all(&database.connection)
        .await
        .while_doing(DOING)?;
    let flow = |(id, code, topic, action, endpoint_url)| Flow { id, code, topic, action, endpoint_url };
    Ok(rows.into_iter().map(flow).collect())
}

/// The enabled flows whose options cannot be used, each by its code.
pub async fn unusable_options(database: &Database) -> Result<Vec<(String, UnusableOptions)>, StoreError> {
    let rows: Vec<(String, String, Option<String>)> = flows::Entity::find()
        .select_only()
        .columns([flows::Column::Code, flows::Column::Action])
        .column_as(Expr::cust(database.dialect.json_text("options")), "options")
        .filter(Expr::cust(database.dialect.is_set("enabled")))
        .filter(flows::Column::Options.is_not_null())
        .order_by_asc(flows::Column::Id)
        .into_tuple()
        .all(&database.connection)
        .await
        .while_doing("reading the options of the flows")?;
    let unusable = |(code, action, options): (String, String, Option<String>)| {
        FlowOptions::parse_for(&action, options.as_deref()).err().map(|error| (code, error))
    };
    Ok(rows.into_iter().filter_map(unusable).collect())
}
