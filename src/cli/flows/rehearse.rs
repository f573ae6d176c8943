//! `mqtt-gateway flows test`: predicts the outcome of a message, without consequences.

use std::ffi::OsStr;
use std::path::Path;

use clap::Args;

use super::edit::ProcessingFields;
use crate::cli::input::content_argument;
use crate::cli::output::{CommandReport, document, problem_lines, visible};
use crate::control::{
    Control, ControlError, EndpointRoute, FlowEdit, Rehearsal, TestHeader, TestMessage, TestRequest,
};

/// Text below the options in `flows test --help`.
pub(super) const HELP: &str = "\
Examples:
  mqtt-gateway flows test TEMP --payload '{\"value\": 21.5}'
  mqtt-gateway flows test TEMP --payload sample.json --topic sensors/kitchen/temperature
  mqtt-gateway flows test TEMP --payload sample.json --schema new.json
  mqtt-gateway flows test NEW --new --filter 'a/+' --action STORE_DB --schema new.json --payload sample.json
  mqtt-gateway flows test flows.yaml
The columns that are given count for the test only. No sequence number is used up, nothing is posted or stored.
The tests of a file run in a temporary SQLite database, and need no settings.
Exit codes: 0 the message would be processed, 1 it would not, or the command failed, 2 wrong settings or usage.";

/// Longest body that is printed for people, in characters.
const MAX_BODY_CHARS: usize = 4_000;

/// A message for a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(super) struct TestOptions {
    /// Code of the flow, or a file with tests: its name ends with .yaml or .yml, and - is standard input.
    #[arg(value_name = "CODE|FILE")]
    code: String,
    /// Payload of the message: JSON, a file, or - for standard input [default: made from the schema]
    #[arg(long, value_name = "JSON|FILE|-")]
    payload: Option<String>,
    /// Topic of the message [default: made from the topic filter]
    #[arg(long)]
    topic: Option<String>,
    /// Test the newest message of the flow in the inbox of this machine.
    #[arg(long, conflicts_with_all = ["payload", "topic", "properties"])]
    last: bool,
    /// MQTT 5 user property of the message; may be repeated.
    #[arg(long = "property", value_name = "NAME=VALUE", value_parser = property)]
    properties: Vec<(String, String)>,
    /// Test the flow as if it had this topic filter.
    #[arg(long, value_name = "FILTER")]
    filter: Option<String>,
    /// Test the flow as if it were enabled.
    #[arg(long)]
    enabled: bool,
    /// Test a flow that is not added yet, with the columns that are given.
    #[arg(long, requires_all = ["filter", "action"], conflicts_with = "last")]
    new: bool,
    #[command(flatten)]
    processing: ProcessingFields,
}

impl TestOptions {
    /// Whether a file with tests is given, and no flow.
    pub(super) fn has_file(&self) -> bool {
        let is_yaml = |end: &OsStr| end == "yaml" || end == "yml";
        self.code == "-" || Path::new(&self.code).extension().is_some_and(is_yaml)
    }

    /// The file with tests. All other options are about the test of a flow.
    pub(super) fn only_file(&self) -> Result<&str, ControlError> {
        if *self == (Self { code: self.code.clone(), ..Self::default() }) {
            return Ok(&self.code);
        }
        let problem = "the tests of a file have their own messages and flows";
        Err(ControlError::invalid("FILE", problem, "leave the other options out"))
    }
}

fn property(argument: &str) -> Result<(String, String), &'static str> {
    let pair = argument.split_once('=').filter(|(name, _)| !name.is_empty());
    pair.map(|(name, value)| (name.to_owned(), value.to_owned())).ok_or("expected NAME=VALUE")
}

/// Rehearses the message.
pub(super) async fn run(control: &Control, options: TestOptions) -> Result<CommandReport, ControlError> {
    let payload = options.payload.map(|payload| content_argument("--payload", &payload)).transpose()?;
    let edit = FlowEdit {
        topic: options.filter,
        enabled: options.enabled.then_some(true),
        ..options.processing.edit()?
    };
    let message = if options.last {
        control.last_message(&control.flow(&options.code).await?.definition).await?
    } else {
        TestMessage { topic: options.topic, payload, user_properties: options.properties }
    };
    let rehearsal = if options.new {
        control.rehearse_new(&options.code, message, &edit).await?
    } else {
        control.rehearse(&options.code, message, &edit).await?
    };
    Ok(CommandReport { text: text(&rehearsal), document: document(&rehearsal), ok: rehearsal.ok })
}

fn text(rehearsal: &Rehearsal) -> String {
    let draft = if rehearsal.is_draft { ", not saved" } else { "" };
    let (code, filter) = (visible(&rehearsal.code), visible(&rehearsal.filter));
    let mut lines = vec![
        format!("Topic:   {}\n", visible(&rehearsal.topic)),
        format!("Payload: {}\n", body(&rehearsal.payload)),
        format!("Flow {code}{draft} ({filter}): {}\n", visible(&rehearsal.explanation)),
        problem_lines(&rehearsal.problems),
    ];
    let gets_it = matches!(rehearsal.verdict, "matches" | "disabled");
    let message = if gets_it { "The message" } else { "It gets no such message. If it did, the message" };
    lines.push(format!("{message} {}\n", outcome(rehearsal)));
    lines.extend(rehearsal.rows.iter().map(|row| {
        let text = |text: &Option<String>| text.as_deref().map_or("NULL".to_owned(), visible);
        format!("  {} = {}\n", text(&row.attribute_name), text(&row.attribute_value))
    }));
    lines.extend(rehearsal.request.as_ref().map(request));
    lines.push("Nothing was changed.\n".to_owned());
    lines.concat()
}

fn outcome(rehearsal: &Rehearsal) -> String {
    if let Some(letter) = &rehearsal.dead_letter {
        let number = rehearsal.message_id.map(|id| format!(" with number {id}")).unwrap_or_default();
        let remedy = match letter.reason.as_str() {
            "flow_disabled" => "\n  --enabled shows what the flow would do with it if it were enabled",
            _ => "",
        };
        return format!(
            "would become a dead letter{number}, {}: {}{remedy}",
            letter.reason,
            visible(&letter.detail)
        );
    }
    if let Some(repeats) = rehearsal.repeats {
        return format!("would be dropped: its key was seen before, in message {repeats}.");
    }
    let number = rehearsal.message_id.unwrap_or_default();
    let rows = match rehearsal.rows.len() {
        1 => "1 row".to_owned(),
        rows => format!("{rows} rows"),
    };
    match (&rehearsal.request, rehearsal.rows.is_empty()) {
        (Some(_), true) => format!("would be posted as number {number}:"),
        (Some(_), false) => format!("would be stored as number {number}, in {rows} of data, and posted:"),
        (None, _) => format!("would be stored as number {number}, in {rows} of data:"),
    }
}

fn request(request: &TestRequest) -> String {
    let mut lines = Vec::new();
    if let Some(problem) = &request.problem {
        lines.push(format!("  {}\n", request.url));
        lines.push(format!("  It could not be sent from here: {}\n", visible(problem)));
    } else {
        lines.push(format!("  {} {}\n", request.method, request.url));
        let header = |TestHeader { name, value }: &TestHeader| format!("  {name}: {}\n", visible(value));
        lines.extend(request.headers.iter().map(header));
        lines.push(format!("\n  {}\n\n", body(&request.body)));
    }
    lines.extend(route(&request.endpoint));
    lines.concat()
}

/// A line for each address of the endpoint.
fn route(endpoint: &EndpointRoute) -> Vec<String> {
    let host = visible(&endpoint.host);
    let proxy = endpoint.proxy.iter().map(|proxy| {
        let names = if endpoint.addresses.is_empty() { ", which resolves its name" } else { "" };
        format!("The endpoint {host} is reached through the proxy {proxy}{names}.\n")
    });
    let problem =
        endpoint.problem.iter().map(|problem| format!("The endpoint {host}: {}\n", visible(problem)));
    let addresses = endpoint.addresses.iter().map(|address| match &address.refused {
        Some(refused) => format!("The endpoint {host}: {refused}.\n"),
        None => format!("The endpoint {host}: posts to the address {} are allowed.\n", address.address),
    });
    proxy.chain(problem).chain(addresses).collect()
}

fn body(text: &str) -> String {
    let mut shown = visible(text.get(..text.floor_char_boundary(MAX_BODY_CHARS)).unwrap_or_default());
    if shown.len() < text.len() && text.len() > MAX_BODY_CHARS {
        shown.push('…');
    }
    shown
}
