//! Finds out when the broker has sent all that it had for a session that goes for good.
//!
//! ```text
//!   what the broker has for the session ──▶ … ──▶ our own mark, published to the session itself ──▶ nothing any more
//! ```
//!
//! A queue is first in, first out, so what was there before the mark has come when the mark comes. Where a broker does
//! not let us subscribe or publish it, a long silence stands for it, at the end of which the broker answers a question:
//! a connection that stands still is silent, too. Where a subscription may be left that nobody knows of, what others get
//! as well may go on coming: there may be no silence, and the mark alone is the end.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Brokers keep the order of a topic; this is for one that does not keep it between topics.
const QUIET_AFTER_THE_MARK: Duration = Duration::from_secs(1);

/// How long it may send on after the mark where nobody knows what was subscribed: it may be that it never ends.
const ANYTHING_AFTER_THE_MARK: Duration = Duration::from_secs(10);

/// The same where all is unsubscribed that a book knows of. So long a queue behind the mark has no broker; a
/// subscription that only an earlier book knew, lost with its volume, sends for ever.
const ANYTHING_BEYOND_THE_BOOK: Duration = Duration::from_mins(10);

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
    /// Since when the mark is there, on a connection that has lasted since.
    marked_at: Option<Instant>,
    /// A message is in hand: the inbox takes it when it can.
    in_hand: bool,
    quiet_since: Instant,
    /// How long it may send on after the mark.
    patience: Duration,
    /// Long after the mark it still sent.
    is_endless: bool,
}

impl EndMark {
    /// A mark for the session of this inbox. No wildcard matches its topic.
    pub(super) fn new(inbox_id: &str) -> EndMark {
        let arrivals = Arrivals {
            messages: 0,
            marked_at: None,
            in_hand: false,
            quiet_since: Instant::now(),
            patience: ANYTHING_AFTER_THE_MARK,
            is_endless: false,
        };
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
        let now = Instant::now();
        if is_mark {
            arrivals.marked_at.get_or_insert(now);
        }
        arrivals.in_hand = !is_mark;
        arrivals.quiet_since = now;
        is_mark
    }

    /// The message in hand is in the inbox, or was passed over.
    pub(super) fn done(&self) {
        let mut arrivals = self.lock();
        arrivals.messages += 1;
        arrivals.in_hand = false;
        arrivals.quiet_since = Instant::now();
        // Seen from here, where nothing is in hand: whoever looks now and then may never meet such a moment.
        arrivals.is_endless |= arrivals.marked_for() >= Some(arrivals.patience);
    }

    /// Another session begins to be emptied: its end is still to come. `has_book`: it is known what was subscribed.
    pub(super) fn begin_anew(&self, has_book: bool) {
        let mut arrivals = self.lock();
        arrivals.marked_at = None;
        arrivals.patience = if has_book { ANYTHING_BEYOND_THE_BOOK } else { ANYTHING_AFTER_THE_MARK };
        arrivals.is_endless = false;
        arrivals.quiet_since = Instant::now();
    }

    /// From now on the silence counts: there was none to be heard.
    pub(super) fn listen_anew(&self) {
        let mut arrivals = self.lock();
        let now = Instant::now();
        arrivals.quiet_since = now;
        // What was under way when the connection went comes again.
        arrivals.marked_at = arrivals.marked_at.map(|_| now);
    }

    /// Messages that have come.
    pub(super) fn messages(&self) -> u64 {
        self.lock().messages
    }

    /// Whether the mark has come.
    pub(super) fn is_there(&self) -> bool {
        self.lock().marked_at.is_some()
    }

    /// Whether it was still sending long after the mark, and is heard no longer.
    pub(super) fn is_endless(&self) -> bool {
        self.lock().is_endless
    }

    /// Whether nothing more is to be expected, by the mark.
    pub(super) fn is_reached(&self) -> bool {
        let arrivals = *self.lock();
        let is_marked = arrivals.marked_at.is_some();
        arrivals.is_endless || is_marked && arrivals.is_quiet_for(QUIET_AFTER_THE_MARK)
    }

    /// Since when nothing has come, if that is long: no more is to be expected of a broker that answers now and is
    /// silent since the same moment afterwards.
    pub(super) fn long_quiet_since(&self) -> Option<Instant> {
        let arrivals = *self.lock();
        arrivals.is_quiet_for(QUIET_WITHOUT_A_MARK).then_some(arrivals.quiet_since)
    }

    fn lock(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Arrivals {
    fn marked_for(&self) -> Option<Duration> {
        self.marked_at.map(|at| at.elapsed())
    }

    fn is_quiet_for(&self, time: Duration) -> bool {
        !self.in_hand && self.quiet_since.elapsed() >= time
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_the_mark_and_a_short_silence_or_a_long_one_about_which_the_broker_is_asked() {
        let mark = EndMark::new("inbox");
        let silent_for = |time| mark.lock().quiet_since = Instant::now().checked_sub(time).unwrap();
        silent_for(QUIET_AFTER_THE_MARK);
        assert!(!mark.is_reached() && mark.long_quiet_since().is_none());
        silent_for(QUIET_WITHOUT_A_MARK);
        assert!(!mark.is_reached(), "a connection that stands still is as silent");
        let since = mark.long_quiet_since();
        assert!(since.is_some() && since == mark.long_quiet_since());
        mark.begin("a");
        assert_eq!(mark.long_quiet_since(), None);
        mark.begin(mark.topic());
        assert!(!mark.is_reached());
        silent_for(QUIET_AFTER_THE_MARK);
        assert!(mark.is_reached());
    }

    #[test]
    fn only_its_own_mark_is_the_mark_and_what_is_in_hand_is_no_silence() {
        let mark = EndMark::new("inbox");
        let other = EndMark::new("inbox");
        assert!(!mark.begin(other.topic()));
        assert!(mark.lock().marked_at.is_none() && mark.lock().in_hand);
        mark.done();
        assert!(mark.begin(mark.topic()) && mark.lock().marked_at.is_some() && !mark.lock().in_hand);
        assert_eq!(mark.messages(), 1);
    }

    #[test]
    fn one_who_sends_on_long_after_the_mark_is_not_heard_out_and_before_the_mark_he_is() {
        let mark = EndMark::new("inbox");
        let comes = |topic: &str| {
            if !mark.begin(topic) {
                mark.done();
            }
        };
        let long_ago = Instant::now().checked_sub(ANYTHING_AFTER_THE_MARK).unwrap();
        mark.begin_anew(false);
        comes("a");
        mark.lock().quiet_since = long_ago;
        comes("a");
        assert!(!mark.is_reached(), "no mark yet");
        comes(mark.topic());
        comes("a");
        assert!(!mark.is_reached(), "the mark has just come");
        mark.lock().marked_at = Some(long_ago);
        mark.listen_anew();
        comes("a");
        assert!(!mark.is_reached(), "the connection was lost meanwhile");
        mark.lock().marked_at = Some(long_ago);
        comes(mark.topic());
        comes("a");
        assert!(mark.is_reached());
        mark.begin_anew(true);
        comes("a");
        assert!(!mark.is_reached(), "another session");
        comes(mark.topic());
        mark.lock().marked_at = Some(long_ago);
        comes("a");
        assert!(!mark.is_reached(), "all that was subscribed is known, so more may be behind the mark");
        mark.lock().marked_at = Instant::now().checked_sub(ANYTHING_BEYOND_THE_BOOK);
        comes("a");
        assert!(mark.is_reached(), "no queue is so long");
    }
}
