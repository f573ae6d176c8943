//! The history of a flow or a broker.

use clap::Args;
use serde_json::{Value, json};

use super::output::{CommandReport, visible};
use crate::control::{Control, ControlError, HistoryEntryView};
use crate::domain::edit_history::EditedKind;

/// Which entries are shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Args)]
pub(super) struct HistoryPage {
    /// Most entries to show.
    #[arg(long, value_name = "COUNT", default_value_t = 20, value_parser = clap::value_parser!(u64).range(1..=1000))]
    limit: u64,
    /// Only entries with smaller numbers, to go on from a page.
    #[arg(long, value_name = "NUMBER")]
    before: Option<i64>,
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
    let entries: Vec<HistoryEntryView> = entries.iter().map(HistoryEntryView::new).collect();
    let text = if entries.is_empty() {
        "There are no edits by commands or the API.\n".to_owned()
    } else {
        entries.iter().map(lines).collect()
    };
    Ok(CommandReport::new(text, json!({"history": entries})))
}

/// A line for the edit, and one for each changed column.
fn lines(entry: &HistoryEntryView) -> String {
    let HistoryEntryView { id, edited_at, edited_by, edit, .. } = entry;
    let counts = match entry.counts_from {
        Some(number) => format!(", counts from sequence number {number}"),
        None => String::new(),
    };
    let columns: String = entry.changed.iter().map(|column| changed_line(entry, column)).collect();
    format!("{id}  {edited_at}  {edit} ({}){counts}\n{columns}", visible(edited_by))
}

fn changed_line(entry: &HistoryEntryView, column: &str) -> String {
    let value = |row: &Option<Value>| row.as_ref().map_or(Value::Null, |row| row[column].clone());
    let (before, after) = (value(&entry.before), value(&entry.after));
    let (before, after) = (visible(&before.to_string()), visible(&after.to_string()));
    if before == after {
        return format!("    {column}: another secret\n");
    }
    format!("    {column}: {before} -> {after}\n")
}
