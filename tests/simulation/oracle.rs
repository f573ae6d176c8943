//! Invariants after every step, checked independently of the code under test.

use std::collections::BTreeSet;
use std::sync::Arc;

use mqtt_gateway::domain::batch::{Lane, Scope, lane_of};
use mqtt_gateway::domain::message::{Body, FlowId, Offset, Record};

use crate::sql::{Sql, Transaction};

pub(crate) const LANES: u32 = 2;

/// The payload that is no JSON object.
pub(crate) const UNREADABLE: &str = "garbage";

/// Every routing table of one life of the process, with the first offset it is for; nothing of it is
/// ever forgotten.
#[derive(Debug, Clone, Default)]
pub(crate) struct History(Arc<Vec<Table>>);

/// The first offset that it is for, and the filters of its flows.
type Table = (Offset, Vec<(FlowId, &'static str)>);

impl History {
    pub(crate) fn push(&mut self, from: Offset, flows: Vec<(FlowId, &'static str)>) {
        let from = if self.0.is_empty() { 0 } else { from };
        Arc::make_mut(&mut self.0).push((from, flows));
    }

    /// The flows of a lane that a record is for.
    pub(crate) fn due<'a>(&'a self, record: &'a Record, lane: Lane) -> impl Iterator<Item = FlowId> + 'a {
        let table = self.0.iter().rev().find(|(from, _)| *from <= record.offset);
        let flows = table.into_iter().flat_map(|(_, flows)| flows.iter());
        let due = flows.filter(|(_, filter)| *filter == "#" || *filter == record.topic);
        due.map(|(flow, _)| *flow).filter(move |flow| lane_of(*flow, LANES) == lane)
    }
}

pub(crate) fn is_readable(record: &Record) -> bool {
    !matches!(&record.body, Body::Whole(bytes) if bytes == UNREADABLE.as_bytes())
}

/// Numbers are consecutive, and given in the order of the inbox: so no message got two.
pub(crate) fn assert_numbers(sql: &Sql) {
    for (flow, stored) in &sql.data {
        let consecutive = stored.iter().zip(1..).all(|(stored, id)| stored.id == id);
        assert!(consecutive, "NUMBERS of flow {flow}: {stored:?}");
        assert!(
            stored.windows(2).all(|two| two[0].offset < two[1].offset),
            "ONCE AND IN ORDER: flow {flow} has {stored:?}"
        );
    }
    let judged: BTreeSet<Offset> = sql.judged.iter().copied().collect();
    assert_eq!(judged.len(), sql.judged.len(), "JUDGED ONCE: {:?}", sql.judged);
}

/// What a transaction says is done is done, and nothing that was not due. It is committed already;
/// `there` is what the inbox still holds.
pub(crate) fn assert_nothing_passed_over(sql: &Sql, transaction: &Transaction, there: &[Arc<Record>]) {
    let part = &transaction.part;
    for entry in &part.entries {
        let due: Vec<_> = part.history.due(&entry.record, part.lane).collect();
        let undue: Vec<_> = entry.flows.iter().filter(|flow| !due.contains(flow)).collect();
        assert!(undue.is_empty(), "DUE: {undue:?} got {:?}", entry.record);
        assert!((part.from..part.next).contains(&entry.record.offset), "BOUNDS of {part:?}");
    }
    let passed = there.iter().filter(|record| (part.from..part.next).contains(&record.offset));
    for record in passed {
        for flow in part.history.due(record, part.lane) {
            let waits = sql.lagging.get(&flow).is_some_and(|at| *at <= record.offset);
            let its_turn = match part.scope {
                Scope::Lane { .. } => !waits,
                Scope::Lagging { flow: lagging, .. } => lagging == flow && !waits,
            };
            assert!(
                !its_turn || sql.is_settled(flow, record),
                "PASSED OVER: flow {flow} never got {record:?}, by {part:?}"
            );
        }
        let answers = part.lane == 0 && matches!(part.scope, Scope::Lane { .. }) && !is_readable(record);
        assert!(!answers || sql.judged.contains(&record.offset), "JUDGED: {record:?} never was");
    }
}

/// A flow that lags is behind its lane, never ahead of it.
pub(crate) fn assert_behind(sql: &Sql) {
    for (&flow, &at) in &sql.lagging {
        let lane = sql.lanes[lane_of(flow, LANES) as usize].next_offset;
        assert!(at <= lane, "BEHIND: flow {flow} is at {at}, its lane at {lane}");
    }
}

/// No record below the watermark is needed by anybody, as SQL stands.
pub(crate) fn assert_watermark(sql: &Sql, history: &History, watermark: Offset, there: &[Arc<Record>]) {
    for record in there.iter().filter(|record| record.offset < watermark) {
        for lane in 0..LANES {
            let passed = record.offset < sql.lanes[lane as usize].next_offset;
            for flow in history.due(record, lane) {
                let lags = sql.lagging.get(&flow).is_some_and(|at| *at <= record.offset);
                assert!(passed && !lags, "WATERMARK {watermark}: flow {flow} needs {record:?}");
            }
            assert!(
                lane != 0 || passed || is_readable(record),
                "WATERMARK {watermark}: nobody has answered for {record:?}"
            );
        }
    }
}
