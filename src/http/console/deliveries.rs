//! Posts that wait, by flow, and their endpoints.

use std::time::Duration;

use actix_web::web::Data;
use askama::Template;
use chrono::Utc;
use tokio::time::timeout;

use super::charts::{counted, grouped};
use super::fields::{Fields, link};
use super::links::flow_link;
use super::page::{ConsoleError, Page, PageFrame, SeeOther, short_time};
use super::post_attempts::AttemptLine;
use super::question::Question;
use super::shell::shell_word;
use super::visitor::{Submission, Visitor};
use crate::control::time_text::parse_time;
use crate::control::view::{DeliveriesView, WaitingPostView};
use crate::control::{Control, ControlError};
use crate::domain::api_token::TokenScope;
use crate::domain::outbox::{CountedPosts, OutboxKey, PostPlace};
use crate::domain::posting::breaker::BreakerState;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;
use crate::observe::metrics::AttemptOutcome;
use crate::observe::{Telemetry, timestamp};

/// The part of the console.
const PART: &str = "/deliveries";

/// The page of the waiting posts of a flow.
const POSTS: &str = "/deliveries/posts";

/// Fields of a form with the bounds of the posts that were counted.
const LAST: &str = "last";
const COUNTED_AT: &str = "counted_at";

/// What a cancellation does.
const CONSEQUENCE: &str = "What is cancelled is not posted. It becomes a dead letter with the reason cancelled, which \
                           can be replayed.";
const LATER_POSTS: &str = " Posts that come later are not part of it.";

/// The singular of the word for posts.
const POST: &str = "post";

/// Posts of a page.
const PAGE_POSTS: usize = 50;

/// Flows of a page.
const PAGE_FLOWS: usize = 50;

/// Maximum time of a cancellation. The page then shows the remaining posts.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(20);

#[derive(Template)]
#[template(path = "deliveries.html", config = "src/http/console/askama.toml")]
struct DeliveryListPage {
    frame: PageFrame,
    notice: Option<DoneNotice>,
    origins: Vec<OriginLine>,
    flows: Vec<WaitingLine>,
    first: Option<&'static str>,
    next: Option<String>,
    command: &'static str,
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
    /// The number of posts, in words.
    waiting: String,
    /// The number of failed attempts of the first one, in words.
    failed: String,
    view: DeliveriesView,
    oldest_at: String,
    next_attempt_at: String,
    attempts: Vec<AttemptLine>,
    flow_link: String,
    posts_link: String,
    cancel_link: String,
}

#[derive(Template)]
#[template(path = "waiting_posts.html", config = "src/http/console/askama.toml")]
struct WaitingPostsPage {
    frame: PageFrame,
    notice: Option<DoneNotice>,
    code: String,
    flow_link: String,
    posts: Vec<PostLine>,
    first: Option<String>,
    next: Option<String>,
    cancel_link: String,
    command: String,
}

/// The result of an action.
struct DoneNotice {
    text: String,
    class: &'static str,
}

/// A post that waits.
struct PostLine {
    post: WaitingPostView,
    since: String,
    next_attempt_at: String,
    attempts: Vec<AttemptLine>,
    cancel_link: String,
}

/// Shows the list.
pub(super) async fn list(
    visitor: Visitor,
    telemetry: Data<Telemetry>,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Deliveries");
    let notice = notice(&visitor.query);
    let origins = origins(&telemetry);
    let after = visitor.query.number("after").ok();
    let page = thread.run(async move |control| {
        let (waiting, last) = control.deliveries_page(None, after, PAGE_FLOWS).await?;
        let flows = waiting.iter().map(|waiting| WaitingLine::new(DeliveriesView::new(waiting))).collect();
        Page::new(&DeliveryListPage {
            frame,
            notice,
            origins,
            flows,
            first: after.map(|_| PART),
            next: last.map(|last| link(PART, [("after", last.to_string().as_str())])),
            command: "mqtt-gateway deliveries list",
        })
    });
    Ok(page.await?)
}

fn origins(telemetry: &Telemetry) -> Vec<OriginLine> {
    let readings = telemetry.metrics.endpoints.read().into_iter();
    readings
        .map(|(origin, reading)| {
            let [delivered, failed @ ..] = reading.attempts;
            let (name, class) = origin_state(reading.breaker.map(|(state, _)| state), reading.last);
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

/// The state of an endpoint and its class. The last attempt says more than a breaker that is still closed.
fn origin_state(breaker: Option<BreakerState>, last: Option<AttemptOutcome>) -> (&'static str, &'static str) {
    match (breaker, last) {
        (Some(BreakerState::HalfOpen), _) => ("is being tried", "idle"),
        (Some(BreakerState::Open), _)
        | (_, Some(AttemptOutcome::EndpointFault | AttemptOutcome::NoAnswer)) => ("fails", "bad"),
        _ => ("answers", "good"),
    }
}

impl WaitingLine {
    fn new(view: DeliveriesView) -> Self {
        let attempts = view.recent_attempts.as_ref().map(ToString::to_string);
        let attempts = AttemptLine::of_column(attempts.as_deref());
        let code = view.flow_code.clone().unwrap_or_default();
        Self {
            posts: grouped(view.posts),
            waiting: counted(view.posts, "waiting post"),
            failed: counted(view.attempts.into(), "failed attempt"),
            oldest_at: short_time(&view.oldest_at),
            next_attempt_at: attempt_time(&view.next_attempt_at),
            attempts,
            flow_link: flow_link(&code),
            posts_link: posts_link(&code),
            cancel_link: cancel_link(&code, None),
            code,
            view,
        }
    }
}

impl PostLine {
    fn new(code: &str, mut view: WaitingPostView) -> Self {
        let attempts = std::mem::take(&mut view.recent_attempts);
        Self {
            since: short_time(&view.created_at),
            next_attempt_at: attempt_time(&view.next_attempt_at),
            attempts: attempts.into_iter().rev().map(AttemptLine::new).collect(),
            cancel_link: cancel_link(code, Some((&view.key, &view.message_id.to_string()))),
            post: view,
        }
    }
}

/// Shows the waiting posts of a flow.
pub(super) async fn list_posts(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let code = visitor.query.get("flow").to_owned();
    let frame = visitor.frame(PART, format!("Waiting posts of {code}"));
    let notice = notice(&visitor.query);
    let after = visitor.query.get("after").parse::<PostPlace>().ok();
    let page = thread.run(async move |control| {
        let mut posts = control.waiting_post_list(&code, after.as_ref(), PAGE_POSTS + 1).await?;
        let has_more = posts.len() > PAGE_POSTS;
        posts.truncate(PAGE_POSTS);
        let next = posts
            .last()
            .filter(|_| has_more)
            .map(|last| link(POSTS, [("flow", code.as_str()), ("after", last.place.to_string().as_str())]));
        Page::new(&WaitingPostsPage {
            frame,
            notice,
            flow_link: flow_link(&code),
            posts: posts.iter().map(|post| PostLine::new(&code, WaitingPostView::new(post))).collect(),
            first: after.map(|_| posts_link(&code)),
            next,
            cancel_link: cancel_link(&code, None),
            command: format!("mqtt-gateway deliveries posts --flow {}", shell_word(&code)),
            code,
        })
    });
    Ok(page.await?)
}

/// The time of the next attempt, unless it has come: the post then waits for its turn, or for its endpoint.
fn attempt_time(at: &str) -> String {
    let is_due = parse_time(at).is_ok_and(|at_us| at_us <= Utc::now().timestamp_micros());
    if is_due { "due".to_owned() } else { short_time(at) }
}

fn posts_link(code: &str) -> String {
    link(POSTS, [("flow", code)])
}

/// The question whether the posts of a flow, or the post with a key and a sequence number, are to be cancelled.
fn cancel_link(code: &str, post: Option<(&str, &str)>) -> String {
    let post = post.into_iter().flat_map(|(key, number)| [("key_of_post", key), ("number", number)]);
    link("/deliveries/cancel", [("flow", code)].into_iter().chain(post))
}

fn notice(query: &Fields) -> Option<DoneNotice> {
    let posts = query.number("posts").unwrap_or_default().unsigned_abs();
    let (count, are) = (counted(posts, POST), if posts == 1 { "is" } else { "are" });
    let text = match (query.get("done"), posts) {
        ("retried" | "cancelled", 0) => "Nothing was changed: no such post waits any more.".to_owned(),
        ("retried", _) => format!("{count} {are} due now. The endpoint is tried within seconds."),
        ("unfinished", _) => {
            return Some(DoneNotice {
                text: format!(
                    "Not all posts were reached in time. Cancelled: {count}. The others still wait."
                ),
                class: "warn-card",
            });
        }
        ("cancelled", 1) => format!("{count} became a dead letter."),
        ("cancelled", _) => format!("{count} became dead letters."),
        _ => return None,
    };
    Some(DoneNotice { text, class: if posts == 0 { "warn-card" } else { "good-card" } })
}

/// Makes the posts of a flow due.
pub(super) async fn retry(submission: Submission, thread: Data<ApiThread>) -> Result<SeeOther, ConsoleError> {
    let (_, fields) = submission.permitted(TokenScope::Operate)?;
    let posts = thread.run(async move |control| Ok(control.retry_deliveries(fields.get("flow")).await?));
    Ok(done("retried", posts.await?))
}

/// Shows the effects of a cancellation: of one post, or of all posts of a flow.
pub(super) async fn confirm(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Operate)?;
    let frame = visitor.frame(PART, "Cancel posts");
    let code = visitor.query.get("flow").to_owned();
    let (key, number) = (visitor.query.given("key_of_post"), visitor.query.given("number"));
    let page = thread.run(async move |control| {
        let (posts, bounds, selected, back) = match &key {
            None => {
                let waiting = control.count_posts(&code).await?;
                let (posts, bounds) = waiting.ok_or_else(|| no_post_waits(&code))?;
                (posts, Some(bounds), format!("--flow {}", shell_word(&code)), PART.to_owned())
            }
            Some(key) => (1, None, shell_word(key), posts_link(&code)),
        };
        let posts = counted(posts, POST);
        let what =
            number.as_ref().map_or_else(|| posts.clone(), |number| format!("the post with number {number}"));
        let question = Question {
            frame,
            part_name: "Deliveries",
            text: format!("Cancel {what} of {code}?"),
            consequence: CONSEQUENCE.to_owned() + if bounds.is_some() { LATER_POSTS } else { "" },
            target: "/deliveries/cancel",
            hidden: vec![
                ("flow", code),
                ("key_of_post", key.unwrap_or_default()),
                ("number", number.unwrap_or_default()),
                (LAST, bounds.map(|bounds| bounds.last_message_id.to_string()).unwrap_or_default()),
                (COUNTED_AT, bounds.map(|bounds| bounds.at_us.to_string()).unwrap_or_default()),
            ],
            button: format!("Cancel {posts}"),
            back,
            command: format!("mqtt-gateway deliveries cancel {selected} --yes"),
        };
        question.page()
    });
    Ok(page.await?)
}

fn no_post_waits(code: &str) -> ControlError {
    let remedy = "every post was delivered or cancelled meanwhile: the list of deliveries shows what waits";
    ControlError::not_found("waiting post of the flow", code, remedy)
}

/// Moves a post, or the counted posts of a flow, to the dead letters.
pub(super) async fn cancel(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    let (_, fields) = submission.permitted(TokenScope::Operate)?;
    let cancelled = thread.run_long(async move |control| -> Result<SeeOther, ApiProblem> {
        let keys = selected_keys(control, &fields).await?;
        let mut cancelled = 0;
        let mut count = |posts| cancelled += posts;
        match timeout(CANCEL_TIMEOUT, control.cancel_deliveries(&keys, &mut count)).await {
            Ok(result) => {
                result?;
                Ok(done("cancelled", cancelled))
            }
            Err(_) => Ok(done("unfinished", cancelled)),
        }
    });
    Ok(cancelled.await?)
}

/// The posts of a form: one by its key, or the counted ones of a flow.
async fn selected_keys(control: &Control, fields: &Fields) -> Result<Vec<OutboxKey>, ControlError> {
    if let Some(key) = fields.given("key_of_post") {
        let wrong = |error| ControlError::invalid("key_of_post", error, "follow the links of the console");
        return Ok(vec![key.parse().map_err(wrong)?]);
    }
    let counted = CountedPosts { last_message_id: fields.number(LAST)?, at_us: fields.number(COUNTED_AT)? };
    control.delivery_keys(fields.get("flow"), Some(counted)).await
}

fn done(what: &str, posts: u64) -> SeeOther {
    SeeOther(link(PART, [("done", what), ("posts", &posts.to_string())]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failed_attempt_shows_before_the_breaker_opens() {
        let state = |breaker, last| origin_state(breaker, last).0;
        let closed = Some(BreakerState::Closed);
        assert_eq!(state(closed, Some(AttemptOutcome::NoAnswer)), "fails");
        assert_eq!(state(None, Some(AttemptOutcome::EndpointFault)), "fails");
        assert_eq!(state(closed, Some(AttemptOutcome::MessageFault)), "answers");
        assert_eq!(state(None, Some(AttemptOutcome::Delivered)), "answers");
        assert_eq!(state(Some(BreakerState::Open), Some(AttemptOutcome::Delivered)), "fails");
    }
}
