//! Fields of messages that changed.

use actix_web::web::{Data, Path, ReqData, ServiceConfig};
use actix_web::{HttpRequest, get, post};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::ApiAnswer;
use super::body::{ApiBody, ApiText};
use super::page::{PageQuery, PageRequest};
use super::problem::ApiProblem;
use super::thread::ApiThread;
use super::versions::expected_version;
use crate::control::Caller;
use crate::control::view::{AcceptedDriftView, FlowDriftView};

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(list_drift).service(show_drift).service(accept_drift).service(dismiss_drift);
}

/// A page of flows with changed fields, in the order of their creation.
#[derive(Debug, Serialize, ToSchema)]
struct DriftPage {
    /// The flows, each with its changed fields.
    flows: Vec<FlowDriftView>,
    /// Path and query of the next page.
    next: Option<String>,
}

/// A field.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DriftedField {
    /// Its name.
    field: ApiText,
}

/// Lists flows whose messages have changed fields.
#[utoipa::path(
    tag = "drift",
    security(("token" = ["read"])),
    params(PageQuery),
    responses((status = 200, body = DriftPage)),
)]
#[get("/drift")]
pub(super) async fn list_drift(thread: Data<ApiThread>, page: PageRequest) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let (flows, last) = control.drifting_flows(page.after()?, page.limit).await?;
            let flows = flows.iter().map(FlowDriftView::of_changes).collect();
            Ok(ApiAnswer::new(&DriftPage { flows, next: page.next(last) }))
        })
        .await
}

/// Shows the fields of the messages of a flow, and how they changed.
#[utoipa::path(
    tag = "drift",
    security(("token" = ["read"])),
    params(("code" = String, Path, description = "Code of the flow.")),
    responses((status = 200, body = FlowDriftView)),
)]
#[get("/flows/{code}/drift")]
pub(super) async fn show_drift(thread: Data<ApiThread>, code: Path<String>) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| Ok(ApiAnswer::new(&FlowDriftView::new(&control.flow_drift(&code).await?))))
        .await
}

/// Accepts the change of a field: edits the schema of the flow as `accepting_schema` says. Replays no dead letters.
/// Refused if the flow has another version than `If-Match`.
#[utoipa::path(
    tag = "drift",
    security(("token" = ["admin"])),
    params(
        ("code" = String, Path, description = "Code of the flow."),
        ("If-Match" = Option<String>, Header, description = "Versions that the flow may have, from `ETag`."),
    ),
    request_body = DriftedField,
    responses((status = 200, body = AcceptedDriftView)),
)]
#[post("/flows/{code}/drift/accept")]
pub(super) async fn accept_drift(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    request: HttpRequest,
    code: Path<String>,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    let expected = expected_version(request.headers());
    thread
        .run_as(&caller, async move |control| {
            let DriftedField { field } = body.parse()?;
            let accepted = control.accept_drift(&code, &field.0, &expected).await?;
            Ok(ApiAnswer::new(&AcceptedDriftView::new(&accepted)))
        })
        .await
}

/// Shows the change of a field no longer. The schema of the flow stays. A change that the schema refuses is shown again
/// when it is seen again.
#[utoipa::path(
    tag = "drift",
    security(("token" = ["operate"])),
    params(("code" = String, Path, description = "Code of the flow.")),
    request_body = DriftedField,
    responses((status = 200, body = FlowDriftView)),
)]
#[post("/flows/{code}/drift/dismiss")]
pub(super) async fn dismiss_drift(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    code: Path<String>,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run_as(&caller, async move |control| {
            let DriftedField { field } = body.parse()?;
            Ok(ApiAnswer::new(&FlowDriftView::new(&control.dismiss_drift(&code, &field.0).await?)))
        })
        .await
}
