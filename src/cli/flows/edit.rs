//! The commands that change flows.

use clap::Args;
use serde_json::json;

use crate::cli::input::{confirm, json_argument};
use crate::cli::output::{CommandReport, document, problem_lines, visible};
use crate::control::view::{EditedFlowView, RemovedFlowView};
use crate::control::{Control, ControlError, EditedFlow, FlowEdit, PreviewedColumn};
use crate::domain::flow_definition::FlowRecord;

/// Text below the options in `--help` of `add` and `edit`.
pub(super) const HELP: &str = "\
Examples:
  mqtt-gateway flows add TEMP --topic 'sensors/+/temperature' --action STORE_DB --schema '{\"value\": \"number\"}'
  mqtt-gateway flows add ALARM --topic 'alarms/#' --action POST_ENDPOINT --endpoint-url https://pager.example/hook
  mqtt-gateway flows edit TEMP --schema temp.json
An empty text ('') clears --endpoint-url, --options and --message-key.
Exit codes: 0 success, 1 failure, 2 wrong settings or usage.";

/// The columns of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(super) struct FlowFields {
    /// MQTT topic filter; + stands for one level, # at the end for all further levels.
    #[arg(long, value_name = "FILTER")]
    topic: Option<String>,
    #[command(flatten)]
    processing: ProcessingFields,
    /// Text for people.
    #[arg(long)]
    description: Option<String>,
    /// Leave the flow disabled: it gets no messages until it is enabled.
    #[arg(long)]
    disabled: bool,
}

/// The columns that decide what becomes of a message.
#[derive(Debug, Clone, Default, PartialEq, Eq, Args)]
pub(super) struct ProcessingFields {
    /// `STORE_DB` stores messages in the table `data`, `POST_ENDPOINT` posts them to --endpoint-url.
    #[arg(long)]
    action: Option<String>,
    /// Required fields and their types, or a JSON Schema: JSON, a file, or - for standard input. A new flow requires
    /// nothing by default.
    #[arg(long, value_name = "JSON|FILE|-")]
    schema: Option<String>,
    /// URL that messages are posted to.
    #[arg(long, value_name = "URL")]
    endpoint_url: Option<String>,
    /// Options, see `mqtt-gateway schema`: JSON, a file, or - for standard input.
    #[arg(long, value_name = "JSON|FILE|-")]
    options: Option<String>,
    /// Place of the producer's key, such as /id or property:NAME. A key that was seen before stores nothing.
    #[arg(long, value_name = "PLACE")]
    message_key: Option<String>,
}

impl FlowFields {
    fn edit(self) -> Result<FlowEdit, ControlError> {
        Ok(FlowEdit {
            description: self.description,
            topic: self.topic,
            enabled: self.disabled.then_some(false),
            ..self.processing.edit()?
        })
    }
}

impl ProcessingFields {
    pub(super) fn edit(self) -> Result<FlowEdit, ControlError> {
        let json = |option, argument: Option<String>| {
            argument.map(|argument| json_argument(option, &argument)).transpose()
        };
        Ok(FlowEdit {
            payload_schema: json("--schema", self.schema)?,
            options: json("--options", self.options)?,
            action: self.action,
            endpoint_url: self.endpoint_url,
            message_key: self.message_key,
            ..FlowEdit::default()
        })
    }
}

pub(super) async fn add(
    control: &Control,
    code: &str,
    fields: FlowFields,
    last_msg_id: Option<i64>,
) -> Result<CommandReport, ControlError> {
    let added = control.add_flow(code, &fields.edit()?, last_msg_id).await?;
    Ok(report("Added", &[added]))
}

pub(super) async fn edit(
    control: &Control,
    code: &str,
    fields: FlowFields,
) -> Result<CommandReport, ControlError> {
    let edited = control.edit_flow(code, &fields.edit()?).await?;
    Ok(report("Changed", &[edited]))
}

/// Says what an edit would do, and changes nothing.
pub(super) async fn preview(
    control: &Control,
    code: &str,
    fields: FlowFields,
) -> Result<CommandReport, ControlError> {
    let preview = control.preview_edit(code, &fields.edit()?).await?;
    let code = visible(&preview.code);
    let mut lines = if preview.columns.is_empty() {
        vec![format!("Flow {code} has these values already.\n")]
    } else {
        vec![format!("Flow {code} would change from sequence number {} on.\n", preview.counts_from)]
    };
    lines.extend(preview.columns.iter().map(|PreviewedColumn { column, before, after }| {
        if before == after {
            return format!("    {column}: another secret\n");
        }
        format!("    {column}: {} -> {}\n", visible(&before.to_string()), visible(&after.to_string()))
    }));
    if preview.waiting_posts > 0 {
        lines.push(format!("    {} waiting posts follow the new columns\n", preview.waiting_posts));
    }
    if preview.letters_tried > 0 {
        let (passing, tried) = (preview.letters_passing, preview.letters_tried);
        lines.push(format!(
            "    {passing} of its {tried} newest dead letters without a number would be processed\n"
        ));
    }
    lines.push(problem_lines(&preview.problems));
    lines.push("Nothing was changed.\n".to_owned());
    Ok(CommandReport::new(lines.concat(), document(&preview)))
}

pub(super) async fn set_enabled(
    control: &Control,
    codes: &[String],
    enabled: bool,
) -> Result<CommandReport, ControlError> {
    let edit = FlowEdit { enabled: Some(enabled), ..FlowEdit::default() };
    let edited = control.edit_flows(codes, &edit).await?;
    Ok(report(if enabled { "Enabled" } else { "Disabled" }, &edited))
}

pub(super) async fn roll_back(control: &Control, code: &str, to: i64) -> Result<CommandReport, ControlError> {
    let edited = control.roll_back(code, to).await?;
    Ok(report("Rolled back", &[edited]))
}

pub(super) async fn touch(control: &Control) -> Result<CommandReport, ControlError> {
    control.touch_flows().await?;
    let text = "Running gateways read the flows and brokers again within two seconds.\n".to_owned();
    Ok(CommandReport::new(text, json!({"touched": true})))
}

fn report(done: &str, edited: &[EditedFlow]) -> CommandReport {
    let mut lines: Vec<String> = edited.iter().map(|edited| line(done, edited)).collect();
    if edited.iter().any(|edited| edited.changed) {
        lines.push("Running gateways notice it within two seconds.\n".to_owned());
    }
    let flows: Vec<EditedFlowView> = edited.iter().map(EditedFlowView::new).collect();
    CommandReport::new(lines.concat(), json!({"flows": flows}))
}

fn line(done: &str, EditedFlow { code, changed, counts_from, warnings, .. }: &EditedFlow) -> String {
    let code = visible(code);
    let line = if *changed {
        format!("{done} flow {code}. It counts from sequence number {counts_from}.")
    } else {
        format!("Flow {code} is unchanged: it has these values already.")
    };
    format!("{line}\n{}", problem_lines(warnings))
}

pub(super) async fn remove(
    control: &Control,
    codes: &[String],
    yes: bool,
) -> Result<CommandReport, ControlError> {
    let mut removals: Vec<(FlowRecord, u64)> = Vec::new();
    for code in codes {
        let (flow, waiting) = control.flow_with_posts(code).await?;
        if !removals.iter().any(|(known, _)| known.id == flow.id) {
            removals.push((flow, waiting));
        }
    }
    if !yes {
        let lines: String = removals.iter().map(consequence).collect();
        confirm(&format!("{lines}Remove?"))?;
    }
    let flows: Vec<FlowRecord> = removals.iter().map(|(flow, _)| flow.clone()).collect();
    control.remove_flows(&flows).await?;
    let lines: Vec<String> =
        removals.iter().map(|removal| format!("Removed. {}", consequence(removal))).collect();
    let removed = removals.iter().map(|(flow, waiting)| RemovedFlowView {
        code: flow.definition.code.clone(),
        last_msg_id: flow.last_msg_id,
        waiting_posts: *waiting,
    });
    Ok(CommandReport::new(lines.concat(), json!({"removed": removed.collect::<Vec<_>>()})))
}

fn consequence((flow, waiting): &(FlowRecord, u64)) -> String {
    let (code, last) = (visible(&flow.definition.code), flow.last_msg_id.unwrap_or(0));
    let posts = match waiting {
        0 => "No posts wait".to_owned(),
        waiting => format!("{waiting} waiting posts become dead letters"),
    };
    let continued = match last {
        0 => String::new(),
        last => format!(
            " Its last sequence number is {last}; `flows add {code} --last-msg-id {last}` continues from there."
        ),
    };
    format!("Flow {code}: its stored messages stay. {posts}.{continued}\n")
}
