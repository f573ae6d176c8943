//! The consistency checks between the tables and the inbox.
//!
//! A finding is *wrong* only if no regular use of the gateway leads to it. A finding with a possible harmless cause
//! needs a
//! *look*, and its text names the cause. For example, an empty object takes a sequence number and writes no row.

mod inbox;
mod ledger;

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};

pub use inbox::{InboxFacts, LaneFacts, MissingInbox};
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
    /// The inbox, if there is one and it was asked for.
    pub inbox: Option<InboxFacts>,
    /// The directory, if no inbox can be read in it.
    pub missing_inbox: Option<MissingInbox>,
    /// Number of inboxes that have processed messages into this database.
    pub known_inboxes: u64,
}

/// The facts of one flow.
#[derive(Debug, Clone, Default)]
pub struct FlowFacts {
    /// `flows.code`
    pub code: String,
    /// `flows.action`
    pub action: String,
    /// Whether every message leaves rows in `data`: the action stores, whether it also posts or not, and the schema rejects an empty object.
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

named_enum! {
    /// The kind of a finding, with its name in the output.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub enum FindingKind {
        /// Numbers have no row in `data`.
        Gap = "gap",
        /// Numbers belong to more than one message.
        Repeated = "repeated",
        /// A flow's counter is below an assigned number.
        CounterTooLow = "counter_too_low",
        /// A flow's counter is above the last number of its rows.
        CounterAhead = "counter_ahead",
        /// Rows of `data` lack a number or a code.
        NoNumber = "no_number",
        /// Messages wait whose posts have failed.
        FailingPosts = "failing_posts",
        /// A flow lags behind its lane.
        Lagging = "lagging",
        /// There are dead letters.
        DeadLetters = "dead_letters",
        /// Rows belong to a missing flow.
        NoSuchFlow = "no_such_flow",
        /// Messages of the outbox belong to a gateway without a lease.
        NoLease = "no_lease",
        /// A column is close to the end of its value range.
        RunningOut = "running_out",
        /// The inbox and the database do not match.
        Identity = "identity",
        /// There is no inbox, although the database knows one.
        NoInbox = "no_inbox",
        /// Parts of the log cannot be read.
        Damage = "damage",
        /// The database has a lower offset than the lane had committed.
        DatabaseWentBack = "database_went_back",
        /// A lane is beyond the end of the log.
        OffsetTooHigh = "offset_too_high",
    }
}

impl Serialize for FindingKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// An inconsistency to report to the operator.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The severity of a finding.
    pub severity: Severity,
    /// The kind of the finding.
    pub kind: FindingKind,
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
    if let Some(missing) = &facts.missing_inbox {
        inbox::check_missing(missing, facts.known_inboxes, &mut findings);
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
    fn wrong(&mut self, kind: FindingKind, detail: String) {
        self.add(Severity::Wrong, kind, detail);
    }

    fn look(&mut self, kind: FindingKind, detail: String) {
        self.add(Severity::Look, kind, detail);
    }

    fn add(&mut self, severity: Severity, kind: FindingKind, detail: String) {
        self.all.push(Finding { severity, kind, flow: self.flow.map(str::to_owned), detail });
    }
}

fn check_flow(flow: &FlowFacts, findings: &mut Findings<'_>) {
    check_gaps(flow, findings);
    if let (count, Some(first)) = flow.stored.numbers.repeated() {
        findings.wrong(
            FindingKind::Repeated,
            format!(
                "{count} numbers belong to more than one message in data, the lowest is {first}; \
                 it is harmless only if last_msg_id was set back by hand"
            ),
        );
    }
    if flow.outbox.repeated > 0 {
        let count = flow.outbox.repeated;
        findings.wrong(
            FindingKind::Repeated,
            format!("{count} numbers belong to more than one message in outbox"),
        );
    }
    check_counter(flow, findings);
    if flow.outbox.waiting > 0 && flow.outbox.attempts > 0 {
        let OutboxFacts { waiting, attempts, .. } = flow.outbox;
        let oldest = flow.outbox.oldest_seconds.unwrap_or(0);
        findings.look(
            FindingKind::FailingPosts,
            format!("{waiting} messages wait to be posted, the oldest for {oldest} s, with up to {attempts} failed attempts"),
        );
    }
    for LaggingFacts { inbox, seconds } in &flow.lagging {
        findings.look(
            FindingKind::Lagging,
            format!(
                "the flow lags behind its lane in the inbox {inbox} for {seconds} s. Its row in flows is locked by another \
                 session, the database rejects its messages (see the log), or the flow is catching up"
            ),
        );
    }
    if !flow.dead_letters.is_empty() {
        findings.look(FindingKind::DeadLetters, by_reason(&flow.dead_letters));
    }
}

fn check_gaps(flow: &FlowFacts, findings: &mut Findings<'_>) {
    let Gaps { ids, count, first: Some((from, to)) } = flow.stored.numbers.gaps() else { return };
    let found = format!("{ids} numbers in {count} gaps have no row in data, the first gap is {from} to {to}");
    if flow.every_number_has_rows {
        findings.wrong(
            FindingKind::Gap,
            format!(
                "{found}; the schema rejects empty objects, so this is harmless only if schema, action \
                 or last_msg_id were changed, or rows were deleted"
            ),
        );
    } else {
        findings
            .look(FindingKind::Gap, format!("{found}: empty objects, posts of an earlier action, or a loss"));
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
                FindingKind::CounterTooLow,
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
            FindingKind::CounterAhead,
            format!(
                "last_msg_id is {counter}, but the last number in data is {last}. It was set by hand, \
                 the action was changed, rows were deleted, or there is a loss"
            ),
        );
    }
    if flow.stored.rows_without_number > 0 {
        let rows = flow.stored.rows_without_number;
        findings.look(FindingKind::NoNumber, format!("{rows} rows in data have no number"));
    }
}

fn check_tables(facts: &Facts, findings: &mut Findings<'_>) {
    for (code, rows) in &facts.strange_codes {
        findings.look(
            FindingKind::NoSuchFlow,
            format!("{rows} rows in data have the code {code:?} of no flow: the flow was renamed or deleted"),
        );
    }
    if facts.rows_without_code > 0 {
        let rows = facts.rows_without_code;
        findings.look(FindingKind::NoNumber, format!("{rows} rows in data have no code of a flow"));
    }
    for (flow, waiting) in &facts.strange_posts {
        findings.look(
            FindingKind::NoSuchFlow,
            format!(
                "{waiting} messages in outbox belong to the deleted flow {flow}; they become dead letters"
            ),
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
            FindingKind::NoLease,
            format!(
                "{waiting} messages in outbox belong to {owner}, {lease}: a running gateway takes them over"
            ),
        );
    }
    if !facts.dead_letters.is_empty() {
        findings.look(FindingKind::DeadLetters, by_reason(&facts.dead_letters));
    }
    for sentence in &facts.running_out {
        findings.look(FindingKind::RunningOut, sentence.clone());
    }
}

fn by_reason(counts: &BTreeMap<String, u64>) -> String {
    let counts: Vec<String> = counts.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    format!("dead letters: {}", counts.join(", "))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
