//! How long a lane lets messages gather between two transactions.
//!
//! What comes while a transaction runs is the next one. That makes large batches where one lane has all messages, and
//! small ones where several replicas, each with a part of them, keep one database busy: each transaction is soon over, so it
//! costs gateway and database more than its messages do. So a lane that keeps up with many messages rests, the longer
//! the slower its transactions are:
//!
//! ```text
//! without   │tx│tx│tx│tx│tx│tx│tx│        with   │ tx │           │ tx │
//! ```
//!
//! Where the database answers soon, nobody is in anybody's way, and the rest is short; a lane with few messages does not
//! rest. One that is behind, whose batch was not all that there was, is not to rest either: only so does no rest cost a
//! message a second.

use std::time::Duration;

/// Only where messages come this close together, on average: at 4,000 a second and above.
const MAX_MESSAGE_INTERVAL: Duration = Duration::from_micros(250);

/// After a transaction that has taken this long the rest is as long; it grows by the square of that time.
const BREAK_EVEN: Duration = Duration::from_millis(4);

/// It is never more times as long as the transaction: that divides the number of transactions by four.
const MAX_FACTOR: f64 = 3.0;

/// No message waits longer than this because of it.
const MAX_LINGER: Duration = Duration::from_millis(50);

/// The rest after a transaction that has taken so long, with as many messages; `caught_up`: there are no more, and nobody
/// waits for the lane.
#[must_use]
pub fn linger_after(took: Duration, messages: usize, caught_up: bool) -> Duration {
    let come_close_together =
        u32::try_from(messages).is_ok_and(|messages| took <= MAX_MESSAGE_INTERVAL.saturating_mul(messages));
    if !(caught_up && come_close_together) {
        return Duration::ZERO;
    }
    let times = (took.as_secs_f64() / BREAK_EVEN.as_secs_f64()).min(MAX_FACTOR);
    took.mul_f64(times).min(MAX_LINGER)
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
        assert_eq!(linger_after(ms(1), 1, true), Duration::ZERO, "one by itself");
        assert_eq!(linger_after(ms(10), 39, true), Duration::ZERO, "fewer than 4,000 a second");
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
