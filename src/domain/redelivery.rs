//! Distinguishes messages that the broker redelivers, because it did not receive our PUBACK, from new messages.
//!
//! # Redelivery on the wire
//! We acknowledge in order of receipt over one TCP connection. So the broker has received the acknowledgements
//! of a *prefix* of our messages. When the session resumes, the broker first resends its unacknowledged
//! messages. They have the original order and packet identifiers (MQTT 5, 4.4 and 4.6). After a lost connection
//! the messages are therefore:
//!
//! ```text
//!            R: received by us, PUBACK lost            L: lost on the way to us        new
//!   ───────┬──────────────────────────────────────┬─┬───────────────────────────┬─┬──────────
//!  acked   │ the end of the recent window from    │ │ DUP as well, but never    │ │ without
//!          │ some entry on, in order, DUP         │ │ received: must be stored  │ │ DUP
//! ```
//!
//! The [`RedeliveryGuard`] keeps the *recent window*: the last [`MAX_WINDOW_MESSAGES`] messages of `QoS` 1 of
//! this session. On each connection it follows R along the window. The first message that is not the expected
//! next one ends recognition until the next connection. Recognised messages stay in the window, so a third
//! delivery is recognised as well.
//!
//! # Why no message is lost
//! A message is lost only if L begins with a message that equals a window entry in packet identifier *and*
//! content. For that, the broker must reuse an identifier while the window still contains it. So the guard
//! observes how the broker assigns identifiers, from the start of the session or its last invalidation:
//!
//! * **Trusted**: [`MIN_RISING_IDS`] consecutive messages had rising identifiers (65,535 is followed by 1).
//!   Identifier and content then suffice.
//!   - A broker that assigns the lowest free identifier, or cycles through a pool, cannot reach this state. With
//!     a Receive Maximum of 1,024 it has to repeat an identifier earlier. MQTT 3.1.1 has no such limit, so the
//!     state requires a full cycle of 65,535.
//!   - New messages are then beyond the window for another 32,000 messages, even if payloads repeat.
//!   - If a broker cycles through fewer identifiers than exist, L begins with the identifiers of the previous
//!     cycle, and the whole cycle has risen. So trust covers only the later half of the risen messages.
//!   - Trust never covers more than half of all identifiers, because a broker that drops messages may have
//!     skipped many. Beyond that, the rules of warming sessions apply.
//! * **Warming**: the identifiers have risen so far, but not long enough for a message that far back.
//!   Identifier and content must match, and two conditions apply:
//!   - The message is not the oldest in the window. While no identifier has stepped back, a broker that assigns
//!     the lowest free identifier reuses the first one first. Acknowledgements arrive in order, so any other
//!     identifier is free only later. It is assigned only when a received message has reused the first one.
//!     First-in-first-out pools and short cycles also reuse their first identifier first.
//!   - The payloads differ: no two messages of its topic in the window are equal, and there are at least
//!     [`VARIED_PAYLOADS`] of them. Instead, all topics together may have that many messages without a
//!     repetition. This covers last-in-first-out and random pools: a reused identifier would have to meet the
//!     first repetition of a payload.
//! * **Untrusted**: an identifier stepped back. The window is reset to that message, and nothing is recognised
//!   until the broker is trusted. A broker that reuses identifiers early never becomes trusted.
//!
//! A new session (CONNACK without Session Present, another broker) resets everything. The rising identifiers
//! are counted from zero again after two events ([`RedeliveryGuard::invalidate`]):
//! * A connection attempt with an unknown outcome: the broker may have restarted from older state or started a
//!   new session.
//! * A reboot of our machine: the broker may run on it or may have lost power with it.
//!
//! In all other cases the message is stored: a duplicate is better than a loss. The same applies to messages
//! stored for lack of evidence before a restart. While running, the guard knows that such a message was the
//! expected one, but the log does not record where a connection began. During the replay its identifier steps
//! back, so the guard starts untrusted.
//!
//! # Undetected cases
//! A loss remains possible if all of the following hold. A trusted broker falls back to an older state of the
//! session, and no connection attempt of ours fails meanwhile. That is the case if the broker restarts faster
//! than our next attempt, or on another machine while only our process is down. Then a message with the same
//! content and identifier is lost on the way. Another client that takes over our session under the same
//! conditions has the same effect.

mod evidence;
mod fingerprint;
mod recent_window;
#[cfg(test)]
mod tests;

use self::evidence::{Evidence, Trust};
pub use self::fingerprint::{Content, Fingerprint};
pub use self::recent_window::WindowEntry;
use self::recent_window::{Joined, RecentWindow};

/// Maximum number of unacknowledged messages that we allow a broker (MQTT 5).
pub const RECEIVE_MAXIMUM: u16 = 1024;

/// Largest packet identifier; the smallest is 1.
const MAX_PACKET_ID: u16 = u16::MAX;

const HALF_ID_SPACE: u16 = MAX_PACKET_ID / 2;

/// Maximum number of messages in the recent window. Some brokers exceed the Receive Maximum: mosquitto 2.0 has
/// tens of thousands in flight under load. The window holds one message per identifier except the next one.
pub const MAX_WINDOW_MESSAGES: usize = MAX_PACKET_ID as usize - 1;

/// Number of consecutive rising identifiers that exclude early reuse with at most 1,024 messages in flight.
pub const MIN_RISING_IDS: u32 = 2 * 1024;

/// The same without a limit of messages in flight: all identifiers.
const MIN_RISING_IDS_UNBOUNDED: u32 = 65_535;

/// Number of messages without a repetition that make a repeated payload unlikely. Topics with fewer different
/// payloads in total never reach it.
pub const VARIED_PAYLOADS: usize = 16;

/// Limit of the unacknowledged messages of a broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InFlight {
    /// At most our Receive Maximum (MQTT 5).
    Bounded,
    /// No limit (MQTT 3.1.1).
    Unbounded,
}

/// The session at the broker, by a connection event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEvidence<'a> {
    /// The session is what it was.
    Unchanged,
    /// The broker has started a new session, in which nothing was sent before.
    New,
    /// This broker may have started a new session unnoticed.
    Uncertain {
        /// `host:port` of the broker.
        server: &'a str,
    },
}

/// Classification of a received message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryKind {
    /// The message is in the inbox already and only has to be acknowledged.
    Redelivered,
    /// The message must be stored.
    New,
}

/// State of the guard that survives the process.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RedeliveryMemory {
    /// Number of consecutive messages with rising identifiers.
    pub risen: u32,
    /// Whether an identifier stepped back in this session.
    pub stepped_back: bool,
    /// Recent messages, oldest first.
    pub window: Vec<WindowEntry>,
}

/// Recognises redelivered messages within one session at one broker.
#[derive(Debug, Clone)]
pub struct RedeliveryGuard {
    evidence: Evidence,
    window: RecentWindow,
    in_flight: InFlight,
    replay: ReplayState,
}

/// Progress of the redelivery on this connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum ReplayState {
    /// No message was received yet.
    NotStarted,
    /// The window entry with this index is expected next.
    Expecting(usize),
    /// Like `Expecting`, but the last message was the expected one and was stored for lack of evidence.
    Unproven(usize),
    /// The redelivery is over.
    Ended,
}

impl Default for RedeliveryGuard {
    fn default() -> Self {
        RedeliveryGuard::resume(RedeliveryMemory::default())
    }
}

impl RedeliveryGuard {
    /// Creates a guard from stored state.
    #[must_use]
    pub fn resume(memory: RedeliveryMemory) -> RedeliveryGuard {
        RedeliveryGuard {
            evidence: Evidence { risen: memory.risen, stepped_back: memory.stepped_back },
            window: RecentWindow::from_entries(memory.window),
            in_flight: InFlight::Bounded,
            replay: ReplayState::Ended,
        }
    }

    /// Returns the state to store.
    #[must_use]
    pub fn memory(&self) -> RedeliveryMemory {
        RedeliveryMemory {
            risen: self.evidence.risen,
            stepped_back: self.evidence.stepped_back,
            window: self.window.entries(),
        }
    }

    /// Notes that the following messages arrive over a new connection.
    pub fn begin_connection(&mut self, in_flight: InFlight) {
        self.in_flight = in_flight;
        self.replay = ReplayState::NotStarted;
    }

    /// Notes a new session, in which no message was sent before.
    pub fn begin_session(&mut self) {
        *self = RedeliveryGuard { in_flight: self.in_flight, ..RedeliveryGuard::default() };
    }

    /// Withdraws the trust, because the broker or session may have changed unnoticed. Returns whether there was
    /// any evidence to drop.
    pub fn invalidate(&mut self) -> bool {
        std::mem::take(&mut self.evidence.risen) > 0
    }

    /// Drops all remembered messages, because they may be missing from the inbox.
    pub fn forget_messages(&mut self) {
        self.window = RecentWindow::default();
        self.replay = ReplayState::Ended;
        self.invalidate();
    }

    /// Classifies a message before it is stored. The caller must call [`received`](Self::received) for a new
    /// message, unless it discards the message; a discarded message counts as never sent.
    #[must_use]
    pub fn classify(&mut self, fingerprint: &Fingerprint) -> DeliveryKind {
        let Some(index) = self.index_in_window(fingerprint) else {
            return DeliveryKind::New;
        };
        let starts_with_oldest = self.replay == ReplayState::NotStarted && index == 0;
        let back = self.window.len().saturating_sub(index);
        let sure = match self.evidence.trust(self.in_flight, back) {
            Trust::Trusted => true,
            Trust::Warming if starts_with_oldest => return DeliveryKind::New,
            Trust::Warming => self.window.is_varied(fingerprint.content.topic),
            Trust::Untrusted => return DeliveryKind::New,
        };
        if sure {
            self.replay = ReplayState::Expecting(index + 1);
            DeliveryKind::Redelivered
        } else {
            self.replay = ReplayState::Unproven(index + 1);
            DeliveryKind::New
        }
    }

    /// Returns the message's index in the window if the message continues or begins a redelivery.
    fn index_in_window(&self, fingerprint: &Fingerprint) -> Option<usize> {
        match self.replay {
            _ if !fingerprint.duplicate => None,
            ReplayState::NotStarted => self.window.position(fingerprint),
            ReplayState::Expecting(index) | ReplayState::Unproven(index) => {
                self.window.is_at(index, fingerprint).then_some(index)
            }
            ReplayState::Ended => None,
        }
    }

    /// Returns whether this message was just classified as expected, but with too little evidence.
    fn was_unproven(&self, fingerprint: &Fingerprint) -> bool {
        match self.replay {
            ReplayState::Unproven(next) => fingerprint.duplicate && self.window.is_at(next - 1, fingerprint),
            ReplayState::NotStarted | ReplayState::Expecting(_) | ReplayState::Ended => false,
        }
    }

    /// Notes a stored message. Returns true when it shows for the first time in the session that the broker
    /// reuses packet identifiers early.
    pub fn received(&mut self, fingerprint: &Fingerprint) -> bool {
        if self.was_unproven(fingerprint) {
            // The window already contains this message.
            self.evidence.risen = 0;
            return false;
        }
        self.replay = ReplayState::Ended;
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
