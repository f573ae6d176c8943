//! A thread-safe `Option<bool>`.

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};

const NO: u8 = 1;
const YES: u8 = 2;

/// A flag that is unknown at first, so that a peer not contacted yet is not reported as down.
#[derive(Debug, Default)]
pub(super) struct Known(AtomicU8);

impl Known {
    /// Sets the flag.
    pub(super) fn set(&self, value: bool) {
        self.0.store(if value { YES } else { NO }, Relaxed);
    }

    /// Returns the flag; `None` if it was never set.
    pub(super) fn get(&self) -> Option<bool> {
        match self.0.load(Relaxed) {
            NO => Some(false),
            YES => Some(true),
            _ => None,
        }
    }
}
