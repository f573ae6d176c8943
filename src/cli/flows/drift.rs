//! Fields of messages that changed.

use clap::Args;
use serde_json::json;

use super::super::dead_letters::replay_selected;
use crate::cli::output::{CommandReport, document, table, visible};
use crate::control::view::{
    AcceptedDriftView, CausedLettersView, FieldFactView, FlowDriftView, LoggedFieldView,
};
use crate::control::{Control, ControlError, ExpectedVersion, LetterSelection};
use crate::domain::drift::FieldKind;

/// Most flows of the list.
const MAX_FLOWS: usize = 1_000;

/// Arguments of the command.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct DriftOptions {
    /// Code of the flow [default: all flows with changed fields].
    code: Option<String>,
    /// Accept the change of this field: edit the schema of the flow.
    #[arg(long, value_name = "FIELD", requires = "code")]
    accept: Option<String>,
    /// Also replay the dead letters that the change caused.
    #[arg(long, requires = "accept")]
    replay: bool,
    /// Show the change of this field no longer, and keep the schema.
    #[arg(long, value_name = "FIELD", requires = "code", conflicts_with = "accept")]
    dismiss: Option<String>,
}

/// Runs the command.
pub(super) async fn run(control: &Control, options: DriftOptions) -> Result<CommandReport, ControlError> {
    let DriftOptions { code, accept, replay, dismiss } = options;
    match (code, accept, dismiss) {
        (None, _, _) => list(control).await,
        (Some(code), Some(field), _) => accept_change(control, &code, &field, replay).await,
        (Some(code), None, Some(field)) => {
            let drift = control.dismiss_drift(&code, &field).await?;
            let text = format!("Dismissed the change of field {field:?}. The schema is unchanged.\n");
            Ok(CommandReport::new(text, json!({"drift": FlowDriftView::new(&drift)})))
        }
        (Some(code), None, None) => show(control, &code).await,
    }
}

async fn list(control: &Control) -> Result<CommandReport, ControlError> {
    let (flows, _) = control.drifting_flows(None, MAX_FLOWS).await?;
    let flows: Vec<FlowDriftView> = flows.iter().map(FlowDriftView::of_changes).collect();
    let text = if flows.is_empty() {
        "No field of any flow has changed.\n".to_owned()
    } else {
        let rows =
            flows.iter().flat_map(|flow| flow.fields.iter().map(|field| change_row(&flow.code, field)));
        table(
            &["FLOW", "FIELD", "CHANGE", "SINCE", "LAST", "TOPIC", "DEAD LETTERS"],
            &rows.collect::<Vec<_>>(),
        )
    };
    Ok(CommandReport::new(text, json!({"flows": flows})))
}

fn change_row(code: &str, field: &LoggedFieldView) -> Vec<String> {
    let changes = || field.facts.iter().filter(|fact| fact.is_change);
    let change = field.change.as_ref();
    vec![
        code.to_owned(),
        field.field.clone(),
        change.map(|change| change.description.clone()).unwrap_or_default(),
        changes().map(|fact| fact.first_at.as_str()).min().unwrap_or_default().to_owned(),
        changes().map(|fact| fact.last_at.as_str()).max().unwrap_or_default().to_owned(),
        changes().map(|fact| fact.first_topic.clone()).next().unwrap_or_default(),
        if change.is_some_and(|change| change.is_refused) { "yes" } else { "no" }.to_owned(),
    ]
}

async fn show(control: &Control, code: &str) -> Result<CommandReport, ControlError> {
    let drift = FlowDriftView::new(&control.flow_drift(code).await?);
    let text = if drift.fields.is_empty() {
        "No field was seen in messages of this flow.\n".to_owned()
    } else {
        let rows = drift.fields.iter().flat_map(|field| field.facts.iter().map(|fact| fact_row(field, fact)));
        let changes: String = drift.fields.iter().filter_map(|field| change_lines(code, field)).collect();
        let head = ["FIELD", "KIND", "MESSAGES", "FIRST", "FIRST TOPIC", "LAST", "LAST TOPIC", ""];
        let more = if drift.has_more_fields { "There are more fields, which are not kept.\n" } else { "" };
        format!("{}{more}{changes}", table(&head, &rows.collect::<Vec<_>>()))
    };
    Ok(CommandReport::new(text, json!({"drift": drift})))
}

fn fact_row(field: &LoggedFieldView, fact: &FieldFactView) -> Vec<String> {
    let kind = if fact.kind == FieldKind::Missing { "(missing)".to_owned() } else { fact.kind.to_string() };
    vec![
        field.field.clone(),
        kind,
        fact.messages.to_string(),
        fact.first_at.clone(),
        fact.first_topic.clone(),
        fact.last_at.clone(),
        fact.last_topic.clone(),
        if fact.is_change { "changed" } else { "" }.to_owned(),
    ]
}

fn change_lines(code: &str, field: &LoggedFieldView) -> Option<String> {
    let change = field.change.as_ref()?;
    let (code, name) = (visible(code), visible(&field.field));
    let refused = if change.is_refused { " Such messages become dead letters." } else { "" };
    Some(format!(
        "\nField {name} {}.{refused}\n  `mqtt-gateway flows drift {code} --accept {name}`: {}\n",
        change.description,
        visible(&change.effect)
    ))
}

async fn accept_change(
    control: &Control,
    code: &str,
    field: &str,
    replay: bool,
) -> Result<CommandReport, ControlError> {
    let accepted = control.accept_drift(code, field, &ExpectedVersion::Any).await?;
    let view = AcceptedDriftView::new(&accepted);
    let mut report = match accepted.letters {
        Some(letters) if replay => replay_selected(control, &LetterSelection::Filter(letters), false).await?,
        _ => CommandReport::new(view.dead_letters.as_ref().map(replay_hint).unwrap_or_default(), json!({})),
    };
    report.text = format!("{}\n{}", visible(&view.effect), report.text);
    let replayed = report.document;
    report.document = json!({"accepted": document(&view)});
    if replay {
        report.document["replayed"] = replayed;
    }
    Ok(report)
}

fn replay_hint(letters: &CausedLettersView) -> String {
    let CausedLettersView { flow, reason, text } = letters;
    let (flow, text) = (visible(flow), visible(text));
    format!(
        "`mqtt-gateway dead-letters replay --flow {flow} --reason {reason} --text '{text}'` replays its dead letters.\n"
    )
}
