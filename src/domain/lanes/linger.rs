//! The pause of a lane between two transactions, in which messages accumulate.
//!
//! Messages that arrive during a transaction form the next batch. One lane with all messages has large batches. Several
//! replicas that share one database have small batches, and the cost of a transaction exceeds the cost of its messages.
//! Therefore a lane that keeps up with many messages lingers after a transaction. Slow transactions cause a longer
//! pause:
//!
//! ```text
//! without   │tx│tx│tx│tx│tx│tx│tx│        with   │ tx │           │ tx │
//! ```
//!
//! With a fast database the pause is short. A lane with few messages does not linger. A lane with a backlog does not
//! linger either, so that the pause never reduces the throughput.

use std::time::Duration;

/// Maximum average interval between messages for a pause: 4,000 messages per second or more.
const MAX_MESSAGE_INTERVAL: Duration = Duration::from_micros(250);

/// Duration of a transaction after which the pause is equally long. The pause grows with the square of the duration.
const BREAK_EVEN: Duration = Duration::from_millis(4);

/// Maximum ratio of the pause to the transaction. A pause of this ratio divides the number of transactions by four.
const MAX_FACTOR: f64 = 3.0;

/// Maximum pause, and thus the maximum additional latency of a message.
const MAX_LINGER: Duration = Duration::from_millis(50);

/// Returns the pause after a transaction of `messages` messages.
///
/// `caught_up` means that no further messages wait and that no drain of the inbox is pending.
#[must_use]
pub fn linger_after(took: Duration, messages: usize, caught_up: bool) -> Duration {
    let is_busy =
        u32::try_from(messages).is_ok_and(|messages| took <= MAX_MESSAGE_INTERVAL.saturating_mul(messages));
    if !(caught_up && is_busy) {
        return Duration::ZERO;
    }
    let factor = (took.as_secs_f64() / BREAK_EVEN.as_secs_f64()).min(MAX_FACTOR);
    took.mul_f64(factor).min(MAX_LINGER)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[test]
    fn linger_grows_with_the_transaction_time() {
        let of_a_hundred = |took| linger_after(took, 100, true);
        assert_eq!(
            [1, 4, 8, 15].map(ms).map(of_a_hundred),
            [Duration::from_micros(250), ms(4), ms(16), ms(45)]
        );
        assert_eq!(linger_after(ms(100), 500, true), MAX_LINGER);
    }

    #[test]
    fn few_messages_do_not_linger() {
        assert_eq!(linger_after(ms(1), 1, true), Duration::ZERO, "a single message");
        assert_eq!(linger_after(ms(10), 39, true), Duration::ZERO, "fewer than 4,000 messages per second");
    }

    #[test]
    fn lane_with_a_backlog_does_not_linger() {
        assert_eq!(linger_after(ms(8), 100, false), Duration::ZERO);
    }

    proptest! {
        #[test]
        fn linger_is_bounded(
            took_us in 0_u64..10_000_000, messages in 0_usize..100_000, caught_up: bool,
        ) {
            let took = Duration::from_micros(took_us);
            prop_assert!(linger_after(took, messages, caught_up) <= (took * 3).min(MAX_LINGER));
        }
    }
}
