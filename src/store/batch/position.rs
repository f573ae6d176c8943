//! Where a batch finds its lane and its flow in SQL, and where it brings them. Decides; touches no database.

use crate::domain::batch::{Batch, CatchUp, LanePosition, Scope};
use crate::domain::message::Offset;

/// What a batch carries on from, and what it leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Position {
    pub(super) lane: LanePosition,
    pub(super) lag: Lag,
}

/// The flow of a batch that is about one flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lag {
    /// The batch is the lane's own.
    NotAsked,
    /// Every record below is done for the flow.
    At(Offset),
    /// The flow is not written down as one that lags.
    Over,
}

impl Lag {
    /// Where the flow stands, while it lags.
    pub(super) fn offset(self) -> Option<Offset> {
        match self {
            Self::At(offset) => Some(offset),
            Self::NotAsked | Self::Over => None,
        }
    }
}

impl Position {
    /// What `batch` expects.
    pub(super) fn before(batch: &Batch) -> Self {
        match batch.scope {
            Scope::Lane { .. } => Self::after(batch, batch.from),
            Scope::Lagging { lane_at, .. } => Self::new(batch, lane_at, Lag::At(batch.from)),
        }
    }

    /// Where it is once `batch` is done up to `offset`. The lag is over exactly at the lane's
    /// offset: below, what lies between would be passed over; above, done twice.
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

    /// What a transaction that leads here says of a flow that lags.
    pub(super) fn catch_up(self) -> Option<CatchUp> {
        match self.lag {
            Lag::NotAsked => None,
            Lag::At(_) => Some(CatchUp::Advanced),
            Lag::Over => Some(CatchUp::Rejoined),
        }
    }
}
