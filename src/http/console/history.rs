//! The edits of all flows and brokers, with their authors, and the rows that the pages of a flow and a broker show.

use std::collections::HashSet;

use actix_web::web::Data;
use askama::Template;

use super::fields::{Fields, link_with};
use super::links::{broker_link, flow_link};
use super::page::{
    ConsoleError, Page, PageFrame, conditions_or_problems, short_time, status_of, unknown_word,
};
use super::shell::command_line;
use super::visitor::Visitor;
use crate::control::time_text::parse_time;
use crate::control::{ControlError, HistoryEntryView};
use crate::domain::edit_history::{EditedKind, HistoryFilter};
use crate::domain::problem::Problem;
use crate::http::api::thread::ApiThread;

/// The part of the console.
const PART: &str = "/history";

/// Edits of a page.
const PAGE_EDITS: usize = 50;

/// Fields of the query that select edits.
const CONDITIONS: [&str; 5] = ["kind", "name", "by", "since", "until"];

#[derive(Template)]
#[template(path = "history.html", config = "src/http/console/askama.toml")]
struct HistoryListPage {
    frame: PageFrame,
    query: Fields,
    /// Of the conditions. With one, only the form is shown.
    problems: Vec<Problem>,
    rows: Vec<EditRow>,
    is_filtered: bool,
    first: Option<String>,
    next: Option<String>,
    command: String,
}

/// An edit as it is shown.
pub(super) struct EditRow {
    pub(super) id: i64,
    pub(super) at: String,
    pub(super) by: String,
    pub(super) edit: &'static str,
    pub(super) changes: Vec<EditChange>,
    pub(super) counts_from: String,
    /// Whether the row can be as it was after this edit.
    pub(super) is_target: bool,
    /// `flow` or `broker`.
    kind: &'static str,
    name: String,
    /// The page of the flow or broker; none if it was removed.
    link: Option<String>,
}

/// A changed column.
pub(super) struct EditChange {
    pub(super) column: String,
    /// The values before and after; none if only a secret differs.
    pub(super) values: Option<(String, String)>,
}

impl EditRow {
    /// The rows of a flow or a broker, whose newest entry is the present.
    pub(super) fn of_one(entries: &[HistoryEntryView]) -> Vec<Self> {
        let mut rows: Vec<Self> = entries.iter().map(|entry| Self::new(entry, &HashSet::new())).collect();
        if let Some(present) = rows.first_mut() {
            present.is_target = false;
        }
        rows
    }

    /// `present` has the links to the flows and brokers that there are.
    fn new(entry: &HistoryEntryView, present: &HashSet<String>) -> Self {
        let is_server = entry.kind == EditedKind::Server.as_str();
        let change = |change: crate::control::EditedColumn<'_>| EditChange {
            column: change.column.to_owned(),
            values: change.values,
        };
        Self {
            id: entry.id,
            at: short_time(&entry.edited_at),
            by: entry.edited_by.clone(),
            edit: entry.edit,
            changes: entry.changes().into_iter().map(change).collect(),
            counts_from: entry.counts_from.map(|from| from.to_string()).unwrap_or_default(),
            is_target: entry.after.is_some(),
            kind: if is_server { "broker" } else { "flow" },
            link: Some(if is_server { broker_link(&entry.name) } else { flow_link(&entry.name) })
                .filter(|link| present.contains(link)),
            name: entry.name.clone(),
        }
    }
}

fn filter(query: &Fields) -> Result<HistoryFilter, ControlError> {
    query.check()?;
    let time = |field| {
        let time = query.given(field).map(|text| parse_time(&text)).transpose();
        time.map_err(|expected| ControlError::invalid(field, expected, "correct it, or leave it out"))
    };
    let kind = query.get("kind");
    let kind = match EditedKind::from_name(kind) {
        None if !kind.is_empty() => return Err(unknown_word("kind", kind)),
        kind => kind,
    };
    Ok(HistoryFilter {
        kind,
        name: Some(query.get("name").to_owned()).filter(|name| !name.is_empty()),
        by: query.given("by"),
        since_us: time("since")?,
        until_us: time("until")?,
    })
}

/// Shows the list.
pub(super) async fn list(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "History");
    let query = visitor.query;
    let page = thread.run(async move |control| {
        let (filter, problems) = conditions_or_problems(filter(&query))?;
        let status = status_of(&problems);
        let before = query.number("before").ok();
        let mut entries = control.edits(&filter, before, PAGE_EDITS as u64 + 1).await?;
        let has_more = entries.len() > PAGE_EDITS;
        entries.truncate(PAGE_EDITS);
        let conditions = query.only(&CONDITIONS);
        let flows = control.flows().await?.into_iter().map(|flow| flow_link(&flow.definition.code));
        let brokers = control.servers().await?.into_iter().map(|broker| broker_link(&broker.id.to_string()));
        let present = flows.chain(brokers).collect();
        let row = |entry| EditRow::new(&HistoryEntryView::new(entry), &present);
        let next = entries.last().filter(|_| has_more).map(|last| {
            let place = ("before".to_owned(), last.id.to_string());
            link_with(PART, &[conditions.as_slice(), &[place]].concat())
        });
        Page::with_status(
            status,
            &HistoryListPage {
                frame,
                problems,
                rows: entries.iter().map(row).collect(),
                is_filtered: filter != HistoryFilter::default(),
                first: before.map(|_| link_with(PART, &conditions)),
                next,
                command: command_line("history", &conditions),
                query,
            },
        )
    });
    Ok(page.await?)
}
