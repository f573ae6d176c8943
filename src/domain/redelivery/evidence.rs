//! What is known of how the broker gives out packet identifiers.

use super::{HALF_ID_SPACE, InFlight, MIN_RISING_IDS, MIN_RISING_IDS_UNBOUNDED};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Messages in a row whose identifiers rose.
    pub(super) risen: u32,
    /// An identifier stepped back in this session.
    pub(super) stepped_back: bool,
}

/// How much an equal packet identifier says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// It is the same message.
    Trusted,
    /// Nothing speaks against it, nor enough for it.
    Warming,
    /// Nothing.
    Untrusted,
}

impl Evidence {
    /// For a message that came `back` messages before the next one, the last one being 1 back.
    pub(super) fn trust(self, in_flight: InFlight, back: usize) -> Trust {
        let proof = match in_flight {
            InFlight::Bounded => MIN_RISING_IDS,
            InFlight::Unbounded => MIN_RISING_IDS_UNBOUNDED,
        };
        let proof = u32::try_from(2 * back).unwrap_or(u32::MAX).max(proof);
        let is_near = back <= usize::from(HALF_ID_SPACE);
        match self {
            Evidence { risen, .. } if is_near && risen >= proof => Trust::Trusted,
            Evidence { stepped_back: false, .. } => Trust::Warming,
            Evidence { stepped_back: true, .. } => Trust::Untrusted,
        }
    }
}
