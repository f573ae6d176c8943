//! The flows that a lane has left behind, each with a place of its own in the inbox.

use std::collections::VecDeque;
use std::sync::Arc;

use super::super::batch::{Batch, BatchEntry, CatchUp, LaggingFlow, Lane, LanePosition, Scope};
use super::super::message::{FlowId, Offset, Record};
use super::batch_context::{BatchBuilder, BatchContext};
use super::source::{Ahead, ReadAhead, RecordSource};

/// Many flows may lag, and each keeps what it has read ahead.
const AHEAD: Ahead = Ahead { records: 32, bytes: 1 << 18 };

/// Most flows of a lane that lag at a time. Each is tried again at every tick; where more rows are
/// locked at once, it is the table that somebody holds.
const MAX_LAGGING: usize = 64;

/// Most flows of a lane that may lag while an inbox for `max_bytes` holds `bytes`. Beyond half of it
/// nobody new is left behind: what waits for a flow that lags takes room from all others, for as
/// long as it lags, and so the lane waits instead.
#[must_use]
pub fn max_lagging(bytes: u64, max_bytes: u64) -> usize {
    if bytes > max_bytes / 2 { 0 } else { MAX_LAGGING }
}

/// A flow that lags.
struct LaggingCursor<R> {
    flow: FlowId,
    /// Where it stands in SQL: every record below is done for it.
    in_sql: Offset,
    log: ReadAhead<R>,
    /// What the worker has in hand, in case that it comes back undone.
    in_hand: Vec<Arc<Record>>,
    /// Its row was locked the last time: it is asked for with one message only.
    probing: bool,
    /// It is not tried again before the next tick.
    resting: bool,
}

/// The flows of one lane that lag. They take turns.
pub(super) struct LaggingFlows<R> {
    /// The next in turn first.
    queue: VecDeque<LaggingCursor<R>>,
}

impl<R: RecordSource> LaggingFlows<R> {
    pub(super) fn none() -> Self {
        Self { queue: VecDeque::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn contains(&self, flow: FlowId) -> bool {
        self.queue.iter().any(|cursor| cursor.flow == flow)
    }

    /// The lowest offset that one of them still needs.
    pub(super) fn lowest(&self) -> Option<Offset> {
        self.queue.iter().map(|cursor| cursor.in_sql).min()
    }

    /// From now on the flow lags. It is tried at once where nobody knows whether its row is locked
    /// still.
    pub(super) fn add(&mut self, lagging: LaggingFlow, reader: R, known_to_be_locked: bool) {
        self.queue.retain(|cursor| cursor.flow != lagging.flow);
        self.queue.push_back(LaggingCursor {
            flow: lagging.flow,
            in_sql: lagging.next_offset,
            log: ReadAhead::new(reader, AHEAD),
            in_hand: Vec::new(),
            probing: true,
            resting: known_to_be_locked,
        });
    }

    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }

    /// A tick: those that rest are tried again.
    pub(super) fn wake(&mut self) {
        for cursor in &mut self.queue {
            cursor.resting = false;
        }
    }

    /// A batch of the next one in turn, if it has something to do. The second value tells whether
    /// there is more to look at.
    pub(super) fn next_batch(
        &mut self,
        lane: Lane,
        lane_in_sql: LanePosition,
        context: &BatchContext<'_>,
    ) -> Result<(Option<Batch>, bool), R::Error> {
        for _ in 0..self.queue.len() {
            self.queue.rotate_left(1);
            // No more than one looks around, for a turn of the router must stay short.
            if let Some(cursor) = self.queue.back_mut().filter(|cursor| !cursor.resting) {
                return Ok((cursor.next_batch(lane, lane_in_sql, context)?, true));
            }
        }
        Ok((None, false))
    }

    /// The worker has answered the batch of a flow. True when the flow lags no more.
    pub(super) fn answered(&mut self, flow: FlowId, next: Offset, catch_up: Option<CatchUp>) -> bool {
        match catch_up {
            Some(CatchUp::Rejoined) => {
                self.queue.retain(|cursor| cursor.flow != flow);
                return true;
            }
            Some(CatchUp::Advanced) => self.of(flow).for_each(|cursor| cursor.advanced(next)),
            Some(CatchUp::StillLocked) | None => self.of(flow).for_each(LaggingCursor::still_locked),
        }
        false
    }

    fn of(&mut self, flow: FlowId) -> impl Iterator<Item = &mut LaggingCursor<R>> {
        self.queue.iter_mut().filter(move |cursor| cursor.flow == flow)
    }
}

impl<R: RecordSource> LaggingCursor<R> {
    /// Its next batch; `None` when it has to look on, at another turn.
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
        self.in_hand = entries.iter().map(|entry| Arc::clone(&entry.record)).collect();
        Ok(Some(Batch {
            lane,
            epoch,
            scope: Scope::Lagging { flow: self.flow, lane_at },
            from: self.in_sql,
            next: if in_step { lane_at } else { self.log.position() },
            entries,
        }))
    }

    /// Its messages below `lane_at`, and whether these are all.
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

    fn advanced(&mut self, next: Offset) {
        self.in_sql = next;
        self.in_hand.clear();
        self.probing = false;
    }

    fn still_locked(&mut self) {
        for record in self.in_hand.drain(..).rev() {
            self.log.put_back(record);
        }
        self.probing = true;
        self.resting = true;
    }
}
