//! The warning that messages arrive faster than the database takes them.

use std::time::Duration;

use super::condition::{Change, ClockReading, Condition};

/// Fill level in percent above which the log warns. Done records leave the inbox by whole segments, so the inbox is
/// never empty.
pub const INBOX_GROWING_PERCENT: u64 = 50;

/// Interval between two warnings while the inbox stays above that level.
const REPORT_INTERVAL: Duration = Duration::from_secs(30);

/// Tracks whether the fill level of the inbox is above the warning threshold.
#[derive(Debug, Default)]
pub struct InboxGrowth(Condition);

impl InboxGrowth {
    /// Returns a change to report, and the fill level in percent.
    pub fn update(&mut self, bytes: u64, max_bytes: u64, now: ClockReading) -> Option<(u64, Change)> {
        let percent = bytes.saturating_mul(100) / max_bytes.max(1);
        let growing = (percent > INBOX_GROWING_PERCENT).then_some(Duration::ZERO);
        self.0.update(growing, now, REPORT_INTERVAL).map(|change| (percent, change))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn warning_begins_repeats_and_ends() {
        let mut growth = InboxGrowth::default();
        let mut update = |second: u32, bytes| {
            let monotonic = Duration::from_secs(second.into());
            let unix_us = i64::from(second) * 1_000_000;
            growth.update(bytes, 1_000, ClockReading { monotonic, unix_us })
        };
        let since = || "1970-01-01T00:00:01.000Z".to_owned();
        let ongoing = Change::Ongoing { since: since() };
        assert_eq!(update(0, 509), None, "50 %");
        assert_eq!(update(1, 510), Some((51, ongoing.clone())));
        assert_eq!(update(30, 900), None, "the last warning is 29 s old");
        assert_eq!(update(31, 900), Some((90, ongoing)));
        let lasted = Duration::from_secs(39);
        assert_eq!(update(40, 500), Some((50, Change::Resolved { since: since(), lasted })));
        assert_eq!(update(41, 500), None);
    }

    #[test]
    fn inbox_without_a_limit_never_divides_by_zero() {
        let now = ClockReading { monotonic: Duration::ZERO, unix_us: 0 };
        assert_eq!(InboxGrowth::default().update(0, 0, now), None);
    }
}
