//! Why a transaction of a batch did not succeed.

use super::position::Position;
use crate::domain::batch::BatchOutcome;
use crate::store::error::StoreError;

/// Why a transaction did not succeed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The position is not the expected one; nothing was written.
    Fenced(Position),
    /// The lagging flow is locked elsewhere; nothing was written.
    StillLocked,
    /// The database failed; nothing was written.
    Error(StoreError),
    /// The connection broke during COMMIT: the outcome may be written or not.
    Unknown(StoreError, Box<BatchOutcome>),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Error(error)
    }
}
