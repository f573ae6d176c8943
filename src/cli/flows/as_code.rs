//! The commands for flows as code: `export`, `diff`, `apply` and `lint`.

use std::io::{self, Write};

use clap::Args;
use serde_json::{Value, json};

use crate::cli::input::{FileArgument, confirm, file_argument};
use crate::cli::output::{CommandReport, OutputOptions, print_error, remedy_line, visible};
use crate::cli::{DIFFERENT, FAILURE};
use crate::control::{Control, ControlError, FilePlan, PlanEffects, PlannedChange, check_file};
use crate::domain::edit_history::NewEdit;
use crate::domain::flow_definition::{FlowDefinition, FlowRecord};
use crate::domain::flow_file::{FileProblem, FlowFile};
use crate::domain::masking::{MaskedFlow, MaskedServer};
use crate::domain::posting::address_guard::EndpointNetworks;
use crate::domain::problem::Problem;
use crate::domain::server_definition::{ServerDefinition, ServerRecord};

/// Text below the options in `--help` of `diff`.
pub(super) const DIFF_EXIT_CODES: &str =
    "Exit codes: 0 no difference, 1 failure, 2 something differs, or wrong settings or usage.";

/// A file of flows.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct FlowFileArgument {
    /// YAML file with flows, or - for standard input.
    #[arg(value_name = "FILE")]
    file: String,
    /// Also remove the flows that the list of flows lacks, and the brokers that the list of brokers lacks.
    #[arg(long)]
    prune: bool,
}

/// How a file is applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(super) struct ApplyOptions {
    /// Say what would be done, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Remove without asking.
    #[arg(long)]
    yes: bool,
}

pub(super) async fn export(
    control: &Control,
    codes: &[String],
    with_servers: bool,
) -> Result<CommandReport, ControlError> {
    let exported = control.export_file(codes, with_servers).await?;
    Ok(CommandReport::new(exported.to_yaml(), exported.to_json()))
}

pub(super) async fn diff(
    control: &Control,
    argument: &FlowFileArgument,
) -> Result<(CommandReport, i32), ControlError> {
    let (name, plan) = plan(control, argument).await?;
    let effects = control.plan_effects(&plan).await?;
    let mut text =
        if plan.is_empty() { "No differences.\n".to_owned() } else { change_lines(&plan, &effects) };
    text.push_str(&kept_line(&plan));
    text.push_str(&located_lines(&name, &plan.problems));
    let document = json!({
        "differs": !plan.is_empty(),
        "changes": change_documents(&plan, &effects),
        "problems": plan.problems,
    });
    Ok((CommandReport::new(text, document), if plan.is_empty() { 0 } else { DIFFERENT }))
}

pub(super) async fn apply(
    control: &Control,
    argument: &FlowFileArgument,
    options: ApplyOptions,
) -> Result<CommandReport, ControlError> {
    let (name, mut plan) = plan(control, argument).await?;
    let effects = vec![PlanEffects::default(); plan.flows.len()];
    let warnings = located_lines(&name, &plan.problems);
    if plan.is_empty() {
        let text = format!("Nothing to do: the tables are as the file says.\n{}", kept_line(&plan));
        return Ok(CommandReport::new(text, json!({"applied": false, "changes": []})));
    }
    if options.dry_run {
        let text = format!("{}{warnings}Nothing was written.\n", change_lines(&plan, &effects));
        let document = json!({"applied": false, "changes": change_documents(&plan, &effects)});
        return Ok(CommandReport::new(text, document));
    }
    if plan.removals() > 0 && !options.yes {
        confirm(&format!("{}Apply, and remove {} rows?", change_lines(&plan, &effects), plan.removals()))?;
    }
    let counts_from = control.apply_plan(&plan).await?;
    for (change, counts_from) in plan.flows.iter_mut().zip(counts_from) {
        change.counts_from = counts_from;
    }
    let text = format!(
        "{}{}{warnings}Applied. Running gateways notice it within two seconds.\n",
        change_lines(&plan, &effects),
        kept_line(&plan),
    );
    let document =
        json!({"applied": true, "changes": change_documents(&plan, &effects), "problems": plan.problems});
    Ok(CommandReport::new(text, document))
}

/// Checks a file by itself: without a database and without settings. Returns the exit code.
pub(super) fn lint(file: &str, output: OutputOptions) -> i32 {
    let FileArgument { name, text } = match file_argument(file) {
        Ok(argument) => argument,
        Err(error) => {
            // Standard error that is closed leaves only the exit code.
            let _ = print_error(&error, output);
            return FAILURE;
        }
    };
    let problems = match FlowFile::parse(&text) {
        Ok(file) => check_file(&file, &EndpointNetworks::All),
        Err(problems) => problems,
    };
    let ok = !problems.iter().any(FileProblem::is_error);
    let summary = if problems.is_empty() { format!("{}: ok\n", visible(&name)) } else { String::new() };
    let text = format!("{}{summary}", located_lines(&name, &problems));
    let report = CommandReport { text, document: json!({"ok": ok, "problems": problems}), ok };
    let _ = report.print(output);
    if ok { 0 } else { FAILURE }
}

/// Prints the JSON Schema of a file. Returns the exit code.
pub(in crate::cli) fn print_schema() -> i32 {
    let written = writeln!(io::stdout().lock(), "{:#}", FlowFile::schema().as_value());
    if written.is_ok() { 0 } else { FAILURE }
}

/// Reads and checks the file, and compares it with the tables. Returns its name, too.
async fn plan(control: &Control, argument: &FlowFileArgument) -> Result<(String, FilePlan), ControlError> {
    let FileArgument { name, text } = file_argument(&argument.file)?;
    let file = FlowFile::parse(&text).map_err(|problems| invalid(&name, &problems))?;
    let of_file = check_file(&file, &control.settings.http_route.networks);
    let errors: Vec<FileProblem> = of_file.into_iter().filter(is_fatal).collect();
    if !errors.is_empty() {
        return Err(invalid(&name, &errors));
    }
    let plan = control.plan_file(&file, argument.prune).await?;
    if plan.problems.iter().any(FileProblem::is_error) {
        return Err(invalid(&name, &plan.problems));
    }
    Ok((name, plan))
}

/// Whether the file as a whole is unusable. The columns of a flow count only if the flow is to be changed.
fn is_fatal(problem: &FileProblem) -> bool {
    problem.is_error() && (problem.subject.ends_with(": code") || !problem.subject.starts_with("flow "))
}

/// The error of a file, with the place of each problem.
fn invalid(name: &str, problems: &[FileProblem]) -> ControlError {
    let problem = |problem: &FileProblem| Problem {
        level: problem.level,
        field: "file",
        problem: problem.located(name),
        remedy: problem.remedy.clone(),
    };
    ControlError::Invalid { problems: problems.iter().map(problem).collect() }
}

/// Two lines for each problem, as compilers write them.
pub(super) fn located_lines(name: &str, problems: &[FileProblem]) -> String {
    let lines = problems
        .iter()
        .map(|problem| format!("{}\n{}", visible(&problem.line(name)), remedy_line(&problem.remedy)));
    lines.collect()
}

fn kept_line(plan: &FilePlan) -> String {
    match plan.kept {
        0 => String::new(),
        kept => format!("{kept} flows and brokers are not in the file and stay; --prune removes them.\n"),
    }
}

fn change_lines(plan: &FilePlan, effects: &[PlanEffects]) -> String {
    let flows = plan.flows.iter().zip(effects).map(|(change, effects)| flow_lines(change, *effects));
    flows.chain(plan.servers.iter().map(server_lines)).collect()
}

fn flow_lines(change: &PlannedChange<FlowRecord, FlowDefinition>, effects: PlanEffects) -> String {
    let (code, number) = (visible(change.code()), change.counts_from);
    let head = match (&change.old, &change.new) {
        (None, _) => format!("+ flow {code}: begins with sequence number {number}\n"),
        (_, None) => format!("- flow {code}: its last sequence number is {}\n", number.saturating_sub(1)),
        _ => format!("~ flow {code}: counts from sequence number {number}\n"),
    };
    let PlanEffects { waiting_posts, letters_tried, letters_passing } = effects;
    let becomes = if change.new.is_none() { "become dead letters" } else { "follow the new columns" };
    let posts = format!("    {waiting_posts} waiting posts {becomes}\n");
    let letters = format!(
        "    {letters_passing} of its {letters_tried} newest dead letters without a number would be processed: \
         `dead-letters replay --flow {code}`\n"
    );
    let posts = Some(posts).filter(|_| waiting_posts > 0);
    let letters = Some(letters).filter(|_| letters_tried > 0);
    [Some(head), Some(column_lines(&flow_columns(change))), posts, letters].into_iter().flatten().collect()
}

fn server_lines(change: &PlannedChange<ServerRecord, ServerDefinition>) -> String {
    let old = change.old.as_ref().map(|row| &row.definition);
    let host = change.new.as_ref().or(old).map_or_else(String::new, |server| visible(&server.host));
    let sign = sign(change);
    format!("{sign} server {host}\n{}", column_lines(&server_columns(change)))
}

fn sign<Row, New>(change: &PlannedChange<Row, New>) -> char {
    match (&change.old, &change.new) {
        (None, _) => '+',
        (_, None) => '-',
        _ => '~',
    }
}

/// A changed column with its values, secrets masked.
struct ColumnChange {
    column: &'static str,
    before: Value,
    after: Value,
}

fn column_lines(columns: &[ColumnChange]) -> String {
    let line = |ColumnChange { column, before, after }: &ColumnChange| {
        let (before, after) = (visible(&before.to_string()), visible(&after.to_string()));
        let values =
            if before == after { "another secret".to_owned() } else { format!("{before} -> {after}") };
        format!("    {column}: {values}\n")
    };
    columns.iter().map(line).collect()
}

fn flow_columns(change: &PlannedChange<FlowRecord, FlowDefinition>) -> Vec<ColumnChange> {
    let old = change.old.as_ref().map(|row| &row.definition);
    let document = |flow: Option<&FlowDefinition>| flow.map(|flow| MaskedFlow::new(flow).document());
    let edit = NewEdit::of_flow(old, change.new.as_ref(), 0);
    columns(edit, document(old), document(change.new.as_ref()))
}

fn server_columns(change: &PlannedChange<ServerRecord, ServerDefinition>) -> Vec<ColumnChange> {
    let old = change.old.as_ref().map(|row| &row.definition);
    let document = |server: Option<&ServerDefinition>| {
        server.and_then(|server| serde_json::to_value(MaskedServer::new(server)).ok())
    };
    let edit = NewEdit::of_server(0, old, change.new.as_ref());
    columns(edit, document(old), document(change.new.as_ref()))
}

fn columns(edit: Option<NewEdit>, old: Option<Value>, new: Option<Value>) -> Vec<ColumnChange> {
    let (old, new) = (old.unwrap_or_default(), new.unwrap_or_default());
    let change = |column: &'static str| ColumnChange {
        column,
        before: old.get(column).cloned().unwrap_or_default(),
        after: new.get(column).cloned().unwrap_or_default(),
    };
    edit.map(|edit| edit.changed).unwrap_or_default().into_iter().map(change).collect()
}

fn change_documents(plan: &FilePlan, effects: &[PlanEffects]) -> Vec<Value> {
    let flows = plan.flows.iter().zip(effects).map(|(change, effects)| {
        json!({
            "kind": "flow",
            "name": change.code(),
            "change": word(change),
            "columns": column_documents(&flow_columns(change)),
            "counts_from": change.counts_from,
            "waiting_posts": effects.waiting_posts,
            "dead_letters": {"tried": effects.letters_tried, "would_pass": effects.letters_passing},
        })
    });
    let servers = plan.servers.iter().map(|change| {
        let old = change.old.as_ref().map(|row| &row.definition);
        json!({
            "kind": "server",
            "name": change.new.as_ref().or(old).map(|server| server.host.as_str()),
            "change": word(change),
            "columns": column_documents(&server_columns(change)),
        })
    });
    flows.chain(servers).collect()
}

fn word<Row, New>(change: &PlannedChange<Row, New>) -> &'static str {
    match sign(change) {
        '+' => "added",
        '-' => "removed",
        _ => "changed",
    }
}

fn column_documents(columns: &[ColumnChange]) -> Vec<Value> {
    let document = |ColumnChange { column, before, after }: &ColumnChange| json!({"column": column, "before": before, "after": after});
    columns.iter().map(document).collect()
}
