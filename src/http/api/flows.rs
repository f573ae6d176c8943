//! Flows.

use actix_web::get;
use actix_web::web::{Data, Path, ServiceConfig};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::ApiAnswer;
use super::page::{ApiQuery, PageQuery, PageRequest};
use super::problem::ApiProblem;
use super::thread::ApiThread;
use crate::control::FlowFilter;
use crate::control::view::{FlowDetailsView, FlowView};

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(list_flows).service(show_flow);
}

/// Which flows to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct FlowsQuery {
    /// Only enabled or only disabled flows.
    enabled: Option<bool>,
    /// Only flows with this action.
    action: Option<String>,
    /// Only flows with this text in code, description or topic.
    text: Option<String>,
}

/// A page of flows, in the order of their creation.
#[derive(Debug, Serialize, ToSchema)]
struct FlowsPage {
    flows: Vec<FlowView>,
    /// Path and query of the next page.
    next: Option<String>,
}

/// Lists flows.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["read"])),
    params(PageQuery, FlowsQuery),
    responses((status = 200, body = FlowsPage)),
)]
#[get("/flows")]
pub(super) async fn list_flows(
    thread: Data<ApiThread>,
    page: PageRequest,
    ApiQuery(query): ApiQuery<FlowsQuery>,
) -> Result<ApiAnswer, ApiProblem> {
    let FlowsQuery { enabled, action, text } = query;
    let filter = FlowFilter { enabled, action, text, ..FlowFilter::default() };
    thread
        .run(async move |control| {
            let (flows, last) = control.flows_page(&filter, page.after()?, page.limit).await?;
            let flows = flows.iter().map(FlowView::new).collect();
            Ok(ApiAnswer::new(&FlowsPage { flows, next: page.next(last) }))
        })
        .await
}

/// Shows a flow. The header `ETag` has its version.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["read"])),
    params(("code" = String, Path, description = "Code of the flow.")),
    responses((status = 200, body = FlowDetailsView, headers(("ETag" = String, description = "Its version.")))),
)]
#[get("/flows/{code}")]
pub(super) async fn show_flow(thread: Data<ApiThread>, code: Path<String>) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let (flow, waiting_posts) = control.flow_with_posts(&code).await?;
            let version = control.version(&flow).await?;
            let shown = FlowDetailsView { flow: FlowView::new(&flow), waiting_posts };
            Ok(ApiAnswer::new(&shown).with_version(&version))
        })
        .await
}
