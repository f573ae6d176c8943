//! Checks that all published messages have arrived and are stored correctly.

use super::arrivals::Arrivals;
use super::workload::Workload;
use crate::store::bench::progress::{StoredFlow, flow_code};

/// Maximum number of flows listed as problems.
const MAX_FLOWS_NAMED: usize = 10;

/// The kind of lost messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Losses {
    /// Normal at QoS 0.
    Allowed,
    Faults,
}

impl Losses {
    /// Returns the kind of lost messages at a QoS.
    pub(super) fn at_qos(qos: u8) -> Self {
        if qos == 0 { Self::Allowed } else { Self::Faults }
    }
}

/// Returns the problems of flows that store. `through` is the number of messages with a sequence number. It may be
/// below the number of published messages only if losses are allowed.
pub(super) fn stored_problems(
    workload: &Workload,
    losses: Losses,
    through: u64,
    stored: &[StoredFlow],
    refused: u64,
) -> Vec<String> {
    let mut problems = Vec::new();
    if through > workload.messages {
        problems.push(format!("{through} messages have a number, {} were published", workload.messages));
    }
    if through < workload.messages && losses == Losses::Faults {
        let missing = workload.messages - through;
        problems.push(format!("{missing} of {} messages have no number", workload.messages));
    }
    if refused > 0 {
        problems.push(format!("{refused} messages are dead letters"));
    }
    let rows: i64 = stored.iter().map(|flow| flow.row_count).sum();
    let expected = i64::try_from(through.saturating_mul(workload.attributes.into())).unwrap_or(i64::MAX);
    if rows != expected {
        problems.push(format!("{rows} rows are stored, {expected} belong to {through} messages"));
    }
    let wrong: Vec<String> = flows_that_differ(workload, losses, stored);
    let more = wrong.len().saturating_sub(MAX_FLOWS_NAMED);
    problems.extend(wrong.into_iter().take(MAX_FLOWS_NAMED));
    if more > 0 {
        problems.push(format!("and {more} more flows"));
    }
    problems
}

/// Returns the problems of flows that post. `waiting` is the number of messages in the outbox.
pub(super) fn posted_problems(
    workload: &Workload,
    losses: Losses,
    arrivals: &Arrivals,
    waiting: u64,
    refused: u64,
) -> Vec<String> {
    let missing = workload.messages.saturating_sub(arrivals.count());
    [
        (if losses == Losses::Allowed { 0 } else { missing }, "messages have not arrived"),
        (arrivals.unknown(), "arrivals are none of the messages that were published"),
        (arrivals.out_of_order(), "messages arrived after a later one of their flow"),
        (waiting, "messages are still in the outbox"),
        (refused, "messages are dead letters"),
    ]
    .into_iter()
    .filter(|(count, _)| *count > 0)
    .map(|(count, what)| format!("{count} {what}"))
    .collect()
}

fn flows_that_differ(workload: &Workload, losses: Losses, stored: &[StoredFlow]) -> Vec<String> {
    let by_code: std::collections::HashMap<&str, &StoredFlow> =
        stored.iter().map(|flow| (flow.flow_code.as_str(), flow)).collect();
    let of_flow = |flow: u64| {
        let published = i64::try_from(workload.messages_of(flow)).unwrap_or(i64::MAX);
        let code = flow_code(flow);
        let Some(stored) = by_code.get(code.as_str()) else {
            return (published > 0 && losses == Losses::Faults)
                .then(|| format!("flow {code}: nothing of {published} is stored"));
        };
        let StoredFlow { row_count, messages, first_id, last_id, .. } = stored;
        let is_consecutive = *first_id == 1 && last_id == messages;
        let is_complete = *messages == published || (losses == Losses::Allowed && *messages < published);
        let is_whole = *row_count == messages * i64::from(workload.attributes);
        (!is_consecutive || !is_complete || !is_whole).then(|| {
            format!(
                "flow {code}: {messages} of {published} messages in {row_count} rows, with the numbers \
                 {first_id} to {last_id}"
            )
        })
    };
    (0..workload.flows).filter_map(of_flow).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload() -> Workload {
        Workload { messages: 5, flows: 2, attributes: 3, prefix: String::new() }
    }

    fn stored(flow: u64, messages: i64) -> StoredFlow {
        let row_count = messages * 3;
        StoredFlow { flow_code: flow_code(flow), row_count, messages, first_id: 1, last_id: messages }
    }

    #[test]
    fn complete_flows_have_no_problems() {
        let flows = [stored(0, 3), stored(1, 2)];
        assert_eq!(stored_problems(&workload(), Losses::Faults, 5, &flows, 0), [""; 0]);
    }

    #[test]
    fn missing_rows_are_named() {
        let of_flows = |flows: &[StoredFlow], through, refused| {
            stored_problems(&workload(), Losses::Faults, through, flows, refused).join("; ")
        };
        assert!(of_flows(&[stored(0, 3)], 3, 0).contains("flow BENCH_1: nothing of 2 is stored"));
        assert!(of_flows(&[stored(0, 3), stored(1, 1)], 4, 1).contains("1 messages are dead letters"));
        let torn = StoredFlow { row_count: 8, ..stored(0, 3) };
        assert!(of_flows(&[torn, stored(1, 2)], 5, 0).contains("14 rows are stored, 15 belong"));
        let gap = StoredFlow { last_id: 4, ..stored(0, 3) };
        assert!(of_flows(&[gap, stored(1, 2)], 5, 0).contains("numbers 1 to 4"));
        assert!(of_flows(&[stored(0, 4), stored(1, 2)], 6, 0).contains("6 messages have a number, 5 were"));
    }

    #[test]
    fn missing_and_waiting_posts_are_named() {
        let none = Arrivals::new(&workload());
        assert_eq!(
            posted_problems(&workload(), Losses::Faults, &none, 2, 1),
            [
                "5 messages have not arrived",
                "2 messages are still in the outbox",
                "1 messages are dead letters"
            ]
        );
        assert_eq!(posted_problems(&workload(), Losses::Allowed, &none, 0, 0), [""; 0]);
    }

    #[test]
    fn lossy_flows_must_still_be_consecutive() {
        let judged = |flows: &[StoredFlow]| stored_problems(&workload(), Losses::Allowed, 4, flows, 0);
        assert_eq!(judged(&[stored(0, 2), stored(1, 2)]), [""; 0]);
        let gap = StoredFlow { first_id: 2, last_id: 3, ..stored(0, 2) };
        assert_eq!(judged(&[gap, stored(1, 2)]).len(), 1);
    }
}
