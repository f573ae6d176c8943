//! The cursor of one lane over the inbox. It selects the next batch.

use std::sync::Arc;

use super::super::batch::{Batch, BatchEntry, BatchOutcome, Lane, LanePosition, OpenedLane, Scope};
use super::super::message::{Offset, Record};
use super::super::payload::read_payload;
use super::batch_builder::BatchBuilder;
use super::batch_context::BatchContext;
use super::copies::Copies;
use super::lagging::LaggingFlows;
use super::source::{Ahead, ReadAhead, RecordSource};

/// The lane that writes the dead letters of invalid payloads, which belong to no flow. Exactly one lane must write
/// them, and the flows of a lane may change, so the lane is fixed.
const INVALID_PAYLOAD_LANE: Lane = 0;

const AHEAD: Ahead = Ahead { records: 256, bytes: 1 << 20 };

/// Whether a lane without messages for its flows gets a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdleLane {
    /// It gets none.
    Skip,
    /// It gets an empty one, which stores its offset.
    StoreOffset,
}

/// The state of a lane.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum LaneStatus {
    /// No worker owns the lane.
    Closed,
    /// Ready for a batch.
    Open,
    /// The worker processes a batch.
    Busy { scope: Scope, next: Offset },
}

/// The owner of the next batch: the lane or one of its lagging flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum BatchSource {
    Lane,
    LaggingFlows,
}

/// A record with its flows in this lane.
struct Classified {
    entry: BatchEntry,
    invalid: bool,
}

/// The cursor of a lane over the inbox.
pub struct LaneCursor<R> {
    lane: Lane,
    log: ReadAhead<R>,
    state: LaneStatus,
    /// The position of the lane in SQL.
    in_sql: LanePosition,
    /// All records below are committed for this lane or belong to other lanes. Lagging flows are excepted.
    done: Offset,
    /// See [`Self::end_batches_at`].
    ends_at: Option<Offset>,
    lagging: LaggingFlows<R>,
    next_source: BatchSource,
    /// The last invalid message that lane 0 reported.
    invalid: Copies,
    /// The value of `invalid` at the offset in SQL.
    invalid_in_sql: Copies,
}

impl<R: RecordSource> LaneCursor<R> {
    /// Creates a closed lane.
    pub fn new(lane: Lane, reader: R) -> Self {
        Self {
            lane,
            log: ReadAhead::new(reader, AHEAD),
            state: LaneStatus::Closed,
            in_sql: LanePosition { epoch: 0, next_offset: 0 },
            done: 0,
            ends_at: None,
            lagging: LaggingFlows::new(),
            next_source: BatchSource::Lane,
            invalid: Copies::default(),
            invalid_in_sql: Copies::default(),
        }
    }

    /// Opens the lane at its position in SQL, after a worker has taken it over. Returns whether the position was
    /// accepted.
    ///
    /// An open lane ignores older epochs. A closed lane accepts any epoch, because epochs restart after a deleted row
    /// or a restored backup. If the position is outdated, the first batch is fenced.
    pub fn open(&mut self, opened: &OpenedLane) -> bool {
        let position = opened.position;
        if self.state != LaneStatus::Closed && position.epoch <= self.in_sql.epoch {
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
        self.state = LaneStatus::Open;
        true
    }

    /// Closes the lane after its worker has stopped or lost the lane. Returns false if the lane is in a later epoch.
    pub fn close(&mut self, epoch: i64) -> bool {
        let current = epoch == self.in_sql.epoch;
        if current {
            self.state = LaneStatus::Closed;
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

    /// Whether the lane can process a batch.
    pub fn is_free(&self) -> bool {
        self.state == LaneStatus::Open
    }

    /// Applies the outcome of a batch. Outcomes of older epochs are ignored.
    pub fn apply_outcome(&mut self, epoch: i64, outcome: &BatchOutcome) {
        let LaneStatus::Busy { scope, next } = self.state else { return };
        if epoch != self.in_sql.epoch {
            return;
        }
        self.state = LaneStatus::Open;
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

    /// Moves back to the offset in SQL after a flow has rejoined, because later records were scanned without the flow.
    fn rewind(&mut self) {
        if self.log.position() > self.in_sql.next_offset {
            self.log.seek(self.in_sql.next_offset);
            self.invalid = self.invalid_in_sql.clone();
            self.done = self.in_sql.next_offset;
        }
    }

    /// Returns the offset below which no record is needed.
    #[must_use]
    pub fn watermark(&self) -> Offset {
        self.lagging.lowest().map_or(self.done, |lowest| lowest.min(self.done))
    }

    /// Returns the offset below which no record is scanned again, whichever actor is restarted.
    ///
    /// It is the offset in SQL, or the lowest offset of a lagging flow. It can be lower than the watermark, because a
    /// restarted lane repeats the scan of records without messages for it.
    #[must_use]
    pub fn rescan_offset(&self) -> Offset {
        let at = self.in_sql.next_offset;
        self.lagging.lowest().map_or(at, |lowest| lowest.min(at))
    }

    /// Whether all records below `end` are committed. Lagging flows do not count: their offsets are in SQL, and their
    /// records stay in the inbox.
    #[must_use]
    pub fn is_drained(&self, end: Offset) -> bool {
        self.state == LaneStatus::Open && self.done >= end && self.in_sql.next_offset >= self.done
    }

    /// Lets lagging flows retry their locked rows. Called at regular intervals.
    pub fn tick(&mut self) {
        self.lagging.wake();
    }

    /// Returns the next batch if the lane is free. The lane and its lagging flows take turns.
    ///
    /// With [`IdleLane::StoreOffset`], an idle lane returns an empty batch that only advances its offset. The second value is
    /// true if more records remain to be scanned.
    pub fn next_batch(
        &mut self,
        context: &BatchContext<'_>,
        idle: IdleLane,
    ) -> Result<(Option<Batch>, bool), R::Error> {
        if self.state != LaneStatus::Open {
            return Ok((None, false));
        }
        let sources = match self.next_source {
            BatchSource::Lane => [BatchSource::Lane, BatchSource::LaggingFlows],
            BatchSource::LaggingFlows => [BatchSource::LaggingFlows, BatchSource::Lane],
        };
        let mut more = false;
        for source in sources {
            // The turn changes before any error, so that an unreadable record does not block the other side.
            self.next_source = source.other();
            let (batch, further) = match source {
                BatchSource::Lane => self.batch_of_the_lane(context, idle)?,
                BatchSource::LaggingFlows => self.lagging.next_batch(self.lane, self.in_sql, context)?,
            };
            if let Some(batch) = batch {
                self.state = LaneStatus::Busy { scope: batch.scope, next: batch.next };
                return Ok((Some(batch), further || self.lagging.len() > 0));
            }
            more |= further;
        }
        Ok((None, more))
    }

    fn batch_of_the_lane(
        &mut self,
        context: &BatchContext<'_>,
        idle: IdleLane,
    ) -> Result<(Option<Batch>, bool), R::Error> {
        let (entries, more) = self.gather(context)?;
        let next = self.log.position();
        let is_idle = entries.is_empty();
        if is_idle {
            self.done = self.done.max(next);
        }
        if next <= self.in_sql.next_offset || (is_idle && idle == IdleLane::Skip) {
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
                // The entries before the error are returned first; the next call meets the error again.
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

impl BatchSource {
    fn other(self) -> Self {
        match self {
            Self::Lane => Self::LaggingFlows,
            Self::LaggingFlows => Self::Lane,
        }
    }
}
