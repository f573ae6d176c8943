//! Output of the commands for operators: tables and texts for people, one JSON document for programs.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Value, json};

use crate::control::ControlError;
use crate::domain::invisible::is_invisible;
use crate::domain::problem::Problem;

/// Text below the options in `--help` of every command for operators.
pub(super) const EXIT_CODES: &str = "Exit codes: 0 success, 1 failure, 2 wrong settings or usage.";

/// Longest cell of a table, in characters.
const MAX_CELL_CHARS: usize = 60;

/// Options of every command for operators.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::Args)]
pub(super) struct OutputOptions {
    /// Print one JSON document, for programs.
    #[arg(long, global = true)]
    pub json: bool,
}

/// The result of a command, in both forms.
#[derive(Debug, Default)]
pub(super) struct CommandReport {
    /// For people: whole lines, without invisible characters from the tables.
    pub text: String,
    /// For programs.
    pub document: Value,
    /// Whether what was asked for is in order; determines the exit code.
    pub ok: bool,
}

impl CommandReport {
    /// The report of a command that did its work.
    pub(super) fn new(text: String, document: Value) -> Self {
        Self { text, document, ok: true }
    }

    /// Prints the report.
    pub(super) fn print(&self, options: OutputOptions) -> io::Result<()> {
        let mut out = io::stdout().lock();
        if options.json { writeln!(out, "{:#}", self.document) } else { write!(out, "{}", self.text) }
    }
}

/// Prints an error: for people to standard error, for programs as the document.
pub(super) fn print_error(error: &ControlError, options: OutputOptions) -> io::Result<()> {
    if options.json {
        return writeln!(io::stdout().lock(), "{:#}", error_document(error));
    }
    io::stderr().lock().write_all(error_text(error).as_bytes())
}

pub(super) fn error_document(error: &ControlError) -> Value {
    json!({"error": {
        "kind": error.kind(),
        "message": error.to_string(),
        "remedy": error.remedy(),
        "problems": error.problems(),
    }})
}

pub(super) fn error_text(error: &ControlError) -> String {
    match error {
        ControlError::Invalid { problems } => problem_lines(problems),
        error => {
            let remedy = remedy_line(error.remedy().unwrap_or_default());
            format!("error: {}\n{remedy}", visible(&error.to_string()))
        }
    }
}

/// Two lines for each problem: the problem, and its remedy.
pub(super) fn problem_lines(problems: &[Problem]) -> String {
    let lines = problems.iter().map(|problem| {
        let word = if problem.is_error() { "error" } else { "warning" };
        let Problem { field, problem, remedy, .. } = problem;
        format!("{word}: {field}: {}\n{}", visible(problem), remedy_line(remedy))
    });
    lines.collect::<Vec<_>>().concat()
}

/// The line of a remedy; empty if the problem says it.
pub(super) fn remedy_line(remedy: &str) -> String {
    if remedy.is_empty() { String::new() } else { format!("  {}\n", visible(remedy)) }
}

/// The text with control characters and other invisible ones escaped, so that a row cannot control the terminal.
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        if is_invisible(character) {
            shown.extend(character.escape_default());
        } else {
            shown.push(character);
        }
    }
    shown
}

/// A table with a head and aligned columns. Long cells are cut.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let head: Vec<String> = head.iter().map(ToString::to_string).collect();
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.iter().map(|text| cell(text)).collect()).collect();
    let lines = || std::iter::once(&head).chain(&rows);
    let width = |column: usize| {
        lines().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    lines().map(|row| aligned(row, &widths)).collect()
}

fn aligned(row: &[String], widths: &[usize]) -> String {
    let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
    format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
}

fn cell(text: &str) -> String {
    let text = visible(text);
    if text.chars().count() <= MAX_CELL_CHARS {
        return text;
    }
    text.chars().take(MAX_CELL_CHARS - 1).chain(['…']).collect()
}

/// A line for each name and value, the values aligned and whole.
pub(super) fn fields(fields: &[(&str, String)]) -> String {
    let width = fields.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let line = |(name, value): &(&str, String)| format!("{name:<width$}  {}\n", visible(value));
    fields.iter().map(line).collect()
}

/// A value as JSON. All values of the commands have names that are texts, so this cannot fail.
pub(super) fn document(value: &impl Serialize) -> Value {
    serde_json::to_value(value).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_aligned() {
        let rows = [vec!["T".into(), "a/b".into()], vec!["LONG".into(), String::new()]];
        assert_eq!(table(&["CODE", "TOPIC"], &rows), "CODE  TOPIC\nT     a/b\nLONG\n");
    }

    #[test]
    fn long_cells_are_cut() {
        let text = table(&["A"], &[vec!["é".repeat(100)]]);
        let line = text.lines().nth(1).unwrap_or_default();
        assert_eq!(line.chars().count(), MAX_CELL_CHARS);
        assert!(line.ends_with('…'));
    }

    #[test]
    fn rows_cannot_control_the_terminal() {
        let text = table(&["A"], &[vec!["\u{1b}[2Jx\ny\u{202e}z".into()]]);
        assert_eq!(text, "A\n\\u{1b}[2Jx\\ny\\u{202e}z\n");
        assert_eq!(fields(&[("a", "\u{1b}".into())]), "a  \\u{1b}\n");
    }

    #[test]
    fn errors_name_culprit_and_remedy() {
        let unknown = ControlError::not_found("flow", "T\u{1b}", "look");
        assert_eq!(error_text(&unknown), "error: there is no flow \"T\\u{1b}\"\n  look\n");
        let invalid = ControlError::invalid("topic", "is empty", "give one");
        assert_eq!(error_text(&invalid), "error: topic: is empty\n  give one\n");
        let document = error_document(&invalid);
        assert_eq!(document["error"]["kind"], "invalid");
        assert_eq!(document["error"]["problems"][0]["field"], "topic");
    }
}
