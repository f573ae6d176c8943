//! The list of flows, the page of a flow, and its buttons.

use actix_web::web::Data;
use askama::Template;

use super::charts::grouped;
use super::fields::{Fields, link, link_with};
use super::page::{ConsoleError, Page, PageFrame, SeeOther, short_time};
use super::visitor::{Submission, Visitor};
use crate::control::view::json_text;
use crate::control::{
    CheckedFlow, Control, ControlError, EditedFlow, FlowEdit, FlowFilter, FlowOrder, HistoryEntryView,
};
use crate::domain::api_token::TokenScope;
use crate::domain::dead_letter::LetterFilter;
use crate::domain::edit_history::EditedKind;
use crate::domain::masking::MaskedFlow;
use crate::domain::problem::Problem;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;

/// The part of the console.
pub(super) const PART: &str = "/flows";

/// Flows of a page.
const PAGE_FLOWS: usize = 50;

/// Most entries of the history that a page shows.
const MAX_ENTRIES: u64 = 20;

/// Fields of the query of the list, without its place.
const CONDITIONS: [&str; 4] = ["text", "state", "action", "order"];

#[derive(Template)]
#[template(path = "flows.html", config = "src/http/console/askama.toml")]
struct FlowListPage {
    frame: PageFrame,
    query: Fields,
    flows: Vec<FlowLine>,
    total: String,
    is_filtered: bool,
    /// Whether this is not the first page.
    is_later: bool,
    first: String,
    next: Option<String>,
}

struct FlowLine {
    link: String,
    code: String,
    description: String,
    topic: String,
    action: String,
    state: FlowHealth,
    last_msg_id: String,
}

/// A flow in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlowHealth {
    Enabled,
    Disabled,
    Rejected,
}

impl FlowHealth {
    fn new(CheckedFlow { flow, problems }: &CheckedFlow) -> Self {
        match (flow.definition.is_enabled(), problems.iter().any(Problem::is_error)) {
            (true, true) => Self::Rejected,
            (true, false) => Self::Enabled,
            (false, _) => Self::Disabled,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Enabled => "enabled",
            Self::Disabled => "disabled",
            Self::Rejected => "cannot work",
        }
    }

    fn class(self) -> &'static str {
        match self {
            Self::Enabled => "good",
            Self::Disabled => "idle",
            Self::Rejected => "bad",
        }
    }
}

#[derive(Template)]
#[template(path = "flow.html", config = "src/http/console/askama.toml")]
struct FlowPage {
    frame: PageFrame,
    notice: Option<String>,
    flow: MaskedFlow,
    state: FlowHealth,
    schema: String,
    options: String,
    problems: Vec<Problem>,
    last_msg_id: String,
    waiting_posts: u64,
    letters: Vec<LetterLink>,
    all_letters: String,
    history: Vec<HistoryRow>,
    edit_link: String,
    test_link: String,
    command: String,
}

struct LetterLink {
    reason: String,
    count: String,
    link: String,
}

struct HistoryRow {
    id: i64,
    at: String,
    by: String,
    edit: &'static str,
    changed: String,
    counts_from: String,
    /// Whether the flow can be as it was after this entry.
    is_target: bool,
}

/// Shows the list.
pub(super) async fn list(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Flows");
    let query = visitor.query;
    let page = thread.run(async move |control| {
        let filter = FlowFilter {
            enabled: match query.get("state") {
                "enabled" => Some(true),
                "disabled" => Some(false),
                _ => None,
            },
            action: query.given("action"),
            text: query.given("text"),
        };
        let order = if query.get("order") == "newest" { FlowOrder::Newest } else { FlowOrder::Code };
        let after = Some(query.get("after")).filter(|after| !after.is_empty());
        let found = control.find_flows(&filter, order, after, PAGE_FLOWS).await?;
        let conditions = query.only(&CONDITIONS);
        let last = found.flows.last().filter(|_| found.has_more);
        let next = last.map(|last| {
            let place = ("after".to_owned(), last.flow.definition.code.clone());
            link_with(PART, &[conditions.as_slice(), &[place]].concat())
        });
        Page::new(&FlowListPage {
            frame,
            flows: found.flows.iter().map(FlowLine::new).collect(),
            total: grouped(found.total as u64),
            is_filtered: filter != FlowFilter::default(),
            is_later: after.is_some(),
            first: link_with(PART, &conditions),
            next,
            query,
        })
    });
    Ok(page.await?)
}

impl FlowLine {
    fn new(checked: &CheckedFlow) -> Self {
        let definition = &checked.flow.definition;
        Self {
            link: flow_link(&definition.code),
            code: definition.code.clone(),
            description: definition.description.clone(),
            topic: definition.topic.clone(),
            action: definition.action.clone(),
            state: FlowHealth::new(checked),
            last_msg_id: checked.flow.last_msg_id.unwrap_or_default().to_string(),
        }
    }
}

/// Shows a flow.
pub(super) async fn show(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let code = visitor.query.get("code").to_owned();
    let frame = visitor.frame(PART, code.clone());
    let notice = notice(&visitor.query);
    let page = thread.run(async move |control| Page::new(&flow_page(control, &code, frame, notice).await?));
    Ok(page.await?)
}

async fn flow_page(
    control: &Control,
    code: &str,
    frame: PageFrame,
    notice: Option<String>,
) -> Result<FlowPage, ApiProblem> {
    let codes = [code.to_owned()];
    let checked = control.check_flows(&codes).await?.pop().ok_or_else(ApiProblem::internal)?;
    let filter = LetterFilter { flow: Some(code.to_owned()), ..LetterFilter::default() };
    let letters = control.dead_letter_counts(&control.among_newest(&filter, None).await?).await?;
    let history = control.history(EditedKind::Flow, code, None, MAX_ENTRIES).await?;
    let flow = MaskedFlow::new(&checked.flow.definition);
    Ok(FlowPage {
        frame,
        notice,
        state: FlowHealth::new(&checked),
        schema: json_text(flow.payload_schema.as_deref().unwrap_or_default()),
        options: json_text(flow.options.as_deref().unwrap_or_default()),
        last_msg_id: checked.flow.last_msg_id.unwrap_or_default().to_string(),
        waiting_posts: control.waiting_posts(&checked.flow).await?,
        problems: checked.problems,
        letters: letters
            .into_iter()
            .map(|count| LetterLink {
                link: link("/dead-letters", [("flow", code), ("reason", count.reason.as_str())]),
                count: grouped(count.rows),
                reason: count.reason,
            })
            .collect(),
        all_letters: link("/dead-letters", [("flow", code)]),
        history: history
            .iter()
            .enumerate()
            .map(|(place, entry)| HistoryRow::new(place, &HistoryEntryView::new(entry)))
            .collect(),
        edit_link: link("/flow/edit", [("code", code)]),
        test_link: link("/flow/test", [("code", code)]),
        command: format!("mqtt-gateway flows show {}", shell_word(code)),
        flow,
    })
}

impl HistoryRow {
    /// The entry at this place of the history, whose newest entry is the present.
    fn new(place: usize, entry: &HistoryEntryView) -> Self {
        Self {
            id: entry.id,
            at: short_time(&entry.edited_at),
            by: entry.edited_by.clone(),
            edit: entry.edit,
            changed: entry.changed.join(", "),
            counts_from: entry.counts_from.map(|from| from.to_string()).unwrap_or_default(),
            is_target: place > 0 && entry.after.is_some(),
        }
    }
}

/// Enables a flow.
pub(super) async fn enable(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    set_enabled(submission, &thread, true).await
}

/// Disables a flow.
pub(super) async fn disable(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    set_enabled(submission, &thread, false).await
}

async fn set_enabled(
    submission: Submission,
    thread: &ApiThread,
    enabled: bool,
) -> Result<SeeOther, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Operate)?;
    let done = if enabled { "enabled" } else { "disabled" };
    let edit = FlowEdit { enabled: Some(enabled), ..FlowEdit::default() };
    edit_as(&visitor, thread, fields, done, async move |control, fields| {
        Ok(control.edit_flows(&[fields.get("code").to_owned()], &edit).await?.pop())
    })
    .await
}

/// Gives a flow the columns that it had after an entry of its history.
pub(super) async fn roll_back(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    edit_as(&visitor, &thread, fields, "rolled_back", async move |control, fields| {
        control.roll_back(fields.get("code"), fields.number("to")?).await.map(Some)
    })
    .await
}

async fn edit_as(
    visitor: &Visitor,
    thread: &ApiThread,
    fields: Fields,
    done: &'static str,
    edit: impl AsyncFnOnce(&Control, &Fields) -> Result<Option<EditedFlow>, ControlError> + Send + 'static,
) -> Result<SeeOther, ConsoleError> {
    let edited =
        thread.run_as(&visitor.caller, async move |control| Ok(edit(control, &fields).await?)).await?;
    let edited = edited.ok_or_else(ApiProblem::internal)?;
    Ok(after_edit(&edited, done))
}

/// Leads to the page of the flow, which confirms the action.
pub(super) fn after_edit(edited: &EditedFlow, done: &str) -> SeeOther {
    let from = edited.counts_from.to_string();
    let done = if edited.changed { done } else { "unchanged" };
    SeeOther(link("/flow", [("code", edited.code.as_str()), ("done", done), ("from", &from)]))
}

fn notice(query: &Fields) -> Option<String> {
    let from = query.number("from").unwrap_or_default();
    let done = match query.get("done") {
        "added" => format!("The flow was added. Its first message gets the number {from}."),
        "saved" => format!("The edit was saved. It counts from message {from} on."),
        "enabled" => {
            "The flow is enabled. It gets messages as soon as the gateway has subscribed.".to_owned()
        }
        "disabled" => format!(
            "The flow is disabled. Messages from number {from} on become dead letters, and no new ones arrive."
        ),
        "rolled_back" => format!("The flow is as it was. That counts from message {from} on."),
        "unchanged" => "Nothing was changed: the flow was like that already.".to_owned(),
        _ => return None,
    };
    Some(done)
}

/// The page of a flow.
pub(super) fn flow_link(code: &str) -> String {
    link("/flow", [("code", code)])
}

/// A code as a word for the shell.
pub(super) fn shell_word(text: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-./:".contains(c);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn command_lines_are_safe_to_copy() {
        assert_eq!(shell_word("TEMP_1"), "TEMP_1");
        assert_eq!(shell_word("a b; rm"), "'a b; rm'");
        assert_eq!(shell_word("it's"), r"'it'\''s'");
        assert_eq!(shell_word("-x"), "'-x'");
        assert_eq!(shell_word(""), "''");
    }
}
