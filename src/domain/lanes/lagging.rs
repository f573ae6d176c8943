//! Lagging flows of a lane. Each has its own offset in the inbox.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::batch::{Batch, BatchEntry, CatchUp, LaggingFlow, Lane, LanePosition, Scope};
use super::super::message::{FlowId, Offset, Record};
use super::batch_builder::BatchBuilder;
use super::batch_context::BatchContext;
use super::source::{Ahead, ReadAhead, RecordSource};

/// Smaller than for a lane, because each of many lagging flows reads ahead.
const AHEAD: Ahead = Ahead { records: 32, bytes: 1 << 18 };

/// Maximum number of lagging flows of a lane. Each retries at every tick. If more rows are locked, the whole table
/// probably is.
const MAX_LAGGING: usize = 64;

/// Returns the maximum number of lagging flows of a lane, given the size of the inbox.
///
/// In an inbox that is more than half full, no further flow is deferred and the lane waits instead. The records of
/// lagging flows would take the space of all other flows.
#[must_use]
pub fn max_lagging(bytes: u64, max_bytes: u64) -> usize {
    if bytes > max_bytes / 2 { 0 } else { MAX_LAGGING }
}

/// The cursor of a lagging flow.
struct LaggingCursor<R> {
    flow: FlowId,
    /// Its offset in SQL: all records below are processed for the flow.
    in_sql: Offset,
    log: ReadAhead<R>,
    /// The records of the current batch, which are read again if the row is still locked.
    in_progress: Vec<Arc<Record>>,
    /// Whether the next batch has one message only, because the row was locked the last time.
    probing: bool,
    /// Whether the flow waits for the next tick.
    waiting: bool,
}

/// The lagging flows of one lane. They take turns.
pub(super) struct LaggingFlows<R> {
    /// The first cursor has the next turn.
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

    /// Returns the lowest offset that a lagging flow needs.
    pub(super) fn lowest(&self) -> Option<Offset> {
        self.queue.iter().map(|cursor| cursor.in_sql).min()
    }

    /// Adds a lagging flow. Its first attempt is immediate unless its row is known to be locked.
    pub(super) fn add(&mut self, lagging: LaggingFlow, reader: R, known_to_be_locked: bool) {
        self.queue.retain(|cursor| cursor.flow != lagging.flow);
        self.queue.push_back(LaggingCursor {
            flow: lagging.flow,
            in_sql: lagging.next_offset,
            log: ReadAhead::new(reader, AHEAD),
            in_progress: Vec::new(),
            probing: true,
            waiting: known_to_be_locked,
        });
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// Ends the wait of all flows. Called at each tick.
    pub(super) fn wake(&mut self) {
        for cursor in &mut self.queue {
            cursor.waiting = false;
        }
    }

    /// Returns a batch of the next flow in turn, if it has one. The second value is true if more records remain.
    pub(super) fn next_batch(
        &mut self,
        lane: Lane,
        lane_in_sql: LanePosition,
        context: &BatchContext<'_>,
    ) -> Result<(Option<Batch>, bool), R::Error> {
        for _ in 0..self.queue.len() {
            self.queue.rotate_left(1);
            // Only one flow scans at a time, which bounds the time in the router.
            if let Some(cursor) = self.queue.back_mut().filter(|cursor| !cursor.waiting) {
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
    /// Returns the next batch, or `None` if the scan continues at the next turn.
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
                self.waiting = true;
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

    /// Collects messages below `lane_at`. The second value is true if no further messages remain below it.
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
        self.waiting = true;
    }
}
