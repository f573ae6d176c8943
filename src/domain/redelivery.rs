//! Tells a message that the broker sends again, because our PUBACK did not reach it, from a new one.
//!
//! # What a redelivery looks like
//! We acknowledge in the order of receipt, over one TCP connection, so a broker has seen the acknowledgements of a
//! *prefix* of what we received. When the session resumes, it first sends again what it holds unacknowledged, in the
//! original order and with the same packet identifiers (MQTT 5, 4.4 and 4.6). So after a lost connection come
//!
//! ```text
//!            R: received by us, PUBACK lost            L: lost on the way to us        new
//!   ───────┬──────────────────────────────────────┬─┬───────────────────────────┬─┬──────────
//!  acked   │ exactly the end of our tail, from    │ │ DUP as well, and never    │ │ without
//!          │ some place on, in its order, DUP     │ │ seen: must be stored      │ │ DUP
//! ```
//!
//! The [`RedeliveryGuard`] remembers the *tail*: the last [`MAX_WINDOW_MESSAGES`] messages of `QoS` 1 of this session.
//! On each connection it follows R along the tail, and the first message that is not the next one ends recognition
//! until the next connection. What it recognises stays in the tail, so a third delivery is recognised as well.
//!
//! # Why nothing is lost
//! To lose a message, L must begin with a message that has the packet identifier *and* the content of one in the
//! tail: the broker has to use an identifier again while we remember it. So the guard judges the
//! broker's way of giving out identifiers, by what it has seen since the session (or its doubt) began:
//!
//! * **Proven**: [`MIN_RISING_IDS`] messages in a row had rising identifiers (65,535 is followed by 1). A broker that takes the
//!   lowest free one, or goes round a pool, cannot get there: with a Receive Maximum of 1,024 it has to repeat one
//!   earlier. (MQTT 3.1.1 bounds nothing, so there the proof takes a whole round of 65,535.) New messages then lie
//!   beyond the tail's end for another 32,000 messages: identifier and content suffice, whatever repeats. Where a round is
//!   longer than that but short all the same, L begins with what came one round ago, which is no less than all that has risen:
//!   so this goes only for the later half of those. It does not go beyond half of all identifiers either, because a broker that
//!   throws messages away may have passed over many of them; there the rules for young sessions hold.
//! * **Young**: rising so far, but not long enough for a message that far back. Identifier and content, and besides
//!   - it is not the oldest message known. Where nothing has stepped back yet, a broker of the lowest free
//!     identifier reuses the first one first: acknowledgements come in order, so any other is free only after it and is
//!     taken only when a message that we have seen has taken the first again. A pool in order of return, or a short
//!     cycle, comes back to its first one first as well;
//!   - payloads differ: no two messages of its topic in the tail are equal, and there are [`VARIED_PAYLOADS`] of
//!     them, or as many of all topics among which no two are equal. That is for pools that give out the last
//!     returned first, or any: a reused identifier has to meet a payload that comes again for the first time.
//! * **Distrusted**: an identifier stepped back. The tail begins anew with that message, and nothing is
//!   recognised until the proof is there. A broker that reuses early never gets there.
//!
//! A new session (CONNACK without Session Present, another broker) forgets all. An attempt to connect whose outcome we did
//! not learn may have been a restart of the broker from older state, or the beginning of a session: the proof
//! begins anew then, too ([`RedeliveryGuard::doubt`]), and so it does when our own machine was restarted, because the
//! broker may run on it, or have lost its power with it.
//!
//! In all other cases the message is kept: a duplicate is better than a loss. So is it after a restart that finds in
//! the log what was kept for lack of evidence: live, such a message is known to be the expected one, but the log does
//! not tell where a connection began. There its identifier steps back, and the guard wakes up distrusting the broker.
//!
//! # What it cannot know
//! A broker that is proven, then falls back to an older state of the session without being away for any attempt to
//! connect, and then loses on the way a message of the same content under the same identifier: it was quicker than our
//! next attempt, or it was restarted, elsewhere, while our process was down and our machine was not. A session that
//! another client of our name has replaced, under the same conditions.

mod evidence;
mod fingerprint;
mod recent_window;
#[cfg(test)]
mod tests;

use self::evidence::{Evidence, Trust};
pub use self::fingerprint::{Content, Fingerprint};
pub use self::recent_window::WindowEntry;
use self::recent_window::{Joined, RecentWindow};

/// Messages that we allow a broker to have under way to us unacknowledged (MQTT 5).
pub const RECEIVE_MAXIMUM: u16 = 1024;

/// Packet identifiers are 1 to this.
const MAX_PACKET_ID: u16 = u16::MAX;

const HALF_ID_SPACE: u16 = MAX_PACKET_ID / 2;

/// Messages remembered. Not all brokers keep to the Receive Maximum: mosquitto 2.0 has tens of thousands under way in a flood.
/// So it is as many as there are identifiers, but for one: the next message's.
pub const MAX_WINDOW_MESSAGES: usize = MAX_PACKET_ID as usize - 1;

/// So many rising identifiers in a row exclude early reuse where at most 1,024 messages are under way: twice that.
pub const MIN_RISING_IDS: u32 = 2 * 1024;

/// Where nothing bounds the messages under way: all identifiers there are.
const MIN_RISING_IDS_UNBOUNDED: u32 = 65_535;

/// So many messages without two equal ones make one that comes again unlikely; topics that have fewer different
/// payloads, all counted together, never get there.
pub const VARIED_PAYLOADS: usize = 16;

/// How many messages a broker may have under way to us unacknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    /// At most our Receive Maximum (MQTT 5).
    Bounded,
    /// As many as it likes (MQTT 3.1.1).
    Unbounded,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryKind {
    /// It is in the inbox already: acknowledge it, nothing else.
    Redelivered,
    /// Take it in.
    New,
}

/// Everything that outlives the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedeliveryMemory {
    /// Messages in a row whose identifiers rose.
    pub risen: u32,
    /// An identifier stepped back in this session.
    pub stepped_back: bool,
    /// The messages received last, oldest first.
    pub window: Vec<WindowEntry>,
}

/// Recognises redelivery within one session at one broker.
#[derive(Debug, Clone)]
pub struct RedeliveryGuard {
    evidence: Evidence,
    window: RecentWindow,
    in_flight: InFlight,
    place: Place,
}

/// How far the broker's sending again has come on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Nothing has come yet.
    Beginning,
    /// The tail's message with this index is expected next.
    At(usize),
    /// As `At`, but the message just judged is taken in for lack of evidence, although it was the expected one.
    UnsureBefore(usize),
    /// No more of it.
    Over,
}

impl Default for RedeliveryGuard {
    fn default() -> Self {
        RedeliveryGuard::resume(RedeliveryMemory::default())
    }
}

impl RedeliveryGuard {
    /// Goes on from what was remembered.
    #[must_use]
    pub fn resume(memory: RedeliveryMemory) -> RedeliveryGuard {
        RedeliveryGuard {
            evidence: Evidence { risen: memory.risen, stepped_back: memory.stepped_back },
            window: RecentWindow::from_entries(memory.window),
            in_flight: InFlight::Bounded,
            place: Place::Over,
        }
    }

    /// What has to be remembered.
    #[must_use]
    pub fn memory(&self) -> RedeliveryMemory {
        RedeliveryMemory {
            risen: self.evidence.risen,
            stepped_back: self.evidence.stepped_back,
            window: self.window.entries(),
        }
    }

    /// The messages judged from now on come over a new connection.
    pub fn begin_connection(&mut self, in_flight: InFlight) {
        self.in_flight = in_flight;
        self.place = Place::Beginning;
    }

    /// The broker holds a new session for us: nothing in it can have been sent before.
    pub fn begin_session(&mut self) {
        *self = RedeliveryGuard { in_flight: self.in_flight, ..RedeliveryGuard::default() };
    }

    /// Something happened to the broker, or to the session, that we did not see: the proof has to be made again.
    /// True when anything of it was there.
    pub fn invalidate(&mut self) -> bool {
        std::mem::take(&mut self.evidence.risen) > 0
    }

    /// What was received cannot be relied on to be in the inbox still.
    pub fn forget_messages(&mut self) {
        self.window = RecentWindow::default();
        self.place = Place::Over;
        self.invalidate();
    }

    /// Judges a message before it is taken in; [`received`](Self::received) has to follow for a new one, unless it is
    /// passed over for a reason of its own (then it counts as never sent).
    #[must_use]
    pub fn classify(&mut self, fingerprint: &Fingerprint) -> DeliveryKind {
        let Some(index) = self.index_in_window(fingerprint) else {
            return DeliveryKind::New;
        };
        let begins_with_the_oldest = self.place == Place::Beginning && index == 0;
        let back = self.window.len().saturating_sub(index);
        let sure = match self.evidence.trust(self.in_flight, back) {
            Trust::Trusted => true,
            Trust::Warming if begins_with_the_oldest => return DeliveryKind::New,
            Trust::Warming => self.window.is_varied(fingerprint.content.topic),
            Trust::Untrusted => return DeliveryKind::New,
        };
        if sure {
            self.place = Place::At(index + 1);
            DeliveryKind::Redelivered
        } else {
            self.place = Place::UnsureBefore(index + 1);
            DeliveryKind::New
        }
    }

    /// Where the message lies in the tail if it goes on with, or begins, what is sent again.
    fn index_in_window(&self, fingerprint: &Fingerprint) -> Option<usize> {
        match self.place {
            _ if !fingerprint.duplicate => None,
            Place::Beginning => self.window.position(fingerprint),
            Place::At(index) | Place::UnsureBefore(index) => {
                self.window.is_at(index, fingerprint).then_some(index)
            }
            Place::Over => None,
        }
    }

    /// Whether this message has just been judged to be the expected one, on too little evidence.
    fn is_unsure_of(&self, fingerprint: &Fingerprint) -> bool {
        match self.place {
            Place::UnsureBefore(next) => fingerprint.duplicate && self.window.is_at(next - 1, fingerprint),
            Place::Beginning | Place::At(_) | Place::Over => false,
        }
    }

    /// Takes note of a message that is in the inbox now. True when it shows for the first time in the session that
    /// the broker reuses packet identifiers early.
    pub fn received(&mut self, fingerprint: &Fingerprint) -> bool {
        if self.is_unsure_of(fingerprint) {
            // The tail has it already, in its place.
            self.evidence.risen = 0;
            return false;
        }
        self.place = Place::Over;
        match self.window.join(fingerprint) {
            Joined::Rising => {
                self.evidence.risen = self.evidence.risen.saturating_add(1);
                false
            }
            Joined::SteppedBack => {
                self.evidence.risen = 0;
                !std::mem::replace(&mut self.evidence.stepped_back, true)
            }
        }
    }
}
