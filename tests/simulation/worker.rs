//! A model of a lane's worker: one batch at a time, in as many transactions as it likes, each tried
//! until it is known to have happened.

use std::collections::{BTreeSet, VecDeque};

use mqtt_gateway::domain::batch::{Batch, BatchEntry, BatchOutcome, CatchUp, Scope};
use mqtt_gateway::domain::message::{FlowId, Offset};

use crate::oracle::History;
use crate::sql::{Attempt, CameTo, Part, Sql, Transaction};

/// An order to a worker.
#[allow(clippy::large_enum_variant, reason = "there are only a few of them")]
pub(crate) enum Order {
    Open,
    Process(Job),
}

/// A batch in a worker's hands.
pub(crate) struct Job {
    pub(crate) batch: Batch,
    /// Which life of the router waits for the reply.
    pub(crate) router: u32,
    history: History,
    done: usize,
    position: Offset,
    outcome: BatchOutcome,
    /// See [`Worker::lagging`].
    pub(crate) lagging: BTreeSet<FlowId>,
    /// A part whose COMMIT went unanswered.
    unknown: Option<(Part, CameTo)>,
    /// Everything is done but COMMIT.
    pub(crate) transaction: Option<Transaction>,
}

/// Whether a job goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    GoesOn,
    Done,
    Fenced,
}

#[derive(Default)]
pub(crate) struct Worker {
    pub(crate) orders: VecDeque<Order>,
    pub(crate) job: Option<Job>,
    /// Flows that the lane has gone on without, as far as the worker knows.
    pub(crate) lagging: BTreeSet<FlowId>,
}

impl Job {
    pub(crate) fn new(batch: Batch, router: u32, history: History) -> Self {
        let position = batch.from;
        let outcome = BatchOutcome::default();
        Self {
            batch,
            router,
            history,
            done: 0,
            position,
            outcome,
            lagging: BTreeSet::new(),
            unknown: None,
            transaction: None,
        }
    }

    pub(crate) fn outcome(self) -> BatchOutcome {
        self.outcome
    }

    /// Tries the next part, of at most `most` messages.
    pub(crate) fn attempt(&mut self, sql: &mut Sql, most: usize, patient: bool) -> Turn {
        if self.transaction.is_some() {
            return Turn::GoesOn;
        }
        let part = self.part(most);
        match sql.attempt(&part, patient, &self.lagging) {
            Attempt::Waits => Turn::GoesOn,
            Attempt::Begun(transaction) => {
                self.unknown = None;
                self.transaction = Some(transaction);
                Turn::GoesOn
            }
            Attempt::StillLocked => {
                // Where a part of the batch is done, only SQL can say how far.
                if self.outcome.catch_up.is_some() {
                    return Turn::Fenced;
                }
                self.outcome.catch_up = Some(CatchUp::StillLocked);
                Turn::Done
            }
            Attempt::Fenced(position, lagging) => {
                let happened = self.unknown.take().filter(|(part, came_to)| {
                    position.epoch == part.epoch
                        && match part.scope {
                            Scope::Lane { .. } => position.next_offset == part.next,
                            Scope::Lagging { lane_at, .. } => {
                                let left = came_to.catch_up == Some(CatchUp::Rejoined);
                                position.next_offset == lane_at && lagging == (!left).then_some(part.next)
                            }
                        }
                });
                match happened {
                    Some((part, came_to)) => self.committed(&part, came_to),
                    None => Turn::Fenced,
                }
            }
        }
    }

    /// COMMIT was answered, or is known to have happened.
    pub(crate) fn committed(&mut self, part: &Part, came_to: CameTo) -> Turn {
        self.done += part.entries.len();
        self.position = part.next;
        self.unknown = None;
        self.lagging.extend(came_to.deferred.iter().map(|lagging| lagging.flow));
        self.outcome.deferred.extend(came_to.deferred);
        let left = came_to.catch_up == Some(CatchUp::Rejoined);
        if let (true, Scope::Lagging { flow, .. }) = (left, part.scope) {
            self.lagging.remove(&flow);
        }
        self.outcome.catch_up = came_to.catch_up;
        if left || self.position == self.batch.next { Turn::Done } else { Turn::GoesOn }
    }

    /// The connection broke, and the outcome of COMMIT is unknown. The next attempt shows it, but not
    /// which flows were left behind: for that the lane is opened again.
    pub(crate) fn unanswered(&mut self, transaction: &Transaction) -> Turn {
        if !transaction.came_to.deferred.is_empty() {
            return Turn::Fenced;
        }
        self.unknown = Some((transaction.part.clone(), transaction.came_to.clone()));
        Turn::GoesOn
    }

    fn part(&self, most: usize) -> Part {
        let end = (self.done + most.max(1)).min(self.batch.entries.len());
        let next = self.batch.entries.get(end).map_or(self.batch.next, |entry| entry.record.offset);
        let entries = self.batch.entries[self.done..end].iter().map(|entry| self.without_lagging(entry));
        Part {
            lane: self.batch.lane,
            epoch: self.batch.epoch,
            scope: self.scope(),
            from: self.position,
            next,
            entries: entries.collect(),
            history: self.history.clone(),
        }
    }

    /// Flows that an earlier part has left behind.
    fn without_lagging(&self, entry: &BatchEntry) -> BatchEntry {
        let lags = |flow: &FlowId| self.outcome.deferred.iter().any(|lagging| lagging.flow == *flow);
        let flows = entry.flows.iter().copied().filter(|flow| !lags(flow)).collect();
        BatchEntry { flows, ..entry.clone() }
    }

    fn scope(&self) -> Scope {
        match self.batch.scope {
            Scope::Lane { max_deferred } => {
                Scope::Lane { max_deferred: max_deferred - self.outcome.deferred.len() }
            }
            lagging @ Scope::Lagging { .. } => lagging,
        }
    }
}
