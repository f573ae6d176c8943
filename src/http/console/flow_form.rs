//! The form of a flow: adds, edits and tests it.

use actix_web::http::StatusCode;
use actix_web::web::Data;
use askama::Template;

use super::fields::{Fields, link};
use super::flows::{PART, after_edit, flow_link};
use super::page::{ConsoleError, Page, PageFrame, Reply};
use super::visitor::{Submission, Visitor};
use crate::control::view::json_text;
use crate::control::{Control, ControlError, ExpectedVersion, FlowEdit, Rehearsal, TestMessage};
use crate::domain::api_token::TokenScope;
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::masking::MaskedFlow;
use crate::domain::problem::Problem;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;

/// The actions to choose from.
const ACTIONS: [&str; 2] = ["STORE_DB", "POST_ENDPOINT"];

#[derive(Template)]
#[template(path = "flow_form.html", config = "src/http/console/askama.toml")]
struct FlowFormPage {
    frame: PageFrame,
    /// Code of the flow; empty for a new one.
    code: String,
    /// Version of the flow that the form was made for.
    version: String,
    /// The code of a new flow as it was entered.
    new_code: String,
    inputs: Vec<FormInput>,
    /// Problems that belong to no field of the form.
    problems: Vec<Problem>,
    conflict: Option<String>,
    test: TestInputs,
    rehearsal: Option<Rehearsal>,
}

#[derive(Template)]
#[template(path = "flow_test.html", config = "src/http/console/askama.toml")]
struct FlowTestPage {
    frame: PageFrame,
    code: String,
    problems: Vec<Problem>,
    test: TestInputs,
    rehearsal: Option<Rehearsal>,
}

impl FlowFormPage {
    fn flow_link(&self) -> String {
        flow_link(&self.code)
    }
}

impl FlowTestPage {
    fn flow_link(&self) -> String {
        flow_link(&self.code)
    }
}

/// A message to test.
struct TestInputs {
    topic: String,
    payload: String,
}

/// A field of the form.
struct FormInput {
    name: &'static str,
    label: &'static str,
    help: &'static str,
    kind: FormInputKind,
    value: String,
    problems: Vec<Problem>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FormInputKind {
    Line,
    Text,
    Action,
}

impl FormInput {
    /// The values to choose from; also an unknown one that the row has.
    fn choices(&self) -> Vec<&str> {
        let own = Some(self.value.as_str()).filter(|own| !own.is_empty() && !ACTIONS.contains(own));
        ACTIONS.into_iter().chain(own).collect()
    }

    fn is(&self, kind: &str) -> bool {
        matches!(
            (self.kind, kind),
            (FormInputKind::Line, "line") | (FormInputKind::Text, "text") | (FormInputKind::Action, "action")
        )
    }
}

/// The fields of the form: column, label, help, kind.
const INPUTS: [(&str, &str, &str, FormInputKind); 7] = [
    (
        "topic",
        "Topic filter",
        "Which messages the flow gets: sensors/+/temperature, alarms/#.",
        FormInputKind::Line,
    ),
    (
        "action",
        "Action",
        "Store messages in the database, or post them to an endpoint.",
        FormInputKind::Action,
    ),
    ("description", "Description", "For people.", FormInputKind::Line),
    (
        "payload_schema",
        "Schema",
        "Required fields and their types, such as {\"value\": \"number\"}, or a JSON Schema.",
        FormInputKind::Text,
    ),
    (
        "endpoint_url",
        "Endpoint",
        "URL that messages are posted to. *** stands for a secret that stays as it is.",
        FormInputKind::Line,
    ),
    (
        "options",
        "Options",
        "A JSON object; docs/POSTING.md lists them. *** stands for a secret that stays as it is.",
        FormInputKind::Text,
    ),
    (
        "message_key",
        "Message key",
        "Where the producer's key is, so that a repeated message counts once.",
        FormInputKind::Line,
    ),
];

/// The values of the form for a flow. Secrets are masked.
struct FormValues(MaskedFlow);

impl FormValues {
    fn of_flow(flow: &FlowDefinition) -> Self {
        let masked = MaskedFlow::new(flow);
        let pretty = |text: Option<String>| text.map(|text| json_text(&text));
        Self(MaskedFlow {
            payload_schema: pretty(masked.payload_schema),
            options: pretty(masked.options),
            ..masked
        })
    }

    fn get(&self, name: &str) -> &str {
        let MaskedFlow {
            description, topic, action, payload_schema, endpoint_url, options, message_key, ..
        } = &self.0;
        match name {
            "description" => description,
            "topic" => topic,
            "action" => action,
            "payload_schema" => payload_schema.as_deref().unwrap_or_default(),
            "endpoint_url" => endpoint_url.as_deref().unwrap_or_default(),
            "options" => options.as_deref().unwrap_or_default(),
            "message_key" => message_key.as_deref().unwrap_or_default(),
            _ => "",
        }
    }

    /// The edit of a form: the fields that differ from the shown ones.
    fn edit(&self, fields: &Fields) -> FlowEdit {
        let new =
            |name: &str| Some(fields.get(name)).filter(|text| *text != self.get(name)).map(str::to_owned);
        FlowEdit {
            description: new("description"),
            topic: new("topic"),
            action: new("action"),
            payload_schema: new("payload_schema"),
            endpoint_url: new("endpoint_url"),
            options: new("options"),
            message_key: new("message_key"),
            enabled: None,
        }
    }
}

/// A form as it is shown again.
#[derive(Default)]
struct Shown {
    problems: Vec<Problem>,
    conflict: Option<String>,
    rehearsal: Option<Rehearsal>,
}

fn form_page(
    frame: PageFrame,
    code: &str,
    version: &str,
    value: impl Fn(&str) -> String,
    shown: Shown,
) -> FlowFormPage {
    let (own, other): (Vec<Problem>, Vec<Problem>) = shown
        .problems
        .into_iter()
        .partition(|problem| INPUTS.iter().any(|(name, ..)| *name == problem.field));
    let inputs = INPUTS.iter().map(|(name, label, help, kind)| FormInput {
        name,
        label,
        help,
        kind: *kind,
        value: value(name),
        problems: own.iter().filter(|problem| problem.field == *name).cloned().collect(),
    });
    FlowFormPage {
        frame,
        code: code.to_owned(),
        version: version.to_owned(),
        new_code: value("new_code"),
        inputs: inputs.collect(),
        problems: other,
        conflict: shown.conflict,
        test: TestInputs { topic: value("test_topic"), payload: value("test_payload") },
        rehearsal: shown.rehearsal,
    }
}

/// Shows the form of a flow.
pub(super) async fn show_edit(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Admin)?;
    let code = visitor.query.get("code").to_owned();
    let frame = visitor.frame(PART, format!("Edit {code}"));
    let page = thread.run(async move |control| {
        let flow = control.flow(&code).await?;
        let (values, version) = (FormValues::of_flow(&flow.definition), control.version(&flow).await?);
        let value = |name: &str| values.get(name).to_owned();
        Page::new(&form_page(frame, &code, &version, value, Shown::default()))
    });
    Ok(page.await?)
}

/// Saves the form of a flow, or tests it.
pub(super) async fn edit(submission: Submission, thread: Data<ApiThread>) -> Result<Reply, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let code = fields.get("code").to_owned();
    let frame = visitor.frame(PART, format!("Edit {code}"));
    let reply = thread.run_as(&visitor.caller, async move |control| {
        let flow = control.flow(&code).await?;
        let edit = FormValues::of_flow(&flow.definition).edit(&fields);
        let version = fields.get("version");
        let again = |status, shown| -> Result<Reply, ApiProblem> {
            let value = |name: &str| fields.get(name).to_owned();
            Ok(Reply::Show(Page::with_status(status, &form_page(frame, &code, version, value, shown))?))
        };
        if fields.get("do") == "test" {
            let (status, problems, rehearsal) = tried(control, &flow, &fields, &edit).await?;
            return again(status, Shown { problems, rehearsal, ..Shown::default() });
        }
        let expected = ExpectedVersion::OneOf(vec![version.to_owned()]);
        match control.edit_version(&code, &edit, &expected).await {
            Ok((edited, _)) => Ok(Reply::See(after_edit(&edited, "saved"))),
            Err(ControlError::Invalid { problems }) => {
                again(StatusCode::UNPROCESSABLE_ENTITY, Shown { problems, ..Shown::default() })
            }
            Err(ControlError::Outdated { .. } | ControlError::Conflict { .. }) => {
                let conflict = Some(link("/flow/edit", [("code", code.as_str())]));
                again(StatusCode::CONFLICT, Shown { conflict, ..Shown::default() })
            }
            Err(error) => Err(error.into()),
        }
    });
    Ok(reply.await?)
}

/// Shows the form of a new flow.
pub(super) async fn show_new(visitor: Visitor) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Admin)?;
    let frame = visitor.frame(PART, "Add a flow");
    let value = |name: &str| match name {
        "action" => "STORE_DB".to_owned(),
        "payload_schema" => "{}".to_owned(),
        _ => String::new(),
    };
    Ok(Page::new(&form_page(frame, "", "", value, Shown::default()))?)
}

/// Adds a flow.
pub(super) async fn add(submission: Submission, thread: Data<ApiThread>) -> Result<Reply, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let frame = visitor.frame(PART, "Add a flow");
    let reply = thread.run_as(&visitor.caller, async move |control| {
        let blank = FormValues(MaskedFlow::default());
        let edit = FlowEdit { enabled: Some(fields.get("enabled") == "yes"), ..blank.edit(&fields) };
        match control.add_flow(fields.get("new_code"), &edit, 0).await {
            Ok(added) => Ok(Reply::See(after_edit(&added, "added"))),
            Err(ControlError::Invalid { problems }) => {
                let value = |name: &str| fields.get(name).to_owned();
                let page = form_page(frame, "", "", value, Shown { problems, ..Shown::default() });
                Ok(Reply::Show(Page::with_status(StatusCode::UNPROCESSABLE_ENTITY, &page)?))
            }
            Err(error) => Err(error.into()),
        }
    });
    Ok(reply.await?)
}

/// Shows the form for testing a message, perhaps of a dead letter.
pub(super) async fn show_test(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Operate)?;
    let (code, letter) = (visitor.query.get("code").to_owned(), visitor.query.number("letter").ok());
    let frame = visitor.frame(PART, format!("Test {code}"));
    let page = thread.run(async move |control| {
        control.flow(&code).await?;
        let test = match letter {
            Some(id) => {
                let letter = control.dead_letter(id).await?;
                let payload = String::from_utf8_lossy(&letter.payload).into_owned();
                TestInputs { topic: letter.topic, payload }
            }
            None => TestInputs { topic: String::new(), payload: String::new() },
        };
        Page::new(&FlowTestPage { frame, code, problems: Vec::new(), test, rehearsal: None })
    });
    Ok(page.await?)
}

/// Tests a message.
pub(super) async fn test(submission: Submission, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Operate)?;
    let code = fields.get("code").to_owned();
    let frame = visitor.frame(PART, format!("Test {code}"));
    let page = thread.run(async move |control| {
        let flow = control.flow(&code).await?;
        let (status, problems, rehearsal) = tried(control, &flow, &fields, &FlowEdit::default()).await?;
        let test = TestInputs {
            topic: fields.get("test_topic").to_owned(),
            payload: fields.get("test_payload").to_owned(),
        };
        Page::with_status(status, &FlowTestPage { frame, code, problems, test, rehearsal })
    });
    Ok(page.await?)
}

/// Rehearses the message of a form for a flow after an edit.
async fn tried(
    control: &Control,
    flow: &FlowRecord,
    fields: &Fields,
    edit: &FlowEdit,
) -> Result<(StatusCode, Vec<Problem>, Option<Rehearsal>), ApiProblem> {
    let payload = Some(fields.get("test_payload")).filter(|payload| !payload.is_empty());
    let message = TestMessage {
        topic: fields.given("test_topic"),
        payload: payload.map(|payload| payload.as_bytes().to_vec()),
        ..TestMessage::default()
    };
    match control.rehearse(&flow.definition.code, message, edit).await {
        Ok(rehearsal) => Ok((StatusCode::OK, rehearsal.problems.clone(), Some(rehearsal))),
        Err(ControlError::Invalid { problems }) => Ok((StatusCode::UNPROCESSABLE_ENTITY, problems, None)),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow() -> FlowDefinition {
        FlowDefinition {
            topic: "a".to_owned(),
            action: "POST_ENDPOINT".to_owned(),
            payload_schema: Some(r#"{"b":"number"}"#.to_owned()),
            endpoint_url: Some("http://h/?token=s3cret".to_owned()),
            ..FlowDefinition::default()
        }
    }

    #[test]
    fn form_that_was_not_touched_is_no_edit() {
        let values = FormValues::of_flow(&flow());
        assert_eq!(values.get("payload_schema"), "{\n  \"b\": \"number\"\n}");
        assert_eq!(values.get("endpoint_url"), "http://h/?token=***");
        let pairs = INPUTS.iter().map(|(name, ..)| (*name, values.get(name)));
        let sent = link("", pairs).replace("%0A", "%0D%0A");
        let fields = Fields::parse(sent.trim_start_matches('?').as_bytes());
        assert_eq!(values.edit(&fields), FlowEdit::default());
    }

    #[test]
    fn only_changed_fields_are_edited() {
        let values = FormValues::of_flow(&flow());
        let pairs =
            INPUTS.iter().map(|(name, ..)| (*name, if *name == "topic" { "c" } else { values.get(name) }));
        let fields = Fields::parse(link("", pairs).trim_start_matches('?').as_bytes());
        assert_eq!(values.edit(&fields), FlowEdit { topic: Some("c".to_owned()), ..FlowEdit::default() });
    }
}
