//! Dead letters: the list with its filters, the page of a letter, replay and discard.

mod letter;
mod results;
mod shown_payload;

use actix_web::web::Data;
use askama::Template;

pub(super) use self::letter::{show, test};
pub(super) use self::results::{discard, replay, replay_caused};
use super::charts::{counted, grouped};
use super::fields::{Fields, link, link_with};
use super::page::{ConsoleError, Page, PageFrame, conditions_or_problems, short_time, status_of};
use super::shell::{command_line, shell_word};
use super::visitor::Visitor;
use crate::control::time_text::{parse_age, parse_time, shown_time};
use crate::control::view::{LetterCountView, LetterSummaryView};
use crate::control::{Control, ControlError, LetterSelection, NEWEST_LETTERS};
use crate::domain::api_token::TokenScope;
use crate::domain::dead_letter::{DeadLetter, DeadLetterReason, LetterFilter};
use crate::domain::problem::Problem;
use crate::domain::topic::TopicFilter;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;

/// The part of the console.
const PART: &str = "/dead-letters";

/// The singular of the word for dead letters.
pub(super) const LETTER: &str = "dead letter";

/// Dead letters of a page.
const PAGE_LETTERS: usize = 50;

/// Most counts that a page shows.
const MAX_COUNTS: usize = 12;

/// The field of a form with the highest id of the letters that were counted. Later ones are not part of it.
const LAST: &str = "last";

/// Fields of the query that select dead letters.
const CONDITIONS: [&str; 7] = ["flow", "reason", "topic", "since", "until", "text", "id"];

#[derive(Template)]
#[template(path = "letters.html", config = "src/http/console/askama.toml")]
struct LetterListPage {
    frame: PageFrame,
    query: Fields,
    /// Of the conditions. With one, only the form is shown.
    problems: Vec<Problem>,
    reasons: Vec<&'static str>,
    heading: String,
    counts: CountedLetters,
    links: Vec<CountLink>,
    is_filtered: bool,
    letters: Vec<LetterRow>,
    first: Option<String>,
    next: Option<NextLetters>,
    replay_link: String,
    discard_link: String,
    command: String,
}

/// Where the list goes on.
struct NextLetters {
    link: String,
    /// Whether older letters were not searched yet, in place of a page that is full.
    is_search: bool,
}

/// Counts of selected letters by flow and reason.
pub(super) struct CountedLetters {
    /// The highest ones.
    highest: Vec<LetterCountView>,
    /// Number of the others.
    more: usize,
    /// Number of letters.
    total: u64,
    /// Whether older letters were not counted.
    is_partial: bool,
}

struct CountLink {
    count: String,
    reason: String,
    flow_code: Option<String>,
    link: String,
}

struct LetterRow {
    letter: LetterSummaryView,
    at: String,
    link: String,
}

#[derive(Template)]
#[template(path = "confirm.html", config = "src/http/console/askama.toml")]
struct ConfirmPage {
    frame: PageFrame,
    verb: &'static str,
    /// The path of the form, with the conditions: loaded again, it asks about the same letters.
    target: String,
    counts: CountedLetters,
    /// The number of letters, in words.
    letters: String,
    conditions: Vec<(String, String)>,
    /// The fields that select the letters: the conditions, and the last letter that was counted.
    hidden: Vec<(String, String)>,
    is_one: bool,
    back: String,
    command: String,
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
        DeadLetterReason::from_name(&reason)
            .ok_or_else(|| invalid("reason", format!("{reason:?} is no reason")))
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
        up_to: query.number(LAST).ok(),
        ..LetterFilter::default()
    })
}

/// The dead letters of a query: one by its id, or all that match the filter.
fn selection(query: &Fields) -> Result<LetterSelection, ControlError> {
    if query.get("id").is_empty() {
        return Ok(LetterSelection::Filter(filter(query)?));
    }
    Ok(LetterSelection::Ids(vec![query.number("id")?]))
}

/// The conditions with times in place of ages, which would select other letters later.
fn at_fixed_times(query: Fields) -> Fields {
    ["since", "until"].into_iter().fold(query, |query, field| match parse_time(query.get(field).trim()) {
        Ok(at_us) if parse_age(query.get(field).trim()).is_ok() => query.with(field, shown_time(at_us)),
        _ => query,
    })
}

/// Shows the list.
pub(super) async fn list(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Dead letters");
    let query = visitor.query;
    let page = thread.run(async move |control| {
        let (filter, problems) = conditions_or_problems(filter(&query))?;
        let status = status_of(&problems);
        let before = query.number("before").ok();
        let counts = CountedLetters::read(control, &filter).await?;
        let searched = control.among_newest(&filter, before).await?;
        let mut letters = control.dead_letters(&searched, before, PAGE_LETTERS + 1).await?;
        let conditions = query.only(&CONDITIONS);
        let is_full = letters.len() > PAGE_LETTERS;
        letters.truncate(PAGE_LETTERS);
        let last = letters.last().map(|letter| letter.id).filter(|_| is_full);
        let next = NextLetters::new(&conditions, last, searched.above);
        let links = counts.highest.iter().map(|count| CountLink::new(&conditions, count)).collect();
        let row = |letter| {
            let letter = LetterSummaryView::new(letter);
            LetterRow { link: letter_link(letter.id), at: short_time(&letter.occurred_at), letter }
        };
        Page::with_status(
            status,
            &LetterListPage {
                frame,
                problems,
                reasons: reasons(),
                heading: counts.heading(),
                counts,
                links,
                is_filtered: !filter.is_empty(),
                letters: letters.iter().map(row).collect(),
                first: before.map(|_| link_with(PART, &conditions)),
                next,
                replay_link: link_with("/dead-letters/replay", &conditions),
                discard_link: link_with("/dead-letters/discard", &conditions),
                command: command_line("dead-letters list", &conditions),
                query,
            },
        )
    });
    Ok(page.await?)
}

impl NextLetters {
    /// The link below the last letter of a full page, or below the searched letters.
    fn new(conditions: &[(String, String)], last: Option<i64>, above: Option<i64>) -> Option<Self> {
        let before = last.or(above.map(|id| id.saturating_add(1)))?;
        let place = ("before".to_owned(), before.to_string());
        let link = link_with(PART, &[conditions, &[place]].concat());
        Some(Self { link, is_search: last.is_none() })
    }
}

impl CountedLetters {
    /// Counts letters among the newest.
    pub(super) async fn read(control: &Control, filter: &LetterFilter) -> Result<Self, ControlError> {
        let searched = control.among_newest(filter, None).await?;
        let mut counts = control.dead_letter_counts(&searched).await?;
        counts.sort_by_key(|count| std::cmp::Reverse(count.rows));
        Ok(Self {
            highest: counts.iter().take(MAX_COUNTS).map(LetterCountView::new).collect(),
            more: counts.len().saturating_sub(MAX_COUNTS),
            total: counts.iter().map(|count| count.rows).sum(),
            is_partial: searched.above.is_some(),
        })
    }

    /// The count of a single letter.
    fn of_one(letter: DeadLetter) -> Self {
        let count = LetterCountView { flow_code: letter.flow_code, reason: letter.reason, count: 1 };
        Self { highest: vec![count], more: 0, total: 1, is_partial: false }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.total == 0 && !self.is_partial
    }

    fn heading(&self) -> String {
        match (self.is_partial, self.total) {
            (true, NEWEST_LETTERS) => format!("More than {} dead letters", grouped(NEWEST_LETTERS)),
            (true, total) => {
                format!("{} among the newest {} dead letters", grouped(total), grouped(NEWEST_LETTERS))
            }
            (false, total) => counted(total, LETTER),
        }
    }

    /// The number of letters, in words that follow a verb.
    pub(super) fn letters(&self) -> String {
        match (self.is_partial, self.total) {
            (true, 0) => "all that match".to_owned(),
            (true, total) => format!("at least {}", counted(total, LETTER)),
            (false, total) => counted(total, LETTER),
        }
    }
}

impl CountLink {
    /// The link to the letters of a count among those with `conditions`.
    fn new(conditions: &[(String, String)], count: &LetterCountView) -> Self {
        let others = conditions.iter().filter(|(name, _)| name != "flow" && name != "reason");
        let mut pairs: Vec<(String, String)> = others.cloned().collect();
        pairs.push(("reason".to_owned(), count.reason.clone()));
        pairs.extend(count.flow_code.clone().map(|flow| ("flow".to_owned(), flow)));
        Self {
            count: grouped(count.count),
            reason: count.reason.clone(),
            flow_code: count.flow_code.clone(),
            link: link_with(PART, &pairs),
        }
    }
}

fn reasons() -> Vec<&'static str> {
    let mut reasons = DeadLetterReason::ALL.map(DeadLetterReason::as_str).to_vec();
    reasons.sort_unstable();
    reasons
}

fn letter_link(id: i64) -> String {
    link("/dead-letter", [("id", id.to_string().as_str())])
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
    let query = at_fixed_times(visitor.query);
    let page = thread.run(async move |control| -> Result<Page, ApiProblem> {
        let is_one = !query.get("id").is_empty();
        let conditions = query.only(&CONDITIONS);
        let (counts, last) = if is_one {
            (CountedLetters::of_one(control.dead_letter(query.number("id")?).await?), None)
        } else {
            let last = control.last_dead_letter().await?;
            let filter = LetterFilter { up_to: Some(last), ..filter(&query)? };
            (CountedLetters::read(control, &filter).await?, Some((LAST.to_owned(), last.to_string())))
        };
        Page::new(&ConfirmPage {
            frame,
            verb,
            target: link_with(target, &conditions),
            letters: counts.letters(),
            counts,
            back: if is_one {
                link("/dead-letter", [("id", query.get("id"))])
            } else {
                link_with(PART, &conditions)
            },
            command: selected_command(&verb.to_lowercase(), "--yes", &query),
            hidden: conditions.iter().cloned().chain(last).collect(),
            conditions,
            is_one,
        })
    });
    Ok(page.await?)
}

/// The command that works on the same dead letters, with one more option.
fn selected_command(action: &str, option: &str, query: &Fields) -> String {
    let conditions = query.only(&CONDITIONS);
    let command = match &conditions[..] {
        [] => format!("mqtt-gateway dead-letters {action} --all"),
        [(name, id)] if name == "id" => format!("mqtt-gateway dead-letters {action} {}", shell_word(id)),
        conditions => command_line(&format!("dead-letters {action}"), conditions),
    };
    format!("{command} {option}")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use chrono::Utc;

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
    fn ages_become_times() {
        let query = at_fixed_times(Fields::parse(b"since=2026-01-01&until=%2015s&text=1h"));
        assert_eq!((query.get("since"), query.get("text")), ("2026-01-01", "1h"));
        let age_us = Utc::now().timestamp_micros() - parse_time(query.get("until")).unwrap();
        assert!(age_us >= 15_000_000, "{query:?}");
        assert_eq!(at_fixed_times(query.clone()), query);
        let wrong = Fields::parse(b"since=soon");
        assert_eq!(at_fixed_times(wrong.clone()), wrong);
    }

    #[test]
    fn command_has_the_conditions() {
        let query = Fields::parse(b"flow=A%20B&reason=&text=x");
        let command = command_line("dead-letters list", &query.only(&CONDITIONS));
        assert_eq!(command, "mqtt-gateway dead-letters list --flow 'A B' --text x");
        let replay = |query: &str| selected_command("replay", "--yes", &Fields::parse(query.as_bytes()));
        assert_eq!(replay("do=go"), "mqtt-gateway dead-letters replay --all --yes");
        assert_eq!(replay("id=7"), "mqtt-gateway dead-letters replay 7 --yes");
        assert_eq!(replay("flow=A"), "mqtt-gateway dead-letters replay --flow A --yes");
    }
}
