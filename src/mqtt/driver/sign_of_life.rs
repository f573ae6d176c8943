//! Asks a connection on which nothing comes whether it is still one.
//!
//! Paho sends its pings from the thread that receives. Were that thread gone, paho would call itself connected for ever,
//! and nobody would notice: on a quiet topic no message is nothing strange. So after a silence the broker is asked for
//! something that only a living thread can take in, and that changes nothing: to end a subscription that there is not.

use std::time::Instant;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::options::MqttError;
use super::super::packet::Answers;
use super::super::requests::{Request, What};
use super::super::watchdog::{Pulse, patience};

/// A filter that nobody subscribes.
const NOBODYS_FILTER: &str = "mqtt-gateway/sign-of-life";

/// Whether the connection has answered lately.
pub(super) struct SignOfLife {
    next_at: Instant,
    asked: Option<Asked>,
}

struct Asked {
    answer: oneshot::Receiver<Result<Answers, MqttError>>,
    until: Instant,
}

/// What is to be done about it.
pub(super) enum Next {
    /// Nothing.
    Wait,
    /// Ask this.
    Ask(Request),
    /// Give the connection up.
    GiveUp,
}

impl SignOfLife {
    pub(super) fn new(now: Instant) -> SignOfLife {
        SignOfLife { next_at: now + patience(), asked: None }
    }

    /// When to look again although nothing has come.
    pub(super) fn deadline(&self) -> Instant {
        self.asked.as_ref().map_or(self.next_at, |asked| asked.until)
    }

    pub(super) fn look(&mut self, pulse: &Pulse, now: Instant) -> Next {
        match self.asked.as_mut().map(|asked| (asked.answer.try_recv(), asked.until)) {
            None if now < self.next_at => Next::Wait,
            // A message is a sign as well, and one that waits for room in the inbox is no silence.
            None if !pulse.is_free_for(patience()) => self.wait(now),
            None => self.ask(now),
            Some((Err(TryRecvError::Empty), until)) if now < until || !pulse.is_free_for(patience()) => {
                Next::Wait
            }
            Some((Err(TryRecvError::Empty) | Ok(Err(MqttError::NoAnswer(_))), _)) => Next::GiveUp,
            // An answer, be it a refusal; or the connection has ended, which is told elsewhere.
            Some((Ok(_) | Err(TryRecvError::Closed), _)) => self.wait(now),
        }
    }

    fn wait(&mut self, now: Instant) -> Next {
        *self = SignOfLife::new(now);
        Next::Wait
    }

    fn ask(&mut self, now: Instant) -> Next {
        let (reply, answer) = oneshot::channel();
        self.asked = Some(Asked { answer, until: now + patience() });
        Next::Ask(Request { what: What::Unsubscribe(vec![NOBODYS_FILTER.to_owned()]), reply })
    }
}
