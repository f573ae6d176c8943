//! `mqtt-gateway flows`: work with the rows of `flows`.

mod view;

use clap::{Args, Subcommand};
use serde_json::json;

use self::view::{FlowView, list_table, show_fields};
use super::operate;
use super::output::{CommandReport, EXIT_CODES, OutputOptions, document};
use crate::control::{Control, ControlError};

/// Commands for flows.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct FlowsCommand {
    #[command(flatten)]
    output: OutputOptions,
    #[command(subcommand)]
    action: FlowsAction,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum FlowsAction {
    /// List all flows.
    #[command(after_help = EXIT_CODES)]
    List,
    /// Show a flow: its columns, and how many posts wait. Secrets are shown as ***.
    #[command(after_help = EXIT_CODES)]
    Show {
        /// Code of the flow.
        code: String,
    },
}

/// Runs the command and returns its exit code.
pub(super) fn run(command: FlowsCommand) -> i32 {
    let FlowsCommand { output, action } = command;
    operate::run(output, async |control| match action {
        FlowsAction::List => list(control).await,
        FlowsAction::Show { code } => show(control, &code).await,
    })
}

async fn list(control: &Control) -> Result<CommandReport, ControlError> {
    let flows: Vec<FlowView> = control.flows().await?.iter().map(FlowView::new).collect();
    let text = if flows.is_empty() { "There are no flows.\n".to_owned() } else { list_table(&flows) };
    Ok(CommandReport::new(text, json!({"flows": flows})))
}

async fn show(control: &Control, code: &str) -> Result<CommandReport, ControlError> {
    let flow = control.flow(code).await?;
    let waiting = control.waiting_posts(&flow).await?;
    let view = FlowView::new(&flow);
    let mut shown = document(&view);
    shown["waiting_posts"] = waiting.into();
    Ok(CommandReport::new(show_fields(&view, waiting), json!({"flow": shown})))
}
