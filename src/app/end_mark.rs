//! Finds out when the broker has sent all that it had for a session that goes for good.
//!
//! ```text
//!   what the broker has for the session ──▶ … ──▶ our own mark, published to the session itself ──▶ nothing any more
//! ```
//!
//! A queue is first in, first out, so what was there before the mark has come when the mark comes. Where a broker does
//! not let us subscribe or publish it, a long silence stands for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Brokers keep the order of a topic; this is for one that does not keep it between topics.
const QUIET_AFTER_THE_MARK: Duration = Duration::from_secs(1);

/// Well above any pause in the sending of a queue.
const QUIET_WITHOUT_A_MARK: Duration = Duration::from_secs(10);

/// The mark, and what has come.
#[derive(Debug)]
pub(super) struct EndMark {
    topic: String,
    arrivals: Mutex<Arrivals>,
}

#[derive(Debug, Clone, Copy)]
struct Arrivals {
    messages: u64,
    has_mark: bool,
    /// A message is in hand: the inbox takes it when it can.
    in_hand: bool,
    quiet_since: Instant,
}

impl EndMark {
    /// A mark for the session of this inbox. No wildcard matches its topic.
    pub(super) fn new(inbox_id: &str) -> EndMark {
        let arrivals = Arrivals { messages: 0, has_mark: false, in_hand: false, quiet_since: Instant::now() };
        let topic = format!("$mqtt-gateway/end/{inbox_id}/{:016x}", rand::random::<u64>());
        EndMark { topic, arrivals: Mutex::new(arrivals) }
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// A message has come. Answers whether it is the mark, which is nobody's message.
    pub(super) fn begin(&self, topic: &str) -> bool {
        let mut arrivals = self.lock();
        let is_mark = topic == self.topic;
        arrivals.has_mark |= is_mark;
        arrivals.in_hand = !is_mark;
        arrivals.quiet_since = Instant::now();
        is_mark
    }

    /// The message in hand is in the inbox, or was passed over.
    pub(super) fn done(&self) {
        let mut arrivals = self.lock();
        arrivals.messages += 1;
        arrivals.in_hand = false;
        arrivals.quiet_since = Instant::now();
    }

    /// From now on the silence counts: there was none to be heard.
    pub(super) fn listen_anew(&self) {
        self.lock().quiet_since = Instant::now();
    }

    /// Messages that have come.
    pub(super) fn messages(&self) -> u64 {
        self.lock().messages
    }

    /// Whether nothing more is to be expected.
    pub(super) fn is_reached(&self) -> bool {
        let arrivals = *self.lock();
        !arrivals.in_hand && is_over(arrivals.has_mark, arrivals.quiet_since.elapsed())
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn is_over(has_mark: bool, quiet: Duration) -> bool {
    quiet >= if has_mark { QUIET_AFTER_THE_MARK } else { QUIET_WITHOUT_A_MARK }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_mark_or_a_long_silence() {
        assert!(is_over(true, QUIET_AFTER_THE_MARK));
        assert!(!is_over(true, Duration::ZERO));
        assert!(!is_over(false, QUIET_AFTER_THE_MARK));
        assert!(is_over(false, QUIET_WITHOUT_A_MARK));
    }

    #[test]
    fn only_its_own_mark_is_the_mark_and_what_is_in_hand_is_no_silence() {
        let mark = EndMark::new("inbox");
        let other = EndMark::new("inbox");
        assert!(!mark.begin(other.topic()));
        assert!(!mark.lock().has_mark && mark.lock().in_hand);
        mark.done();
        assert!(mark.begin(mark.topic()) && mark.lock().has_mark && !mark.lock().in_hand);
        assert_eq!(mark.messages(), 1);
    }
}
