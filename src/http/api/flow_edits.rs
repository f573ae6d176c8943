//! Edits of flows, their history, and their rehearsal.

use actix_web::web::{Data, Path, ReqData, ServiceConfig};
use actix_web::{HttpRequest, delete, get, patch, post};
use serde::Serialize;
use utoipa::ToSchema;

use super::answer::ApiAnswer;
use super::body::{ApiBody, MemberObject};
use super::flow_bodies::{FlowPatch, FlowTestBody, NewFlowBody, Rollback};
use super::history::EditHistoryPage;
use super::page::{PageQuery, PageRequest, segment};
use super::problem::ApiProblem;
use super::thread::ApiThread;
use super::versions::expected_version;
use crate::control::view::{EditedFlowView, FlowVerdictView, RemovedFlowView};
use crate::control::{Caller, ControlError, EditPreview, FlowEdit, HistoryEntryView, Rehearsal, TestMessage};
use crate::domain::edit_history::EditedKind;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(add_flow)
        .service(edit_flow)
        .service(remove_flow)
        .service(enable_flow)
        .service(disable_flow)
        .service(validate_flow)
        .service(test_flow)
        .service(preview_edit)
        .service(list_flow_history)
        .service(roll_back_flow)
        .service(touch);
}

/// Adds a flow. Refused if it cannot work.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["admin"])),
    request_body = NewFlowBody,
    responses((status = 201, body = EditedFlowView)),
)]
#[post("/flows")]
pub(super) async fn add_flow(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run_as(&caller, async move |control| {
            let flow: NewFlowBody = body.parse()?;
            let (code, last_msg_id) = (flow.code.0.clone(), flow.last_msg_id.as_ref().map(|last| last.0));
            let added = control.add_flow(&code, &flow.edit(), last_msg_id).await?;
            let location = format!("/api/v1/flows/{}", segment(&code));
            Ok(ApiAnswer::created(location, &EditedFlowView::new(&added)))
        })
        .await
}

/// Changes columns of a flow. Refused if the flow could not work afterwards, or has another version than `If-Match`.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["admin"])),
    params(
        ("code" = String, Path, description = "Code of the flow."),
        ("If-Match" = Option<String>, Header, description = "Versions that the flow may have, from `ETag`."),
    ),
    request_body = FlowPatch,
    responses((status = 200, body = EditedFlowView, headers(("ETag" = String, description = "Its new version.")))),
)]
#[patch("/flows/{code}")]
pub(super) async fn edit_flow(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    request: HttpRequest,
    code: Path<String>,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    let expected = expected_version(request.headers());
    thread
        .run_as(&caller, async move |control| {
            let edit = body.parse::<FlowPatch>()?.edit();
            let (edited, version) = control.edit_version(&code, &edit, &expected).await?;
            Ok(ApiAnswer::new(&EditedFlowView::new(&edited)).with_version(&version))
        })
        .await
}

/// Removes a flow. Its stored messages stay, and its waiting posts become dead letters.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["admin"])),
    params(
        ("code" = String, Path, description = "Code of the flow."),
        ("If-Match" = Option<String>, Header, description = "Versions that the flow may have, from `ETag`."),
    ),
    responses((status = 200, body = RemovedFlowView)),
)]
#[delete("/flows/{code}")]
pub(super) async fn remove_flow(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    request: HttpRequest,
    code: Path<String>,
) -> Result<ApiAnswer, ApiProblem> {
    let expected = expected_version(request.headers());
    thread
        .run_as(&caller, async move |control| {
            let (flow, waiting_posts) = control.flow_with_posts(&code).await?;
            control.check_version(&flow, &expected).await?;
            control.remove_flows(std::slice::from_ref(&flow)).await?;
            let (code, last_msg_id) = (flow.definition.code, flow.last_msg_id);
            Ok(ApiAnswer::new(&RemovedFlowView { code, last_msg_id, waiting_posts }))
        })
        .await
}

/// Enables a flow. Refused if it cannot work.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["operate"])),
    params(("code" = String, Path, description = "Code of the flow.")),
    responses((status = 200, body = EditedFlowView)),
)]
#[post("/flows/{code}/enable")]
pub(super) async fn enable_flow(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    code: Path<String>,
) -> Result<ApiAnswer, ApiProblem> {
    set_enabled(&thread, &caller, code.into_inner(), true).await
}

/// Disables a flow. Messages that wait in the inbox become dead letters, and posts wait.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["operate"])),
    params(("code" = String, Path, description = "Code of the flow.")),
    responses((status = 200, body = EditedFlowView)),
)]
#[post("/flows/{code}/disable")]
pub(super) async fn disable_flow(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    code: Path<String>,
) -> Result<ApiAnswer, ApiProblem> {
    set_enabled(&thread, &caller, code.into_inner(), false).await
}

async fn set_enabled(
    thread: &ApiThread,
    caller: &Caller,
    code: String,
    enabled: bool,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run_as(caller, async move |control| {
            let edit = FlowEdit { enabled: Some(enabled), ..FlowEdit::default() };
            let edited = control.edit_flows(&[code], &edit).await?;
            edited
                .first()
                .map(|edited| ApiAnswer::new(&EditedFlowView::new(edited)))
                .ok_or_else(ApiProblem::internal)
        })
        .await
}

/// Checks a flow as it is.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["read"])),
    params(("code" = String, Path, description = "Code of the flow.")),
    responses((status = 200, body = FlowVerdictView)),
)]
#[post("/flows/{code}/validate")]
pub(super) async fn validate_flow(
    thread: Data<ApiThread>,
    code: Path<String>,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let checked = control.check_flows(&[code.into_inner()]).await?;
            let verdict = checked.first().map(|checked| ApiAnswer::new(&FlowVerdictView::new(checked)));
            verdict.ok_or_else(ApiProblem::internal)
        })
        .await
}

/// Rehearses a message: predicts its outcome in the flow, as it is or as a draft. Nothing is stored, posted or
/// numbered.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["operate"])),
    params(("code" = String, Path, description = "Code of the flow.")),
    request_body = FlowTestBody,
    responses((status = 200, body = Rehearsal)),
)]
#[post("/flows/{code}/test")]
pub(super) async fn test_flow(
    thread: Data<ApiThread>,
    code: Path<String>,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let FlowTestBody { topic, payload, last, draft, new } = body.parse()?;
            let draft = draft.map(|MemberObject(draft)| draft.edit()).unwrap_or_default();
            let message = if last == Some(true) {
                if topic.is_some() || payload.is_some() || new == Some(true) {
                    let problem = "the newest message has its own topic and payload, and needs a flow";
                    return Err(
                        ControlError::invalid("last", problem, "leave last, or the others, out").into()
                    );
                }
                control.last_message(&control.flow(&code).await?.definition).await?
            } else {
                TestMessage { topic, payload: payload.map(String::into_bytes), ..TestMessage::default() }
            };
            let rehearsal = if new == Some(true) {
                control.rehearse_new(&code, message, &draft).await?
            } else {
                control.rehearse(&code, message, &draft).await?
            };
            Ok(ApiAnswer::new(&rehearsal))
        })
        .await
}

/// Says what an edit would do: which columns change, and what becomes of waiting posts and dead letters. Nothing is
/// changed. Refused if the flow could not work afterwards.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["operate"])),
    params(("code" = String, Path, description = "Code of the flow.")),
    request_body = FlowPatch,
    responses((status = 200, body = EditPreview)),
)]
#[post("/flows/{code}/preview")]
pub(super) async fn preview_edit(
    thread: Data<ApiThread>,
    code: Path<String>,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let edit = body.parse::<FlowPatch>()?.edit();
            Ok(ApiAnswer::new(&control.preview_edit(&code, &edit).await?))
        })
        .await
}

/// Lists the edits of a flow that commands and the API made, also of a removed one.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["read"])),
    params(("code" = String, Path, description = "Code of the flow."), PageQuery),
    responses((status = 200, body = EditHistoryPage)),
)]
#[get("/flows/{code}/history")]
pub(super) async fn list_flow_history(
    thread: Data<ApiThread>,
    code: Path<String>,
    page: PageRequest,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let limit = page.limit as u64 + 1;
            let before = page.after()?;
            let entries = control.history(EditedKind::Flow, &code, before, limit).await?;
            if entries.is_empty() && before.is_none() {
                // An unknown name is an error, an unedited row is none.
                control.flow(&code).await?;
            }
            let entries = entries.iter().map(HistoryEntryView::new).collect();
            Ok(ApiAnswer::new(&EditHistoryPage::new(&page, entries)))
        })
        .await
}

/// Gives a flow the columns that it had after an entry of its history. Adds a removed flow again.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["admin"])),
    params(("code" = String, Path, description = "Code of the flow.")),
    request_body = Rollback,
    responses((status = 200, body = EditedFlowView)),
)]
#[post("/flows/{code}/rollback")]
pub(super) async fn roll_back_flow(
    thread: Data<ApiThread>,
    caller: ReqData<Caller>,
    code: Path<String>,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run_as(&caller, async move |control| {
            let Rollback { to } = body.parse()?;
            Ok(ApiAnswer::new(&EditedFlowView::new(&control.roll_back(&code, to.0).await?)))
        })
        .await
}

/// That all gateways read the rows again.
#[derive(Debug, Serialize, ToSchema)]
struct Touched {
    touched: bool,
}

/// Has all gateways read the flows and brokers again, after edits by SQL.
#[utoipa::path(
    tag = "flows",
    security(("token" = ["operate"])),
    responses((status = 200, body = Touched)),
)]
#[post("/touch")]
pub(super) async fn touch(thread: Data<ApiThread>, caller: ReqData<Caller>) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run_as(&caller, async move |control| {
            control.touch_flows().await?;
            Ok(ApiAnswer::new(&Touched { touched: true }))
        })
        .await
}
