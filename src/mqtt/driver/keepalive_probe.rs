//! Keepalive probe of a silent connection.
//!
//! Paho sends pings from its receiving thread. If that thread hangs, paho stays "connected" for ever, and a quiet topic
//! looks the same. An answered ping proves the connection, but pings may be rarer than [`patience`]. So after a silence
//! the driver unsubscribes a filter that does not exist. The request changes nothing, and only a working receiving
//! thread can process the answer.
//!
//! ```text
//!   silence ──▶ probe ──no answer──▶ probe again ──▶ … ──no answer until the deadline──▶ close
//!      ▲          └── an answer, a message, or an answered ping ──┐
//!      └──────────────────────────────────────────────────────────┘
//! ```
//!
//! Some brokers (rumqttd) never answer the probe. They keep a quiet connection by their answers to pings.

use std::time::Instant;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::options::MqttError;
use super::super::packet::{Answers, PROBE_FILTER};
use super::super::requests::{Request, RequestKind};
use super::super::watchdog::patience;

/// Probe state of a connection.
pub(super) struct KeepaliveProbe {
    next_at: Instant,
    pending: Option<PendingProbe>,
}

struct PendingProbe {
    answer: oneshot::Receiver<Result<Answers, MqttError>>,
    until: Instant,
}

/// Action after an update.
pub(super) enum KeepaliveAction {
    /// Wait.
    Wait,
    /// Send this request.
    Send(Request),
    /// Close the connection.
    Close,
}

impl KeepaliveProbe {
    pub(super) fn new(now: Instant) -> KeepaliveProbe {
        KeepaliveProbe { next_at: now + patience(), pending: None }
    }

    /// Returns the time of the next update if no input arrives before.
    pub(super) fn deadline(&self) -> Instant {
        self.pending.as_ref().map_or(self.next_at, |pending| pending.until)
    }

    /// Decides the next step. `is_silent` means that neither a message nor the answer to a ping arrived for
    /// [`patience`], and that no message waits for the inbox.
    pub(super) fn update(&mut self, is_silent: bool, now: Instant) -> KeepaliveAction {
        match self.pending.as_mut().map(|pending| (pending.answer.try_recv(), pending.until)) {
            None if now < self.next_at => KeepaliveAction::Wait,
            // A message or an answered ping proves the connection, and so does a message that waits for the inbox.
            _ if !is_silent => self.wait(now),
            None => self.send(now + patience()),
            Some((Err(TryRecvError::Empty), until)) if now < until => KeepaliveAction::Wait,
            // A request times out before the connection does, so the probe is repeated.
            Some((Ok(Err(MqttError::NoAnswer(_))), until)) if now < until => self.send(until),
            Some((Err(TryRecvError::Empty) | Ok(Err(MqttError::NoAnswer(_))), _)) => KeepaliveAction::Close,
            // Any answer proves the connection, even a refusal. A lost connection is reported elsewhere.
            Some((Ok(_) | Err(TryRecvError::Closed), _)) => self.wait(now),
        }
    }

    fn wait(&mut self, now: Instant) -> KeepaliveAction {
        *self = KeepaliveProbe::new(now);
        KeepaliveAction::Wait
    }

    fn send(&mut self, until: Instant) -> KeepaliveAction {
        let (reply, answer) = oneshot::channel();
        self.pending = Some(PendingProbe { answer, until });
        KeepaliveAction::Send(Request {
            kind: RequestKind::Unsubscribe(vec![PROBE_FILTER.to_owned()]),
            reply,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NO_ANSWER: MqttError = MqttError::NoAnswer(Duration::from_mins(1));

    /// Returns a probe after a silence, its request and the time.
    fn sent_probe() -> (KeepaliveProbe, Request, Instant) {
        let begin = Instant::now();
        let mut probe = KeepaliveProbe::new(begin);
        assert!(matches!(probe.update(true, begin), KeepaliveAction::Wait));
        let now = begin + patience();
        let KeepaliveAction::Send(request) = probe.update(true, now) else {
            panic!("no probe after a silence")
        };
        assert_eq!(probe.deadline(), now + patience());
        (probe, request, now)
    }

    #[test]
    fn unanswered_probes_repeat_until_the_deadline() {
        let (mut probe, mut request, sent_at) = sent_probe();
        for minute in 1..5 {
            request.reply.send(Err(NO_ANSWER)).unwrap();
            let now = sent_at + Duration::from_mins(minute);
            let KeepaliveAction::Send(again) = probe.update(true, now) else { panic!("minute {minute}") };
            request = again;
            assert!(matches!(probe.update(true, now), KeepaliveAction::Wait));
        }
        request.reply.send(Err(NO_ANSWER)).unwrap();
        assert!(matches!(probe.update(true, sent_at + patience()), KeepaliveAction::Close));
    }

    #[test]
    fn lost_probe_ends_at_the_deadline() {
        let (mut probe, _request, sent_at) = sent_probe();
        assert!(matches!(probe.update(true, sent_at + patience() / 2), KeepaliveAction::Wait));
        assert!(matches!(probe.update(true, sent_at + patience()), KeepaliveAction::Close));
    }

    #[test]
    fn late_answers_and_messages_prove_the_connection() {
        let (mut probe, request, sent_at) = sent_probe();
        let late = sent_at + patience() / 2;
        request.reply.send(Ok(Vec::new())).unwrap();
        assert!(matches!(probe.update(true, late), KeepaliveAction::Wait));
        assert_eq!(probe.deadline(), late + patience());

        let (mut probe, request, sent_at) = sent_probe();
        request.reply.send(Err(NO_ANSWER)).unwrap();
        let much_later = sent_at + 2 * patience();
        assert!(matches!(probe.update(false, much_later), KeepaliveAction::Wait));
        assert_eq!(probe.deadline(), much_later + patience(), "no update is due meanwhile");
    }
}
