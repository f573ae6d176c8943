//! Waiting posts.

use actix_web::web::{Data, ServiceConfig};
use actix_web::{HttpResponse, get, post};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::ApiAnswer;
use super::body::{ApiBody, ApiText};
use super::page::{ApiQuery, PageQuery, PageRequest};
use super::problem::{AnswerLine, ApiProblem};
use super::thread::ApiThread;
use crate::control::ControlError;
use crate::control::status::BreakerStatus;
use crate::control::view::{DeliveriesView, WaitingPostView};
use crate::domain::outbox::{OutboxKey, PostPlace};
use crate::observe::Telemetry;

/// Most keys of one request.
const MAX_KEYS: usize = 10_000;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(list_deliveries)
        .service(list_waiting_posts)
        .service(retry_deliveries)
        .service(cancel_deliveries);
}

/// Which waiting posts to list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
struct DeliveriesQuery {
    /// Code of the flow.
    flow: Option<String>,
}

/// A page of flows with waiting posts.
#[derive(Debug, Serialize, ToSchema)]
struct DeliveriesPage {
    deliveries: Vec<DeliveriesView>,
    /// Breakers of this gateway that hold posts back.
    breakers: Vec<BreakerStatus>,
    /// Path and query of the next page.
    next: Option<String>,
}

/// The flow whose posts are due.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RetriedFlow {
    /// Its code.
    flow: ApiText,
}

/// Posts that are due.
#[derive(Debug, Serialize, ToSchema)]
struct DuePosts {
    /// Their number.
    due: u64,
}

/// Posts to cancel: those of a flow, or those with these keys.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct CancelledPosts {
    /// Code of the flow.
    flow: Option<ApiText>,
    /// Keys of posts, as in the header `Idempotency-Key`.
    #[schema(max_items = 10_000)]
    keys: Option<Vec<String>>,
}

/// A line about the progress.
#[derive(Debug, Serialize, ToSchema)]
struct CancelProgress {
    /// Number of selected posts.
    selected: usize,
    /// Number of posts that are dead letters now.
    cancelled: u64,
    /// Whether this is the last line.
    complete: bool,
}

/// Lists the flows with waiting posts, each with its first post, and the endpoints that fail.
#[utoipa::path(
    tag = "deliveries",
    security(("token" = ["read"])),
    params(PageQuery, DeliveriesQuery),
    responses((status = 200, body = DeliveriesPage)),
)]
#[get("/deliveries")]
pub(super) async fn list_deliveries(
    thread: Data<ApiThread>,
    telemetry: Data<Telemetry>,
    page: PageRequest,
    ApiQuery(query): ApiQuery<DeliveriesQuery>,
) -> Result<ApiAnswer, ApiProblem> {
    let breakers = BreakerStatus::holding(&telemetry);
    thread
        .run(async move |control| {
            let flow = query.flow.as_deref();
            let (waiting, last) = control.deliveries_page(flow, page.after()?, page.limit).await?;
            let deliveries = waiting.iter().map(DeliveriesView::new).collect();
            Ok(ApiAnswer::new(&DeliveriesPage { deliveries, breakers, next: page.next(last) }))
        })
        .await
}

/// The flow whose waiting posts are listed.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct WaitingPostsQuery {
    /// Code of the flow.
    flow: ApiText,
}

/// A page of waiting posts, in the order of their numbers.
#[derive(Debug, Serialize, ToSchema)]
struct FlowPostsPage {
    posts: Vec<WaitingPostView>,
    /// Path and query of the next page.
    next: Option<String>,
}

/// Lists the waiting posts of a flow with their last attempts.
#[utoipa::path(
    tag = "deliveries",
    security(("token" = ["read"])),
    params(PageQuery, WaitingPostsQuery),
    responses((status = 200, body = FlowPostsPage)),
)]
#[get("/deliveries/posts")]
pub(super) async fn list_waiting_posts(
    thread: Data<ApiThread>,
    page: PageRequest,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let WaitingPostsQuery { flow } = page.conditions()?;
            let after: Option<PostPlace> = page.after()?;
            let mut posts = control.waiting_post_list(&flow.0, after.as_ref(), page.limit + 1).await?;
            let has_more = posts.len() > page.limit;
            posts.truncate(page.limit);
            let last = posts.last().filter(|_| has_more).map(|last| last.place.clone());
            let posts = posts.iter().map(WaitingPostView::new).collect();
            Ok(ApiAnswer::new(&FlowPostsPage { posts, next: page.next(last) }))
        })
        .await
}

/// Makes the waiting posts of a flow due at once.
#[utoipa::path(
    tag = "deliveries",
    security(("token" = ["operate"])),
    request_body = RetriedFlow,
    responses((status = 200, body = DuePosts)),
)]
#[post("/deliveries/retry")]
pub(super) async fn retry_deliveries(
    thread: Data<ApiThread>,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let RetriedFlow { flow } = body.parse()?;
            Ok(ApiAnswer::new(&DuePosts { due: control.retry_deliveries(&flow.0).await? }))
        })
        .await
}

/// Moves waiting posts to the dead letters. Answers with lines of JSON about the progress.
#[utoipa::path(
    tag = "deliveries",
    security(("token" = ["operate"])),
    request_body = CancelledPosts,
    responses((status = 200, body = AnswerLine<CancelProgress>, content_type = "application/x-ndjson")),
)]
#[post("/deliveries/cancel")]
pub(super) async fn cancel_deliveries(
    thread: Data<ApiThread>,
    body: ApiBody,
) -> Result<HttpResponse, ApiProblem> {
    thread
        .stream(async move |control, lines| {
            let keys = match body.parse()? {
                CancelledPosts { flow: Some(flow), keys: None } => {
                    control.delivery_keys(&flow.0, None).await?
                }
                CancelledPosts { flow: None, keys: Some(keys) } => parse_keys(&keys)?,
                CancelledPosts { .. } => {
                    let remedy = "give the code of a flow, or keys";
                    return Err(
                        ControlError::invalid("flow", "one of flow and keys is expected", remedy).into()
                    );
                }
            };
            let progress = |cancelled, complete| CancelProgress { selected: keys.len(), cancelled, complete };
            let mut cancelled = 0;
            let done = &mut |posts| {
                cancelled += posts;
                lines.try_send(&progress(cancelled, false));
            };
            control.cancel_deliveries(&keys, done).await?;
            lines.send(&progress(cancelled, true)).await;
            Ok(())
        })
        .await
}

fn parse_keys(keys: &[String]) -> Result<Vec<OutboxKey>, ApiProblem> {
    if keys.len() > MAX_KEYS {
        return Err(ApiProblem::bad_request(format!("body: keys: at most {MAX_KEYS} are expected")));
    }
    let parsed: Result<Vec<_>, _> = keys.iter().map(|key| key.parse()).collect();
    parsed.map_err(|error| {
        ControlError::invalid("keys", error, "give keys as in the list, or in the header Idempotency-Key")
            .into()
    })
}
