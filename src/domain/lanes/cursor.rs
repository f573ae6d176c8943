//! How far one lane has read, and what it is given next. Decides; sends nothing.

use std::sync::Arc;

use super::super::batch::{Batch, BatchEntry, BatchOutcome, Lane, LanePosition, OpenedLane, Scope};
use super::super::message::{Offset, Record};
use super::super::payload::read_payload;
use super::copies::Copies;
use super::gathering::{Filling, Gathering};
use super::lagging::Stragglers;
use super::source::{Ahead, ReadAhead, RecordSource};

/// The lane that answers for payloads that belong to no flow because they cannot be read. Fixed,
/// because flows come and go, and exactly one lane must answer.
const JUDGE: Lane = 0;

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
    Stragglers,
}

/// A record, and what this lane has to do with it.
struct Looked {
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
    stragglers: Stragglers<R>,
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
            stragglers: Stragglers::none(),
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
        self.stragglers.clear();
        for lagging in &opened.lagging {
            self.stragglers.add(*lagging, self.log.another(lagging.next_offset), false);
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
                if self.stragglers.answered(flow, next, outcome.catch_up) {
                    self.rewind();
                }
            }
        }
    }

    fn advanced(&mut self, next: Offset, outcome: &BatchOutcome) {
        self.in_sql.next_offset = next;
        self.done = next;
        for lagging in &outcome.left_behind {
            self.stragglers.add(*lagging, self.log.another(lagging.next_offset), true);
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
        self.stragglers.lowest().map_or(self.done, |lowest| lowest.min(self.done))
    }

    /// No record below is looked at again, whoever is replaced. Lower than the watermark where the lane has looked
    /// further than SQL knows of and found nothing to do: it begins again at its offset in SQL.
    #[must_use]
    pub fn begins_again_at(&self) -> Offset {
        let at = self.in_sql.next_offset;
        self.stragglers.lowest().map_or(at, |lowest| lowest.min(at))
    }

    /// Whether all below `end` is done and SQL knows it. Flows that lag are not waited for: where
    /// they stand is in SQL, and what they miss stays in the inbox.
    #[must_use]
    pub fn is_drained(&self, end: Offset) -> bool {
        self.state == State::Open && self.done >= end && self.in_sql.next_offset >= self.done
    }

    /// Time has passed: flows whose rows were locked are tried again.
    pub fn tick(&mut self) {
        self.stragglers.wake();
    }

    /// The next batch, if the worker is free and there is one. An idle lane's batch is empty and only states how far it
    /// has got; it is made when `even_if_empty`. The lane and the flows that lag take turns.
    ///
    /// The second value tells whether there is more to look at, beside the batch if there is one.
    pub fn next_batch(
        &mut self,
        gathering: &Gathering<'_>,
        even_if_empty: bool,
    ) -> Result<(Option<Batch>, bool), R::Error> {
        if self.state != State::Open {
            return Ok((None, false));
        }
        let turns = match self.turn {
            Turn::Lane => [Turn::Lane, Turn::Stragglers],
            Turn::Stragglers => [Turn::Stragglers, Turn::Lane],
        };
        let mut more = false;
        for turn in turns {
            // Also when it fails: one that cannot be read must not keep the other from its turn.
            self.turn = turn.other();
            let (batch, further) = match turn {
                Turn::Lane => self.batch_of_the_lane(gathering, even_if_empty)?,
                Turn::Stragglers => self.stragglers.next_batch(self.lane, self.in_sql, gathering)?,
            };
            if let Some(batch) = batch {
                self.state = State::Busy { scope: batch.scope, next: batch.next };
                return Ok((Some(batch), further || self.stragglers.len() > 0));
            }
            more |= further;
        }
        Ok((None, more))
    }

    fn batch_of_the_lane(
        &mut self,
        gathering: &Gathering<'_>,
        even_if_empty: bool,
    ) -> Result<(Option<Batch>, bool), R::Error> {
        let (entries, more) = self.gather(gathering)?;
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
        let may_leave_behind = gathering.most_lagging.saturating_sub(self.stragglers.len());
        let scope = Scope::Lane { may_leave_behind };
        Ok((Some(Batch { lane: self.lane, epoch, scope, from, next, entries }), more))
    }

    fn gather(&mut self, gathering: &Gathering<'_>) -> Result<(Vec<BatchEntry>, bool), R::Error> {
        let mut filling = Filling::new(gathering.max_pairs, gathering.max_bytes);
        for _ in 0..gathering.look_ahead {
            let record = match self.log.next() {
                Ok(Some(record)) => record,
                Ok(None) => return Ok((filling.into_entries(), false)),
                // The log is past what was gathered: that goes first, and the error comes again.
                Err(_) if !filling.is_empty() => break,
                Err(error) => return Err(error),
            };
            if self.ends_at.is_some_and(|end| record.offset >= end) && !filling.is_empty() {
                self.log.put_back(record);
                break;
            }
            let Looked { entry, unreadable } = self.look_at(record, gathering);
            let ours = entry.reports_invalid_payload || !entry.flows.is_empty();
            if ours && !filling.has_room_for(&entry) {
                self.log.put_back(entry.record);
                break;
            }
            if unreadable {
                self.unreadable.remember(&entry.record);
            }
            if ours {
                filling.push(entry);
            }
        }
        Ok((filling.into_entries(), true))
    }

    fn look_at(&self, record: Arc<Record>, gathering: &Gathering<'_>) -> Looked {
        let mut flows = gathering.flows_of(&record, self.lane);
        flows.retain(|flow| !self.stragglers.contains(*flow));
        let unreadable = self.lane == JUDGE && read_payload(&record, gathering.payload).is_err();
        let reports_invalid_payload = unreadable && !self.unreadable.is_copy(&record);
        Looked { entry: BatchEntry { record, flows, reports_invalid_payload }, unreadable }
    }
}

impl Turn {
    fn other(self) -> Self {
        match self {
            Self::Lane => Self::Stragglers,
            Self::Stragglers => Self::Lane,
        }
    }
}
