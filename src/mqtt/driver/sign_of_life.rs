//! Keepalive probe of a silent connection.
//!
//! Paho sends pings from its receiving thread. If that thread hangs, paho stays "connected" for ever, and a quiet topic
//! looks the same. So after a silence the driver unsubscribes a filter that does not exist. The request changes
//! nothing, and only a working receiving thread can process the answer.
//!
//! ```text
//!   silence ──▶ probe ──no answer──▶ probe again ──▶ … ──no answer until the deadline──▶ close
//!      ▲          └── an answer, or a message ──┐
//!      └────────────────────────────────────────┘
//! ```

use std::time::Instant;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::options::MqttError;
use super::super::packet::{Answers, NOBODYS_FILTER};
use super::super::requests::{Request, What};
use super::super::watchdog::patience;

/// Probe state of a connection.
pub(super) struct SignOfLife {
    next_at: Instant,
    asked: Option<Asked>,
}

struct Asked {
    answer: oneshot::Receiver<Result<Answers, MqttError>>,
    until: Instant,
}

/// Action after an update.
pub(super) enum Next {
    /// Wait.
    Wait,
    /// Send this request.
    Ask(Request),
    /// Close the connection.
    GiveUp,
}

impl SignOfLife {
    pub(super) fn new(now: Instant) -> SignOfLife {
        SignOfLife { next_at: now + patience(), asked: None }
    }

    /// Returns the time of the next update if no input arrives before.
    pub(super) fn deadline(&self) -> Instant {
        self.asked.as_ref().map_or(self.next_at, |asked| asked.until)
    }

    /// Decides the next step. `is_silent` means that nothing arrived for [`patience`] and no message waits for the
    /// inbox.
    pub(super) fn look(&mut self, is_silent: bool, now: Instant) -> Next {
        match self.asked.as_mut().map(|asked| (asked.answer.try_recv(), asked.until)) {
            None if now < self.next_at => Next::Wait,
            // A message proves the connection, and so does one that waits for space in the inbox.
            _ if !is_silent => self.wait(now),
            None => self.ask(now + patience()),
            Some((Err(TryRecvError::Empty), until)) if now < until => Next::Wait,
            // A request times out before the connection does, so the probe is repeated.
            Some((Ok(Err(MqttError::NoAnswer(_))), until)) if now < until => self.ask(until),
            Some((Err(TryRecvError::Empty) | Ok(Err(MqttError::NoAnswer(_))), _)) => Next::GiveUp,
            // Any answer proves the connection, even a refusal. A lost connection is reported elsewhere.
            Some((Ok(_) | Err(TryRecvError::Closed), _)) => self.wait(now),
        }
    }

    fn wait(&mut self, now: Instant) -> Next {
        *self = SignOfLife::new(now);
        Next::Wait
    }

    fn ask(&mut self, until: Instant) -> Next {
        let (reply, answer) = oneshot::channel();
        self.asked = Some(Asked { answer, until });
        Next::Ask(Request { what: What::Unsubscribe(vec![NOBODYS_FILTER.to_owned()]), reply })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NO_ANSWER: MqttError = MqttError::NoAnswer(Duration::from_mins(1));

    /// Returns a probe after a silence, its request and the time.
    fn asked() -> (SignOfLife, Request, Instant) {
        let begin = Instant::now();
        let mut sign = SignOfLife::new(begin);
        assert!(matches!(sign.look(true, begin), Next::Wait));
        let now = begin + patience();
        let Next::Ask(request) = sign.look(true, now) else { panic!("not asked after a silence") };
        assert_eq!(sign.deadline(), now + patience());
        (sign, request, now)
    }

    #[test]
    fn unanswered_probes_repeat_until_the_deadline() {
        let (mut sign, mut request, asked_at) = asked();
        for minute in 1..5 {
            request.reply.send(Err(NO_ANSWER)).unwrap();
            let now = asked_at + Duration::from_mins(minute);
            let Next::Ask(again) = sign.look(true, now) else { panic!("minute {minute}") };
            request = again;
            assert!(matches!(sign.look(true, now), Next::Wait));
        }
        request.reply.send(Err(NO_ANSWER)).unwrap();
        assert!(matches!(sign.look(true, asked_at + patience()), Next::GiveUp));
    }

    #[test]
    fn lost_probe_ends_at_the_deadline() {
        let (mut sign, _request, asked_at) = asked();
        assert!(matches!(sign.look(true, asked_at + patience() / 2), Next::Wait));
        assert!(matches!(sign.look(true, asked_at + patience()), Next::GiveUp));
    }

    #[test]
    fn late_answers_and_messages_prove_the_connection() {
        let (mut sign, request, asked_at) = asked();
        let late = asked_at + patience() / 2;
        request.reply.send(Ok(Vec::new())).unwrap();
        assert!(matches!(sign.look(true, late), Next::Wait));
        assert_eq!(sign.deadline(), late + patience());

        let (mut sign, request, asked_at) = asked();
        request.reply.send(Err(NO_ANSWER)).unwrap();
        let much_later = asked_at + 2 * patience();
        assert!(matches!(sign.look(false, much_later), Next::Wait));
        assert_eq!(sign.deadline(), much_later + patience(), "it is not looked at again and again meanwhile");
    }
}
