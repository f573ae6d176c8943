//! The form of a flow: adds, edits and tests it.

mod schema;
mod testing;

use actix_web::http::StatusCode;
use actix_web::web::Data;
use askama::Template;
use serde_json::Value;

use self::schema::{SchemaEntry, SchemaInput, is_only_shown};
pub(super) use self::testing::{MAX_EDITED_BYTES, TestInputs, TestedFlow, Tried, excerpt, tried};

use super::conflict::Conflict;
use super::fields::{Fields, link};
use super::flows::{PART, after_edit};
use super::history::EditChange;
use super::inputs::{CHECKED, FormError, FormInput, InputDescription, form_errors, form_inputs};
use super::links::flow_link;
use super::page::{ConsoleError, Page, PageFrame, Reply};
use super::shell::shell_word;
use super::visitor::{Submission, Visitor};
use crate::control::view::json_text;
use crate::control::{
    Control, ControlError, EditPreview, EditedFlow, ExpectedVersion, FlowEdit, PreviewedColumn, Rehearsal,
};
use crate::domain::api_token::TokenScope;
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::flow_options::{FlowOptions, OptionHelp};
use crate::domain::masking::MaskedFlow;
use crate::domain::problem::Problem;
use crate::http::api::problem::ApiProblem;
use crate::http::api::thread::ApiThread;

#[derive(Template)]
#[template(path = "flow_form.html", config = "src/http/console/askama.toml")]
struct FlowFormPage {
    frame: PageFrame,
    /// Code of the flow; empty for a new one.
    code: String,
    /// Version of the flow that the form was made for.
    version: String,
    /// The fields that only a new flow has.
    new_inputs: Vec<FormInput>,
    /// The fields before the schema.
    first_inputs: Vec<FormInput>,
    /// Whether a new flow is to be enabled.
    enabled: bool,
    schema: SchemaInput,
    /// The fields after the schema.
    last_inputs: Vec<FormInput>,
    options: Vec<OptionHelp>,
    errors: Vec<FormError>,
    /// Warnings that belong to no field of the form.
    problems: Vec<Problem>,
    conflict: Option<Conflict>,
    preview: Option<PreviewCard>,
    test: TestInputs,
    rehearsal: Option<Rehearsal>,
    command: String,
}

#[derive(Template)]
#[template(path = "flow_test.html", config = "src/http/console/askama.toml")]
struct FlowTestPage {
    frame: PageFrame,
    code: String,
    problems: Vec<Problem>,
    test: TestInputs,
    rehearsal: Option<Rehearsal>,
    command: String,
}

/// The effects of an edit, in the words of the page.
struct PreviewCard {
    preview: EditPreview,
    changes: Vec<EditChange>,
    letters_link: String,
}

impl PreviewCard {
    fn new(preview: EditPreview) -> Self {
        let change = |PreviewedColumn { column, before, after }: &PreviewedColumn| EditChange {
            column: (*column).to_owned(),
            values: (before != after).then(|| (shown(before), shown(after))),
        };
        Self {
            changes: preview.columns.iter().map(change).collect(),
            letters_link: link("/dead-letters", [("flow", preview.code.as_str())]),
            preview,
        }
    }
}

/// A text as it is, and any other value as JSON.
fn shown(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

impl FlowFormPage {
    fn flow_link(&self) -> String {
        flow_link(&self.code)
    }

    fn edit_link(&self) -> String {
        link("/flow/edit", [("code", self.code.as_str())])
    }
}

impl FlowTestPage {
    fn flow_link(&self) -> String {
        flow_link(&self.code)
    }

    fn test_link(&self) -> String {
        link("/flow/test", [("code", self.code.as_str())])
    }
}

/// The fields of the form of a new flow.
const NEW_INPUTS: [InputDescription; 1] =
    [InputDescription::line("new_code", "Code", "A short unique name. It cannot be changed later.")];

/// The fields of the form before the schema.
const FIRST_INPUTS: [InputDescription; 3] = [
    InputDescription::line(
        "topic",
        "Topic filter",
        "Which messages the flow gets: sensors/+/temperature, alarms/#.",
    ),
    InputDescription::choice(
        "action",
        "Action",
        "Store messages in the database, or post them to an endpoint.",
        &["STORE_DB", "POST_ENDPOINT"],
    ),
    InputDescription::line("description", "Description", "For people."),
];

/// The fields of the form after the schema.
const LAST_INPUTS: [InputDescription; 3] = [
    InputDescription::line(
        "endpoint_url",
        "Endpoint",
        "URL that messages are posted to. *** stands for a secret that stays as it is.",
    ),
    InputDescription::line(
        "message_key",
        "Message key",
        "Where the producer's key is, so that a repeated message counts once.",
    ),
    InputDescription::text(
        "options",
        "Options",
        "A JSON object, such as {\"delivery\": {\"timeout_seconds\": 5}}. *** stands for a secret that stays as it is.",
    ),
];

/// Names and labels of the other fields of the form.
const OTHER_LABELS: [(&str, &str); 3] = [
    ("payload_schema", "Schema"),
    ("test_topic", "Topic of the test"),
    ("test_payload", "Payload of the test"),
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
    conflict: Option<Conflict>,
    preview: Option<PreviewCard>,
    test: TestInputs,
    rehearsal: Option<Rehearsal>,
}

fn form_page(
    frame: PageFrame,
    (code, version): (&str, &str),
    value: impl Fn(&str) -> String,
    schema: SchemaEntry,
    shown: Shown,
) -> FlowFormPage {
    let new_inputs: &[InputDescription] = if code.is_empty() { &NEW_INPUTS } else { &[] };
    let described = new_inputs.iter().chain(&FIRST_INPUTS).chain(&LAST_INPUTS);
    let labels: Vec<_> = described.map(InputDescription::label).chain(OTHER_LABELS).collect();
    let problems = shown.problems.as_slice();
    let (errors, warnings) = form_errors(problems, &labels);
    let schema_problems = problems.iter().filter(|problem| problem.field == "payload_schema").cloned();
    FlowFormPage {
        frame,
        code: code.to_owned(),
        version: version.to_owned(),
        new_inputs: form_inputs(new_inputs, &value, problems),
        first_inputs: form_inputs(&FIRST_INPUTS, &value, problems),
        schema: SchemaInput::new(schema, schema_problems.collect()),
        last_inputs: form_inputs(&LAST_INPUTS, &value, problems),
        options: FlowOptions::help(),
        enabled: value("enabled") == CHECKED,
        errors,
        problems: warnings,
        conflict: shown.conflict,
        preview: shown.preview,
        test: shown.test,
        rehearsal: shown.rehearsal,
        command: if code.is_empty() {
            "mqtt-gateway flows add --help".to_owned()
        } else {
            format!("mqtt-gateway flows edit {} --help", shell_word(code))
        },
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
        let schema = SchemaEntry::of_text(values.get("payload_schema"));
        Page::new(&form_page(frame, (&code, &version), value, schema, Shown::default()))
    });
    Ok(page.await?)
}

/// Saves the form of a flow, tests it, says what it would do, or shows it in another form.
pub(super) async fn edit(submission: Submission, thread: Data<ApiThread>) -> Result<Reply, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let code = fields.get("code").to_owned();
    let frame = visitor.frame(PART, format!("Edit {code}"));
    let reply = thread.run_as(&visitor.caller, async move |control| {
        let (schema, schema_problem) = SchemaEntry::submitted(&fields);
        let flow = match control.flow(&code).await {
            Err(ControlError::NotFound { .. }) => return removed(frame, &fields, schema),
            flow => flow?,
        };
        let values = FormValues::of_flow(&flow.definition);
        let fields = fields.with("payload_schema", schema.text(values.get("payload_schema")));
        let answer = match schema_answer(schema_problem, &fields) {
            Some(answer) => answer,
            None => answer_edit(control, &flow, &fields, &values.edit(&fields)).await?,
        };
        answer.reply("saved", |shown| {
            let value = |name: &str| fields.get(name).to_owned();
            let present = shown.conflict.as_ref().map(|conflict| conflict.version.clone());
            let version = present.unwrap_or_else(|| fields.get("version").to_owned());
            form_page(frame, (&code, &version), value, schema, shown)
        })
    });
    Ok(reply.await?)
}

/// The form of a flow that was removed meanwhile: it keeps its entries, and adds a flow.
fn removed(frame: PageFrame, fields: &Fields, schema: SchemaEntry) -> Result<Reply, ApiProblem> {
    let value = |name: &str| match name {
        "new_code" => fields.get("code").to_owned(),
        "enabled" => CHECKED.to_owned(),
        name => fields.get(name).to_owned(),
    };
    let conflict = Some(Conflict::removed("flow"));
    let shown = Shown { conflict, test: TestInputs::of_form(fields), ..Shown::default() };
    let form = form_page(frame, ("", ""), value, schema, shown);
    Ok(Reply::Show(Page::with_status(StatusCode::CONFLICT, &form)?))
}

/// A form as it is shown again, or the flow that it saved.
enum FormAnswer {
    Again(StatusCode, Box<Shown>),
    Saved(EditedFlow),
}

impl FormAnswer {
    fn again(status: StatusCode, shown: Shown) -> Self {
        Self::Again(status, Box::new(shown))
    }

    fn refused(problems: Vec<Problem>, test: TestInputs) -> Self {
        Self::again(StatusCode::UNPROCESSABLE_ENTITY, Shown { problems, test, ..Shown::default() })
    }

    fn tried(Tried { status, mut problems, rehearsal, test }: Tried) -> Self {
        for problem in &mut problems {
            problem.field = test.field_of(problem);
        }
        Self::again(status, Shown { problems, test, rehearsal, ..Shown::default() })
    }

    fn reply(self, done: &str, form: impl FnOnce(Shown) -> FlowFormPage) -> Result<Reply, ApiProblem> {
        match self {
            Self::Again(status, shown) => Ok(Reply::Show(Page::with_status(status, &form(*shown))?)),
            Self::Saved(flow) => Ok(Reply::See(after_edit(&flow, done))),
        }
    }
}

/// The answer to a form whose schema is wrong, or is only to be shown in another form.
fn schema_answer(problem: Option<Problem>, fields: &Fields) -> Option<FormAnswer> {
    let test = TestInputs::of_form(fields);
    match problem {
        Some(problem) if problem.is_error() => Some(FormAnswer::refused(vec![problem], test)),
        problem if is_only_shown(fields.get("do")) => {
            let problems = problem.into_iter().collect();
            Some(FormAnswer::again(StatusCode::OK, Shown { problems, test, ..Shown::default() }))
        }
        _ => None,
    }
}

async fn answer_edit(
    control: &Control,
    flow: &FlowRecord,
    fields: &Fields,
    edit: &FlowEdit,
) -> Result<FormAnswer, ApiProblem> {
    let test = || TestInputs::of_form(fields);
    if matches!(fields.get("do"), "test" | "test_last") {
        return Ok(FormAnswer::tried(tried(control, TestedFlow::Saved(flow, edit), fields).await?));
    }
    match save_or_preview(control, flow, fields, edit).await {
        Err(ControlError::Invalid { problems }) => Ok(FormAnswer::refused(problems, test())),
        Err(ControlError::Outdated { .. } | ControlError::Conflict { .. }) => {
            let conflict = Some(conflict(control, fields).await?);
            Ok(FormAnswer::again(StatusCode::CONFLICT, Shown { conflict, test: test(), ..Shown::default() }))
        }
        result => Ok(result?),
    }
}

async fn save_or_preview(
    control: &Control,
    flow: &FlowRecord,
    fields: &Fields,
    edit: &FlowEdit,
) -> Result<FormAnswer, ControlError> {
    let code = fields.get("code");
    let expected = ExpectedVersion::OneOf(vec![fields.get("version").to_owned()]);
    if fields.get("do") != "preview" {
        return control
            .edit_version(code, edit, &expected)
            .await
            .map(|(edited, _)| FormAnswer::Saved(edited));
    }
    control.check_version(flow, &expected).await?;
    let preview = control.preview_edit(code, edit).await?;
    let (problems, test) = (preview.problems.clone(), TestInputs::of_form(fields));
    let preview = Some(PreviewCard::new(preview));
    Ok(FormAnswer::again(StatusCode::OK, Shown { problems, preview, test, ..Shown::default() }))
}

/// What differs between the entries and the flow, which was changed after the form was made.
async fn conflict(control: &Control, fields: &Fields) -> Result<Conflict, ControlError> {
    let code = fields.get("code");
    let flow = control.flow(code).await?;
    let (values, version) = (FormValues::of_flow(&flow.definition), control.version(&flow).await?);
    let inputs = FIRST_INPUTS.iter().chain(&LAST_INPUTS).map(InputDescription::label);
    let columns = inputs.chain([("payload_schema", "Schema")]);
    let columns = columns.map(|(name, label)| (label, values.get(name), fields.get(name)));
    Ok(Conflict::changed("flow", link("/flow/edit", [("code", code)]), version, columns))
}

/// Shows the form of a new flow.
pub(super) async fn show_new(visitor: Visitor) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Admin)?;
    let frame = visitor.frame(PART, "Add a flow");
    let value = |name: &str| match name {
        "action" => "STORE_DB".to_owned(),
        "enabled" => CHECKED.to_owned(),
        _ => String::new(),
    };
    let schema = SchemaEntry::of_text("{}");
    Ok(Page::new(&form_page(frame, ("", ""), value, schema, Shown::default()))?)
}

/// Adds a flow, tests it, or shows its form in another form.
pub(super) async fn add(submission: Submission, thread: Data<ApiThread>) -> Result<Reply, ConsoleError> {
    let (visitor, fields) = submission.permitted(TokenScope::Admin)?;
    let frame = visitor.frame(PART, "Add a flow");
    let reply = thread.run_as(&visitor.caller, async move |control| {
        let (schema, schema_problem) = SchemaEntry::submitted(&fields);
        let fields = fields.with("payload_schema", schema.text(""));
        let answer = match schema_answer(schema_problem, &fields) {
            Some(answer) => answer,
            None => answer_new(control, &fields).await?,
        };
        answer.reply("added", |mut shown| {
            let value = |name: &str| fields.get(name).to_owned();
            // A flow that is there has a code and no such field.
            for problem in shown.problems.iter_mut().filter(|problem| problem.field == "code") {
                problem.field = "new_code";
            }
            form_page(frame, ("", ""), value, schema, shown)
        })
    });
    Ok(reply.await?)
}

async fn answer_new(control: &Control, fields: &Fields) -> Result<FormAnswer, ApiProblem> {
    let blank = FormValues(MaskedFlow::default());
    let edit = FlowEdit { enabled: Some(fields.get("enabled") == CHECKED), ..blank.edit(fields) };
    let code = fields.get("new_code");
    if fields.get("do") == "test" {
        return Ok(FormAnswer::tried(tried(control, TestedFlow::New(code, &edit), fields).await?));
    }
    match control.add_flow(code, &edit, None).await {
        Ok(added) => Ok(FormAnswer::Saved(added)),
        Err(ControlError::Invalid { problems }) => {
            Ok(FormAnswer::refused(problems, TestInputs::of_form(fields)))
        }
        Err(error) => Err(error.into()),
    }
}

/// Shows the form for a test.
pub(super) async fn show_test(visitor: Visitor, thread: Data<ApiThread>) -> Result<Page, ConsoleError> {
    visitor.require(TokenScope::Operate)?;
    let code = visitor.query.get("code").to_owned();
    let frame = visitor.frame(PART, format!("Test {code}"));
    let page = thread.run(async move |control| {
        control.flow(&code).await?;
        Page::new(&FlowTestPage::new(frame, &code, Tried::default()))
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
        let tried = tried(control, TestedFlow::Saved(&flow, &FlowEdit::default()), &fields).await?;
        Page::with_status(tried.status, &FlowTestPage::new(frame, &code, tried))
    });
    Ok(page.await?)
}

impl FlowTestPage {
    fn new(frame: PageFrame, code: &str, tried: Tried) -> Self {
        let Tried { problems, test, rehearsal, .. } = tried;
        let command = format!("mqtt-gateway flows test {}", shell_word(code));
        Self { frame, code: code.to_owned(), problems, test, rehearsal, command }
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

    fn names() -> impl Iterator<Item = &'static str> {
        FIRST_INPUTS.iter().chain(&LAST_INPUTS).map(|input| input.name).chain(["payload_schema"])
    }

    #[test]
    fn form_that_was_not_touched_is_no_edit() {
        let values = FormValues::of_flow(&flow());
        assert_eq!(values.get("payload_schema"), "{\n  \"b\": \"number\"\n}");
        assert_eq!(values.get("endpoint_url"), "http://h/?token=***");
        let pairs = names().map(|name| (name, values.get(name)));
        let sent = link("", pairs).replace("%0A", "%0D%0A");
        let fields = Fields::parse(sent.trim_start_matches('?').as_bytes());
        assert_eq!(values.edit(&fields), FlowEdit::default());
    }

    #[test]
    fn only_changed_fields_are_edited() {
        let values = FormValues::of_flow(&flow());
        let pairs = names().map(|name| (name, if name == "topic" { "c" } else { values.get(name) }));
        let fields = Fields::parse(link("", pairs).trim_start_matches('?').as_bytes());
        assert_eq!(values.edit(&fields), FlowEdit { topic: Some("c".to_owned()), ..FlowEdit::default() });
    }
}
