//! The page of a dead letter: its payload, its reason, and tests of a corrected payload.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use askama::Template;

use super::super::fields::link;
use super::super::flow_form::{MAX_EDITED_BYTES, TestInputs, TestedFlow, Tried, tried};
use super::super::links::flow_link;
use super::super::page::{ConsoleError, Page, PageFrame};
use super::super::post_attempts::AttemptLine;
use super::super::visitor::{Submission, Visitor};
use super::PART;
use super::shown_payload::ShownPayload;
use crate::control::view::{LetterView, json_text};
use crate::control::{Control, FlowEdit, Rehearsal};
use crate::domain::api_token::TokenScope;
use crate::domain::dead_letter::{DeadLetter, offending_place};
use crate::domain::flow_definition::FlowRecord;
use crate::domain::problem::Problem;
use crate::domain::topic::TopicFilter;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;

#[derive(Template)]
#[template(path = "letter.html", config = "src/http/console/askama.toml")]
struct LetterPage {
    frame: PageFrame,
    letter: LetterView,
    payload: ShownPayload,
    is_utf8: bool,
    attempts: Vec<AttemptLine>,
    /// The flow as it is now.
    flow: Option<LetterFlow>,
    /// Enabled flows that the topic of a message without a flow matches: code and link.
    matching: Vec<(String, String)>,
    /// The message to change and test; none if it cannot be put into a form.
    test: Option<TestInputs>,
    rehearsal: Option<Rehearsal>,
    problems: Vec<Problem>,
    discard_link: String,
    command: String,
}

struct LetterFlow {
    code: String,
    link: String,
    edit_link: String,
    schema: String,
}

impl LetterFlow {
    fn new(flow: &FlowRecord) -> Self {
        let code = flow.definition.code.as_str();
        Self {
            code: code.to_owned(),
            link: flow_link(code),
            edit_link: link("/flow/edit", [("code", code)]),
            schema: json_text(flow.definition.payload_schema.as_deref().unwrap_or_default()),
        }
    }
}

/// A dead letter, and the flows as they are now.
struct FoundLetter {
    letter: DeadLetter,
    flow: Option<FlowRecord>,
    /// Codes of the enabled flows that the topic of a message without a flow matches.
    matching: Vec<String>,
}

impl LetterPage {
    fn new(frame: PageFrame, FoundLetter { letter, flow, matching }: &FoundLetter) -> Self {
        let detail = letter.detail.as_deref().unwrap_or_default();
        let place = offending_place(&letter.reason, detail, &letter.payload);
        let text = String::from_utf8(letter.payload.clone()).ok();
        let id = letter.id.to_string();
        let is_whole = letter.payload.len() as u64 == letter.payload_bytes;
        Self {
            frame,
            payload: ShownPayload::new(&letter.payload, place),
            is_utf8: text.is_some(),
            attempts: AttemptLine::of_column(letter.recent_attempts.as_deref()),
            flow: flow.as_ref().map(LetterFlow::new),
            matching: matching.iter().map(|code| (code.clone(), flow_link(code))).collect(),
            test: text
                .filter(|text| text.len() <= MAX_EDITED_BYTES && is_whole && flow.is_some())
                .map(|payload| TestInputs { topic: letter.topic.clone(), payload, left_out: None }),
            rehearsal: None,
            problems: Vec::new(),
            discard_link: link("/dead-letters/discard", [("id", id.as_str())]),
            command: format!("mqtt-gateway dead-letters show {id}"),
            letter: LetterView::with_flow(letter, flow.as_ref()),
        }
    }
}

async fn read(control: &Control, id: i64) -> Result<FoundLetter, ApiProblem> {
    let (letter, flow) = control.letter_with_flow(id).await?;
    let mut matching = Vec::new();
    if letter.flow_id.is_none() {
        let flows = control.flows().await?.into_iter().filter(|flow| matches(flow, &letter.topic));
        matching.extend(flows.map(|flow| flow.definition.code));
    }
    Ok(FoundLetter { letter, flow, matching })
}

fn matches(FlowRecord { definition, .. }: &FlowRecord, topic: &str) -> bool {
    definition.is_enabled() && TopicFilter::parse(&definition.topic).is_ok_and(|filter| filter.matches(topic))
}

/// Shows a dead letter.
pub(in crate::http::console) async fn show(
    visitor: Visitor,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let id = visitor.query.number("id")?;
    let frame = visitor.frame(PART, format!("Dead letter {id}"));
    let page = thread.run(async move |control| Page::new(&LetterPage::new(frame, &read(control, id).await?)));
    Ok(page.await?)
}

/// Tests the changed message of a dead letter by its flow.
pub(in crate::http::console) async fn test(
    submission: Submission,
    thread: Data<ApiThread>,
) -> Result<Page, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Operate)?;
    let id = fields.number("id")?;
    let frame = visitor.frame(PART, format!("Dead letter {id}"));
    let page = thread.run(async move |control| {
        let found = read(control, id).await?;
        let page = LetterPage::new(frame, &found);
        let Some(flow) = &found.flow else {
            return Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page);
        };
        let tried = tried(control, TestedFlow::Saved(flow, &FlowEdit::default()), &fields).await?;
        let Tried { status, problems, rehearsal, test } = tried;
        Page::with_status(status, &LetterPage { problems, rehearsal, test: Some(test), ..page })
    });
    Ok(page.await?)
}
