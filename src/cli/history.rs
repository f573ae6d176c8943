//! The history of edits: of a flow, of a broker, or of all of them.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, value_parser};
use serde_json::json;

use super::operate;
use super::output::{CommandReport, OutputOptions, visible};
use crate::control::time_text::parse_time;
use crate::control::{Control, ControlError, EditedColumn, HistoryEntryView};
use crate::domain::edit_history::{EditedKind, HistoryEntry, HistoryFilter};

/// Which entries are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(super) struct HistoryPage {
    /// Most entries to show.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Only entries with smaller numbers, to go on from a page.
    #[arg(long, value_name = "NUMBER")]
    before: Option<i64>,
}

/// Which entries of all rows are shown.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct HistoryOptions {
    #[command(flatten)]
    output: OutputOptions,
    /// Only edits of flows, or of brokers.
    #[arg(long, value_parser = kind_parser())]
    kind: Option<EditedKind>,
    /// Only edits of the flow with this code, or of the broker with this id.
    #[arg(long)]
    name: Option<String>,
    /// Only edits by an author with this text in the name.
    #[arg(long)]
    by: Option<String>,
    /// Only edits since then: a day, a time in UTC, or an age such as 24h.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    since: Option<i64>,
    /// Only edits before then.
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<i64>,
    #[command(flatten)]
    page: HistoryPage,
}

fn kind_parser() -> impl TypedValueParser<Value = EditedKind> {
    let names = PossibleValuesParser::new(EditedKind::ALL.map(EditedKind::as_str));
    names.try_map(|name| EditedKind::from_name(&name).ok_or("flow or server is expected"))
}

/// Runs the command and returns its exit code.
pub(super) fn run(options: HistoryOptions) -> i32 {
    let HistoryOptions { output, kind, name, by, since, until, page } = options;
    operate::run(output, async |control| {
        let filter = HistoryFilter { kind, name, by, since_us: since, until_us: until };
        Ok(report(&control.edits(&filter, page.before, page.limit).await?))
    })
}

/// Shows the entries of one row.
pub(super) async fn show(
    control: &Control,
    kind: EditedKind,
    name: &str,
    page: HistoryPage,
) -> Result<CommandReport, ControlError> {
    let entries = control.history(kind, name, page.before, page.limit).await?;
    if entries.is_empty() && page.before.is_none() {
        // An unknown name is an error, an unedited row is none.
        match kind {
            EditedKind::Flow => drop(control.flow(name).await?),
            EditedKind::Server => drop(control.server(name.parse().unwrap_or(0)).await?),
        }
    }
    Ok(report(&entries))
}

fn report(entries: &[HistoryEntry]) -> CommandReport {
    let entries: Vec<HistoryEntryView> = entries.iter().map(HistoryEntryView::new).collect();
    let text = if entries.is_empty() {
        "No edit was found. Edits by SQL are not in the history.\n".to_owned()
    } else {
        entries.iter().map(lines).collect()
    };
    CommandReport::new(text, json!({"history": entries}))
}

/// A line for the edit, and one for each changed column.
fn lines(entry: &HistoryEntryView) -> String {
    let HistoryEntryView { id, edited_at, edited_by, kind, name, edit, .. } = entry;
    let counts = match entry.counts_from {
        Some(number) => format!(", counts from sequence number {number}"),
        None => String::new(),
    };
    let columns: String = entry.changes().iter().map(changed_line).collect();
    let (row, by) = (visible(&format!("{kind} {name}")), visible(edited_by));
    format!("{id}  {edited_at}  {row} {edit} ({by}){counts}\n{columns}")
}

fn changed_line(EditedColumn { column, values }: &EditedColumn<'_>) -> String {
    match values {
        Some((before, after)) => format!("    {column}: {} -> {}\n", visible(before), visible(after)),
        None => format!("    {column}: another secret\n"),
    }
}
