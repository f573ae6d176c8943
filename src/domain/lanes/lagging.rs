//! The flows that lag behind their lane, each with its own offset in the inbox.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::batch::{Batch, BatchEntry, CatchUp, LaggingFlow, Lane, LanePosition, Scope};
use super::super::message::{FlowId, Offset, Record};
use super::batch_builder::BatchBuilder;
use super::batch_context::BatchContext;
use super::source::{Ahead, ReadAhead, RecordSource};

/// Smaller than for a lane: many flows may lag, and each reads ahead.
const AHEAD: Ahead = Ahead { records: 32, bytes: 1 << 18 };

/// Most flows of a lane that lag at the same time. Each is tried again at every tick. If more rows are locked, the
/// whole table is likely to be.
const MAX_LAGGING: usize = 64;

/// Most flows of a lane that may lag while an inbox for `max_bytes` holds `bytes`. Above half of it no further flow is
/// deferred: the records of a lagging flow take space from all others, so the lane waits instead.
#[must_use]
pub fn max_lagging(bytes: u64, max_bytes: u64) -> usize {
    if bytes > max_bytes / 2 { 0 } else { MAX_LAGGING }
}

/// The cursor of a lagging flow.
struct LaggingCursor<R> {
    flow: FlowId,
    /// Its offset in SQL: all records below are done for it.
    in_sql: Offset,
    log: ReadAhead<R>,
    /// The records of the current batch, in case the worker returns it undone.
    in_progress: Vec<Arc<Record>>,
    /// Its row was locked the last time, so the next batch has one message only.
    probing: bool,
    /// Whether it waits for the next tick.
    resting: bool,
}

/// The lagging flows of one lane. They take turns.
pub(super) struct LaggingFlows<R> {
    /// The next in turn is the first.
    queue: VecDeque<LaggingCursor<R>>,
}

impl<R: RecordSource> LaggingFlows<R> {
    pub(super) fn new() -> Self {
        Self { queue: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn contains(&self, flow: FlowId) -> bool {
        self.queue.iter().any(|cursor| cursor.flow == flow)
    }

    /// The lowest offset that a lagging flow still needs.
    pub(super) fn lowest(&self) -> Option<Offset> {
        self.queue.iter().map(|cursor| cursor.in_sql).min()
    }

    /// Adds a lagging flow. It is tried at once unless its row is known to be locked.
    pub(super) fn add(&mut self, lagging: LaggingFlow, reader: R, known_to_be_locked: bool) {
        self.queue.retain(|cursor| cursor.flow != lagging.flow);
        self.queue.push_back(LaggingCursor {
            flow: lagging.flow,
            in_sql: lagging.next_offset,
            log: ReadAhead::new(reader, AHEAD),
            in_progress: Vec::new(),
            probing: true,
            resting: known_to_be_locked,
        });
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// At a tick, the resting flows are tried again.
    pub(super) fn wake(&mut self) {
        for cursor in &mut self.queue {
            cursor.resting = false;
        }
    }

    /// A batch of the next flow in turn, if it has one. The second value says whether there is more to scan.
    pub(super) fn next_batch(
        &mut self,
        lane: Lane,
        lane_in_sql: LanePosition,
        context: &BatchContext<'_>,
    ) -> Result<(Option<Batch>, bool), R::Error> {
        for _ in 0..self.queue.len() {
            self.queue.rotate_left(1);
            // Only one flow scans, which keeps the turn of the router short.
            if let Some(cursor) = self.queue.back_mut().filter(|cursor| !cursor.resting) {
                return Ok((cursor.next_batch(lane, lane_in_sql, context)?, true));
            }
        }
        Ok((None, false))
    }

    /// Applies the outcome of a batch. Returns true when the flow no longer lags.
    pub(super) fn apply_outcome(&mut self, flow: FlowId, next: Offset, catch_up: Option<CatchUp>) -> bool {
        match catch_up {
            Some(CatchUp::Rejoined) => {
                self.queue.retain(|cursor| cursor.flow != flow);
                return true;
            }
            Some(CatchUp::Advanced) => self.cursors_of(flow).for_each(|cursor| cursor.advance(next)),
            Some(CatchUp::StillLocked) | None => self.cursors_of(flow).for_each(LaggingCursor::retry_later),
        }
        false
    }

    fn cursors_of(&mut self, flow: FlowId) -> impl Iterator<Item = &mut LaggingCursor<R>> {
        self.queue.iter_mut().filter(move |cursor| cursor.flow == flow)
    }
}

impl<R: RecordSource> LaggingCursor<R> {
    /// Its next batch; `None` if it must go on scanning at its next turn.
    fn next_batch(
        &mut self,
        lane: Lane,
        lane_in_sql: LanePosition,
        context: &BatchContext<'_>,
    ) -> Result<Option<Batch>, R::Error> {
        let LanePosition { epoch, next_offset: lane_at } = lane_in_sql;
        let (entries, in_step) = match self.gather(lane, lane_at, context) {
            Ok(gathered) => gathered,
            Err(error) => {
                self.resting = true;
                return Err(error);
            }
        };
        if entries.is_empty() && !in_step {
            return Ok(None);
        }
        self.in_progress = entries.iter().map(|entry| Arc::clone(&entry.record)).collect();
        Ok(Some(Batch {
            lane,
            epoch,
            scope: Scope::Lagging { flow: self.flow, lane_at },
            from: self.in_sql,
            next: if in_step { lane_at } else { self.log.position() },
            entries,
        }))
    }

    /// Its messages below `lane_at`, and whether these are all of them.
    fn gather(
        &mut self,
        lane: Lane,
        lane_at: Offset,
        context: &BatchContext<'_>,
    ) -> Result<(Vec<BatchEntry>, bool), R::Error> {
        let max_pairs = if self.probing { 1 } else { context.max_pairs };
        let mut builder = BatchBuilder::new(max_pairs, context.max_bytes);
        for _ in 0..context.scan_limit {
            let record = match self.log.next() {
                Ok(Some(record)) => record,
                Ok(None) => return Ok((builder.into_entries(), true)),
                Err(_) if !builder.is_empty() => break,
                Err(error) => return Err(error),
            };
            if record.offset >= lane_at {
                self.log.put_back(record);
                break;
            }
            if !context.flows_of(&record, lane).contains(&self.flow) {
                continue;
            }
            let entry = BatchEntry { record, flows: vec![self.flow], reports_invalid_payload: false };
            if !builder.fits(&entry) {
                self.log.put_back(entry.record);
                break;
            }
            builder.push(entry);
        }
        Ok((builder.into_entries(), self.log.position() >= lane_at))
    }

    fn advance(&mut self, next: Offset) {
        self.in_sql = next;
        self.in_progress.clear();
        self.probing = false;
    }

    fn retry_later(&mut self) {
        for record in self.in_progress.drain(..).rev() {
            self.log.put_back(record);
        }
        self.probing = true;
        self.resting = true;
    }
}
