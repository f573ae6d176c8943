//! `mqtt-gateway dead-letters`: work with messages that could not be processed.

mod arguments;
mod tally;
mod view;

use std::io::{self, Write};

use clap::{Args, Subcommand};
use serde_json::json;

use self::arguments::{LetterArguments, LetterFilterArguments};
use self::tally::tally_text;
use self::view::{count_table, list_table, show_text};
use super::operate;
use super::output::{CommandReport, EXIT_CODES, OutputOptions, error_document, error_text};
use super::progress::CommandProgress;
use crate::control::view::{LetterCountView, LetterSummaryView, LetterView, ReplayTally};
use crate::control::{Control, ControlError, LetterSelection};
use crate::store::ReplayMode;

/// The text of an empty list.
const NONE_FOUND: &str = "No dead letter was found.\n";

const REPLAY_HELP: &str = "\
Each message is processed for its flow as the flow is now, in the transaction that deletes the dead letter. It cannot \
be replayed twice, and a killed command loses nothing. A message with a sequence number keeps it, and waits in the \
outbox again. A message that is refused again stays a dead letter with its new reason.\n\
Exit codes: 0 success, 1 failure or refused again, 2 wrong settings or usage.";

/// Commands for dead letters.
#[derive(Debug, Clone, PartialEq, Eq, Args)]
pub(super) struct LettersCommand {
    #[command(flatten)]
    output: OutputOptions,
    #[command(subcommand)]
    action: LettersAction,
}

#[derive(Debug, Clone, PartialEq, Eq, Subcommand)]
enum LettersAction {
    /// List dead letters, the newest first.
    #[command(after_help = EXIT_CODES)]
    List {
        #[command(flatten)]
        filter: LetterFilterArguments,
        /// Most rows to list.
        #[arg(long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        limit: u32,
        /// List the dead letters after this one in the list: the last id of the previous page.
        #[arg(long, value_name = "ID")]
        after: Option<i64>,
        /// Count the dead letters of each flow and reason instead.
        #[arg(long, conflicts_with_all = ["limit", "after"])]
        counts: bool,
    },
    /// Show a dead letter with its payload.
    #[command(after_help = EXIT_CODES)]
    Show {
        /// Its id.
        id: i64,
    },
    /// Process dead letters again.
    #[command(after_help = REPLAY_HELP)]
    Replay {
        #[command(flatten)]
        letters: LetterArguments,
        /// Try each message and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Delete dead letters. They cannot be replayed any more.
    #[command(after_help = EXIT_CODES)]
    Discard {
        #[command(flatten)]
        letters: LetterArguments,
    },
    /// Write dead letters to standard output, the oldest first, one JSON object per line.
    #[command(after_help = EXIT_CODES)]
    Export {
        #[command(flatten)]
        filter: LetterFilterArguments,
    },
}

/// Runs the command and returns its exit code.
pub(super) fn run(command: LettersCommand) -> i32 {
    let LettersCommand { output, action } = command;
    // The lines of an export are its output, with `--json` as well.
    let output = OutputOptions { json: output.json && !matches!(action, LettersAction::Export { .. }) };
    operate::run(output, async |control| match action {
        LettersAction::List { filter, counts: true, .. } => count(control, filter).await,
        LettersAction::List { filter, limit, after, .. } => list(control, filter, limit, after).await,
        LettersAction::Show { id } => show(control, id).await,
        LettersAction::Replay { letters, dry_run } => replay(control, letters, dry_run).await,
        LettersAction::Discard { letters } => discard(control, letters).await,
        LettersAction::Export { filter } => export(control, filter).await,
    })
}

async fn list(
    control: &Control,
    filter: LetterFilterArguments,
    limit: u32,
    after: Option<i64>,
) -> Result<CommandReport, ControlError> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let letters = control.dead_letters(&filter.into_filter(), after, limit).await?;
    let next = letters.last().map(|letter| letter.id).filter(|_| letters.len() == limit);
    let views: Vec<LetterSummaryView> = letters.iter().map(LetterSummaryView::new).collect();
    let text = if views.is_empty() { NONE_FOUND.to_owned() } else { list_table(&views) };
    let more = next.map(|id| format!("There may be more: --after {id}\n")).unwrap_or_default();
    Ok(CommandReport::new(text + &more, json!({"dead_letters": views, "next_after": next})))
}

async fn count(control: &Control, filter: LetterFilterArguments) -> Result<CommandReport, ControlError> {
    let counts = control.dead_letter_counts(&filter.into_filter()).await?;
    let counts: Vec<LetterCountView> = counts.iter().map(LetterCountView::new).collect();
    let text = if counts.is_empty() { NONE_FOUND.to_owned() } else { count_table(&counts) };
    Ok(CommandReport::new(text, json!({"counts": counts})))
}

async fn show(control: &Control, id: i64) -> Result<CommandReport, ControlError> {
    let (letter, flow) = control.letter_with_flow(id).await?;
    let view = LetterView::with_flow(&letter, flow.as_ref());
    Ok(CommandReport::new(show_text(&view), json!({"dead_letter": view})))
}

async fn replay(
    control: &Control,
    letters: LetterArguments,
    dry_run: bool,
) -> Result<CommandReport, ControlError> {
    let (selection, is_confirmed) = letters.selection();
    let total = control.count_selected(&selection).await?;
    let by_ids = matches!(selection, LetterSelection::Ids(_));
    if !(dry_run || is_confirmed || by_ids || total == 0) {
        return Err(unconfirmed(total, "--yes replays them, and --dry-run tries it without a change"));
    }
    replay_selected(control, &selection, dry_run).await
}

/// Replays dead letters, and reports their outcomes.
pub(super) async fn replay_selected(
    control: &Control,
    selection: &LetterSelection,
    dry_run: bool,
) -> Result<CommandReport, ControlError> {
    let total = control.count_selected(selection).await?;
    let by_ids = matches!(selection, LetterSelection::Ids(_));
    let mode = if dry_run { ReplayMode::RollBack } else { ReplayMode::Commit };
    let (mut tally, progress) = (ReplayTally::default(), CommandProgress::new("Dead letters", total));
    let replayed = control
        .replay(selection, mode, &mut |letters| {
            progress.add(letters.len() as u64);
            tally.add(&letters);
        })
        .await;
    drop(progress);
    let title = if dry_run { "Nothing was changed. A replay would give:\n" } else { "" };
    let mut report = CommandReport {
        text: format!("{title}{}", tally_text(&tally)),
        document: json!({"dry_run": dry_run, "letters": tally.letters(), "outcomes": tally.rows()}),
        ok: replayed.is_ok() && tally.is_success(by_ids),
    };
    if let Err(error) = replayed {
        // What was replayed before stays, and is told beside the error.
        report.text += &error_text(&error);
        report.document["error"] = error_document(&error)["error"].take();
    }
    Ok(report)
}

async fn discard(control: &Control, letters: LetterArguments) -> Result<CommandReport, ControlError> {
    let (selection, is_confirmed) = letters.selection();
    let total = control.count_selected(&selection).await?;
    if !(is_confirmed || total == 0) {
        return Err(unconfirmed(total, "--yes deletes them; `export` with the same filter keeps a copy"));
    }
    let (mut discarded, progress) = (0, CommandProgress::new("Dead letters", total));
    control
        .discard(&selection, &mut |rows| {
            discarded += rows;
            progress.add(rows);
        })
        .await?;
    drop(progress);
    let text = format!("Discarded {discarded} dead letters.\n");
    Ok(CommandReport::new(text, json!({"discarded": discarded})))
}

fn unconfirmed(total: u64, remedy: &'static str) -> ControlError {
    ControlError::invalid(
        "--yes",
        format!("{total} dead letters are selected, and nothing was changed"),
        remedy,
    )
}

async fn export(control: &Control, filter: LetterFilterArguments) -> Result<CommandReport, ControlError> {
    let write = async |letter| {
        let line = serde_json::to_string(&LetterView::new(&letter)).unwrap_or_default();
        // A reader that closed the pipe wants no more.
        writeln!(io::stdout().lock(), "{line}").is_ok()
    };
    control.export(&filter.into_filter(), write).await?;
    Ok(CommandReport::new(String::new(), json!(null)))
}
