//! Messages: explains one, and publishes one.

use actix_web::post;
use actix_web::web::{Data, ServiceConfig};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::answer::ApiAnswer;
use super::body::ApiBody;
use super::page::{PageQuery, PageRequest, page_of};
use super::problem::ApiProblem;
use super::thread::ApiThread;
use crate::control::view::{ExplanationView, PublishedView};
use crate::domain::topic_trial::TopicVerdict;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config.service(explain).service(publish);
}

/// A message to explain.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ExplainedMessage {
    /// Its topic.
    topic: String,
    /// Its payload. Without one, only the topic is explained.
    payload: Option<String>,
}

/// A message to publish.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct PublishedMessage {
    /// Its topic.
    topic: String,
    /// Its payload.
    payload: String,
}

/// The outcome of a message. Flows that do not match are left out.
#[derive(Debug, Serialize, ToSchema)]
struct ExplanationPage {
    #[serde(flatten)]
    explanation: ExplanationView,
    /// Path and query of the next page, for the same body.
    next: Option<String>,
}

/// Explains which flows get a message, and its outcome in each. Nothing is changed.
#[utoipa::path(
    tag = "messages",
    security(("token" = ["read"])),
    params(PageQuery),
    request_body = ExplainedMessage,
    responses((status = 200, body = ExplanationPage)),
)]
#[post("/explain")]
pub(super) async fn explain(
    thread: Data<ApiThread>,
    page: PageRequest,
    body: ApiBody,
) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let ExplainedMessage { topic, payload } = body.parse()?;
            let mut explanation = control.explain(&topic, payload.as_deref().map(str::as_bytes)).await?;
            explanation.flows.retain(|flow| flow.verdict != TopicVerdict::NoMatch);
            let (flows, last) =
                page_of(explanation.flows, |flow| flow.flow.id, page.after()?.as_ref(), page.limit);
            explanation.flows = flows;
            let explanation = ExplanationView::new(&topic, &explanation);
            Ok(ApiAnswer::new(&ExplanationPage { explanation, next: page.next(last) }))
        })
        .await
}

/// Publishes a message at `QoS` 1 to the first broker, and waits for its acknowledgement.
#[utoipa::path(
    tag = "messages",
    security(("token" = ["operate"])),
    request_body = PublishedMessage,
    responses((status = 200, body = PublishedView)),
)]
#[post("/publish")]
pub(super) async fn publish(thread: Data<ApiThread>, body: ApiBody) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run_long(async move |control| {
            let PublishedMessage { topic, payload } = body.parse()?;
            let broker = control.publish(&topic, payload.as_bytes()).await?;
            Ok(ApiAnswer::new(&PublishedView { topic, bytes: payload.len(), broker }))
        })
        .await
}
