//! The lanes (partitions) of an inbox: their cursors, their next batches, and the watermark of needed records.
//!
//! ```text
//!                     released        needed by ◀─ lagging flow  ◀─ lane's offset   scanned, and
//!                                     the lagging                   in SQL          nothing found
//!  inbox  ───────────────────────────┼──────────────────────────────┼────────────────┼──────────▶
//!                                watermark                                          done
//! ```
//!
//! Every lane has its own cursor over the inbox. A lane with locked database rows delays no other lane, and a restarted
//! worker rewinds only its lane. In return, each record is scanned once for every lane, which costs a microsecond.
//!
//! A flow with a locked row does not delay its lane either. The worker stores the offset of the flow, and the lane
//! continues without the flow. The flow catches up with its own batches, up to the offset of the lane in SQL and never
//! beyond. There it rejoins the lane. The lane moves back to that offset, because it scanned later records without the
//! flow.
//!
//! This module has no side effects. The router and a simulation dispatch the batches.

mod batch_builder;
mod batch_context;
mod copies;
mod cursor;
mod lagging;
mod linger;
mod replay;
mod source;
#[cfg(test)]
mod tests;
mod wakeups;

pub use batch_context::BatchContext;
pub use cursor::{IdleLane, LaneCursor};
pub use lagging::max_lagging;
pub use linger::linger_after;
use replay::Replays;
pub use replay::{Replayed, SetBack};
pub use source::RecordSource;
pub use wakeups::Wakeups;

use super::batch::{Batch, BatchOutcome, Lane, LanePosition, OpenedLane};
use super::message::Offset;

/// All lanes of an inbox, and the callers `C` that wait until the inbox is drained.
pub struct Lanes<R, C = ()> {
    cursors: Vec<LaneCursor<R>>,
    /// Replays after the database was restored to an earlier state.
    replays: Replays,
    callers: Vec<C>,
    /// A free lane has more records to scan.
    unscanned: bool,
    /// The next scan is queued and has not begun.
    scan_queued: bool,
}

/// The result of [`Lanes::open`].
#[derive(Debug, PartialEq, Eq)]
pub enum Opening {
    /// The lane is open in a later epoch.
    Outdated,
    /// The lane continues.
    Opened,
    /// The lane continues, and the database lacks offsets that were committed to it.
    SetBack(SetBack),
}

/// Records that no lane needs any more.
#[derive(Debug, PartialEq, Eq)]
pub struct ReleasedRecords<'a> {
    /// The committed offset of each lane.
    pub committed: &'a [Offset],
    /// Records below are done.
    pub watermark: Offset,
    /// Records below are not routed again.
    pub rescan_offset: Offset,
}

impl<R: RecordSource, C> Lanes<R, C> {
    /// Creates closed lanes with these remembered offsets; `reader` reads their inbox.
    pub fn new(count: u32, reader: &R, committed: Vec<Offset>) -> Self {
        Self {
            cursors: (0..count).map(|lane| LaneCursor::new(lane, reader.reader_at(0))).collect(),
            replays: Replays::new(committed),
            callers: Vec::new(),
            unscanned: false,
            scan_queued: false,
        }
    }

    /// Returns the position of a lane in SQL, if the lane exists.
    #[must_use]
    pub fn position(&self, lane: Lane) -> Option<LanePosition> {
        Some(self.cursors.get(usize::try_from(lane).ok()?)?.position())
    }

    fn get_mut(&mut self, lane: Lane) -> Option<&mut LaneCursor<R>> {
        self.cursors.get_mut(usize::try_from(lane).ok()?)
    }

    /// Whether any lane can process a batch.
    #[must_use]
    pub fn is_any_free(&self) -> bool {
        self.cursors.iter().any(LaneCursor::is_free)
    }

    /// Lets lagging flows retry their locked rows; see [`LaneCursor::tick`].
    pub fn tick(&mut self) {
        self.cursors.iter_mut().for_each(LaneCursor::tick);
    }

    /// Returns the next batch of a free lane, and whether the lane has records beyond it; see
    /// [`LaneCursor::next_batch`]. During a drain, idle lanes store their offsets.
    pub fn next_batch(
        &mut self,
        lane: Lane,
        context: &BatchContext<'_>,
        idle: IdleLane,
    ) -> Result<Option<(Batch, bool)>, R::Error> {
        let idle = if self.is_draining() { IdleLane::StoreOffset } else { idle };
        let Some(cursor) = self.get_mut(lane) else { return Ok(None) };
        let (batch, more) = cursor.next_batch(context, idle)?;
        self.unscanned |= more && batch.is_none();
        Ok(batch.map(|batch| (batch, more)))
    }

    /// Returns whether to queue the next scan, which is queued once for all lanes. With one message per lane, every
    /// turn would queue more messages than it handles.
    pub fn queue_scan(&mut self) -> bool {
        std::mem::take(&mut self.unscanned) && !std::mem::replace(&mut self.scan_queued, true)
    }

    /// Records that the queued scan begins.
    pub fn begin_scan(&mut self) {
        self.scan_queued = false;
    }

    /// Opens a lane at its position in SQL; see [`LaneCursor::open`]. The inbox holds no records below `deleted_below`.
    pub fn open(&mut self, lane: Lane, opened: &OpenedLane, deleted_below: Offset) -> Opening {
        if !self.get_mut(lane).is_some_and(|cursor| cursor.open(opened)) {
            return Opening::Outdated;
        }
        let set_back = self.replays.reopen(lane, opened.position.next_offset, deleted_below);
        self.bound_batches(lane);
        set_back.map_or(Opening::Opened, Opening::SetBack)
    }

    /// Closes a lane that is in this epoch; see [`LaneCursor::close`]. Its batch is read again once it is opened.
    pub fn close(&mut self, lane: Lane, epoch: i64) -> bool {
        self.get_mut(lane).is_some_and(|cursor| cursor.close(epoch))
    }

    /// Closes the lane in any epoch, because the database was set back.
    pub fn close_any(&mut self, lane: Lane) {
        if let Some(cursor) = self.get_mut(lane) {
            cursor.close(cursor.position().epoch);
        }
    }

    /// Applies the outcome of a batch; see [`LaneCursor::apply_outcome`]. Returns the summary of a replay that it ends.
    pub fn apply_outcome(&mut self, lane: Lane, epoch: i64, outcome: &BatchOutcome) -> Option<Replayed> {
        let cursor = self.get_mut(lane)?;
        cursor.apply_outcome(epoch, outcome);
        let next_offset = cursor.position().next_offset;
        let replayed = self.replays.record_commit(lane, next_offset, &outcome.results)?;
        self.bound_batches(lane);
        Some(replayed)
    }

    /// Ends the batches of a lane at the end of its replay.
    fn bound_batches(&mut self, lane: Lane) {
        let ends_at = self.replays.ends_at(lane);
        if let Some(cursor) = self.get_mut(lane) {
            cursor.end_batches_at(ends_at);
        }
    }

    /// Whether any lane replays messages.
    #[must_use]
    pub fn is_replaying(&self) -> bool {
        (0..).zip(&self.cursors).any(|(lane, _)| self.replays.ends_at(lane).is_some())
    }

    /// Returns the records that no lane needs any more, once each lane was opened and the offsets of all lanes are
    /// known.
    #[must_use]
    pub fn released(&self) -> Option<ReleasedRecords<'_>> {
        let rescan_offset = self.cursors.iter().map(LaneCursor::rescan_offset).min().unwrap_or(0);
        let (committed, watermark) = (self.replays.committed(), self.watermark());
        let is_known = self.cursors.iter().all(LaneCursor::was_opened);
        is_known.then_some(ReleasedRecords { committed, watermark, rescan_offset })
    }

    /// Returns the offset below which no lane and no lagging flow needs a record.
    #[must_use]
    pub fn watermark(&self) -> Offset {
        self.cursors.iter().map(LaneCursor::watermark).min().unwrap_or(0)
    }

    /// Registers a caller that waits until the inbox is drained.
    pub fn drain(&mut self, caller: C) {
        self.callers.push(caller);
    }

    /// Whether a caller waits until the inbox is drained.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        !self.callers.is_empty()
    }

    /// Whether all lanes have committed all records below `end`; see [`LaneCursor::is_drained`].
    #[must_use]
    pub fn are_drained(&self, end: Offset) -> bool {
        self.cursors.iter().all(|cursor| cursor.is_drained(end))
    }

    /// Returns the callers to answer, once all lanes have committed all records below `end`.
    pub fn take_drained(&mut self, end: Offset) -> Vec<C> {
        if self.are_drained(end) { std::mem::take(&mut self.callers) } else { Vec::new() }
    }
}
