//! The pause of a lane between two transactions, in which messages accumulate.
//!
//! Messages that arrive during a transaction form the next batch. One lane with all messages has large batches. Several
//! replicas that share one database have small batches, and the cost of a transaction exceeds the cost of its messages.
//! Therefore a lane that keeps up with many messages lingers after a transaction, for as long as the transaction took:
//!
//! ```text
//! without   │tx│tx│tx│tx│tx│tx│tx│        with   │ tx │           │ tx │
//! ```
//!
//! A lane with few messages does not linger. A lane with a backlog does not linger either, so that the pause never
//! reduces the throughput.

use std::time::Duration;

/// Maximum average interval between messages for a pause: 4,000 messages per second or more.
const MAX_MESSAGE_INTERVAL: Duration = Duration::from_micros(250);

/// Returns the pause after a transaction of `messages` messages: as long as the transaction, but at most `max`.
///
/// `caught_up` means that no further messages wait and that no drain of the inbox is pending.
#[must_use]
pub fn linger_after(took: Duration, messages: usize, caught_up: bool, max: Duration) -> Duration {
    let is_busy =
        u32::try_from(messages).is_ok_and(|messages| took <= MAX_MESSAGE_INTERVAL.saturating_mul(messages));
    if caught_up && is_busy { took.min(max) } else { Duration::ZERO }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAX: Duration = ms(50);

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn busy_lane_lingers_as_long_as_its_transaction() {
        assert_eq!(
            [1, 8, 50, 60].map(|took| linger_after(ms(took), 500, true, MAX)),
            [ms(1), ms(8), MAX, MAX]
        );
        assert_eq!(linger_after(ms(8), 500, true, Duration::ZERO), Duration::ZERO, "switched off");
    }

    #[test]
    fn few_messages_do_not_linger() {
        assert_eq!(linger_after(ms(1), 1, true, MAX), Duration::ZERO, "a single message");
        assert_eq!(
            linger_after(ms(10), 39, true, MAX),
            Duration::ZERO,
            "fewer than 4,000 messages per second"
        );
    }

    #[test]
    fn lane_with_a_backlog_does_not_linger() {
        assert_eq!(linger_after(ms(8), 100, false, MAX), Duration::ZERO);
    }
}
