//! Evidence of how the broker assigns packet identifiers.

use super::{HALF_ID_SPACE, InFlight, MIN_RISING_IDS, MIN_RISING_IDS_UNBOUNDED};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Evidence {
    /// Number of consecutive messages with rising identifiers.
    pub(super) risen: u32,
    /// Whether an identifier stepped back in this session.
    pub(super) stepped_back: bool,
}

/// How far an equal packet identifier proves a redelivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Trust {
    /// Identifier and content suffice.
    Trusted,
    /// Too little evidence yet; further conditions apply.
    Warming,
    /// The identifier proves nothing.
    Untrusted,
}

impl Evidence {
    /// Returns the trust for a message `back` messages before the next one; the last message is 1 back.
    pub(super) fn trust(self, in_flight: InFlight, back: usize) -> Trust {
        let required = match in_flight {
            InFlight::Bounded => MIN_RISING_IDS,
            InFlight::Unbounded => MIN_RISING_IDS_UNBOUNDED,
        };
        let required = u32::try_from(2 * back).unwrap_or(u32::MAX).max(required);
        let is_near = back <= usize::from(HALF_ID_SPACE);
        match self {
            Evidence { risen, .. } if is_near && risen >= required => Trust::Trusted,
            Evidence { stepped_back: false, .. } => Trust::Warming,
            Evidence { stepped_back: true, .. } => Trust::Untrusted,
        }
    }
}
