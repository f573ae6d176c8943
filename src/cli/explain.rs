//! `mqtt-gateway explain` and `mqtt-gateway publish`: what becomes of a message, and a message to try.

use clap::Args;

use super::input::bytes_argument;
use super::operate;
use super::output::{CommandReport, OutputOptions, document, visible};
use crate::control::view::{ExplanationView, PublishedView};
use crate::control::{Control, ControlError, ExplainedFlow, Explanation};
use crate::domain::batch::{ProcessError, Rejection};
use crate::domain::processing::TrialResult;
use crate::domain::topic_trial::TopicVerdict;

/// Text below the options in `explain --help`.
pub(super) const HELP: &str = "\
Example:
  mqtt-gateway explain sensors/kitchen/temperature '{\"value\": 21.5}'
The rules are those of the gateway. Keys of messages count as new, and the outbox as empty. Nothing is changed.
Exit codes: 0 success, 1 failure, 2 wrong settings or usage.";

/// A message on the command line.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct ExplainOptions {
    /// Topic of the message.
    topic: String,
    /// Payload of the message, or - to read it from standard input. Without it, only the topic is explained.
    payload: Option<String>,
    #[command(flatten)]
    output: OutputOptions,
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct PublishOptions {
    /// Topic of the message.
    topic: String,
    /// Payload of the message, or - to read it from standard input.
    payload: String,
    #[command(flatten)]
    output: OutputOptions,
}

/// Explains a message. Returns the exit code.
pub(super) fn run_explain(options: ExplainOptions) -> i32 {
    let ExplainOptions { topic, payload, output } = options;
    operate::run(output, async |control| {
        let payload = payload.map(|payload| bytes_argument(&payload)).transpose()?;
        let explanation = control.explain(&topic, payload.as_deref()).await?;
        let view = ExplanationView::new(&topic, &explanation);
        Ok(CommandReport::new(text(&explanation), document(&view)))
    })
}

/// Publishes a message. Returns the exit code.
pub(super) fn run_publish(options: PublishOptions) -> i32 {
    let PublishOptions { topic, payload, output } = options;
    operate::run(output, async |control| publish(control, &topic, &bytes_argument(&payload)?).await)
}

async fn publish(control: &Control, topic: &str, payload: &[u8]) -> Result<CommandReport, ControlError> {
    let broker = control.publish(topic, payload).await?;
    let text =
        format!("Published {} bytes to {}. The broker {broker} has them.\n", payload.len(), visible(topic));
    let view = PublishedView { topic: topic.to_owned(), bytes: payload.len(), broker };
    Ok(CommandReport::new(text, document(&view)))
}

fn text(explanation: &Explanation) -> String {
    let Explanation { flows, payload_rejection } = explanation;
    let (others, told): (Vec<_>, Vec<_>) =
        flows.iter().partition(|flow| flow.verdict == TopicVerdict::NoMatch);
    let mut lines: Vec<String> = told.iter().map(|flow| flow_lines(flow)).collect();
    match others.len() {
        0 => {}
        1 => lines.push("1 other flow does not match.\n".to_owned()),
        more => lines.push(format!("{more} other flows do not match.\n")),
    }
    if !told.iter().any(|flow| flow.verdict == TopicVerdict::Matches) {
        lines.push("No flow gets this message.\n".to_owned());
    } else if let Some(rejection) = payload_rejection {
        lines.push(format!("The payload is invalid: {}.\n", dead_letter(rejection)));
    }
    lines.concat()
}

fn flow_lines(ExplainedFlow { flow, verdict, trial }: &ExplainedFlow) -> String {
    let definition = &flow.definition;
    let (code, filter) = (visible(&definition.code), visible(&definition.topic));
    let line = format!("{code} ({filter}): {}\n", visible(&verdict.to_string()));
    let Some(trial) = trial else { return line };
    let key = match &definition.message_key {
        Some(key) if !key.trim().is_empty() && trial.result.is_ok() => {
            format!(", unless its key at {} was seen before", visible(key))
        }
        _ => String::new(),
    };
    format!("{line}  {}{key}\n", outcome(trial))
}

fn outcome(TrialResult { result, rows, is_posted }: &TrialResult) -> String {
    match result {
        Ok(done) => {
            let number = done.message_id;
            let rows = if *rows == 1 { "1 row".to_owned() } else { format!("{rows} rows") };
            match (done.action, is_posted) {
                (crate::domain::flow::Action::PostEndpoint, _) => {
                    format!("would be posted as number {number}")
                }
                (_, true) => format!("would be stored as number {number}, in {rows} of data, and posted"),
                (_, false) => format!("would be stored as number {number}, in {rows} of data"),
            }
        }
        Err(ProcessError::Rejected(rejection)) => dead_letter(rejection),
        Err(error @ ProcessError::Repeated { .. }) => error.to_string(),
    }
}

fn dead_letter(Rejection { reason, detail, .. }: &Rejection) -> String {
    format!("would become a dead letter, {reason}: {}", visible(detail))
}
