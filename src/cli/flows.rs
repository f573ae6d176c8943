//! `mqtt-gateway flows`: work with the rows of `flows`.

mod as_code;
mod drift;
mod edit;
mod file_tests;
mod rehearse;
mod view;

use clap::{Args, Subcommand};
use serde_json::json;

pub(super) use self::as_code::print_schema as print_file_schema;
use self::as_code::{ApplyOptions, FlowFileArgument};
use self::edit::FlowFields;
use self::view::{list_table, show_fields};
use super::history::{self, HistoryPage};
use super::operate;
use super::output::{CommandReport, EXIT_CODES, OutputOptions, problem_lines, visible};
use crate::control::view::{FlowDetailsView, FlowVerdictView, FlowView};
use crate::control::{CheckedFlow, Control, ControlError, FlowFilter};
use crate::domain::edit_history::EditedKind;
use crate::domain::problem::Problem;

/// Commands for flows.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct FlowsCommand {
    #[command(flatten)]
    output: OutputOptions,
    #[command(subcommand)]
    action: FlowsAction,
}

/// Conditions on flows; all have to be met.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
struct FlowFilterArguments {
    /// Only enabled flows, or only disabled ones.
    #[arg(long, value_name = "true|false")]
    enabled: Option<bool>,
    /// Only flows with this action.
    #[arg(long)]
    action: Option<String>,
    /// Only flows with this text in code, description or topic, in any case.
    #[arg(long)]
    text: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum FlowsAction {
    /// List flows.
    #[command(after_help = EXIT_CODES)]
    List {
        #[command(flatten)]
        filter: FlowFilterArguments,
    },
    /// Show a flow: its columns, and how many posts wait. Secrets are shown as ***.
    #[command(after_help = EXIT_CODES)]
    Show {
        /// Code of the flow.
        code: String,
    },
    /// Check flows: exit code 1 if one of them cannot work.
    #[command(after_help = EXIT_CODES)]
    Validate {
        /// Codes of the flows.
        #[arg(value_name = "CODE", required_unless_present = "all")]
        codes: Vec<String>,
        /// Check all flows.
        #[arg(long, conflicts_with = "codes")]
        all: bool,
    },
    /// Add a flow. Refused if it cannot work.
    #[command(after_help = edit::HELP, mut_arg("topic", |topic| topic.required(true)), mut_arg("action", |action| action.required(true)))]
    Add {
        /// Unique name of the flow.
        code: String,
        #[command(flatten)]
        fields: FlowFields,
        /// Begin after this sequence number. Without it, the numbers of a removed flow with this code go on.
        #[arg(long, value_name = "NUMBER", value_parser = clap::value_parser!(i64).range(0..))]
        last_msg_id: Option<i64>,
    },
    /// Change a flow: the columns that are given. Refused if it could not work afterwards.
    #[command(after_help = edit::HELP)]
    Edit {
        /// Code of the flow.
        code: String,
        #[command(flatten)]
        fields: FlowFields,
        /// Say what the edit would do, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Try a message by its real transaction, which is rolled back, or run the tests of a file.
    #[command(after_help = rehearse::HELP)]
    Test(rehearse::TestOptions),
    /// Enable flows, all or none. Refused if one of them cannot work.
    #[command(after_help = EXIT_CODES)]
    Enable {
        /// Codes of the flows.
        #[arg(value_name = "CODE", required = true)]
        codes: Vec<String>,
    },
    /// Disable flows, all or none. Messages that wait in the inbox become dead letters, and posts wait.
    #[command(after_help = EXIT_CODES)]
    Disable {
        /// Codes of the flows.
        #[arg(value_name = "CODE", required = true)]
        codes: Vec<String>,
    },
    /// Remove flows, all or none. Their stored messages stay, and their waiting posts become dead letters.
    #[command(after_help = EXIT_CODES)]
    Remove {
        /// Codes of the flows.
        #[arg(value_name = "CODE", required = true)]
        codes: Vec<String>,
        /// Remove without asking.
        #[arg(long)]
        yes: bool,
    },
    /// Show the edits of a flow by commands and the API, the newest first; also of a removed flow.
    #[command(after_help = EXIT_CODES)]
    History {
        /// Code of the flow.
        code: String,
        #[command(flatten)]
        page: HistoryPage,
    },
    /// Give a flow the columns that it had after an entry of its history. A removed flow is added again.
    #[command(after_help = EXIT_CODES)]
    Rollback {
        /// Code of the flow.
        code: String,
        /// Number of the entry.
        #[arg(long, value_name = "NUMBER")]
        to: i64,
    },
    /// Show fields of messages that appeared, vanished or changed their type, and accept such changes.
    #[command(after_help = EXIT_CODES)]
    Drift(drift::DriftOptions),
    /// Write flows as a YAML file, without secrets.
    #[command(after_help = EXIT_CODES)]
    Export {
        /// Codes of the flows [default: all].
        #[arg(value_name = "CODE")]
        codes: Vec<String>,
        /// Also write the brokers.
        #[arg(long)]
        servers: bool,
    },
    /// Compare a YAML file with the tables: what `apply` would change, and what that does.
    #[command(after_help = as_code::DIFF_EXIT_CODES)]
    Diff {
        #[command(flatten)]
        file: FlowFileArgument,
    },
    /// Make the tables as a YAML file says, all or nothing.
    #[command(after_help = EXIT_CODES)]
    Apply {
        #[command(flatten)]
        file: FlowFileArgument,
        #[command(flatten)]
        options: ApplyOptions,
    },
    /// Check a YAML file. Needs no database and no settings.
    #[command(after_help = EXIT_CODES)]
    Lint {
        /// YAML file with flows, or - for standard input.
        #[arg(value_name = "FILE")]
        file: String,
    },
    /// Have all gateways read the flows and brokers again, after edits by SQL.
    #[command(after_help = EXIT_CODES)]
    Touch,
}

/// Runs the command and returns its exit code.
pub(super) fn run(command: FlowsCommand) -> i32 {
    let FlowsCommand { output, action } = command;
    match action {
        FlowsAction::Lint { file } => as_code::lint(&file, output),
        FlowsAction::Diff { file } => {
            operate::run_coded(output, async |control| as_code::diff(control, &file).await)
        }
        FlowsAction::Test(options) if options.has_file() => {
            operate::run_without_settings(output, file_tests::run(&options))
        }
        action => operate::run(output, async |control| perform(control, action).await),
    }
}

async fn perform(control: &Control, action: FlowsAction) -> Result<CommandReport, ControlError> {
    match action {
        // These have their own ways.
        FlowsAction::Lint { .. } | FlowsAction::Diff { .. } => Ok(CommandReport::default()),
        FlowsAction::Export { codes, servers } => as_code::export(control, &codes, servers).await,
        FlowsAction::Apply { file, options } => as_code::apply(control, &file, options).await,
        FlowsAction::List { filter } => list(control, filter).await,
        FlowsAction::Show { code } => show(control, &code).await,
        FlowsAction::Validate { codes, .. } => validate(control, &codes).await,
        FlowsAction::Add { code, fields, last_msg_id } => {
            edit::add(control, &code, fields, last_msg_id).await
        }
        FlowsAction::Edit { code, fields, dry_run: true } => edit::preview(control, &code, fields).await,
        FlowsAction::Edit { code, fields, .. } => edit::edit(control, &code, fields).await,
        FlowsAction::Test(options) => rehearse::run(control, options).await,
        FlowsAction::Enable { codes } => edit::set_enabled(control, &codes, true).await,
        FlowsAction::Disable { codes } => edit::set_enabled(control, &codes, false).await,
        FlowsAction::Remove { codes, yes } => edit::remove(control, &codes, yes).await,
        FlowsAction::History { code, page } => history::show(control, EditedKind::Flow, &code, page).await,
        FlowsAction::Rollback { code, to } => edit::roll_back(control, &code, to).await,
        FlowsAction::Drift(options) => drift::run(control, options).await,
        FlowsAction::Touch => edit::touch(control).await,
    }
}

async fn list(control: &Control, filter: FlowFilterArguments) -> Result<CommandReport, ControlError> {
    let FlowFilterArguments { enabled, action, text } = filter;
    let filter = FlowFilter { enabled, action, text, ..FlowFilter::default() };
    let flows: Vec<FlowView> = control.selected_flows(&filter).await?.iter().map(FlowView::new).collect();
    let text = if flows.is_empty() && filter != FlowFilter::default() {
        "No flow matches.\n".to_owned()
    } else if flows.is_empty() {
        "There are no flows: `mqtt-gateway flows add --help` says how to add one.\n".to_owned()
    } else {
        list_table(&flows)
    };
    Ok(CommandReport::new(text, json!({"flows": flows})))
}

async fn show(control: &Control, code: &str) -> Result<CommandReport, ControlError> {
    let (flow, waiting_posts) = control.flow_with_posts(code).await?;
    let shown = FlowDetailsView { flow: FlowView::new(&flow), waiting_posts };
    Ok(CommandReport::new(show_fields(&shown), json!({"flow": shown})))
}

async fn validate(control: &Control, codes: &[String]) -> Result<CommandReport, ControlError> {
    let checked = control.check_flows(codes).await?;
    let ok = checked.iter().all(|flow| !flow.problems.iter().any(Problem::is_error));
    let text = checked.iter().map(verdict).collect();
    let flows: Vec<FlowVerdictView> = checked.iter().map(FlowVerdictView::new).collect();
    let document = json!({"ok": ok, "flows": flows});
    Ok(CommandReport { text, document, ok })
}

fn verdict(CheckedFlow { flow, problems }: &CheckedFlow) -> String {
    let code = visible(&flow.definition.code);
    let word = match problems.first() {
        None => "ok",
        Some(problem) if problem.is_error() => "cannot work",
        Some(_) => "works, with warnings",
    };
    let disabled = if flow.definition.is_enabled() { "" } else { " (disabled)" };
    format!("{code}{disabled}: {word}\n{}", problem_lines(problems))
}
