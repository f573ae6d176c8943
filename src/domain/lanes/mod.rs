//! The lanes: how far each has read, which batch is next, and which records are no longer needed.
//!
//! ```text
//!                     released        needed by ◀─ lagging flow  ◀─ lane's offset   scanned, and
//!                                     the lagging                   in SQL          nothing found
//!  inbox  ───────────────────────────┼──────────────────────────────┼────────────────┼──────────▶
//!                                watermark                                          done
//! ```
//!
//! Every lane has its own cursor over the inbox. A lane whose database rows are locked elsewhere delays no other lane,
//! and a restarted worker rewinds only its lane. The price is that each record is scanned once for every lane, which
//! costs a microsecond.
//!
//! A flow whose row stays locked elsewhere does not delay its lane either. The worker stores the offset of the flow,
//! the lane goes on without it, and the flow catches up by its own batches, up to the lane's offset in SQL and never
//! beyond. There it rejoins the lane, and the lane goes back to that offset, because it scanned the records beyond
//! without the flow.
//!
//! This module decides and sends nothing: the router does, and so does a simulation.

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
    /// Lanes that no worker has taken over yet; `reader` reads their inbox.
    pub fn new(count: u32, reader: &R) -> Self {
        Self { cursors: (0..count).map(|lane| LaneCursor::new(lane, reader.reader_at(0))).collect() }
    }

    /// The cursor of a lane, if there is such a lane.
    pub fn get_mut(&mut self, lane: Lane) -> Option<&mut LaneCursor<R>> {
        self.cursors.get_mut(usize::try_from(lane).ok()?)
    }

    /// Whether a worker has taken each of them over, so that it is known where it stands.
    #[must_use]
    pub fn were_all_opened(&self) -> bool {
        self.cursors.iter().all(LaneCursor::was_opened)
    }

    /// Whether any of them can be given a batch.
    #[must_use]
    pub fn is_any_free(&self) -> bool {
        self.cursors.iter().any(LaneCursor::is_free)
    }

    /// Time has passed: flows whose rows were locked are tried again.
    pub fn tick(&mut self) {
        self.cursors.iter_mut().for_each(LaneCursor::tick);
    }

    /// No lane and no flow that lags needs a record below.
    #[must_use]
    pub fn watermark(&self) -> Offset {
        self.cursors.iter().map(LaneCursor::watermark).min().unwrap_or(0)
    }

    /// No lane looks at a record below again; see [`LaneCursor::rescan_offset`].
    #[must_use]
    pub fn rescan_offset(&self) -> Offset {
        self.cursors.iter().map(LaneCursor::rescan_offset).min().unwrap_or(0)
    }

    /// Whether all lanes are done with what is below `end`, and SQL knows it.
    #[must_use]
    pub fn are_drained(&self, end: Offset) -> bool {
        self.cursors.iter().all(|cursor| cursor.is_drained(end))
    }

    /// A worker has taken a lane over; see [`LaneCursor::open`].
    pub fn open(&mut self, lane: Lane, opened: &OpenedLane) -> bool {
        self.get_mut(lane).is_some_and(|cursor| cursor.open(opened))
    }

    /// Whether the lane was in this epoch, and is closed now; see [`LaneCursor::close`].
    pub fn close(&mut self, lane: Lane, epoch: i64) -> bool {
        self.get_mut(lane).is_some_and(|cursor| cursor.close(epoch))
    }

    /// Closes the lane in any epoch, because the database went back.
    pub fn close_any(&mut self, lane: Lane) {
        if let Some(cursor) = self.get_mut(lane) {
            cursor.close(cursor.position().epoch);
        }
    }

    /// A worker has answered; see [`LaneCursor::apply_outcome`].
    pub fn apply_outcome(&mut self, lane: Lane, epoch: i64, outcome: &BatchOutcome) {
        if let Some(cursor) = self.get_mut(lane) {
            cursor.apply_outcome(epoch, outcome);
        }
    }
}
