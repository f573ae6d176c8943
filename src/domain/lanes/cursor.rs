//! How far one lane has read, and what it is given next. Decides; sends nothing.

use std::sync::Arc;

use super::super::batch::{Batch, BatchEntry, BatchOutcome, Lane, LanePosition, OpenedLane, Scope};
use super::super::message::{Offset, Record};
use super::super::payload::read_payload;
use super::batch_context::{BatchBuilder, BatchContext};
use super::copies::Copies;
use super::lagging::LaggingFlows;
use super::source::{Ahead, ReadAhead, RecordSource};

/// The lane that answers for payloads that belong to no flow because they cannot be read. Fixed,
/// because flows come and go, and exactly one lane must answer.
const INVALID_PAYLOAD_LANE: Lane = 0;

const AHEAD: Ahead = Ahead { records: 256, bytes: 1 << 20 };

/// Where a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No worker has taken it over yet.
    Closed,
    /// Ready for a batch.
    Open,
    /// A batch is with the worker.
    Busy { scope: Scope, next: Offset },
}

/// Who is asked first whether there is something to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    Lane,
    LaggingFlows,
}

/// A record, and what this lane has to do with it.
struct Classified {
    entry: BatchEntry,
    unreadable: bool,
}

/// A lane's cursor.
pub struct LaneCursor<R> {
    lane: Lane,
    log: ReadAhead<R>,
    state: State,
    /// Where the lane stands in SQL.
    in_sql: LanePosition,
    /// Every record below is in SQL for this lane, or none of its business, but for the flows that lag.
    done: Offset,
    /// See [`Self::end_batches_at`].
    ends_at: Option<Offset>,
    lagging: LaggingFlows<R>,
    turn: Turn,
    /// What lane 0 answered for last.
    unreadable: Copies,
    /// The same, as of the offset in SQL.
    unreadable_in_sql: Copies,
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
            lagging: LaggingFlows::none(),
            turn: Turn::Lane,
            unreadable: Copies::default(),
            unreadable_in_sql: Copies::default(),
        }
    }

    /// A worker has taken the lane over: begin again where it stands in SQL.
    ///
    /// Older news than what the lane works by is void. A closed lane works by none and believes any:
    /// where somebody deleted its row or restored a backup, epochs begin again below the known one,
    /// and news that was too old after all is found out by the first batch. Answers whether it was news.
    pub fn open(&mut self, opened: &OpenedLane) -> bool {
        let position = opened.position;
        if self.state != State::Closed && position.epoch <= self.in_sql.epoch {
            return false;
        }
        self.log.seek(position.next_offset);
        self.in_sql = position;
        self.done = position.next_offset;
        self.unreadable = Copies::default();
        self.unreadable_in_sql = Copies::default();
        self.lagging.clear();
        for lagging in &opened.lagging {
            self.lagging.add(*lagging, self.log.another(lagging.next_offset), false);
        }
        self.state = State::Open;
        true
    }

    /// The worker is gone, or another took the lane: wait until it is opened anew. False when the
    /// lane is in a later epoch already.
    pub fn close(&mut self, epoch: i64) -> bool {
        let current = epoch == self.in_sql.epoch;
        if current {
            self.state = State::Closed;
        }
        current
    }

    /// Where the lane stands in the database.
    #[must_use]
    pub fn position(&self) -> LanePosition {
        self.in_sql
    }

    /// Whether a worker has ever taken it over.
    pub fn was_opened(&self) -> bool {
        self.in_sql.epoch > 0
    }

    /// Batches end before this offset, so that a replay ends with a batch.
    pub fn end_batches_at(&mut self, offset: Option<Offset>) {
        self.ends_at = offset;
    }

    /// Whether it can be given a batch.
    pub fn is_free(&self) -> bool {
        self.state == State::Open
    }

    /// The worker has answered: its batch is in SQL, or its flow is locked still. Replies of older
    /// epochs are void.
    pub fn answered(&mut self, epoch: i64, outcome: &BatchOutcome) {
        let State::Busy { scope, next } = self.state else { return };
        if epoch != self.in_sql.epoch {
            return;
        }
        self.state = State::Open;
        match scope {
            Scope::Lane { .. } => self.advanced(next, outcome),
            Scope::Lagging { flow, .. } => {
                if self.lagging.answered(flow, next, outcome.catch_up) {
                    self.rewind();
                }
            }
        }
    }

    fn advanced(&mut self, next: Offset, outcome: &BatchOutcome) {
        self.in_sql.next_offset = next;
        self.done = next;
        for lagging in &outcome.deferred {
            self.lagging.add(*lagging, self.log.another(lagging.next_offset), true);
        }
    }

    /// A flow is back: what the lane has looked at and not told SQL of may hold messages that were
    /// passed over because the flow lagged.
    fn rewind(&mut self) {
        if self.log.position() > self.in_sql.next_offset {
            self.log.seek(self.in_sql.next_offset);
            self.unreadable = self.unreadable_in_sql.clone();
            self.done = self.in_sql.next_offset;
        }
    }

    /// No record below is needed any more.
    #[must_use]
    pub fn watermark(&self) -> Offset {
        self.lagging.lowest().map_or(self.done, |lowest| lowest.min(self.done))
    }

    /// No record below is looked at again, whoever is replaced. Lower than the watermark where the lane has looked
    /// further than SQL knows of and found nothing to do: it begins again at its offset in SQL.
    #[must_use]
    pub fn begins_again_at(&self) -> Offset {
        let at = self.in_sql.next_offset;
        self.lagging.lowest().map_or(at, |lowest| lowest.min(at))
    }

    /// Whether all below `end` is done and SQL knows it. Flows that lag are not waited for: where
    /// they stand is in SQL, and what they miss stays in the inbox.
    #[must_use]
    pub fn is_drained(&self, end: Offset) -> bool {
        self.state == State::Open && self.done >= end && self.in_sql.next_offset >= self.done
    }

    /// Time has passed: flows whose rows were locked are tried again.
    pub fn tick(&mut self) {
        self.lagging.wake();
    }

    /// The next batch, if the worker is free and there is one. An idle lane's batch is empty and only states how far it
    /// has got; it is made when `even_if_empty`. The lane and the flows that lag take turns.
    ///
    /// The second value tells whether there is more to look at, beside the batch if there is one.
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
            // Also when it fails: one that cannot be read must not keep the other from its turn.
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
        self.unreadable_in_sql = self.unreadable.clone();
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
                // The log is past what was gathered: that goes first, and the error comes again.
                Err(_) if !builder.is_empty() => break,
                Err(error) => return Err(error),
            };
            if self.ends_at.is_some_and(|end| record.offset >= end) && !builder.is_empty() {
                self.log.put_back(record);
                break;
            }
            let Classified { entry, unreadable } = self.classify(record, context);
            let ours = entry.reports_invalid_payload || !entry.flows.is_empty();
            if ours && !builder.fits(&entry) {
                self.log.put_back(entry.record);
                break;
            }
            if unreadable {
                self.unreadable.remember(&entry.record);
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
        let unreadable = self.lane == INVALID_PAYLOAD_LANE && read_payload(&record, context.payload).is_err();
        let reports_invalid_payload = unreadable && !self.unreadable.is_copy(&record);
        Classified { entry: BatchEntry { record, flows, reports_invalid_payload }, unreadable }
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
