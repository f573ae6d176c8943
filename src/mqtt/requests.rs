//! Subscribing and unsubscribing: many packets under way at once, one request after the other.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use paho_mqtt::{AsyncClient, Token};
use tokio::sync::oneshot;

use super::options::{MqttError, RefusedCode, Subscription};
use super::packet::{Answers, Packet, Terms};

/// Packets under way at once. Brokers answer in order, so this hides the round trip and still bounds what they queue.
const IN_FLIGHT: usize = 100;

/// A broker that leaves a request so long without any answer owes it.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

pub(super) struct Request {
    pub(super) what: What,
    pub(super) reply: oneshot::Sender<Result<Answers, MqttError>>,
}

pub(super) enum What {
    Subscribe(Vec<Subscription>),
    Unsubscribe(Vec<String>),
}

impl Request {
    /// Tells the asker that there is no connection. An asker that has gone away does not mind.
    pub(super) fn refuse(self) {
        let _ = self.reply.send(Err(MqttError::NotConnected));
    }
}

/// The requests of one connection, in the order in which they came. One is worked on at a time, so that of a
/// subscribe and an unsubscribe of the same filter the later one counts.
#[derive(Default)]
pub(super) struct Requests {
    jobs: VecDeque<Job>,
}

struct Job {
    waiting: VecDeque<Packet>,
    in_flight: Vec<(Packet, Token)>,
    answers: Answers,
    reply: oneshot::Sender<Result<Answers, MqttError>>,
    /// Moves on with every answer.
    deadline: Instant,
}

impl Requests {
    pub(super) fn push(&mut self, request: Request, terms: Terms, now: Instant) {
        self.jobs.push_back(Job::new(request, terms, now));
    }

    /// The connection is gone, and with it what was under way.
    pub(super) fn fail_all(&mut self) {
        for job in self.jobs.drain(..) {
            let _ = job.reply.send(Err(MqttError::NotConnected));
        }
    }

    /// When to look again although nothing has come.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.jobs.front().map(|job| job.deadline)
    }

    /// Takes in the answers that have come and sends what may be sent.
    pub(super) fn advance(
        &mut self,
        client: &AsyncClient,
        terms: Terms,
        now: Instant,
        context: &mut Context<'_>,
    ) {
        while let Some(job) = self.jobs.front_mut() {
            let Poll::Ready(result) = job.advance(client, terms, now, context) else {
                return;
            };
            if let Some(mut job) = self.jobs.pop_front() {
                let answers = std::mem::take(&mut job.answers);
                let _ = job.reply.send(result.map(|()| answers));
            }
            if let Some(next) = self.jobs.front_mut() {
                next.deadline = now + ANSWER_TIMEOUT;
            }
        }
    }
}

impl Job {
    fn new(request: Request, terms: Terms, now: Instant) -> Job {
        let mut answers = Answers::new();
        // Paho panics on NUL, which no filter may hold.
        let mut refuse_nul = |filter: &str| {
            let refused = filter.contains('\0');
            if refused {
                answers.push((filter.to_owned(), Err(RefusedCode::FILTER_INVALID)));
            }
            !refused
        };
        let packets = match request.what {
            What::Subscribe(mut subscriptions) => {
                subscriptions.retain(|s| refuse_nul(&s.filter));
                Packet::subscribing(subscriptions, terms)
            }
            What::Unsubscribe(mut filters) => {
                filters.retain(|filter| refuse_nul(filter));
                Packet::unsubscribing(&filters)
            }
        };
        Job {
            waiting: packets.into(),
            in_flight: Vec::new(),
            answers,
            reply: request.reply,
            deadline: now + ANSWER_TIMEOUT,
        }
    }

    fn advance(
        &mut self,
        client: &AsyncClient,
        terms: Terms,
        now: Instant,
        context: &mut Context<'_>,
    ) -> Poll<Result<(), MqttError>> {
        loop {
            if let Err(error) = self.take_answers(now, context) {
                return Poll::Ready(Err(error));
            }
            if !self.send(client, terms) {
                break;
            }
        }
        if self.in_flight.is_empty() {
            Poll::Ready(Ok(()))
        } else if self.deadline <= now {
            Poll::Ready(Err(MqttError::NoAnswer(ANSWER_TIMEOUT)))
        } else {
            Poll::Pending
        }
    }

    fn take_answers(&mut self, now: Instant, context: &mut Context<'_>) -> Result<(), MqttError> {
        for (packet, mut token) in std::mem::take(&mut self.in_flight) {
            match Pin::new(&mut token).poll(context) {
                Poll::Ready(outcome) => {
                    self.answers.extend(packet.answers(outcome)?);
                    self.deadline = now + ANSWER_TIMEOUT;
                }
                Poll::Pending => self.in_flight.push((packet, token)),
            }
        }
        Ok(())
    }

    /// Sends as many packets as may be under way; false if there is nothing to send or no room.
    fn send(&mut self, client: &AsyncClient, terms: Terms) -> bool {
        let mut sent = false;
        while self.in_flight.len() < IN_FLIGHT {
            let Some(packet) = self.waiting.pop_front() else {
                break;
            };
            let token = packet.send(client, terms);
            self.in_flight.push((packet, token));
            sent = true;
        }
        sent
    }
}
