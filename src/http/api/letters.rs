//! Dead letters.

use actix_web::web::{Data, Path, ServiceConfig};
use actix_web::{HttpResponse, get, post};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::answer::ApiAnswer;
use super::body::{ApiBody, ApiText, MemberObject, Whole};
use super::page::{ApiQuery, PageQuery, PageRequest};
use super::problem::{AnswerLine, ApiProblem};
use super::thread::ApiThread;
use crate::control::time_text::parse_time;
use crate::control::view::{LetterCountView, LetterSummaryView, LetterView, ReplayTally, TallyRow};
use crate::control::{ControlError, LetterSelection, ReplayMode};
use crate::domain::dead_letter::{DeadLetterReason, LetterFilter};
use crate::domain::topic::TopicFilter;

/// Most ids of one request.
const MAX_IDS: usize = 10_000;

/// Most counts of one answer. The flows and reasons with the most dead letters are kept.
const MAX_COUNTS: usize = 1_000;

/// Registers the routes.
pub(super) fn routes(config: &mut ServiceConfig) {
    config
        .service(list_letters)
        .service(count_letters)
        .service(export_letters)
        .service(show_letter)
        .service(replay_letters)
        .service(discard_letters);
}

/// Conditions on dead letters; all have to be met.
#[derive(Debug, Default, Deserialize, IntoParams, ToSchema)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
struct LetterQuery {
    /// Code of the flow at the time of the dead letter.
    flow: Option<ApiText>,
    /// Reason, a keyword of docs/TABLES.md.
    reason: Option<ApiText>,
    /// Topic filter that matches the topic.
    topic: Option<ApiText>,
    /// Dead since: a day, a time in UTC, or an age (`2026-02-03`, `2026-02-03T04:05:06Z`, `24h`).
    since: Option<ApiText>,
    /// Dead before: a day, a time in UTC, or an age.
    until: Option<ApiText>,
    /// Text in topic, payload or detail.
    text: Option<ApiText>,
}

impl LetterQuery {
    fn filter(self) -> Result<LetterFilter, ApiProblem> {
        let invalid =
            |field, problem: String| ControlError::invalid(field, problem, "correct it, or leave it out");
        let time = |field, text: Option<ApiText>| {
            let parsed = text.map(|text| parse_time(&text.0)).transpose();
            parsed.map_err(|expected| invalid(field, expected))
        };
        let reason = self.reason.map(|reason| {
            let parsed = DeadLetterReason::from_name(&reason.0);
            parsed.ok_or_else(|| invalid("reason", format!("{:?} is no reason", reason.0)))
        });
        let topic = self
            .topic
            .map(|topic| TopicFilter::parse(&topic.0).map_err(|error| invalid("topic", error.to_string())));
        Ok(LetterFilter {
            flow: self.flow.map(|flow| flow.0),
            reason: reason.transpose()?,
            topic: topic.transpose()?,
            since_us: time("since", self.since)?,
            until_us: time("until", self.until)?,
            text: self.text.map(|text| text.0).filter(|text| !text.is_empty()),
            ..LetterFilter::default()
        })
    }
}

/// A page of dead letters, the newest first.
#[derive(Debug, Serialize, ToSchema)]
struct LettersPage {
    dead_letters: Vec<LetterSummaryView>,
    /// Path and query of the next page.
    next: Option<String>,
}

/// Dead letters by flow and reason.
#[derive(Debug, Serialize, ToSchema)]
struct LetterCounts {
    /// At most 1,000 counts, the highest first.
    counts: Vec<LetterCountView>,
    /// Number of all selected dead letters.
    total: u64,
}

/// Dead letters to replay: those with these ids, those that a filter selects, or all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct ReplayRequest {
    /// Ids of dead letters.
    #[schema(value_type = Option<Vec<i64>>, max_items = 10_000)]
    ids: Option<Vec<Whole>>,
    /// Conditions on dead letters.
    #[schema(value_type = Option<LetterQuery>)]
    filter: Option<MemberObject<LetterQuery>>,
    /// Selects all dead letters.
    all: Option<bool>,
    /// Tries each message and changes nothing.
    dry_run: Option<bool>,
}

/// Dead letters to discard: those with these ids, those that a filter selects, or all.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct DiscardRequest {
    /// Ids of dead letters.
    #[schema(value_type = Option<Vec<i64>>, max_items = 10_000)]
    ids: Option<Vec<Whole>>,
    /// Conditions on dead letters.
    #[schema(value_type = Option<LetterQuery>)]
    filter: Option<MemberObject<LetterQuery>>,
    /// Selects all dead letters.
    all: Option<bool>,
}

/// A line about the progress of a replay. Its numbers include the lines before.
#[derive(Debug, Serialize, ToSchema)]
struct ReplayProgress {
    /// Number of dead letters.
    letters: u64,
    /// Their outcomes.
    outcomes: Vec<TallyRow>,
    /// Whether nothing was changed.
    dry_run: bool,
    /// Whether this is the last line.
    complete: bool,
}

/// A line about the progress.
#[derive(Debug, Serialize, ToSchema)]
struct DiscardProgress {
    /// Number of deleted dead letters.
    discarded: u64,
    /// Whether this is the last line.
    complete: bool,
}

/// Lists dead letters, the newest first.
#[utoipa::path(
    tag = "dead letters",
    security(("token" = ["read"])),
    params(PageQuery, LetterQuery),
    responses((status = 200, body = LettersPage)),
)]
#[get("/dead-letters")]
pub(super) async fn list_letters(
    thread: Data<ApiThread>,
    page: PageRequest,
) -> Result<ApiAnswer, ApiProblem> {
    let filter = page.conditions::<LetterQuery>()?.filter()?;
    thread
        .run(async move |control| {
            let letters = control.dead_letters(&filter, page.after()?, page.limit + 1).await?;
            let dead_letters: Vec<_> = letters.iter().take(page.limit).map(LetterSummaryView::new).collect();
            let last = dead_letters.last().filter(|_| letters.len() > page.limit).map(|last| last.id);
            Ok(ApiAnswer::new(&LettersPage { dead_letters, next: page.next(last) }))
        })
        .await
}

/// Counts dead letters by flow and reason.
#[utoipa::path(
    tag = "dead letters",
    security(("token" = ["read"])),
    params(LetterQuery),
    responses((status = 200, body = LetterCounts)),
)]
#[get("/dead-letters/counts")]
pub(super) async fn count_letters(
    thread: Data<ApiThread>,
    ApiQuery(conditions): ApiQuery<LetterQuery>,
) -> Result<ApiAnswer, ApiProblem> {
    let filter = conditions.filter()?;
    thread
        .run(async move |control| {
            let mut counts = control.dead_letter_counts(&filter).await?;
            let total = counts.iter().map(|count| count.rows).sum();
            counts.sort_by_key(|count| std::cmp::Reverse(count.rows));
            let counts = counts.iter().take(MAX_COUNTS).map(LetterCountView::new).collect();
            Ok(ApiAnswer::new(&LetterCounts { counts, total }))
        })
        .await
}

/// Reads dead letters with their payloads, the oldest first, as lines of JSON.
#[utoipa::path(
    tag = "dead letters",
    security(("token" = ["read"])),
    params(LetterQuery),
    responses((status = 200, body = AnswerLine<LetterView>, content_type = "application/x-ndjson")),
)]
#[get("/dead-letters/export")]
pub(super) async fn export_letters(
    thread: Data<ApiThread>,
    ApiQuery(conditions): ApiQuery<LetterQuery>,
) -> Result<HttpResponse, ApiProblem> {
    let filter = conditions.filter()?;
    thread
        .stream(async move |control, lines| {
            Ok(control.export(&filter, async |letter| lines.send(&LetterView::new(&letter)).await).await?)
        })
        .await
}

/// Shows a dead letter with its payload.
#[utoipa::path(
    tag = "dead letters",
    security(("token" = ["read"])),
    params(("id" = i64, Path, description = "Id of the dead letter.")),
    responses((status = 200, body = LetterView)),
)]
#[get("/dead-letters/{id}")]
pub(super) async fn show_letter(thread: Data<ApiThread>, id: Path<i64>) -> Result<ApiAnswer, ApiProblem> {
    thread
        .run(async move |control| {
            let (letter, flow) = control.letter_with_flow(*id).await?;
            Ok(ApiAnswer::new(&LetterView::with_flow(&letter, flow.as_ref())))
        })
        .await
}

/// Processes dead letters again, by their flows as they are now. Answers with lines of JSON about the progress. A
/// client that goes away stops the replay; what was replayed stays.
#[utoipa::path(
    tag = "dead letters",
    security(("token" = ["operate"])),
    request_body = ReplayRequest,
    responses((status = 200, body = AnswerLine<ReplayProgress>, content_type = "application/x-ndjson")),
)]
#[post("/dead-letters/replay")]
pub(super) async fn replay_letters(
    thread: Data<ApiThread>,
    body: ApiBody,
) -> Result<HttpResponse, ApiProblem> {
    thread
        .stream(async move |control, lines| {
            let ReplayRequest { ids, filter, all, dry_run } = body.parse()?;
            let (selection, dry_run) = (selection(ids, filter, all)?, dry_run == Some(true));
            let mode = if dry_run { ReplayMode::RollBack } else { ReplayMode::Commit };
            let progress = |tally: &ReplayTally, complete| ReplayProgress {
                letters: tally.letters(),
                outcomes: tally.rows(),
                dry_run,
                complete,
            };
            let mut tally = ReplayTally::default();
            let done = &mut |letters: Vec<_>| {
                tally.add(&letters);
                lines.try_send(&progress(&tally, false));
            };
            control.replay(&selection, mode, done).await?;
            lines.send(&progress(&tally, true)).await;
            Ok(())
        })
        .await
}

/// Deletes dead letters. They cannot be replayed any more. Answers with lines of JSON about the progress.
#[utoipa::path(
    tag = "dead letters",
    security(("token" = ["operate"])),
    request_body = DiscardRequest,
    responses((status = 200, body = AnswerLine<DiscardProgress>, content_type = "application/x-ndjson")),
)]
#[post("/dead-letters/discard")]
pub(super) async fn discard_letters(
    thread: Data<ApiThread>,
    body: ApiBody,
) -> Result<HttpResponse, ApiProblem> {
    thread
        .stream(async move |control, lines| {
            let DiscardRequest { ids, filter, all } = body.parse()?;
            let selection = selection(ids, filter, all)?;
            let mut discarded = 0;
            let done = &mut |rows| {
                discarded += rows;
                lines.try_send(&DiscardProgress { discarded, complete: false });
            };
            control.discard(&selection, done).await?;
            lines.send(&DiscardProgress { discarded, complete: true }).await;
            Ok(())
        })
        .await
}

fn selection(
    ids: Option<Vec<Whole>>,
    filter: Option<MemberObject<LetterQuery>>,
    all: Option<bool>,
) -> Result<LetterSelection, ApiProblem> {
    let filter = filter.map(|MemberObject(filter)| filter.filter()).transpose()?;
    let problem = match (ids, filter, all == Some(true)) {
        (Some(ids), None, false) if ids.len() <= MAX_IDS => {
            return Ok(LetterSelection::Ids(ids.iter().map(|id| id.0).collect()));
        }
        (None, Some(filter), false) if !filter.is_empty() => return Ok(LetterSelection::Filter(filter)),
        (None, None, true) => return Ok(LetterSelection::Filter(LetterFilter::default())),
        (Some(ids), None, false) => format!("{} ids are too many", ids.len()),
        (None, None | Some(_), false) => "this selects no dead letters".to_owned(),
        _ => "this selects in more than one way".to_owned(),
    };
    let remedy = format!("give ids (at most {MAX_IDS}), or a filter with a condition, or all: true");
    Err(ControlError::invalid("ids", problem, remedy).into())
}
