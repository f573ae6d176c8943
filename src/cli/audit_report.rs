//! Formats the findings of an audit as JSON or as a table.

use std::io::{self, Write};

use serde_json::{Value, json};

use crate::domain::audit::{Facts, Finding, FlowFacts, InboxFacts, Severity};
use crate::domain::invisible::is_invisible;

/// Prints the findings for machines: one JSON object on one line.
pub(super) fn json(facts: &Facts, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    let flows: Vec<Value> = facts.flows.iter().map(flow_json).collect();
    let wrong = findings.iter().filter(|finding| finding.severity == Severity::Wrong).count();
    let report = json!({
        "wrong": wrong,
        "findings": findings,
        "flows": flows,
        "owners": facts.owners,
        "dead_letters_of_no_flow": facts.dead_letters,
        "inbox": facts.inbox,
    });
    writeln!(out, "{report}")
}

fn flow_json(flow: &FlowFacts) -> Value {
    let numbers = &flow.stored.numbers;
    json!({
        "code": flow.code,
        "action": flow.action,
        "last_msg_id": flow.counter,
        "rows": flow.stored.rows,
        "first_id": numbers.first(),
        "last_id": numbers.last(),
        "gaps": numbers.gaps(),
        "repeated": numbers.repeated().0,
        "outbox": flow.outbox,
        "dead_letters": flow.dead_letters,
    })
}

/// Prints the findings for people: a line for each flow, the inbox, the findings and a summary.
pub(super) fn table(facts: &Facts, findings: &[Finding], out: &mut dyn Write) -> io::Result<()> {
    const HEAD: [&str; 8] =
        ["FLOW", "LAST_MSG_ID", "ROWS", "IDS IN DATA", "MISSING", "REPEATED", "OUTBOX", "DEAD LETTERS"];
    let rows: Vec<[String; 8]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(facts.flows.iter().map(cells)).collect();
    let mut widths = [0; 8];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    for row in &rows {
        let padded = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}"));
        writeln!(out, "{}", padded.collect::<Vec<_>>().join("  ").trim_end())?;
    }
    match (&facts.inbox, &facts.missing_inbox) {
        (Some(inbox), _) => write_inbox(inbox, out)?,
        (None, Some(missing)) => writeln!(out, "\nthere is no inbox in {}", on_one_line(&missing.path))?,
        (None, None) => writeln!(out, "\ninbox: not checked for a single flow")?,
    }
    writeln!(out)?;
    for finding in findings {
        let word = if finding.severity == Severity::Wrong { "WRONG" } else { "look " };
        let flow = finding.flow.as_ref().map(|code| format!(" flow {code}:")).unwrap_or_default();
        writeln!(out, "{word} {}:{flow} {}", finding.kind, on_one_line(&finding.detail))?;
    }
    let wrong = findings.iter().filter(|finding| finding.severity == Severity::Wrong).count();
    writeln!(out, "{wrong} wrong, {} worth a look", findings.len() - wrong)
}

fn cells(flow: &FlowFacts) -> [String; 8] {
    let numbers = &flow.stored.numbers;
    let range = match (numbers.first(), numbers.last()) {
        (Some(first), Some(last)) => format!("{first} to {last}"),
        _ => "none".to_owned(),
    };
    [
        on_one_line(&flow.code),
        flow.counter.to_string(),
        flow.stored.rows.to_string(),
        range,
        numbers.gaps().ids.to_string(),
        numbers.repeated().0.to_string(),
        flow.outbox.waiting.to_string(),
        flow.dead_letters.values().sum::<u64>().to_string(),
    ]
}

fn write_inbox(inbox: &InboxFacts, out: &mut dyn Write) -> io::Result<()> {
    let use_of_it = if inbox.in_use { "in use" } else { "not in use" };
    let InboxFacts { id, records, bytes, .. } = inbox;
    writeln!(out, "\ninbox {id}, {use_of_it}: {records} records in {bytes} bytes of log")?;
    for lane in &inbox.lanes {
        match lane.next_offset {
            Some(next) => {
                writeln!(out, "lane {}: at offset {next}, {} records wait", lane.lane, lane.waiting)?;
            }
            None => writeln!(out, "lane {}: not started, {} records wait", lane.lane, lane.waiting)?,
        }
    }
    Ok(())
}

fn on_one_line(text: &str) -> String {
    text.replace(is_invisible, " ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::audit::check;

    fn facts() -> Facts {
        let mut flow = FlowFacts { code: "T\nX".into(), counter: 3, ..FlowFacts::default() };
        flow.stored.rows = 8;
        flow.stored.numbers.add(1, 2);
        flow.stored.numbers.add(4, 5);
        Facts { flows: vec![flow], ..Facts::default() }
    }

    #[test]
    fn table_lists_flows_and_findings() {
        let facts = facts();
        let mut out = Vec::new();
        table(&facts, &check(&facts), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[1].split_whitespace().collect::<Vec<_>>().join(" "), "T X 3 8 1 to 5 1 0 0 0");
        assert!(lines.iter().any(|line| line.starts_with("WRONG counter_too_low: flow T")), "{text}");
        assert_eq!(lines.last(), Some(&"1 wrong, 1 worth a look"));
    }

    #[test]
    fn json_lists_the_same_findings() {
        let facts = facts();
        let mut out = Vec::new();
        json(&facts, &check(&facts), &mut out).unwrap();
        let report: Value = serde_json::from_slice(&out).unwrap();
        assert_eq!(report["wrong"], 1);
        assert_eq!(report["findings"][0]["severity"], "wrong");
        assert_eq!(report["flows"][0]["gaps"]["first"], json!([3, 3]));
    }
}
