//! Asks a connection on which nothing comes whether it is still one.
//!
//! Paho sends its pings from the thread that receives. Were that thread gone, paho would call itself connected for ever,
//! and nobody would notice: on a quiet topic no message is nothing strange. So after a silence the broker is asked for
//! something that only a living thread can take in, and that changes nothing: to end a subscription that there is not.
//!
//! ```text
//!   silence ──▶ ask ──no answer──▶ ask again ──▶ … ──no answer for as long as the silence was──▶ give up
//!      ▲         └── an answer, or a message ──┐
//!      └───────────────────────────────────────┘
//! ```

use std::time::Instant;

use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::super::options::MqttError;
use super::super::packet::{Answers, NOBODYS_FILTER};
use super::super::requests::{Request, What};
use super::super::watchdog::patience;

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

    /// `is_silent`: nothing has come for [`patience`], and no message waits to be taken in.
    pub(super) fn look(&mut self, is_silent: bool, now: Instant) -> Next {
        match self.asked.as_mut().map(|asked| (asked.answer.try_recv(), asked.until)) {
            None if now < self.next_at => Next::Wait,
            // A message is a sign as well, and one that waits for room in the inbox is no silence.
            _ if !is_silent => self.wait(now),
            None => self.ask(now + patience()),
            Some((Err(TryRecvError::Empty), until)) if now < until => Next::Wait,
            // A request is given less time than a silent broker, so it is put again.
            Some((Ok(Err(MqttError::NoAnswer(_))), until)) if now < until => self.ask(until),
            Some((Err(TryRecvError::Empty) | Ok(Err(MqttError::NoAnswer(_))), _)) => Next::GiveUp,
            // An answer, be it a refusal; or the connection has ended, which is told elsewhere.
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

    /// Asked after a silence; with the moment.
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
    fn a_broker_that_owes_an_answer_is_asked_again_until_its_time_is_over() {
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
    fn without_a_word_of_what_became_of_the_question_it_ends_at_the_same_time() {
        let (mut sign, _request, asked_at) = asked();
        assert!(matches!(sign.look(true, asked_at + patience() / 2), Next::Wait));
        assert!(matches!(sign.look(true, asked_at + patience()), Next::GiveUp));
    }

    #[test]
    fn an_answer_late_as_it_is_and_a_message_are_signs_of_life() {
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
