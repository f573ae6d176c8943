//! How often the log reports a mailbox: an idle one less often than one that works.

use std::time::Duration;

/// Interval between two reports of an idle mailbox, unless the regular interval is longer.
const IDLE_INTERVAL: Duration = Duration::from_mins(1);

/// Decides for one mailbox, once in each regular interval, whether to report it.
#[derive(Debug, Default)]
pub struct MailboxReports {
    /// Messages handled at the last decision.
    handled: Option<u64>,
    /// Regular intervals without a report.
    skipped: u32,
}

impl MailboxReports {
    /// Whether a report is due. `is_at_rest` states that the actor runs and has no message. It is idle if it has also
    /// handled none since the last call, one `interval` ago.
    pub fn is_due(&mut self, is_at_rest: bool, handled: u64, interval: Duration) -> bool {
        let has_changed = self.handled.replace(handled) != Some(handled);
        let is_due = has_changed || !is_at_rest || interval.saturating_mul(self.skipped + 1) >= IDLE_INTERVAL;
        self.skipped = if is_due { 0 } else { self.skipped + 1 };
        is_due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEN_SECONDS: Duration = Duration::from_secs(10);

    /// The seconds, of the first three minutes, at which a mailbox is reported.
    fn reported(interval: Duration, at: impl Fn(u64) -> (bool, u64)) -> Vec<u64> {
        let mut reports = MailboxReports::default();
        let seconds = (0..180).filter(|second| second % interval.as_secs() == 0);
        let due = seconds.filter(|second| {
            let (is_at_rest, handled) = at(*second);
            reports.is_due(is_at_rest, handled, interval)
        });
        due.collect()
    }

    #[test]
    fn idle_mailbox_is_reported_once_a_minute() {
        assert_eq!(reported(TEN_SECONDS, |_| (true, 7)), [0, 60, 120]);
        assert_eq!(reported(Duration::from_secs(1), |_| (true, 7)), [0, 60, 120]);
    }

    #[test]
    fn long_interval_stays_as_it_is() {
        assert_eq!(reported(Duration::from_secs(90), |_| (true, 7)), [0, 90]);
    }

    #[test]
    fn change_is_reported_at_once() {
        let handled = |second| if second < 30 { 7 } else { 8 };
        assert_eq!(reported(TEN_SECONDS, |second| (true, handled(second))), [0, 30, 90, 150]);
    }

    #[test]
    fn waiting_message_or_trouble_is_reported_every_time() {
        assert_eq!(reported(TEN_SECONDS, |_| (false, 7)).len(), 18);
    }
}
