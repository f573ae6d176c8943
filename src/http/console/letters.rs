//! Dead letters: the list with its filters, the page of a letter, replay and discard.

mod results;

use actix_web::web::Data;
use askama::Template;

pub(super) use self::results::{discard, replay};
use super::charts::grouped;
use super::fields::{Fields, link, link_with};
use super::flows::{flow_link, shell_word};
use super::page::{ConsoleError, Page, PageFrame, short_time};
use super::visitor::Visitor;
use crate::control::time_text::parse_time;
use crate::control::view::{LetterCountView, LetterSummaryView, LetterView, json_text};
use crate::control::{Control, ControlError, LetterSelection};
use crate::domain::api_token::TokenScope;
use crate::domain::dead_letter::{DeadLetterReason, LetterFilter};
use crate::domain::topic::TopicFilter;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;

/// The part of the console.
const PART: &str = "/dead-letters";

/// Dead letters of a page.
const PAGE_LETTERS: usize = 50;

/// Most counts that a page shows.
const MAX_COUNTS: usize = 12;

/// Longest payload that a page shows, in bytes.
const MAX_SHOWN_BYTES: usize = 64 * 1024;

/// Fields of the query that select dead letters.
const CONDITIONS: [&str; 7] = ["flow", "reason", "topic", "since", "until", "text", "id"];

#[derive(Template)]
#[template(path = "letters.html", config = "src/http/console/askama.toml")]
struct LetterListPage {
    frame: PageFrame,
    query: Fields,
    reasons: Vec<&'static str>,
    counts: Vec<CountLink>,
    /// Number of further counts.
    more_counts: usize,
    total: String,
    has_letters: bool,
    is_filtered: bool,
    letters: Vec<LetterRow>,
    first: Option<String>,
    next: Option<String>,
    replay_link: String,
    discard_link: String,
    command: String,
}

struct CountLink {
    count: LetterCountView,
    shown: String,
    link: String,
}

struct LetterRow {
    letter: LetterSummaryView,
    at: String,
    link: String,
}

#[derive(Template)]
#[template(path = "letter.html", config = "src/http/console/askama.toml")]
struct LetterPage {
    frame: PageFrame,
    letter: LetterView,
    payload: String,
    /// Whether the payload is shown in another form than text.
    is_base64: bool,
    is_cut: bool,
    attempts: Option<String>,
    /// The flow as it is now.
    flow: Option<LetterFlow>,
    discard_link: String,
    command: String,
}

struct LetterFlow {
    link: String,
    edit_link: String,
    test_link: String,
    schema: String,
}

#[derive(Template)]
#[template(path = "confirm.html", config = "src/http/console/askama.toml")]
struct ConfirmPage {
    frame: PageFrame,
    verb: &'static str,
    target: &'static str,
    counts: Vec<LetterCountView>,
    more_counts: usize,
    total: String,
    has_letters: bool,
    /// The conditions again, as hidden fields.
    hidden: Vec<(String, String)>,
    back: String,
}

/// The filter of a query.
fn filter(query: &Fields) -> Result<LetterFilter, ControlError> {
    let invalid =
        |field, problem: String| ControlError::invalid(field, problem, "correct it, or leave it out");
    let time = |field| {
        let time = query.given(field).map(|text| parse_time(&text)).transpose();
        time.map_err(|expected| invalid(field, expected))
    };
    let reason = query.given("reason").map(|reason| {
        DeadLetterReason::parse(&reason).ok_or_else(|| invalid("reason", format!("{reason:?} is no reason")))
    });
    let topic = query
        .given("topic")
        .map(|topic| TopicFilter::parse(&topic).map_err(|error| invalid("topic", error.to_string())));
    query.check()?;
    Ok(LetterFilter {
        flow: Some(query.get("flow").to_owned()).filter(|flow| !flow.is_empty()),
        reason: reason.transpose()?,
        topic: topic.transpose()?,
        since_us: time("since")?,
        until_us: time("until")?,
        text: Some(query.get("text").to_owned()).filter(|text| !text.is_empty()),
    })
}

/// The dead letters of a query: one by its id, or those of the filter.
fn selection(query: &Fields) -> Result<LetterSelection, ControlError> {
    if query.get("id").is_empty() {
        return Ok(LetterSelection::Filter(filter(query)?));
    }
    Ok(LetterSelection::Ids(vec![query.number("id")?]))
}

/// Shows the list.
pub(super) async fn list(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Dead letters");
    let query = visitor.query;
    let page = thread.run(async move |control| {
        let filter = filter(&query)?;
        let before = query.number("before").ok();
        let (counts, more_counts, total) = counts(control, &filter).await?;
        let mut letters = control.dead_letters(&filter, before, PAGE_LETTERS + 1).await?;
        let has_more = letters.len() > PAGE_LETTERS;
        letters.truncate(PAGE_LETTERS);
        let conditions = query.only(&CONDITIONS);
        let next = letters.last().filter(|_| has_more).map(|last| {
            let place = ("before".to_owned(), last.id.to_string());
            link_with(PART, &[conditions.as_slice(), &[place]].concat())
        });
        let counts = counts.into_iter().map(|count| count_link(&conditions, count)).collect();
        let row = |letter| {
            let letter = LetterSummaryView::new(letter);
            LetterRow { link: letter_link(letter.id), at: short_time(&letter.occurred_at), letter }
        };
        Page::new(&LetterListPage {
            frame,
            reasons: reasons(),
            counts,
            more_counts,
            total: grouped(total),
            has_letters: total > 0,
            is_filtered: !filter.is_empty(),
            letters: letters.iter().map(row).collect(),
            first: before.map(|_| link_with(PART, &conditions)),
            next,
            replay_link: link_with("/dead-letters/replay", &conditions),
            discard_link: link_with("/dead-letters/discard", &conditions),
            command: command("list", &conditions),
            query,
        })
    });
    Ok(page.await?)
}

/// The highest counts by flow and reason, the number of the others, and the number of letters.
async fn counts(
    control: &Control,
    filter: &LetterFilter,
) -> Result<(Vec<LetterCountView>, usize, u64), ControlError> {
    let mut counts = control.dead_letter_counts(filter).await?;
    let total = counts.iter().map(|count| count.rows).sum();
    counts.sort_by_key(|count| std::cmp::Reverse(count.rows));
    let more = counts.len().saturating_sub(MAX_COUNTS);
    Ok((counts.iter().take(MAX_COUNTS).map(LetterCountView::new).collect(), more, total))
}

fn count_link(conditions: &[(String, String)], count: LetterCountView) -> CountLink {
    let others = conditions.iter().filter(|(name, _)| name != "flow" && name != "reason");
    let mut pairs: Vec<(String, String)> = others.cloned().collect();
    pairs.push(("reason".to_owned(), count.reason.clone()));
    pairs.extend(count.flow_code.clone().map(|flow| ("flow".to_owned(), flow)));
    CountLink { link: link_with(PART, &pairs), shown: grouped(count.count), count }
}

fn reasons() -> Vec<&'static str> {
    let mut reasons = DeadLetterReason::ALL.map(DeadLetterReason::as_str).to_vec();
    reasons.sort_unstable();
    reasons
}

fn letter_link(id: i64) -> String {
    link("/dead-letter", [("id", id.to_string().as_str())])
}

/// The command line with the same conditions.
fn command(action: &str, conditions: &[(String, String)]) -> String {
    let options = conditions.iter().map(|(name, value)| format!(" --{name} {}", shell_word(value)));
    format!("mqtt-gateway dead-letters {action}{}", options.collect::<String>())
}

/// Shows a dead letter.
pub(super) async fn show(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let id = visitor.query.number("id")?;
    let frame = visitor.frame(PART, format!("Dead letter {id}"));
    let page = thread.run(async move |control| {
        let letter = control.dead_letter(id).await?;
        let flow = control.flows().await?.into_iter().find(|flow| Some(flow.id) == letter.flow_id);
        let flow = flow.map(|flow| {
            let code = flow.definition.code.as_str();
            LetterFlow {
                link: flow_link(code),
                edit_link: link("/flow/edit", [("code", code)]),
                test_link: link("/flow/test", [("code", code), ("letter", id.to_string().as_str())]),
                schema: json_text(flow.definition.payload_schema.as_deref().unwrap_or_default()),
            }
        });
        let letter = LetterView::new(&letter);
        let whole = letter.payload.as_deref().or(letter.payload_base64.as_deref()).unwrap_or_default();
        let payload = whole.get(..whole.floor_char_boundary(MAX_SHOWN_BYTES)).unwrap_or_default();
        Page::new(&LetterPage {
            frame,
            payload: payload.to_owned(),
            is_base64: letter.payload_base64.is_some(),
            is_cut: payload.len() < whole.len(),
            attempts: letter.recent_attempts.as_ref().map(|attempts| format!("{attempts:#}")),
            flow,
            discard_link: link("/dead-letters/discard", [("id", id.to_string().as_str())]),
            command: format!("mqtt-gateway dead-letters show {id}"),
            letter,
        })
    });
    Ok(page.await?)
}

/// Shows the dead letters that a replay would process.
pub(super) async fn confirm_replay(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    confirm(visitor, &thread, "Replay", "/dead-letters/replay").await
}

/// Shows the dead letters to discard.
pub(super) async fn confirm_discard(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    confirm(visitor, &thread, "Discard", "/dead-letters/discard").await
}

async fn confirm(
    visitor: Visitor,
    thread: &ApiThread,
    verb: &'static str,
    target: &'static str,
) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Operate)?;
    let frame = visitor.frame(PART, format!("{verb} dead letters"));
    let query = visitor.query;
    let page = thread.run(async move |control| -> Result<Page, ApiProblem> {
        let (counts, more_counts, total) = match selection(&query)? {
            LetterSelection::Filter(filter) => counts(control, &filter).await?,
            LetterSelection::Ids(ids) => {
                let mut letters = Vec::new();
                for id in ids {
                    let letter = control.dead_letter(id).await?;
                    letters.push(LetterCountView {
                        flow_code: letter.flow_code,
                        reason: letter.reason,
                        count: 1,
                    });
                }
                let total = letters.len() as u64;
                (letters, 0, total)
            }
        };
        let hidden = query.only(&CONDITIONS);
        Page::new(&ConfirmPage {
            frame,
            verb,
            target,
            counts,
            more_counts,
            total: grouped(total),
            has_letters: total > 0,
            back: if query.get("id").is_empty() {
                link_with(PART, &hidden)
            } else {
                link("/dead-letter", [("id", query.get("id"))])
            },
            hidden,
        })
    });
    Ok(page.await?)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn queries_select_letters() {
        let query = Fields::parse(b"flow=A&reason=validation_failed&topic=a/%23&since=2026-01-01&text=x");
        let filter = filter(&query).unwrap();
        assert_eq!((filter.flow.as_deref(), filter.text.as_deref()), (Some("A"), Some("x")));
        assert_eq!(filter.reason, Some(DeadLetterReason::ValidationFailed));
        assert!(filter.matches_topic("a/b") && filter.since_us.is_some() && filter.until_us.is_none());
        assert!(super::filter(&Fields::parse(b"flow=&reason=&text=")).unwrap().is_empty());
        for wrong in [&b"reason=x"[..], b"topic=a/%23/b", b"since=yesterday", b"text=a%00"] {
            assert!(super::filter(&Fields::parse(wrong)).is_err(), "{wrong:?}");
        }
        assert_eq!(selection(&Fields::parse(b"id=7")).unwrap(), LetterSelection::Ids(vec![7]));
        assert!(selection(&Fields::parse(b"id=x")).is_err());
    }

    #[test]
    fn command_has_the_conditions() {
        let query = Fields::parse(b"flow=A%20B&reason=&text=x");
        let command = command("list", &query.only(&CONDITIONS));
        assert_eq!(command, "mqtt-gateway dead-letters list --flow 'A B' --text x");
    }
}
