//! How much of the memory a flow may use.
//!
//! While there is plenty, a flow may fill its own limit. When half of the memory is in use, a flow may hold only what
//! it posts in two seconds. Otherwise some slow endpoints would fill the memory, and the other flows would wait for
//! them.

use std::time::Duration;

use super::{Moment, QueueLimits};

/// Period over which the posts of a flow are counted.
const PERIOD: Duration = Duration::from_secs(1);

/// Part of the flow's limit that is always allowed.
const MIN_PART: usize = 32;

/// Messages and bytes that a flow may hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FlowLimit {
    pub(super) messages: usize,
    pub(super) bytes: usize,
}

/// The posts of a flow in the present and in the last period.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct PostWindow {
    began_at: Moment,
    posted: usize,
    posted_before: usize,
}

impl PostWindow {
    /// Records that `messages` were delivered.
    pub(super) fn count(&mut self, messages: usize, now: Moment) {
        let age = now.saturating_sub(self.began_at);
        if age >= PERIOD {
            self.posted_before = if age < 2 * PERIOD { self.posted } else { 0 };
            self.posted = 0;
            self.began_at = now;
        }
        self.posted += messages;
    }

    /// What the flow may hold, if the memory is scarce.
    pub(super) fn scarce_limit(&self, limits: &QueueLimits) -> FlowLimit {
        let recent = 2 * self.posted.max(self.posted_before);
        let least = (limits.flow_messages / MIN_PART).max(1);
        let messages = recent.clamp(least, limits.flow_messages);
        FlowLimit { messages, bytes: limits.flow_bytes / limits.flow_messages.max(1) * messages }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit_after(posts: &[(u64, usize)]) -> usize {
        let mut window = PostWindow::default();
        for (at_ms, messages) in posts {
            window.count(*messages, Duration::from_millis(*at_ms));
        }
        window.scarce_limit(&QueueLimits::default()).messages
    }

    #[test]
    fn flow_may_hold_two_seconds_of_posts() {
        assert_eq!(limit_after(&[]), 16);
        assert_eq!(limit_after(&[(100, 30), (1000, 50), (1900, 50), (2100, 1)]), 200);
        assert_eq!(limit_after(&[(100, 2000)]), 512);
    }

    #[test]
    fn earlier_bursts_do_not_count() {
        assert_eq!(limit_after(&[(0, 400), (5000, 1)]), 16);
    }
}
