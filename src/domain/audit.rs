//! The consistency checks between the tables and the inbox.
//!
//! A finding is *wrong* only if no regular use of the gateway leads to it. A finding with a possible harmless cause
//! needs a
//! *look*, and its text names the cause. For example, an empty object takes a sequence number and writes no row.

mod inbox;
mod ledger;

use std::collections::BTreeMap;

use serde::Serialize;

pub use inbox::{InboxFacts, LaneFacts};
pub use ledger::{Gaps, IdLedger};

use super::message::FlowId;

/// The input of an audit.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// All flows.
    pub flows: Vec<FlowFacts>,
    /// Number of `data` rows with the code of no flow, by code.
    pub strange_codes: BTreeMap<String, u64>,
    /// Number of `data` rows without a code.
    pub rows_without_code: u64,
    /// Number of `outbox` rows of missing flows, by flow.
    pub strange_posts: BTreeMap<FlowId, u64>,
    /// The gateways with `outbox` rows.
    pub owners: Vec<OwnerFacts>,
    /// Number of dead letters without a flow or of deleted flows, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// Columns close to the end of their value range, as sentences.
    pub running_out: Vec<String>,
    /// The inbox, if there is one.
    pub inbox: Option<InboxFacts>,
}

/// The facts of one flow.
#[derive(Debug, Clone, Default)]
pub struct FlowFacts {
    /// `flows.code`
    pub code: String,
    /// `flows.action`
    pub action: String,
    /// Whether every message leaves rows in `data`: the action stores, and the schema rejects an empty object.
    pub every_number_has_rows: bool,
    /// `flows.last_msg_id`; 0 for NULL.
    pub counter: i64,
    /// Its rows in `data`.
    pub stored: StoredFacts,
    /// Its rows in `outbox`.
    pub outbox: OutboxFacts,
    /// Number of its dead letters, by reason.
    pub dead_letters: BTreeMap<String, u64>,
    /// The highest sequence number of its dead letters.
    pub highest_dead_letter: Option<i64>,
    /// The inboxes in which it lags behind its lane.
    pub lagging: Vec<LaggingFacts>,
}

/// An inbox in which a flow lags behind its lane.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LaggingFacts {
    /// The name of the inbox.
    pub inbox: String,
    /// Duration of the lag in seconds.
    pub seconds: i64,
}

/// The `data` rows of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StoredFacts {
    /// Number of rows with a sequence number.
    pub rows: u64,
    /// Number of rows without a sequence number.
    pub rows_without_number: u64,
    /// The sequence numbers.
    pub numbers: IdLedger,
}

/// The `outbox` rows of a flow.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct OutboxFacts {
    /// Number of waiting messages.
    pub waiting: u64,
    /// Age of the oldest message in seconds.
    pub oldest_seconds: Option<i64>,
    /// Maximum number of attempts of a message.
    pub attempts: i64,
    /// The highest sequence number.
    pub highest: Option<i64>,
    /// Number of sequence numbers with more than one message.
    pub repeated: u64,
}

/// A gateway with rows in `outbox`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OwnerFacts {
    /// The name of its inbox.
    pub owner: String,
    /// Number of its rows.
    pub waiting: u64,
    /// Remaining time of its lease in seconds; negative after expiry, `None` without a lease.
    pub lease_seconds: Option<i64>,
}

/// The severity of a finding.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A message was lost or repeated, or the tables were changed by hand.
    Wrong,
    /// The cause may be harmless.
    Look,
}

/// An inconsistency to report to the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The severity of a finding.
    pub severity: Severity,
    /// The kind of the finding, in one word.
    pub kind: &'static str,
    /// Code of the flow, if the finding is about a flow.
    pub flow: Option<String>,
    /// Description with figures and possible causes.
    pub detail: String,
}

/// Returns all findings; those of severity `Wrong` come first.
#[must_use]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let mut findings = Findings::default();
    for flow in &facts.flows {
        findings.flow = Some(&flow.code);
        check_flow(flow, &mut findings);
    }
    findings.flow = None;
    check_tables(facts, &mut findings);
    if let Some(inbox) = &facts.inbox {
        inbox::check(inbox, &mut findings);
    }
    findings.all.sort_by_key(|finding| finding.severity);
    findings.all
}

#[derive(Default)]
struct Findings<'a> {
    flow: Option<&'a str>,
    all: Vec<Finding>,
}

impl Findings<'_> {
    fn wrong(&mut self, kind: &'static str, detail: String) {
        self.add(Severity::Wrong, kind, detail);
    }

    fn look(&mut self, kind: &'static str, detail: String) {
        self.add(Severity::Look, kind, detail);
    }

    fn add(&mut self, severity: Severity, kind: &'static str, detail: String) {
        self.all.push(Finding { severity, kind, flow: self.flow.map(str::to_owned), detail });
    }
}

fn check_flow(flow: &FlowFacts, findings: &mut Findings<'_>) {
    check_gaps(flow, findings);
    if let (count, Some(first)) = flow.stored.numbers.repeated() {
        findings.wrong(
            "repeated",
            format!(
                "{count} numbers belong to more than one message in data, the lowest is {first}; \
                 it is harmless only if last_msg_id was set back by hand"
            ),
        );
    }
    if flow.outbox.repeated > 0 {
        let count = flow.outbox.repeated;
        findings.wrong("repeated", format!("{count} numbers belong to more than one message in outbox"));
    }
    check_counter(flow, findings);
    if flow.outbox.waiting > 0 && flow.outbox.attempts > 0 {
        let OutboxFacts { waiting, attempts, .. } = flow.outbox;
        let oldest = flow.outbox.oldest_seconds.unwrap_or(0);
        findings.look(
            "failing_posts",
            format!("{waiting} messages wait to be posted, the oldest for {oldest} s, with up to {attempts} failed attempts"),
        );
    }
    for LaggingFacts { inbox, seconds } in &flow.lagging {
        findings.look(
            "lagging",
            format!(
                "the flow lags behind its lane in the inbox {inbox} for {seconds} s: its row in flows is locked by another \
                 session, the database rejects its messages (see the log), or the flow is catching up"
            ),
        );
    }
    if !flow.dead_letters.is_empty() {
        findings.look("dead_letters", by_reason(&flow.dead_letters));
    }
}

fn check_gaps(flow: &FlowFacts, findings: &mut Findings<'_>) {
    let Gaps { ids, count, first: Some((from, to)) } = flow.stored.numbers.gaps() else { return };
    let found = format!("{ids} numbers in {count} gaps have no row in data, the first gap is {from} to {to}");
    if flow.every_number_has_rows {
        findings.wrong(
            "gap",
            format!(
                "{found}; the schema rejects empty objects, so this is harmless only if schema, action \
                 or last_msg_id were changed, or rows were deleted"
            ),
        );
    } else {
        findings.look("gap", format!("{found}: empty objects, posts of an earlier action, or a loss"));
    }
}

fn check_counter(flow: &FlowFacts, findings: &mut Findings<'_>) {
    let counter = flow.counter;
    let numbered = [
        ("data", flow.stored.numbers.last()),
        ("outbox", flow.outbox.highest),
        ("dead_letters", flow.highest_dead_letter),
    ];
    for (table, highest) in numbered {
        if let Some(highest) = highest.filter(|highest| *highest > counter) {
            findings.wrong(
                "counter_too_low",
                format!(
                    "last_msg_id is {counter}, but {table} has number {highest}: the next messages \
                     repeat numbers; set it to {highest} while the gateway is down"
                ),
            );
        }
    }
    if let Some(last) =
        flow.stored.numbers.last().filter(|last| flow.every_number_has_rows && *last < counter)
    {
        findings.look(
            "counter_ahead",
            format!(
                "last_msg_id is {counter}, but the last number in data is {last}: it was set by hand, \
                 the action was changed, rows were deleted, or there is a loss"
            ),
        );
    }
    if flow.stored.rows_without_number > 0 {
        let rows = flow.stored.rows_without_number;
        findings.look("no_number", format!("{rows} rows in data have no number"));
    }
}

fn check_tables(facts: &Facts, findings: &mut Findings<'_>) {
    for (code, rows) in &facts.strange_codes {
        findings.look(
            "no_such_flow",
            format!("{rows} rows in data have the code {code:?} of no flow: the flow was renamed or deleted"),
        );
    }
    if facts.rows_without_code > 0 {
        let rows = facts.rows_without_code;
        findings.look("no_number", format!("{rows} rows in data have no code of a flow"));
    }
    for (flow, waiting) in &facts.strange_posts {
        findings.look(
            "no_such_flow",
            format!("{waiting} messages in outbox belong to the deleted flow {flow}; they are still posted"),
        );
    }
    for OwnerFacts { owner, waiting, lease_seconds } in facts.owners.iter().filter(|owner| owner.waiting > 0)
    {
        let lease = match lease_seconds {
            None => "which has no lease".to_owned(),
            Some(seconds) if *seconds < 0 => format!("whose lease ran out {} s ago", -seconds),
            Some(_) => continue,
        };
        findings.look(
            "no_lease",
            format!(
                "{waiting} messages in outbox belong to {owner}, {lease}: a running gateway takes them over"
            ),
        );
    }
    if !facts.dead_letters.is_empty() {
        findings.look("dead_letters", by_reason(&facts.dead_letters));
    }
    for sentence in &facts.running_out {
        findings.look("running_out", sentence.clone());
    }
}

fn by_reason(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!("dead letters: {}", counts.join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
