//! Drift: fields of messages that changed, and their acceptance.

use actix_web::web::Data;
use askama::Template;

use super::charts::grouped;
use super::fields::{Fields, link};
use super::letters::{CountedLetters, replay_caused};
use super::links::flow_link;
use super::page::{ConsoleError, Page, PageFrame, Reply, SeeOther, short_time};
use super::shell::shell_word;
use super::visitor::{Submission, Visitor};
use crate::control::ControlError;
use crate::control::view::{FlowDriftView, LoggedFieldView, json_text};
use crate::control::{AcceptedDrift, ExpectedVersion, FlowDrift, PlannedAcceptance};
use crate::domain::api_token::TokenScope;
use crate::domain::dead_letter::LetterFilter;
use crate::domain::drift::FieldKind;
use crate::http::api::thread::ApiThread;

/// The part of the console.
const PART: &str = "/drift";

/// Flows of a page.
const PAGE_FLOWS: usize = 50;

/// Changes of a flow in the list.
const MAX_CHANGES: usize = 10;

#[derive(Template)]
#[template(path = "drift.html", config = "src/http/console/askama.toml")]
struct DriftListPage {
    frame: PageFrame,
    notice: bool,
    flows: Vec<DriftedFlow>,
    first: Option<String>,
    next: Option<String>,
    command: &'static str,
}

struct DriftedFlow {
    code: String,
    link: String,
    changes: Vec<ChangeRow>,
    /// Number of changes that only the page of the flow shows.
    more: usize,
}

/// A changed field of a flow.
pub(super) struct ChangeRow {
    pub(super) field: String,
    pub(super) description: String,
    pub(super) is_refused: bool,
    pub(super) messages: String,
    pub(super) first_at: String,
    pub(super) last_at: String,
    pub(super) first_topic: String,
    pub(super) last_topic: String,
    pub(super) link: String,
}

/// A kind of value that a field had.
pub(super) struct FactRow {
    pub(super) field: String,
    pub(super) kind: String,
    pub(super) messages: String,
    pub(super) first_at: String,
    pub(super) last_at: String,
}

/// The fields on the page of a flow.
pub(super) struct SeenFields {
    pub(super) changes: Vec<ChangeRow>,
    pub(super) facts: Vec<FactRow>,
    pub(super) has_more: bool,
}

#[derive(Template)]
#[template(path = "drift_accept.html", config = "src/http/console/askama.toml")]
struct AcceptPage {
    frame: PageFrame,
    /// Whether the flow was changed after the question that was answered.
    is_asked_again: bool,
    code: String,
    field: String,
    change: String,
    effect: String,
    before: String,
    /// None if the schema stays.
    after: Option<String>,
    version: String,
    letters: Option<CausedLetters>,
    /// The path of the form, which asks again if it is loaded again.
    target: String,
    back: String,
    command: String,
}

struct CausedLetters {
    /// Whether there may be any.
    any: bool,
    /// The number, in words.
    shown: String,
    link: String,
}

impl ChangeRow {
    fn new(code: &str, field: &LoggedFieldView) -> Option<Self> {
        let change = field.change.as_ref()?;
        let facts = || field.facts.iter().filter(|fact| fact.is_change);
        let first = facts().min_by_key(|fact| &fact.first_at)?;
        let last = facts().max_by_key(|fact| &fact.last_at)?;
        Some(Self {
            field: field.field.clone(),
            description: change.description.clone(),
            is_refused: change.is_refused,
            messages: grouped(facts().map(|fact| fact.messages).sum()),
            first_at: short_time(&first.first_at),
            last_at: short_time(&last.last_at),
            first_topic: first.first_topic.clone(),
            last_topic: last.last_topic.clone(),
            link: link("/drift/accept", [("code", code), ("field", field.field.as_str())]),
        })
    }
}

impl SeenFields {
    /// The fields of a flow.
    pub(super) fn new(drift: &FlowDrift) -> Self {
        let view = FlowDriftView::new(drift);
        let facts = view.fields.iter().flat_map(|field| {
            field.facts.iter().map(|fact| FactRow {
                field: field.field.clone(),
                kind: match fact.kind {
                    FieldKind::Missing => "missing".to_owned(),
                    kind => kind.to_string(),
                },
                messages: grouped(fact.messages),
                first_at: short_time(&fact.first_at),
                last_at: short_time(&fact.last_at),
            })
        });
        Self {
            changes: view.fields.iter().filter_map(|field| ChangeRow::new(&view.code, field)).collect(),
            facts: facts.collect(),
            has_more: view.has_more_fields,
        }
    }
}

/// Shows all flows with changes.
pub(super) async fn list(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Drift");
    let query = visitor.query;
    let page = thread.run(async move |control| {
        let after = query.number("after").ok();
        let (flows, last) = control.drifting_flows(after, PAGE_FLOWS).await?;
        let flows = flows.iter().map(|drift| {
            let (code, mut changes) = (drift.flow.definition.code.clone(), SeenFields::new(drift).changes);
            let more = changes.len().saturating_sub(MAX_CHANGES);
            changes.truncate(MAX_CHANGES);
            DriftedFlow { link: flow_link(&code), changes, more, code }
        });
        Page::new(&DriftListPage {
            frame,
            notice: query.get("done") == "dismissed",
            flows: flows.collect(),
            first: after.map(|_| PART.to_owned()),
            next: last.map(|last| link(PART, [("after", last.to_string().as_str())])),
            command: "mqtt-gateway flows drift",
        })
    });
    Ok(page.await?)
}

/// Shows the effects of accepting a change.
pub(super) async fn confirm(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let frame = visitor.frame(PART, "Accept a change");
    let query = visitor.query;
    query.check()?;
    let page = thread.run(async move |control| {
        let (code, field) = (query.get("code"), query.get("field"));
        let planned = control.plan_acceptance(code, field).await?;
        let PlannedAcceptance { flow, field, change, acceptance, letters } = planned;
        let letters = match letters {
            Some(filter) => {
                let counts = CountedLetters::read(control, &filter).await?;
                let pairs = pairs(&filter);
                let pairs = pairs.iter().map(|(name, value)| (*name, value.as_str()));
                let (any, shown) = (!counts.is_empty(), counts.letters());
                Some(CausedLetters { any, shown, link: link("/dead-letters", pairs) })
            }
            None => None,
        };
        let is_replay = letters.as_ref().is_some_and(|letters| letters.any);
        Page::new(&AcceptPage {
            frame,
            is_asked_again: query.get("done") == "changed",
            before: json_text(flow.definition.payload_schema.as_deref().unwrap_or_default()),
            after: acceptance.schema.as_deref().map(json_text),
            effect: acceptance.effect,
            version: control.version(&flow).await?,
            target: link("/drift/accept", [("code", code), ("field", field.as_str())]),
            back: flow_link(code),
            command: format!(
                "mqtt-gateway flows drift {} --accept {}{}",
                shell_word(code),
                shell_word(&field),
                if is_replay { " --replay" } else { "" }
            ),
            code: code.to_owned(),
            field,
            change,
            letters,
        })
    });
    Ok(page.await?)
}

/// The conditions of the dead letters that a change caused.
fn pairs(filter: &LetterFilter) -> Vec<(&'static str, String)> {
    let pairs = [
        ("flow", filter.flow.clone()),
        ("reason", filter.reason.map(|reason| reason.as_str().to_owned())),
        ("text", filter.text.clone()),
    ];
    pairs.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
}

/// Accepts a change, and replays the dead letters that it caused.
pub(super) async fn accept(submission: Submission, thread: Data<ApiThread>) -> Result<Reply, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let expected = ExpectedVersion::OneOf(vec![fields.get("version").to_owned()]);
    let replays = fields.get("do") == "replay";
    let (code, field) = (fields.get("code").to_owned(), fields.get("field").to_owned());
    let again = link("/drift/accept", [("code", code.as_str()), ("field", &field), ("done", "changed")]);
    let accepted = thread.run_as(&visitor.caller, async move |control| {
        match control.accept_drift(&code, &field, &expected).await {
            Err(ControlError::Outdated { .. } | ControlError::Conflict { .. }) => Ok(None),
            accepted => Ok(Some(accepted?)),
        }
    });
    let Some(AcceptedDrift { edited, effect, letters }) = accepted.await? else {
        return Ok(Reply::See(SeeOther(again)));
    };
    if let Some(filter) = letters.filter(|_| replays) {
        let selected = Fields::from_pairs(pairs(&filter));
        let frame = visitor.frame(PART, "Accepted and replayed");
        return Ok(Reply::Show(replay_caused(&thread, frame, effect, selected).await?));
    }
    let (code, done) = (edited.code.as_str(), if edited.changed { "saved" } else { "known" });
    let from = edited.counts_from.to_string();
    Ok(Reply::See(SeeOther(link("/flow", [("code", code), ("done", done), ("from", &from)]))))
}

/// Shows a change no longer.
pub(super) async fn dismiss(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<SeeOther, ConsoleError> {
    let (_, fields) = submission.permitted(TokenScope::Operate)?;
    let dismissed = thread
        .run(async move |control| Ok(control.dismiss_drift(fields.get("code"), fields.get("field")).await?));
    dismissed.await?;
    Ok(SeeOther(link(PART, [("done", "dismissed")])))
}
