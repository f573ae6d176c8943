//! How far one lane has read, and what it is given next. Decides; sends nothing.
//!
//! Every lane has a cursor of its own over the inbox. A lane whose database rows are locked
//! elsewhere then holds back nobody but itself, and a restarted worker rewinds only its lane. The
//! price, that each record is looked at once for every lane, is a microsecond.

use std::collections::VecDeque;
use std::sync::Arc;

use super::copies::Copies;
use crate::domain::batch::{Batch, BatchEntry, Lane, lane_of};
use crate::domain::message::{Body, FlowId, Offset, Record, SubscriptionId};
use crate::domain::payload::PayloadLimits;
use crate::domain::routing_history::RoutingHistory;
use crate::inbox::{InboxError, Reader};
use crate::store::{LanePosition, read_payload};

/// The lane that answers for payloads that belong to no flow because they cannot be read. Fixed,
/// because flows come and go, and exactly one lane must answer.
const JUDGE: Lane = 0;

/// Records looked at in one go; a turn of the router must stay short even where a lane has
/// nothing to do with a million records.
const LOOK_AHEAD: usize = 4_096;

/// Records read at once.
const READ_RECORDS: usize = 256;
const READ_BYTES: usize = 1 << 20;

/// What gathering a batch needs to know.
pub(super) struct Gathering<'a> {
    pub(super) tables: &'a RoutingHistory,
    pub(super) filter_of: &'a dyn Fn(SubscriptionId) -> Option<&'a str>,
    pub(super) lanes: u32,
    pub(super) payload: &'a PayloadLimits,
    /// Most messages of a batch, counted once for each flow.
    pub(super) max_pairs: usize,
    /// Most payload bytes of a batch.
    pub(super) max_bytes: usize,
}

/// Where a lane stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// No worker has taken it over yet.
    Closed,
    /// Ready for a batch.
    Open,
    /// A batch is with the worker.
    Busy,
}

/// A lane's cursor.
pub(super) struct LaneCursor {
    lane: Lane,
    reader: Reader,
    /// Read, and not yet given to the worker.
    pending: VecDeque<Arc<Record>>,
    state: State,
    /// Where the lane stands in SQL.
    in_sql: LanePosition,
    /// Every record below is in SQL for this lane, or none of its business.
    done: Offset,
    /// What lane 0 answered for last.
    unreadable: Copies,
}

impl LaneCursor {
    pub(super) fn new(lane: Lane, reader: Reader) -> Self {
        let in_sql = LanePosition { epoch: 0, next_offset: 0 };
        Self {
            lane,
            reader,
            pending: VecDeque::new(),
            state: State::Closed,
            in_sql,
            done: 0,
            unreadable: Copies::default(),
        }
    }

    /// A worker has taken the lane over: begin again where it stands in SQL.
    pub(super) fn open(&mut self, position: LanePosition) {
        if position.epoch <= self.in_sql.epoch {
            return;
        }
        self.reader.seek(position.next_offset);
        self.pending.clear();
        self.unreadable = Copies::default();
        self.in_sql = position;
        self.done = position.next_offset;
        self.state = State::Open;
    }

    /// The worker is gone, or another took the lane: wait until it is opened anew. False when the
    /// lane is in a later epoch already.
    pub(super) fn close(&mut self, epoch: i64) -> bool {
        let current = epoch == self.in_sql.epoch;
        if current {
            self.state = State::Closed;
        }
        current
    }

    /// The batch is in SQL. Replies of older epochs are void.
    pub(super) fn committed(&mut self, epoch: i64, next: Offset) {
        if epoch == self.in_sql.epoch && self.state == State::Busy {
            self.in_sql.next_offset = next;
            self.done = next;
            self.state = State::Open;
        }
    }

    /// Every record below is done for this lane.
    pub(super) fn done(&self) -> Offset {
        self.done
    }

    /// Whether a batch can be given to the worker.
    pub(super) fn is_open(&self) -> bool {
        self.state == State::Open
    }

    /// Whether all below `end` is done and SQL knows it.
    pub(super) fn is_drained(&self, end: Offset) -> bool {
        self.is_open() && self.done >= end && self.in_sql.next_offset >= self.done
    }

    /// The next batch, if there is one. An idle lane's batch is empty and only states how far it
    /// has got; it is made when `even_if_empty`.
    ///
    /// The second value tells whether there is more to look at.
    pub(super) fn next_batch(
        &mut self,
        gathering: &Gathering<'_>,
        even_if_empty: bool,
    ) -> Result<(Option<Batch>, bool), InboxError> {
        let (entries, more) = self.gather(gathering)?;
        let next = self.pending.front().map_or(self.reader.position(), |record| record.offset);
        let idle = entries.is_empty();
        if idle {
            self.done = self.done.max(next);
        }
        if next <= self.in_sql.next_offset || (idle && !even_if_empty) {
            return Ok((None, more));
        }
        self.state = State::Busy;
        let LanePosition { epoch, next_offset: from } = self.in_sql;
        Ok((Some(Batch { lane: self.lane, epoch, from, next, entries }), more))
    }

    fn gather(&mut self, gathering: &Gathering<'_>) -> Result<(Vec<BatchEntry>, bool), InboxError> {
        let mut entries = Vec::new();
        let (mut pairs, mut bytes, mut looked_at) = (0, 0, 0);
        while looked_at < LOOK_AHEAD {
            let Some(record) = self.next_record()? else { return Ok((entries, false)) };
            looked_at += 1;
            let Some(entry) = self.entry(record, gathering) else { continue };
            let weight = entry.flows.len().max(1);
            let size = weight * body_length(&entry.record);
            if !entries.is_empty()
                && (pairs + weight > gathering.max_pairs || bytes + size > gathering.max_bytes)
            {
                self.pending.push_front(entry.record);
                return Ok((entries, true));
            }
            (pairs, bytes) = (pairs + weight, bytes + size);
            entries.push(entry);
        }
        Ok((entries, true))
    }

    fn next_record(&mut self) -> Result<Option<Arc<Record>>, InboxError> {
        if self.pending.is_empty() {
            let mut records = Vec::new();
            self.reader.read(READ_RECORDS, READ_BYTES, &mut records)?;
            self.pending.extend(records);
        }
        Ok(self.pending.pop_front())
    }

    /// What this lane has to do with a record, if anything.
    fn entry(&mut self, record: Arc<Record>, gathering: &Gathering<'_>) -> Option<BatchEntry> {
        let flows = self.flows_of(&record, gathering);
        let judge = self.lane == JUDGE
            && read_payload(&record, gathering.payload).is_err()
            && !self.unreadable.is_copy(&record);
        (judge || !flows.is_empty()).then_some(BatchEntry { record, flows, judge })
    }

    fn flows_of(&self, record: &Record, gathering: &Gathering<'_>) -> Vec<FlowId> {
        let mut flows = Vec::new();
        if let Some(table) = gathering.tables.at(record.offset) {
            table.route(&record.topic, &record.delivery.subscription_ids, gathering.filter_of, &mut flows);
            flows.retain(|flow| lane_of(*flow, gathering.lanes) == self.lane);
        }
        flows
    }
}

fn body_length(record: &Record) -> usize {
    match &record.body {
        Body::Whole(bytes) | Body::Head { head: bytes, .. } => bytes.len(),
    }
}
