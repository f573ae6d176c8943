//! A thread-safe `Option<bool>`.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

const NO: u8 = 1;
const YES: u8 = 2;

/// A flag that is unknown at first, so that a peer not contacted yet is not reported as down.
#[derive(Debug, Default)]
pub(super) struct Known {
    value: AtomicU8,
    /// Time of the last change, in milliseconds since 1970.
    changed_ms: AtomicU64,
}

impl Known {
    /// Sets the flag.
    pub(super) fn set(&self, value: bool) {
        let value = if value { YES } else { NO };
        if self.value.swap(value, Relaxed) != value {
            let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
            self.changed_ms.store(u64::try_from(now.as_millis()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// Returns the flag; `None` if it was never set.
    pub(super) fn get(&self) -> Option<bool> {
        match self.value.load(Relaxed) {
            NO => Some(false),
            YES => Some(true),
            _ => None,
        }
    }

    /// Returns the time since which the flag has its value; `None` if it was never set.
    pub(super) fn since(&self) -> Option<SystemTime> {
        let changed = Duration::from_millis(self.changed_ms.load(Relaxed));
        self.get().map(|_| UNIX_EPOCH + changed)
    }
}
