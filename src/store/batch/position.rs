//! The positions of lane and flow before and after a batch. Pure.

use crate::domain::batch::{Batch, CatchUp, LanePosition, Scope};
use crate::domain::message::Offset;

/// The position of a lane, and of the flow if the batch is about one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) lane: LanePosition,
    pub(super) lag: Lag,
}

/// The position of a lagging flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lag {
    /// The batch is one of the lane.
    NotAsked,
    /// All records below are done for the flow.
    At(Offset),
    /// The flow does not lag.
    Over,
}

impl Lag {
    /// The offset of the flow while it lags.
    pub(super) fn offset(self) -> Option<Offset> {
        match self {
            Self::At(offset) => Some(offset),
            Self::NotAsked | Self::Over => None,
        }
    }
}

impl Position {
    /// The position that `batch` expects.
    pub(super) fn before(batch: &Batch) -> Self {
        match batch.scope {
            Scope::Lane { .. } => Self::after(batch, batch.from),
            Scope::Lagging { lane_at, .. } => Self::new(batch, lane_at, Lag::At(batch.from)),
        }
    }

    /// The position once `batch` is done up to `offset`. The lag is over exactly at the offset of the lane: an earlier
    /// end would skip messages, a later one would process them twice.
    pub(super) fn after(batch: &Batch, offset: Offset) -> Self {
        match batch.scope {
            Scope::Lane { .. } => Self::new(batch, offset, Lag::NotAsked),
            Scope::Lagging { lane_at, .. } if offset == lane_at => Self::new(batch, lane_at, Lag::Over),
            Scope::Lagging { lane_at, .. } => Self::new(batch, lane_at, Lag::At(offset)),
        }
    }

    fn new(batch: &Batch, next_offset: Offset, lag: Lag) -> Self {
        Self { lane: LanePosition { epoch: batch.epoch, next_offset }, lag }
    }

    /// The result of a catch-up transaction that leads to this position.
    pub(super) fn catch_up(self) -> Option<CatchUp> {
        match self.lag {
            Lag::NotAsked => None,
            Lag::At(_) => Some(CatchUp::Advanced),
            Lag::Over => Some(CatchUp::Rejoined),
        }
    }
}
