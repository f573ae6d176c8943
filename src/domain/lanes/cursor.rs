//! How far one lane has read, and which batch is next. Pure.

use std::sync::Arc;

use super::super::batch::{Batch, BatchEntry, BatchOutcome, Lane, LanePosition, OpenedLane, Scope};
use super::super::message::{Offset, Record};
use super::super::payload::read_payload;
use super::batch_builder::BatchBuilder;
use super::batch_context::BatchContext;
use super::copies::Copies;
use super::lagging::LaggingFlows;
use super::source::{Ahead, ReadAhead, RecordSource};

/// The lane that makes the dead letters of invalid payloads, which belong to no flow. Fixed, because flows come and go,
/// and exactly one lane must do it.
const INVALID_PAYLOAD_LANE: Lane = 0;

const AHEAD: Ahead = Ahead { records: 256, bytes: 1 << 20 };

/// The state of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No worker has taken it over yet.
    Closed,
    /// Ready for a batch.
    Open,
    /// A batch is with the worker.
    Busy { scope: Scope, next: Offset },
}

/// Whose turn is next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Lane,
    LaggingFlows,
}

/// A record, as far as it concerns this lane.
struct Classified {
    entry: BatchEntry,
    invalid: bool,
}

/// The cursor of a lane over the inbox.
pub struct LaneCursor<R> {
    lane: Lane,
    log: ReadAhead<R>,
    state: State,
    /// The position of the lane in SQL.
    in_sql: LanePosition,
    /// All records below are committed for this lane or do not concern it, except for the lagging flows.
    done: Offset,
    /// See [`Self::end_batches_at`].
    ends_at: Option<Offset>,
    lagging: LaggingFlows<R>,
    turn: Turn,
    /// The invalid messages that lane 0 reported last.
    invalid: Copies,
    /// The same, at the offset in SQL.
    invalid_in_sql: Copies,
}

impl<R: RecordSource> LaneCursor<R> {
    /// A lane that no worker has taken over yet.
    pub fn new(lane: Lane, reader: R) -> Self {
        Self {
            lane,
            log: ReadAhead::new(reader, AHEAD),
            state: State::Closed,
            in_sql: LanePosition { epoch: 0, next_offset: 0 },
            done: 0,
            ends_at: None,
            lagging: LaggingFlows::new(),
            turn: Turn::Lane,
            invalid: Copies::default(),
            invalid_in_sql: Copies::default(),
        }
    }

    /// Opens the lane at its position in SQL, after a worker has taken it over. Returns whether it did.
    ///
    /// An open lane ignores older epochs. A closed one accepts any: after its row was deleted or a backup was restored,
    /// epochs begin below the known one. If the message was outdated after all, the first batch is fenced.
    pub fn open(&mut self, opened: &OpenedLane) -> bool {
        let position = opened.position;
        if self.state != State::Closed && position.epoch <= self.in_sql.epoch {
            return false;
        }
        self.log.seek(position.next_offset);
        self.in_sql = position;
        self.done = position.next_offset;
        self.invalid = Copies::default();
        self.invalid_in_sql = Copies::default();
        self.lagging.clear();
        for lagging in &opened.lagging {
            self.lagging.add(*lagging, self.log.reader_at(lagging.next_offset), false);
        }
        self.state = State::Open;
        true
    }

    /// Closes the lane until it is opened again, because its worker has ended or lost it. Returns false if the lane is
    /// in a later epoch already.
    pub fn close(&mut self, epoch: i64) -> bool {
        let current = epoch == self.in_sql.epoch;
        if current {
            self.state = State::Closed;
        }
        current
    }

    /// The position of the lane in the database.
    #[must_use]
    pub fn position(&self) -> LanePosition {
        self.in_sql
    }

    /// Whether a worker has ever taken the lane over.
    pub fn was_opened(&self) -> bool {
        self.in_sql.epoch > 0
    }

    /// Ends batches before this offset, so that a replay ends with a batch.
    pub fn end_batches_at(&mut self, offset: Option<Offset>) {
        self.ends_at = offset;
    }

    /// Whether it can be given a batch.
    pub fn is_free(&self) -> bool {
        self.state == State::Open
    }

    /// Applies the outcome of a batch: it is committed, or its flow is still locked. Outcomes of older epochs are
    /// ignored.
    pub fn apply_outcome(&mut self, epoch: i64, outcome: &BatchOutcome) {
        let State::Busy { scope, next } = self.state else { return };
        if epoch != self.in_sql.epoch {
            return;
        }
        self.state = State::Open;
        match scope {
            Scope::Lane { .. } => self.advance(next, outcome),
            Scope::Lagging { flow, .. } => {
                if self.lagging.apply_outcome(flow, next, outcome.catch_up) {
                    self.rewind();
                }
            }
        }
    }

    fn advance(&mut self, next: Offset, outcome: &BatchOutcome) {
        self.in_sql.next_offset = next;
        self.done = next;
        for lagging in &outcome.deferred {
            self.lagging.add(*lagging, self.log.reader_at(lagging.next_offset), true);
        }
    }

    /// Goes back to the offset in SQL after a flow has rejoined: the records beyond were scanned without the flow.
    fn rewind(&mut self) {
        if self.log.position() > self.in_sql.next_offset {
            self.log.seek(self.in_sql.next_offset);
            self.invalid = self.invalid_in_sql.clone();
            self.done = self.in_sql.next_offset;
        }
    }

    /// The offset below which no record is needed any more.
    #[must_use]
    pub fn watermark(&self) -> Offset {
        self.lagging.lowest().map_or(self.done, |lowest| lowest.min(self.done))
    }

    /// The offset below which no record is scanned again, whichever actor is replaced. Lower than the watermark if the
    /// lane has scanned beyond its offset in SQL and found nothing: it begins again at that offset.
    #[must_use]
    pub fn rescan_offset(&self) -> Offset {
        let at = self.in_sql.next_offset;
        self.lagging.lowest().map_or(at, |lowest| lowest.min(at))
    }

    /// Whether all records below `end` are done and committed. Lagging flows are not waited for: their offsets are in
    /// SQL, and their records stay in the inbox.
    #[must_use]
    pub fn is_drained(&self, end: Offset) -> bool {
        self.state == State::Open && self.done >= end && self.in_sql.next_offset >= self.done
    }

    /// Tries flows again whose rows were locked, as time has passed.
    pub fn tick(&mut self) {
        self.lagging.wake();
    }

    /// The next batch, if the worker is free and there is one. The batch of an idle lane is empty and only advances its
    /// offset; it is made if `even_if_empty`. The lane and its lagging flows take turns.
    ///
    /// The second value says whether there is more to scan, beside the batch if there is one.
    pub fn next_batch(
        &mut self,
        context: &BatchContext<'_>,
        even_if_empty: bool,
    ) -> Result<(Option<Batch>, bool), R::Error> {
        if self.state != State::Open {
            return Ok((None, false));
        }
        let turns = match self.turn {
            Turn::Lane => [Turn::Lane, Turn::LaggingFlows],
            Turn::LaggingFlows => [Turn::LaggingFlows, Turn::Lane],
        };
        let mut more = false;
        for turn in turns {
            // Also after a failure: an invalid record must not keep the other from its turn.
            self.turn = turn.other();
            let (batch, further) = match turn {
                Turn::Lane => self.batch_of_the_lane(context, even_if_empty)?,
                Turn::LaggingFlows => self.lagging.next_batch(self.lane, self.in_sql, context)?,
            };
            if let Some(batch) = batch {
                self.state = State::Busy { scope: batch.scope, next: batch.next };
                return Ok((Some(batch), further || self.lagging.len() > 0));
            }
            more |= further;
        }
        Ok((None, more))
    }

    fn batch_of_the_lane(
        &mut self,
        context: &BatchContext<'_>,
        even_if_empty: bool,
    ) -> Result<(Option<Batch>, bool), R::Error> {
        let (entries, more) = self.gather(context)?;
        let next = self.log.position();
        let idle = entries.is_empty();
        if idle {
            self.done = self.done.max(next);
        }
        if next <= self.in_sql.next_offset || (idle && !even_if_empty) {
            return Ok((None, more));
        }
        self.invalid_in_sql = self.invalid.clone();
        let LanePosition { epoch, next_offset: from } = self.in_sql;
        let max_deferred = context.max_lagging.saturating_sub(self.lagging.len());
        let scope = Scope::Lane { max_deferred };
        Ok((Some(Batch { lane: self.lane, epoch, scope, from, next, entries }), more))
    }

    fn gather(&mut self, context: &BatchContext<'_>) -> Result<(Vec<BatchEntry>, bool), R::Error> {
        let mut builder = BatchBuilder::new(context.max_pairs, context.max_bytes);
        for _ in 0..context.scan_limit {
            let record = match self.log.next() {
                Ok(Some(record)) => record,
                Ok(None) => return Ok((builder.into_entries(), false)),
                // The entries so far go first; the error recurs.
                Err(_) if !builder.is_empty() => break,
                Err(error) => return Err(error),
            };
            if self.ends_at.is_some_and(|end| record.offset >= end) && !builder.is_empty() {
                self.log.put_back(record);
                break;
            }
            let Classified { entry, invalid } = self.classify(record, context);
            let ours = entry.reports_invalid_payload || !entry.flows.is_empty();
            if ours && !builder.fits(&entry) {
                self.log.put_back(entry.record);
                break;
            }
            if invalid {
                self.invalid.remember(&entry.record);
            }
            if ours {
                builder.push(entry);
            }
        }
        Ok((builder.into_entries(), true))
    }

    fn classify(&self, record: Arc<Record>, context: &BatchContext<'_>) -> Classified {
        let mut flows = context.flows_of(&record, self.lane);
        flows.retain(|flow| !self.lagging.contains(*flow));
        let invalid = self.lane == INVALID_PAYLOAD_LANE && read_payload(&record, context.payload).is_err();
        let reports_invalid_payload = invalid && !self.invalid.is_copy(&record);
        Classified { entry: BatchEntry { record, flows, reports_invalid_payload }, invalid }
    }
}

impl Turn {
    fn other(self) -> Self {
        match self {
            Self::Lane => Self::LaggingFlows,
            Self::LaggingFlows => Self::Lane,
        }
    }
}
