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

pub use batch_context::BatchContext;
pub use cursor::LaneCursor;
pub use lagging::max_lagging;
pub use linger::linger_after;
pub use replay::{Replayed, Replays, SetBack};
pub use source::RecordSource;

use super::batch::{BatchOutcome, Lane, OpenedLane};
use super::message::Offset;

/// All lanes of an inbox.
pub struct Lanes<R> {
    cursors: Vec<LaneCursor<R>>,
}

impl<R: RecordSource> Lanes<R> {
    /// Creates closed lanes; `reader` reads their inbox.
    pub fn new(count: u32, reader: &R) -> Self {
        Self { cursors: (0..count).map(|lane| LaneCursor::new(lane, reader.reader_at(0))).collect() }
    }

    /// Returns the cursor of a lane, if the lane exists.
    pub fn get_mut(&mut self, lane: Lane) -> Option<&mut LaneCursor<R>> {
        self.cursors.get_mut(usize::try_from(lane).ok()?)
    }

    /// Whether each lane was opened once, so that the offsets of all lanes are known.
    #[must_use]
    pub fn were_all_opened(&self) -> bool {
        self.cursors.iter().all(LaneCursor::was_opened)
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

    /// Returns the offset below which no lane and no lagging flow needs a record.
    #[must_use]
    pub fn watermark(&self) -> Offset {
        self.cursors.iter().map(LaneCursor::watermark).min().unwrap_or(0)
    }

    /// Returns the offset below which no lane scans a record again; see [`LaneCursor::rescan_offset`].
    #[must_use]
    pub fn rescan_offset(&self) -> Offset {
        self.cursors.iter().map(LaneCursor::rescan_offset).min().unwrap_or(0)
    }

    /// Whether all lanes have committed all records below `end`; see [`LaneCursor::is_drained`].
    #[must_use]
    pub fn are_drained(&self, end: Offset) -> bool {
        self.cursors.iter().all(|cursor| cursor.is_drained(end))
    }

    /// Opens a lane at its position in SQL; see [`LaneCursor::open`].
    pub fn open(&mut self, lane: Lane, opened: &OpenedLane) -> bool {
        self.get_mut(lane).is_some_and(|cursor| cursor.open(opened))
    }

    /// Closes a lane that is in this epoch; see [`LaneCursor::close`].
    pub fn close(&mut self, lane: Lane, epoch: i64) -> bool {
        self.get_mut(lane).is_some_and(|cursor| cursor.close(epoch))
    }

    /// Closes the lane in any epoch, because the database was set back.
    pub fn close_any(&mut self, lane: Lane) {
        if let Some(cursor) = self.get_mut(lane) {
            cursor.close(cursor.position().epoch);
        }
    }

    /// Applies the outcome of a batch; see [`LaneCursor::apply_outcome`].
    pub fn apply_outcome(&mut self, lane: Lane, epoch: i64, outcome: &BatchOutcome) {
        if let Some(cursor) = self.get_mut(lane) {
            cursor.apply_outcome(epoch, outcome);
        }
    }
}
