//! A model of the database: tables, row locks, and atomic transactions whose answers may be lost.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use mqtt_gateway::domain::batch::{
    BatchEntry, CatchUp, LaggingFlow, Lane, LanePosition, OpenedLane, Scope, lane_of,
};
use mqtt_gateway::domain::message::{FlowId, Offset, Record};

use crate::oracle::{History, LANES, is_readable};

/// A row of `flows`.
#[derive(Debug, Clone)]
pub(crate) struct FlowRow {
    pub(crate) topic: &'static str,
    pub(crate) enabled: bool,
    pub(crate) last_id: i64,
    pub(crate) locked_elsewhere: bool,
}

/// A message in `data`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stored {
    pub(crate) id: i64,
    pub(crate) offset: Offset,
}

#[derive(Debug, Default, Clone)]
pub(crate) struct Sql {
    pub(crate) lanes: Vec<LanePosition>,
    pub(crate) lagging: BTreeMap<FlowId, Offset>,
    pub(crate) flows: BTreeMap<FlowId, FlowRow>,
    /// The messages in `data`, for each flow in the order in which they were stored.
    pub(crate) data: BTreeMap<FlowId, Vec<Stored>>,
    /// Messages that were rightly given no number: unreadable, or dead letters of a flow that was deleted or disabled.
    pub(crate) passed: BTreeSet<(FlowId, Offset)>,
    /// Dead letters that belong to no flow.
    pub(crate) judged: Vec<Offset>,
    /// In place of the real clock: no epoch is given twice, although the database goes back.
    pub(crate) takeovers: i64,
    /// Lanes whose rows a transaction holds.
    pub(crate) held: BTreeSet<Lane>,
    /// Flows whose rows a transaction holds.
    pub(crate) held_flows: BTreeSet<FlowId>,
}

/// The part of a batch that one transaction is about.
#[derive(Debug, Clone)]
pub(crate) struct Part {
    pub(crate) lane: Lane,
    pub(crate) epoch: i64,
    pub(crate) scope: Scope,
    pub(crate) from: Offset,
    pub(crate) next: Offset,
    pub(crate) entries: Vec<BatchEntry>,
    /// The routing tables of the router that made the batch.
    pub(crate) history: History,
}

/// A transaction that has done everything but COMMIT.
#[derive(Debug)]
pub(crate) struct Transaction {
    pub(crate) part: Part,
    pub(crate) came_to: CameTo,
    writes: Vec<Write>,
    flows: Vec<FlowId>,
}

/// Outcome of a part once its transaction is committed.
#[derive(Debug, Clone, Default)]
pub(crate) struct CameTo {
    pub(crate) deferred: Vec<LaggingFlow>,
    pub(crate) catch_up: Option<CatchUp>,
}

#[derive(Debug)]
enum Write {
    Lane(Lane, LanePosition),
    Lagging(FlowId, Option<Offset>),
    Number(FlowId, Offset),
    Pass(FlowId, Offset),
    Judge(Offset),
}

/// How the attempt to do a part ended.
pub(crate) enum Attempt {
    /// Another transaction holds the row of the lane or of a flow. Nothing happened yet.
    Waits,
    /// The lane, or the flow that lags, stands elsewhere.
    Fenced(LanePosition, Option<Offset>),
    StillLocked,
    Begun(Transaction),
}

impl Sql {
    pub(crate) fn new(lanes: u32) -> Self {
        let start = LanePosition { epoch: 0, next_offset: 0 };
        Self { lanes: (0..lanes).map(|_| start).collect(), ..Self::default() }
    }

    /// A copy without locks.
    pub(crate) fn backup(&self) -> Self {
        let mut backup = Self { held: BTreeSet::new(), held_flows: BTreeSet::new(), ..self.clone() };
        backup.flows.values_mut().for_each(|row| row.locked_elsewhere = false);
        backup
    }

    fn lane(&mut self, lane: Lane) -> &mut LanePosition {
        &mut self.lanes[lane as usize]
    }

    /// Takes a lane over; `None` while a transaction holds its row.
    pub(crate) fn take_over(&mut self, lane: Lane, of_lane: impl Fn(FlowId) -> bool) -> Option<OpenedLane> {
        if self.held.contains(&lane) {
            return None;
        }
        self.takeovers += 1;
        let epoch = self.takeovers.max(self.lane(lane).epoch + 1);
        self.lane(lane).epoch = epoch;
        let lagging = self.lagging.iter().filter(|(flow, _)| of_lane(**flow));
        let lagging = lagging.map(|(&flow, &next_offset)| LaggingFlow { flow, next_offset }).collect();
        Some(OpenedLane { position: *self.lane(lane), lagging })
    }

    /// Locks, compares, and does all but COMMIT. `patient` waits for locks.
    pub(crate) fn attempt(&mut self, part: &Part, patient: bool, known: &BTreeSet<FlowId>) -> Attempt {
        if self.held.contains(&part.lane) {
            return Attempt::Waits;
        }
        let position = *self.lane(part.lane);
        let (stands, lagging) = match part.scope {
            Scope::Lane { .. } => (part.from, None),
            Scope::Lagging { flow, lane_at } => (lane_at, self.lagging.get(&flow).copied()),
        };
        let in_step = match part.scope {
            Scope::Lane { .. } => self.lagging_in(part.lane).eq(known.iter().copied()),
            Scope::Lagging { .. } => lagging == Some(part.from),
        };
        if position != (LanePosition { epoch: part.epoch, next_offset: stands }) || !in_step {
            return Attempt::Fenced(position, lagging);
        }
        let mut flows: BTreeSet<FlowId> = part.entries.iter().flat_map(|entry| entry.flows.clone()).collect();
        if let Scope::Lagging { flow, .. } = part.scope {
            flows.insert(flow);
        }
        let locked: BTreeSet<FlowId> = flows.iter().copied().filter(|flow| self.is_locked(*flow)).collect();
        match part.scope {
            _ if locked.is_empty() => Attempt::Begun(self.begin(part, &flows)),
            Scope::Lane { max_deferred } if patient || locked.len() > max_deferred => Attempt::Waits,
            Scope::Lane { .. } => Attempt::Begun(self.defer(part, &locked)),
            Scope::Lagging { .. } => Attempt::StillLocked,
        }
    }

    pub(crate) fn lagging_in(&self, lane: Lane) -> impl Iterator<Item = FlowId> + '_ {
        self.lagging.keys().copied().filter(move |flow| lane_of(*flow, LANES) == lane)
    }

    fn is_locked(&self, flow: FlowId) -> bool {
        self.flows.get(&flow).is_some_and(|row| row.locked_elsewhere)
    }

    /// Writes flows down as standing where the lane stands, and nothing else.
    fn defer(&mut self, part: &Part, locked: &BTreeSet<FlowId>) -> Transaction {
        let part = Part { entries: Vec::new(), next: part.from, ..part.clone() };
        let writes = locked.iter().map(|flow| Write::Lagging(*flow, Some(part.from))).collect();
        let lagging = |flow: &FlowId| LaggingFlow { flow: *flow, next_offset: part.from };
        let came_to = CameTo { deferred: locked.iter().map(lagging).collect(), catch_up: None };
        self.held.insert(part.lane);
        Transaction { part, came_to, writes, flows: Vec::new() }
    }

    fn begin(&mut self, part: &Part, flows: &BTreeSet<FlowId>) -> Transaction {
        let mut writes = Vec::new();
        for entry in &part.entries {
            let offset = entry.record.offset;
            for &flow in &entry.flows {
                let numbered = is_readable(&entry.record) && self.runs(flow);
                writes.push(if numbered { Write::Number(flow, offset) } else { Write::Pass(flow, offset) });
            }
            if entry.reports_invalid_payload {
                writes.push(Write::Judge(offset));
            }
        }
        let mut came_to = CameTo::default();
        match part.scope {
            Scope::Lane { .. } => {
                let next = LanePosition { epoch: part.epoch, next_offset: part.next };
                writes.push(Write::Lane(part.lane, next));
            }
            Scope::Lagging { flow, lane_at } => {
                let left = part.next == lane_at;
                writes.push(Write::Lagging(flow, (!left).then_some(part.next)));
                came_to.catch_up = Some(if left { CatchUp::Rejoined } else { CatchUp::Advanced });
            }
        }
        self.held.insert(part.lane);
        self.held_flows.extend(flows);
        Transaction { part: part.clone(), came_to, writes, flows: flows.iter().copied().collect() }
    }

    fn runs(&self, flow: FlowId) -> bool {
        self.flows.get(&flow).is_some_and(|row| row.enabled)
    }

    /// COMMIT reaches the server.
    pub(crate) fn commit(&mut self, transaction: &Transaction) {
        for write in &transaction.writes {
            match *write {
                Write::Lane(lane, position) => *self.lane(lane) = position,
                Write::Lagging(flow, Some(offset)) => drop(self.lagging.insert(flow, offset)),
                Write::Lagging(flow, None) => drop(self.lagging.remove(&flow)),
                Write::Number(flow, offset) => {
                    let row = self.flows.get_mut(&flow).expect("its row was locked");
                    row.last_id += 1;
                    self.data.entry(flow).or_default().push(Stored { id: row.last_id, offset });
                }
                Write::Pass(flow, offset) => drop(self.passed.insert((flow, offset))),
                Write::Judge(offset) => self.judged.push(offset),
            }
        }
        self.roll_back(transaction);
    }

    /// The server gives the transaction's locks back.
    pub(crate) fn roll_back(&mut self, transaction: &Transaction) {
        self.held.remove(&transaction.part.lane);
        self.held_flows.retain(|flow| !transaction.flows.contains(flow));
    }

    /// The row of a flow, for another client that changes or locks it.
    pub(crate) fn row(&mut self, flow: FlowId) -> Option<&mut FlowRow> {
        if self.held_flows.contains(&flow) { None } else { self.flows.get_mut(&flow) }
    }

    /// Whether the outcome of a message in a flow is final.
    pub(crate) fn is_settled(&self, flow: FlowId, record: &Arc<Record>) -> bool {
        let stored = self.data.get(&flow).into_iter().flatten().rev();
        self.passed.contains(&(flow, record.offset))
            || stored.into_iter().any(|stored| stored.offset == record.offset)
    }
}
