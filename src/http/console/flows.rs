//! The list of flows, the page of a flow, and its buttons.

use actix_web::web::Data;
use askama::Template;

use super::charts::{ValueChart, counted, grouped};
use super::drift::SeenFields;
use super::fields::{Fields, link, link_with};
use super::history::EditRow;
use super::links::flow_link;
use super::page::{
    ConsoleError, Page, PageFrame, SeeOther, conditions_or_problems, short_time, status_of, unknown_word,
};
use super::shell::{command_line, shell_word};
use super::visitor::{Submission, Visitor};
use crate::control::view::json_text;
use crate::control::{
    Control, ControlError, EditedFlow, FlowEdit, FlowFilter, FlowOrder, FoundFlow, HistoryEntryView,
};
use crate::domain::api_token::TokenScope;
use crate::domain::dead_letter::LetterFilter;
use crate::domain::edit_history::EditedKind;
use crate::domain::flow::{FLOW_ACTION_POST_ENDPOINT, FLOW_ACTION_STORE_DB};
use crate::domain::flow_definition::FlowRecord;
use crate::domain::masking::MaskedFlow;
use crate::domain::problem::Problem;
use crate::domain::topic::TopicFilter;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;
use crate::observe::{ActivityReading, Telemetry, timestamp};

/// The part of the console.
pub(super) const PART: &str = "/flows";

/// Flows of a page.
const PAGE_FLOWS: usize = 50;

/// Highest number of a page, so that its place is a number.
const MAX_PAGE: usize = 1_000_000;

/// Most entries of the history that a page shows.
const MAX_ENTRIES: u64 = 20;

/// Fields of the query of the list, without its place.
const CONDITIONS: [&str; 4] = ["text", "state", "action", "order"];

/// The actions of flows.
const ACTIONS: [&str; 2] = [FLOW_ACTION_STORE_DB, FLOW_ACTION_POST_ENDPOINT];

/// The orders of the list, with their names in the query.
const ORDERS: [(&str, &str, FlowOrder); 6] = [
    ("", "code", FlowOrder::Code),
    ("newest", "newest first", FlowOrder::Newest),
    ("rate", "most messages first", FlowOrder::Rate),
    ("latest", "latest message first", FlowOrder::LastMessage),
    ("number", "highest number first", FlowOrder::Number),
    ("dead", "most dead letters first", FlowOrder::DeadLetters),
];

#[derive(Template)]
#[template(path = "flows.html", config = "src/http/console/askama.toml")]
struct FlowListPage {
    frame: PageFrame,
    notice: Option<String>,
    query: Fields,
    /// Of the conditions. With one, only the form is shown.
    problems: Vec<Problem>,
    orders: [(&'static str, &'static str, FlowOrder); 6],
    flows: Vec<FlowLine>,
    total: String,
    is_filtered: bool,
    /// Number of this page, from 1.
    page: usize,
    pages: usize,
    first: String,
    previous: String,
    next: String,
    command: String,
}

struct FlowLine {
    link: String,
    code: String,
    description: String,
    topic: String,
    action: String,
    state: FlowHealth,
    /// Why the flow cannot work.
    trouble: Option<String>,
    last_msg_id: String,
    rate: String,
    last_at: String,
    dead_letters: Option<String>,
    letters_link: String,
}

/// A flow in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FlowHealth {
    Enabled,
    Disabled,
    Rejected,
}

impl FlowHealth {
    fn new(flow: &FlowRecord, problems: &[Problem]) -> Self {
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
    rate: Option<String>,
    last_at: Option<String>,
    waiting_posts: u64,
    letters: Vec<LetterLink>,
    all_letters: String,
    /// Dead letters of its topic, which also has those that no flow was asked about.
    letters_of_topic: Option<String>,
    charts: Vec<ValueChart>,
    /// None if no message was seen.
    fields: Option<SeenFields>,
    history: Vec<EditRow>,
    all_history: String,
    edit_link: String,
    remove_link: String,
    test_link: String,
    command: String,
}

struct LetterLink {
    reason: String,
    count: String,
    link: String,
}

/// The filter and the order of a query.
fn conditions(query: &Fields) -> Result<(FlowFilter, FlowOrder), ControlError> {
    let state = query.get("state");
    let (enabled, unusable) = match state {
        "" => (None, false),
        "enabled" => (Some(true), false),
        "disabled" => (Some(false), false),
        "unusable" => (None, true),
        _ => return Err(unknown_word("state", state)),
    };
    let order = query.get("order");
    let (.., order) =
        ORDERS.into_iter().find(|(name, ..)| *name == order).ok_or_else(|| unknown_word("order", order))?;
    let action = query.given("action");
    if let Some(unknown) = action.as_ref().filter(|action| !ACTIONS.contains(&action.as_str())) {
        return Err(unknown_word("action", unknown));
    }
    Ok((FlowFilter { enabled, action, text: query.given("text"), unusable }, order))
}

/// Shows the list.
pub(super) async fn list(
    visitor: Visitor,
    telemetry: Data<Telemetry>,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Flows");
    let notice = notice(&visitor.query);
    let query = visitor.query;
    let activity = telemetry.metrics.flows.activity();
    let page = thread.run(async move |control| {
        let ((filter, order), problems) = conditions_or_problems(conditions(&query))?;
        let status = status_of(&problems);
        let page = query.number("page").ok().and_then(|page| usize::try_from(page).ok());
        let page = page.unwrap_or_default().clamp(1, MAX_PAGE);
        let place = ((page - 1) * PAGE_FLOWS, PAGE_FLOWS);
        let found = control.find_flows(&filter, order, &activity, place).await?;
        let conditions = query.only(&CONDITIONS);
        let link_to = |page: usize| {
            let page = ("page".to_owned(), page.to_string());
            link_with(PART, &[conditions.as_slice(), &[page]].concat())
        };
        let list = FlowListPage {
            frame,
            notice,
            problems,
            orders: ORDERS,
            flows: found.flows.into_iter().map(FlowLine::new).collect(),
            total: counted(found.total as u64, "flow"),
            is_filtered: filter != FlowFilter::default(),
            page,
            pages: found.total.div_ceil(PAGE_FLOWS),
            first: link_with(PART, &conditions),
            previous: link_to(page - 1),
            next: link_to(page + 1),
            command: list_command(&filter),
            query,
        };
        Page::with_status(status, &list)
    });
    Ok(page.await?)
}

impl FlowLine {
    fn new(FoundFlow { flow, problems, activity, dead_letters }: FoundFlow) -> Self {
        let state = FlowHealth::new(&flow, &problems);
        let trouble =
            problems.into_iter().find(|problem| problem.is_error() && state == FlowHealth::Rejected);
        let definition = flow.definition;
        Self {
            link: flow_link(&definition.code),
            letters_link: link("/dead-letters", [("flow", definition.code.as_str()), ("since", "24h")]),
            state,
            trouble: trouble.map(|trouble| trouble.problem),
            last_msg_id: grouped(flow.last_msg_id.unwrap_or_default().unsigned_abs()),
            rate: activity.map(|activity| rate_text(activity.per_minute)).unwrap_or_default(),
            last_at: activity.map(|activity| short_time(&timestamp(activity.last_at))).unwrap_or_default(),
            dead_letters: (dead_letters > 0).then(|| grouped(dead_letters)),
            code: definition.code,
            description: definition.description,
            topic: definition.topic,
            action: definition.action,
        }
    }
}

/// The command with the same conditions, as far as it has them.
fn list_command(FlowFilter { enabled, action, text, unusable }: &FlowFilter) -> String {
    if *unusable {
        return "mqtt-gateway flows validate --all".to_owned();
    }
    let enabled = enabled.map(|enabled| enabled.to_string());
    let options = [("enabled", &enabled), ("action", action), ("text", text)];
    let options = options.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?)));
    command_line("flows list", &options.collect::<Vec<_>>())
}

/// Messages per minute: small rates need a fraction.
fn rate_text(per_minute: f64) -> String {
    if per_minute > 0.0 && per_minute < 9.95 {
        return format!("{per_minute:.1}");
    }
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a rate for people")]
    let whole = per_minute.round() as u64;
    grouped(whole)
}

/// Shows a flow.
pub(super) async fn show(
    visitor: Visitor,
    telemetry: Data<Telemetry>,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let code = visitor.query.get("code").to_owned();
    let frame = visitor.frame(PART, code.clone());
    let notice = notice(&visitor.query);
    let activity = telemetry.metrics.flows.activity().remove(code.as_str());
    let page = thread.run(async move |control| {
        let page = flow_page(control, &code, frame, notice, activity).await?;
        Page::new(&page)
    });
    Ok(page.await?)
}

async fn flow_page(
    control: &Control,
    code: &str,
    frame: PageFrame,
    notice: Option<String>,
    activity: Option<ActivityReading>,
) -> Result<FlowPage, ApiProblem> {
    let codes = [code.to_owned()];
    let mut checked = control.check_flows(&codes).await?.pop().ok_or_else(ApiProblem::internal)?;
    checked.problems.splice(0..0, control.refusal(&checked.flow.definition));
    let filter = LetterFilter { flow: Some(code.to_owned()), ..LetterFilter::default() };
    let letters = control.dead_letter_counts(&control.among_newest(&filter, None).await?).await?;
    let history = control.history(EditedKind::Flow, code, None, MAX_ENTRIES).await?;
    let history: Vec<_> = history.iter().map(HistoryEntryView::new).collect();
    // Without the right to read the fields, the page does without them.
    let drift = control.flow_drift(code).await.ok().filter(|drift| !drift.log.is_empty());
    let flow = MaskedFlow::new(&checked.flow.definition);
    Ok(FlowPage {
        frame,
        notice,
        state: FlowHealth::new(&checked.flow, &checked.problems),
        schema: json_text(flow.payload_schema.as_deref().unwrap_or_default()),
        options: json_text(flow.options.as_deref().unwrap_or_default()),
        last_msg_id: grouped(checked.flow.last_msg_id.unwrap_or_default().unsigned_abs()),
        rate: activity.map(|activity| rate_text(activity.per_minute)),
        last_at: activity.map(|activity| short_time(&timestamp(activity.last_at))),
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
        fields: drift.as_ref().map(SeenFields::new),
        all_letters: link("/dead-letters", [("flow", code)]),
        letters_of_topic: TopicFilter::parse(&flow.topic)
            .is_ok()
            .then(|| link("/dead-letters", [("topic", flow.topic.as_str())])),
        charts: control.flow_values(code).await?.into_iter().map(ValueChart::new).collect(),
        history: EditRow::of_one(&history),
        all_history: link("/history", [("kind", EditedKind::Flow.as_str()), ("name", code)]),
        edit_link: link("/flow/edit", [("code", code)]),
        remove_link: link("/flow/remove", [("code", code)]),
        test_link: link("/flow/test", [("code", code)]),
        command: format!("mqtt-gateway flows show {0}\nmqtt-gateway tail {0}", shell_word(code)),
        flow,
    })
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
    let edited = thread.run_as(&visitor.caller, async move |control| {
        Ok(control.edit_flows(&[fields.get("code").to_owned()], &edit).await?.pop())
    });
    let edited = edited.await?.ok_or_else(ApiProblem::internal)?;
    Ok(after_edit(&edited, done))
}

/// Gives a flow the columns that it had after an entry of its history.
pub(super) async fn roll_back(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let rolled_back = thread.run_as(&visitor.caller, async move |control| {
        let code = fields.get("code");
        // A removed flow is added again.
        let was_enabled = control.flow(code).await.is_ok_and(|flow| flow.definition.is_enabled());
        let edited = control.roll_back(code, fields.number("to")?).await?;
        let done = match (was_enabled, control.flow(code).await?.definition.is_enabled()) {
            (false, true) => "rolled_back_enabled",
            (true, false) => "rolled_back_disabled",
            _ => "rolled_back",
        };
        Ok((edited, done))
    });
    let (edited, done) = rolled_back.await?;
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
        "removed" => "The flow was removed. Running gateways notice it within two seconds.".to_owned(),
        "known" => "The change is known from now on. The schema stays as it is.".to_owned(),
        "rolled_back" => format!("The flow is as it was. That counts from message {from} on."),
        "rolled_back_enabled" => {
            format!("The flow is as it was, and enabled again. That counts from message {from} on.")
        }
        "rolled_back_disabled" => format!(
            "The flow is as it was, and disabled again. Messages from number {from} on become dead letters, and no new \
             ones arrive."
        ),
        "unchanged" => "Nothing was changed: the flow was like that already.".to_owned(),
        _ => return None,
    };
    Some(done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_short() {
        let texts = [0.0, 0.04, 1.0, 9.94, 9.96, 12_345.6].map(rate_text);
        assert_eq!(texts, ["0", "0.0", "1.0", "9.9", "10", "12,346"]);
    }

    #[test]
    fn command_has_the_conditions() {
        let filter =
            FlowFilter { enabled: Some(false), text: Some("a b".to_owned()), ..FlowFilter::default() };
        assert_eq!(list_command(&filter), "mqtt-gateway flows list --enabled false --text 'a b'");
    }
}
