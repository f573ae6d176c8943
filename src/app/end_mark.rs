//! Detects that the broker has sent all queued messages of a retiring session.
//!
//! ```text
//!   queued messages of the session ──▶ … ──▶ the mark, published by the gateway to the session itself ──▶ nothing more
//! ```
//!
//! A queue is first in, first out, so every message queued before the mark has arrived when the mark arrives. A broker
//! may refuse to subscribe or publish the mark. Then a long silence replaces it, followed by a probe that the broker
//! must answer, because a stalled connection is silent too. If an unknown subscription may remain, its messages may
//! never stop. Then only the mark ends the drain.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Silence required after the mark. Brokers preserve the order within a topic but not always between topics.
const QUIET_AFTER_MARK: Duration = Duration::from_secs(1);

/// Maximum time for messages after the mark if the subscriptions are not on record, because they may never stop.
const MAX_SENDING_UNRECORDED: Duration = Duration::from_secs(10);

/// Maximum time for messages after the mark if all recorded subscriptions are removed. No queue is this long; an
/// unrecorded subscription, from a record lost with its volume, sends forever.
const MAX_SENDING_RECORDED: Duration = Duration::from_mins(10);

/// Silence that replaces the mark; well above any pause of a broker that sends a queue.
const QUIET_WITHOUT_MARK: Duration = Duration::from_secs(10);

/// The mark and the state of the arrivals.
#[derive(Debug)]
pub(super) struct EndMark {
    topic: String,
    arrivals: Mutex<EndMarkState>,
}

#[derive(Debug, Clone, Copy)]
struct EndMarkState {
    messages: u64,
    /// Arrival of the mark, on a connection that has lasted since.
    marked_at: Option<Instant>,
    /// A message is in hand: the inbox has not stored it yet.
    in_hand: bool,
    quiet_since: Instant,
    /// Maximum time for messages after the mark.
    patience: Duration,
    /// Messages still arrived after that time.
    is_endless: bool,
}

impl EndMark {
    /// Creates a mark for the session of this inbox. No wildcard matches its topic.
    pub(super) fn new(inbox_id: &str) -> EndMark {
        let arrivals = EndMarkState {
            messages: 0,
            marked_at: None,
            in_hand: false,
            quiet_since: Instant::now(),
            patience: MAX_SENDING_UNRECORDED,
            is_endless: false,
        };
        let topic = format!("$mqtt-gateway/end/{inbox_id}/{:016x}", rand::random::<u64>());
        EndMark { topic, arrivals: Mutex::new(arrivals) }
    }

    pub(super) fn topic(&self) -> &str {
        &self.topic
    }

    /// Records the arrival of a message. Returns whether it is the mark, which belongs to no flow.
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

    /// Records that the message in hand is in the inbox or was skipped.
    pub(super) fn done(&self) {
        let mut arrivals = self.lock();
        arrivals.messages += 1;
        arrivals.in_hand = false;
        arrivals.quiet_since = Instant::now();
        // Checked here, where no message is in hand: a periodic check may never meet such a moment.
        arrivals.is_endless |= arrivals.marked_for() >= Some(arrivals.patience);
    }

    /// Starts the drain of another session. `has_record` states that its subscriptions are on record.
    pub(super) fn restart(&self, has_record: bool) {
        let mut arrivals = self.lock();
        arrivals.marked_at = None;
        arrivals.patience = if has_record { MAX_SENDING_RECORDED } else { MAX_SENDING_UNRECORDED };
        arrivals.is_endless = false;
        arrivals.quiet_since = Instant::now();
    }

    /// Restarts the silence after a lost connection, during which silence had no meaning.
    pub(super) fn restart_silence(&self) {
        let mut arrivals = self.lock();
        let now = Instant::now();
        arrivals.quiet_since = now;
        // The broker sends unacknowledged messages again.
        arrivals.marked_at = arrivals.marked_at.map(|_| now);
    }

    /// Number of arrived messages.
    pub(super) fn messages(&self) -> u64 {
        self.lock().messages
    }

    /// Whether the mark has arrived.
    pub(super) fn is_there(&self) -> bool {
        self.lock().marked_at.is_some()
    }

    /// Whether messages still arrived long after the mark, so that the drain ends.
    pub(super) fn is_endless(&self) -> bool {
        self.lock().is_endless
    }

    /// Whether the mark shows that nothing more will arrive.
    pub(super) fn is_reached(&self) -> bool {
        let arrivals = *self.lock();
        let is_marked = arrivals.marked_at.is_some();
        arrivals.is_endless || is_marked && arrivals.is_quiet_for(QUIET_AFTER_MARK)
    }

    /// Time of the last arrival, if it is long ago. The session is drained if the broker answers a probe and no message
    /// arrived since that time.
    pub(super) fn long_quiet_since(&self) -> Option<Instant> {
        let arrivals = *self.lock();
        arrivals.is_quiet_for(QUIET_WITHOUT_MARK).then_some(arrivals.quiet_since)
    }

    fn lock(&self) -> MutexGuard<'_, EndMarkState> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EndMarkState {
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
    fn mark_or_long_silence_ends_the_drain() {
        let mark = EndMark::new("inbox");
        let silent_for = |time| mark.lock().quiet_since = Instant::now().checked_sub(time).unwrap();
        silent_for(QUIET_AFTER_MARK);
        assert!(!mark.is_reached() && mark.long_quiet_since().is_none());
        silent_for(QUIET_WITHOUT_MARK);
        assert!(!mark.is_reached(), "a connection that stands still is as silent");
        let since = mark.long_quiet_since();
        assert!(since.is_some() && since == mark.long_quiet_since());
        mark.begin("a");
        assert_eq!(mark.long_quiet_since(), None);
        mark.begin(mark.topic());
        assert!(!mark.is_reached());
        silent_for(QUIET_AFTER_MARK);
        assert!(mark.is_reached());
    }

    #[test]
    fn foreign_marks_and_busy_inboxes_do_not_count() {
        let mark = EndMark::new("inbox");
        let other = EndMark::new("inbox");
        assert!(!mark.begin(other.topic()));
        assert!(mark.lock().marked_at.is_none() && mark.lock().in_hand);
        mark.done();
        assert!(mark.begin(mark.topic()) && mark.lock().marked_at.is_some() && !mark.lock().in_hand);
        assert_eq!(mark.messages(), 1);
    }

    #[test]
    fn endless_sending_counts_only_after_the_mark() {
        let mark = EndMark::new("inbox");
        let comes = |topic: &str| {
            if !mark.begin(topic) {
                mark.done();
            }
        };
        let long_ago = Instant::now().checked_sub(MAX_SENDING_UNRECORDED).unwrap();
        mark.restart(false);
        comes("a");
        mark.lock().quiet_since = long_ago;
        comes("a");
        assert!(!mark.is_reached(), "no mark yet");
        comes(mark.topic());
        comes("a");
        assert!(!mark.is_reached(), "the mark has just come");
        mark.lock().marked_at = Some(long_ago);
        mark.restart_silence();
        comes("a");
        assert!(!mark.is_reached(), "the connection was lost meanwhile");
        mark.lock().marked_at = Some(long_ago);
        comes(mark.topic());
        comes("a");
        assert!(mark.is_reached());
        mark.restart(true);
        comes("a");
        assert!(!mark.is_reached(), "another session");
        comes(mark.topic());
        mark.lock().marked_at = Some(long_ago);
        comes("a");
        assert!(!mark.is_reached(), "all that was subscribed is known, so more may be behind the mark");
        mark.lock().marked_at = Instant::now().checked_sub(MAX_SENDING_RECORDED);
        comes("a");
        assert!(mark.is_reached(), "no queue is so long");
    }
}
