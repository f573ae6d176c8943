//! Flows.

use actix_web::web::{Data, Path, Query, ServiceConfig};
use actix_web::{HttpRequest, get};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::ApiAnswer;
use super::page::{PageQuery, next_link};
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
#[serde(deny_unknown_fields)]
struct FlowsQuery {
    /// Most rows of the page.
    #[param(minimum = 1, maximum = 1000, default = 100)]
    limit: Option<u16>,
    /// Begins after this place, the cursor in `next` of the page before.
    #[param(pattern = "^[A-Za-z0-9_-]+$", max_length = 200)]
    after: Option<String>,
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
    params(FlowsQuery),
    responses((status = 200, body = FlowsPage)),
)]
#[get("/flows")]
pub(super) async fn list_flows(
    thread: Data<ApiThread>,
    request: HttpRequest,
    query: Query<FlowsQuery>,
) -> Result<ApiAnswer, ApiProblem> {
    let FlowsQuery { limit, after, enabled, action, text } = query.into_inner();
    let page = PageQuery::new(limit, after);
    let (limit, after) = (page.limit()?, page.after()?);
    let (path, query) = (request.path().to_owned(), request.query_string().to_owned());
    let filter = FlowFilter { enabled, action, text };
    thread
        .run(async move |control| {
            let (flows, last) = control.flows_page(&filter, after, limit).await?;
            let flows = flows.iter().map(FlowView::new).collect();
            let next = last.map(|last| next_link(&path, &query, &last));
            Ok(ApiAnswer::new(&FlowsPage { flows, next }))
        })
        .await
}

/// Shows a flow. The header `ETag` has its version.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["read"])),
    params(("code" = String, Path, description = "Code of the flow.")),
    responses((status = 200, body = FlowDetailsView)),
)]
#[get("/flows/{code}")]
pub(super) async fn show_flow(thread: Data<ApiThread>, code: Path<String>) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let flow = control.flow(&code).await?;
            let waiting_posts = control.waiting_posts(&flow).await?;
            Ok(ApiAnswer::new(&FlowDetailsView { flow: FlowView::new(&flow), waiting_posts }))
        })
        .await
}
