//! Posts that wait, by flow, and their endpoints.

use std::time::Duration;

use actix_web::web::Data;
use askama::Template;
use tokio::time::timeout;

use super::charts::grouped;
use super::fields::link;
use super::flows::{flow_link, shell_word};
use super::page::{ConsoleError, Page, PageFrame, SeeOther, short_time};
use super::visitor::{Submission, Visitor};
use crate::control::view::DeliveriesView;
use crate::domain::api_token::TokenScope;
use crate::domain::posting::breaker::BreakerState;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;
use crate::observe::{Telemetry, timestamp};

/// The part of the console.
const PART: &str = "/deliveries";

/// Maximum time of a cancellation. The page then shows the remaining posts.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Template)]
#[template(path = "deliveries.html", config = "src/http/console/askama.toml")]
struct WaitingPostsPage {
    frame: PageFrame,
    notice: Option<String>,
    origins: Vec<OriginLine>,
    flows: Vec<WaitingLine>,
}

/// An endpoint to which this gateway has posted.
struct OriginLine {
    origin: String,
    state: &'static str,
    class: &'static str,
    since: String,
    delivered: String,
    failed: String,
}

struct WaitingLine {
    code: String,
    posts: String,
    view: DeliveriesView,
    oldest_at: String,
    next_attempt_at: String,
    attempts: Option<String>,
    flow_link: String,
    cancel_link: String,
}

#[derive(Template)]
#[template(path = "cancel.html", config = "src/http/console/askama.toml")]
struct CancelPage {
    frame: PageFrame,
    code: String,
    posts: String,
    command: String,
}

/// Shows the list.
pub(super) async fn list(
    visitor: Visitor,
    telemetry: Data<Telemetry>,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Deliveries");
    let count = grouped(visitor.query.number("posts").unwrap_or_default().unsigned_abs());
    let notice = match visitor.query.get("done") {
        "retried" => Some(format!("{count} posts are due now.")),
        "cancelled" => Some(format!("{count} posts became dead letters.")),
        _ => None,
    };
    let origins = origins(&telemetry);
    let page = thread.run(async move |control| {
        let waiting = control.deliveries(None).await?;
        let flows = waiting.iter().map(|waiting| WaitingLine::new(DeliveriesView::new(waiting))).collect();
        Page::new(&WaitingPostsPage { frame, notice, origins, flows })
    });
    Ok(page.await?)
}

fn origins(telemetry: &Telemetry) -> Vec<OriginLine> {
    let readings = telemetry.metrics.endpoints.read().into_iter();
    readings
        .map(|(origin, reading)| {
            let [delivered, failed @ ..] = reading.attempts;
            let state = reading.breaker.map(|(state, _)| state);
            let (name, class) = match state {
                None | Some(BreakerState::Closed) => ("answers", "good"),
                Some(BreakerState::HalfOpen) => ("is being tried", "idle"),
                Some(BreakerState::Open) => ("fails", "bad"),
            };
            OriginLine {
                origin,
                state: name,
                class,
                since: reading.breaker.map(|(_, since)| short_time(&timestamp(since))).unwrap_or_default(),
                delivered: grouped(delivered),
                failed: grouped(failed.iter().sum()),
            }
        })
        .collect()
}

impl WaitingLine {
    fn new(view: DeliveriesView) -> Self {
        let code = view.flow_code.clone().unwrap_or_default();
        Self {
            posts: grouped(view.posts),
            oldest_at: short_time(&view.oldest_at),
            next_attempt_at: short_time(&view.next_attempt_at),
            attempts: view.recent_attempts.as_ref().map(|attempts| format!("{attempts:#}")),
            flow_link: flow_link(&code),
            cancel_link: link("/deliveries/cancel", [("flow", code.as_str())]),
            code,
            view,
        }
    }
}

/// Makes the posts of a flow due.
pub(super) async fn retry(submission: Submission, thread: Data<ApiThread>) -> Result<SeeOther, ConsoleError> {
    let (_, fields) = submission.permitted(TokenScope::Operate)?;
    let posts = thread.run(async move |control| Ok(control.retry_deliveries(fields.get("flow")).await?));
    Ok(done("retried", posts.await?))
}

/// Shows the effects of a cancellation.
pub(super) async fn confirm(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Operate)?;
    let frame = visitor.frame(PART, "Cancel posts");
    let code = visitor.query.get("flow").to_owned();
    let page = thread.run(async move |control| {
        let waiting = control.deliveries(Some(&code)).await?;
        let posts = grouped(waiting.iter().map(|waiting| waiting.posts).sum());
        let command = format!("mqtt-gateway deliveries cancel --flow {} --yes", shell_word(&code));
        Page::new(&CancelPage { frame, code, posts, command })
    });
    Ok(page.await?)
}

/// Moves the posts of a flow to the dead letters.
pub(super) async fn cancel(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    let (_, fields) = submission.permitted(TokenScope::Operate)?;
    let cancelled = thread.run_long(async move |control| -> Result<u64, ApiProblem> {
        let keys = control.delivery_keys(fields.get("flow")).await?;
        let mut cancelled = 0;
        let mut count = |posts| cancelled += posts;
        // Posts that were not reached in time still wait, and are in the list.
        if let Ok(result) = timeout(CANCEL_TIMEOUT, control.cancel_deliveries(&keys, &mut count)).await {
            result?;
        }
        Ok(cancelled)
    });
    Ok(done("cancelled", cancelled.await?))
}

fn done(what: &str, posts: u64) -> SeeOther {
    SeeOther(link(PART, [("done", what), ("posts", &posts.to_string())]))
}
