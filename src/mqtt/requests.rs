//! Subscribe and unsubscribe requests: many packets in flight at once, one request after the other.
//!
//! Filters that may make the broker close the connection go last, each alone; [`FilterTrials`] chooses them.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use paho_mqtt::{AsyncClient, Token};
use tokio::sync::oneshot;

use super::options::{MqttError, RefusedCode, Subscription};
use super::packet::{Answers, PROBE_FILTER, Packet, Terms};
use crate::domain::filter_trials::{FilterTrials, SendMode, TrialOutcome, Unanswered};

/// Maximum number of packets in flight. Brokers answer in order, so this hides the round trip and bounds their queue.
const MAX_IN_FLIGHT: usize = 100;

/// Time without any answer after which a request fails.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);

fn answer_timeout() -> Duration {
    time_point!("mqtt-answer-timeout", ANSWER_TIMEOUT)
}

/// Wait for the answer to a probe request. A broker that keeps the connection for this long does not close it over the
/// probe. rumqttd never answers an UNSUBSCRIBE of an unknown filter.
const PROBE_TIMEOUT: Duration = Duration::from_secs(10);

/// Minimum age of a connection before a suspected filter is sent. A search costs several connections, and each of them
/// delivers messages for at least this long.
const MIN_CONNECTION_AGE: Duration = Duration::from_millis(500);

pub(super) struct Request {
    pub(super) kind: RequestKind,
    pub(super) reply: oneshot::Sender<Result<Answers, MqttError>>,
}

pub(super) enum RequestKind {
    Subscribe(Vec<Subscription>),
    Unsubscribe(Vec<String>),
}

impl Request {
    /// Fails the request with [`MqttError::NotConnected`]. The receiver may be gone already.
    pub(super) fn fail(self) {
        let _ = self.reply.send(Err(MqttError::NotConnected));
    }
}

/// Requests of one connection, processed one at a time in order of arrival. So the later of a subscribe and an
/// unsubscribe of the same filter wins.
pub(super) struct Requests {
    jobs: VecDeque<Job>,
    trials: FilterTrials,
    /// Start of the clock that `trials` uses.
    epoch: Instant,
    /// Broker that `trials` describes.
    server: String,
    trials_allowed_at: Instant,
    seen: AnswersSeen,
    /// Filters of a request that failed before the loss of the connection was noticed.
    unanswered: Unanswered,
}

/// Answers received on this connection.
#[derive(Debug, Default, Clone, Copy)]
struct AnswersSeen {
    any: bool,
    /// Whether any of them concerned a filter of ours.
    for_filter: bool,
}

/// Findings about filters from the loss of a connection.
pub(super) struct LossReport {
    pub(super) outcome: TrialOutcome,
    /// Whether the broker had answered for any filter on this connection.
    pub(super) takes_filters: bool,
}

struct Job {
    waiting: VecDeque<Packet>,
    /// Packets that are sent one by one, after all others.
    alone: VecDeque<Packet>,
    in_flight: Vec<(Packet, Token)>,
    /// Whether the packet in flight comes from `alone`.
    is_alone: bool,
    /// Packets that will not be answered.
    failed: Vec<Packet>,
    answers: Answers,
    reply: oneshot::Sender<Result<Answers, MqttError>>,
    /// Deadline for the next answer; every answer extends it.
    deadline: Instant,
}

impl Requests {
    pub(super) fn new() -> Requests {
        let now = Instant::now();
        Requests {
            jobs: VecDeque::new(),
            trials: FilterTrials::default(),
            epoch: now,
            server: String::new(),
            trials_allowed_at: now,
            seen: AnswersSeen::default(),
            unanswered: Unanswered::Nothing,
        }
    }

    /// Starts on a new connection. Suspicions are dropped when the broker is another: it may accept the filters.
    pub(super) fn begin(&mut self, server: String, now: Instant) {
        if self.server != server {
            self.trials = FilterTrials::default();
            self.server = server;
        }
        self.trials_allowed_at = now + MIN_CONNECTION_AGE;
        self.seen = AnswersSeen::default();
        self.unanswered = Unanswered::Nothing;
    }

    pub(super) fn push(&mut self, request: Request, terms: Terms, now: Instant) {
        let time = now.duration_since(self.epoch);
        self.jobs.push_back(Job::new(request, terms, &mut self.trials, time, now));
    }

    /// Fails all requests because the connection is closed in good order.
    pub(super) fn fail_all(&mut self) {
        for job in self.jobs.drain(..) {
            let _ = job.reply.send(Err(MqttError::NotConnected));
        }
    }

    /// Fails all requests after a lost connection, and reports whether unanswered filters are the cause.
    pub(super) fn connection_lost(&mut self, now: Instant, context: &mut Context<'_>) -> LossReport {
        let mut unanswered = std::mem::take(&mut self.unanswered);
        if let Some(job) = self.jobs.front_mut()
            && unanswered == Unanswered::Nothing
        {
            // The last answers of the broker may not have been processed yet.
            let _ = job.take_answers(&mut self.trials, &mut self.seen, now, context);
            unanswered = job.unanswered();
        }
        self.fail_all();
        let outcome = self.trials.connection_ended(unanswered, now.duration_since(self.epoch));
        LossReport { outcome, takes_filters: self.seen.for_filter }
    }

    /// Returns the time of the next `advance` if no input arrives before.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.jobs
            .front()
            .map(|job| if job.in_flight.is_empty() { self.trials_allowed_at } else { job.deadline })
    }

    /// Processes received answers and sends the next packets.
    pub(super) fn advance(
        &mut self,
        client: &AsyncClient,
        terms: Terms,
        now: Instant,
        context: &mut Context<'_>,
    ) {
        while let Some(job) = self.jobs.front_mut() {
            let result = loop {
                if let Err(error) = job.take_answers(&mut self.trials, &mut self.seen, now, context) {
                    break Some(Err(error));
                }
                let sent = job.send(client, terms, now)
                    || (self.trials_allowed_at <= now && job.send_alone(client, terms, self.seen.any, now));
                if !sent {
                    break job.result(now);
                }
            };
            let Some(result) = result else { return };
            if let Some(mut job) = self.jobs.pop_front() {
                if matches!(result, Err(MqttError::NotConnected)) && self.unanswered == Unanswered::Nothing {
                    self.unanswered = job.unanswered();
                }
                let answers = std::mem::take(&mut job.answers);
                let _ = job.reply.send(result.map(|()| answers));
            }
            if let Some(next) = self.jobs.front_mut() {
                next.deadline = now + answer_timeout();
            }
        }
    }
}

impl Job {
    fn new(request: Request, terms: Terms, trials: &mut FilterTrials, time: Duration, now: Instant) -> Job {
        let mut answers = Answers::new();
        let (waiting, alone) = match request.kind {
            RequestKind::Subscribe(subscriptions) => {
                let send_mode = |s: &Subscription| send_mode(&s.filter, trials, time, &mut answers);
                let (together, mut alone) = split_by_mode(subscriptions, send_mode);
                alone.sort_by_key(|s| trials.suspicion(&s.filter));
                let alone = alone.into_iter().flat_map(|s| Packet::subscribing(vec![s], terms)).collect();
                (Packet::subscribing(together, terms), alone)
            }
            RequestKind::Unsubscribe(filters) => {
                let (together, mut alone) =
                    split_by_mode(filters, |filter| send_mode(filter, trials, time, &mut answers));
                alone.sort_by_key(|filter| trials.suspicion(filter));
                // The filters are no longer wanted. A later subscription starts without suspicion.
                for (filter, _) in &answers {
                    trials.forget(filter);
                }
                let alone = alone.into_iter().flat_map(|filter| Packet::unsubscribing(&[filter])).collect();
                (Packet::unsubscribing(&together), alone)
            }
        };
        Job {
            waiting: waiting.into(),
            alone,
            in_flight: Vec::new(),
            is_alone: false,
            failed: Vec::new(),
            answers,
            reply: request.reply,
            deadline: now + answer_timeout(),
        }
    }

    /// Returns the outcome once the request is complete or timed out.
    fn result(&self, now: Instant) -> Option<Result<(), MqttError>> {
        if self.in_flight.is_empty() {
            return self.alone.is_empty().then_some(Ok(()));
        }
        (self.deadline <= now).then_some(Err(MqttError::NoAnswer(answer_timeout())))
    }

    fn take_answers(
        &mut self,
        trials: &mut FilterTrials,
        seen: &mut AnswersSeen,
        now: Instant,
        context: &mut Context<'_>,
    ) -> Result<(), MqttError> {
        let mut result = Ok(());
        for (packet, mut token) in std::mem::take(&mut self.in_flight) {
            match Pin::new(&mut token).poll(context).map(|outcome| packet.answers(outcome)) {
                Poll::Ready(Ok(answers)) => {
                    for (filter, _) in &answers {
                        trials.answered(filter);
                    }
                    // The probe request belongs to no caller.
                    let ours = answers.into_iter().filter(|(filter, _)| filter != PROBE_FILTER);
                    let before = self.answers.len();
                    self.answers.extend(ours);
                    seen.any = true;
                    seen.for_filter |= self.answers.len() > before;
                    self.deadline = now + answer_timeout();
                }
                Poll::Ready(Err(error)) => {
                    self.failed.push(packet);
                    result = Err(error);
                }
                Poll::Pending => self.in_flight.push((packet, token)),
            }
        }
        if self.deadline <= now && self.awaits_probe() {
            self.in_flight.clear();
            seen.any = true;
        }
        result
    }

    /// Whether the probe request is in flight.
    fn awaits_probe(&self) -> bool {
        !self.alone.is_empty()
            && !self.in_flight.is_empty()
            && self.in_flight.iter().all(|(packet, _)| *packet == Packet::probe())
    }

    /// Sends waiting packets up to the limit; returns false if none was sent.
    fn send(&mut self, client: &AsyncClient, terms: Terms, now: Instant) -> bool {
        let mut sent = false;
        while self.in_flight.len() < MAX_IN_FLIGHT {
            let Some(packet) = self.waiting.pop_front() else {
                break;
            };
            self.send_packet(packet, client, terms, now);
            sent = true;
        }
        sent
    }

    /// Sends the next suspected filter if nothing is in flight. A broker that has answered nothing on this connection
    /// gets a probe request first. If it closes the connection over the probe, no filter is to blame.
    fn send_alone(&mut self, client: &AsyncClient, terms: Terms, has_answered: bool, now: Instant) -> bool {
        if !self.in_flight.is_empty() || self.alone.is_empty() {
            return false;
        }
        self.is_alone = has_answered;
        let next = if has_answered { self.alone.pop_front() } else { Some(Packet::probe()) };
        let sent = next.map(|packet| self.send_packet(packet, client, terms, now)).is_some();
        if !has_answered {
            self.deadline = now + PROBE_TIMEOUT;
        }
        sent
    }

    fn send_packet(&mut self, packet: Packet, client: &AsyncClient, terms: Terms, now: Instant) {
        if self.in_flight.is_empty() {
            self.deadline = now + answer_timeout();
        }
        let token = packet.send(client, terms);
        self.in_flight.push((packet, token));
    }

    fn unanswered(&self) -> Unanswered {
        let packets = self.failed.iter().chain(self.in_flight.iter().map(|(packet, _)| packet));
        let filters = packets.flat_map(|packet| packet.filters().iter().cloned());
        let mut filters: Vec<String> = filters.filter(|filter| filter != PROBE_FILTER).collect();
        match filters.pop() {
            None => Unanswered::Nothing,
            Some(filter) if self.is_alone => Unanswered::Alone(filter),
            Some(filter) => {
                filters.push(filter);
                Unanswered::Together(filters)
            }
        }
    }
}

/// Decides when to send a filter. Returns `None` if the filter is not sent; its refusal is then in `answers`.
fn send_mode(filter: &str, trials: &FilterTrials, time: Duration, answers: &mut Answers) -> Option<SendMode> {
    let refusal = match trials.send_mode(filter, time) {
        // Paho panics on NUL, and MQTT forbids it in filters.
        _ if filter.contains('\0') => RefusedCode::FILTER_INVALID,
        SendMode::SetAside => RefusedCode::CLOSES_CONNECTION,
        send_mode => return Some(send_mode),
    };
    answers.push((filter.to_owned(), Err(refusal)));
    None
}

/// Splits items into those sent together and those sent alone.
fn split_by_mode<T>(all: Vec<T>, mut send_mode: impl FnMut(&T) -> Option<SendMode>) -> (Vec<T>, Vec<T>) {
    let (mut together, mut alone) = (Vec::new(), Vec::new());
    for one in all {
        match send_mode(&one) {
            Some(SendMode::Together) => together.push(one),
            Some(SendMode::Alone) => alone.push(one),
            Some(SendMode::SetAside) | None => {}
        }
    }
    (together, alone)
}
