//! Whether something is so, once anybody knows.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

const NO: u8 = 1;
const YES: u8 = 2;

/// Unknown until it is told: a start that has not yet asked a peer must not look like one whose peer is away.
#[derive(Debug, Default)]
pub(super) struct Known(AtomicU8);

impl Known {
    /// From now on it is known.
    pub(super) fn is(&self, so: bool) {
        self.0.store(if so { YES } else { NO }, Relaxed);
    }

    /// `None` as long as nobody knows.
    pub(super) fn get(&self) -> Option<bool> {
        match self.0.load(Relaxed) {
            NO => Some(false),
            YES => Some(true),
            _ => None,
        }
    }
}
