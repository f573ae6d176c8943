//! The thread "mqtt": performs what [`Reconnect`] decides and callers ask for, and tells what happens.
//!
//! ```text
//!   Idle ──Connect──▶ Waiting ──time──▶ Connecting ──CONNACK──▶ Connected ──Disconnect──▶ Leaving ──▶ Idle
//!                        ▲                  │                       │
//!                        └──────failed──────┴─────────lost──────────┘
//! ```

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use paho_mqtt::{
    DisconnectOptions, DisconnectOptionsBuilder, Message, Properties, PropertyCode, ReasonCode,
    ServerResponse, Token,
};
use tokio::sync::oneshot;

use super::broker_probe::somebody_listens;
use super::clients::{CONNECT_TIMEOUT, Clients};
use super::failure::Failure;
use super::input::{Gone, Input, progress_waker};
use super::options::{BrokerOptions, Farewell, MqttEvent};
use super::packet::Terms;
use super::reconnect::{AfterFailure, Reconnect};
use super::requests::Requests;
use super::version::Version;

/// Paho ends an attempt by itself; one that lasts longer than this has been forgotten by it.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3 * CONNECT_TIMEOUT.as_secs());

/// How often paho is asked whether it is still connected, should it fail to say so.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Checks in a row that must find no connection: the first may only have come before paho's own word.
const DOUBTS_OF_A_LOSS: u32 = 2;

pub(super) struct Driver {
    options: BrokerOptions,
    clients: Clients,
    on_event: Box<dyn Fn(MqttEvent) + Send + Sync>,
    connected: Arc<AtomicBool>,
    waker: Waker,
    phase: Phase,
    reconnect: Reconnect,
    requests: Requests,
    /// Those who asked to disconnect and wait for it.
    leaving: Vec<oneshot::Sender<()>>,
    farewell: Farewell,
}

enum Phase {
    Idle,
    Waiting { until: Instant },
    Connecting(Attempt),
    Connected(Connection),
    Leaving(Token),
}

struct Attempt {
    version: Version,
    token: Token,
    deadline: Instant,
}

struct Connection {
    terms: Terms,
    since: Instant,
    next_check: Instant,
    doubts: u32,
}

impl Driver {
    pub(super) fn new(
        options: BrokerOptions,
        clients: Clients,
        inputs: Sender<Input>,
        on_event: Box<dyn Fn(MqttEvent) + Send + Sync>,
        connected: Arc<AtomicBool>,
    ) -> Driver {
        Driver {
            options,
            clients,
            on_event,
            connected,
            waker: progress_waker(inputs),
            phase: Phase::Idle,
            reconnect: Reconnect::default(),
            requests: Requests::default(),
            leaving: Vec::new(),
            farewell: Farewell::KeepSession,
        }
    }

    /// Runs as long as the process: paho's callbacks hold the channel open.
    pub(super) fn run(mut self, inputs: &Receiver<Input>) {
        loop {
            let first = match self.deadline() {
                Some(at) => inputs.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match first {
                Ok(input) => self.take(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(input) = inputs.try_recv() {
                self.take(input);
            }
            self.advance();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Idle | Phase::Leaving(_) => None,
            Phase::Waiting { until } => Some(*until),
            Phase::Connecting(attempt) => Some(attempt.deadline),
            Phase::Connected(connection) => {
                let request = self.requests.deadline().unwrap_or(connection.next_check);
                Some(request.min(connection.next_check))
            }
        }
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Connect => {
                if matches!(self.phase, Phase::Idle) {
                    self.phase = Phase::Waiting { until: Instant::now() };
                }
            }
            Input::Request(request) => match &self.phase {
                Phase::Connected(connection) => self.requests.push(request, connection.terms, Instant::now()),
                _ => request.refuse(),
            },
            Input::Publish { topic, payload } => self.publish(&topic, payload),
            Input::Disconnect(farewell, reply) => {
                self.farewell = farewell;
                self.leaving.push(reply);
            }
            Input::Gone { version, why } => self.check_loss(version, why),
            Input::Progress => {}
        }
    }

    /// Goes as far as is possible without waiting.
    fn advance(&mut self) {
        let now = Instant::now();
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Connected(connection) if self.leaving.is_empty() => self.serve(connection, now),
            Phase::Connected(connection) => self.leave(&connection),
            Phase::Connecting(attempt) => self.check_attempt(attempt, now),
            Phase::Leaving(token) => self.check_farewell(token),
            Phase::Idle | Phase::Waiting { .. } if !self.leaving.is_empty() => self.left(),
            Phase::Waiting { until } if until <= now => self.attempt(Reconnect::FIRST_VERSION, now),
            phase @ (Phase::Idle | Phase::Waiting { .. }) => phase,
        };
    }

    fn poll(&self, token: &mut Token) -> Poll<Result<ServerResponse, paho_mqtt::Error>> {
        Pin::new(token).poll(&mut Context::from_waker(&self.waker))
    }

    // ---- connecting

    fn attempt(&mut self, version: Version, now: Instant) -> Phase {
        let attempt =
            Attempt { version, token: self.clients.connect(version), deadline: now + ATTEMPT_TIMEOUT };
        self.check_attempt(attempt, now)
    }

    fn check_attempt(&mut self, mut attempt: Attempt, now: Instant) -> Phase {
        let version = attempt.version;
        match self.poll(&mut attempt.token) {
            Poll::Ready(Ok(response)) => self.established(version, &response),
            Poll::Ready(Err(error)) => {
                let listening = || somebody_listens(&self.options.host, self.options.port);
                let failure = Failure::new(&error, listening);
                self.failed(version, &failure)
            }
            Poll::Pending if attempt.deadline <= now => {
                // Should the attempt come to life after all: not with us.
                drop(self.clients.of(version).disconnect(None));
                self.failed(version, &Failure::overdue())
            }
            Poll::Pending => Phase::Connecting(attempt),
        }
    }

    fn established(&mut self, version: Version, response: &ServerResponse) -> Phase {
        let now = Instant::now();
        let available = response.properties().get_int(PropertyCode::SubscriptionIdentifiersAvailable);
        let shares = response.properties().get_int(PropertyCode::SharedSubscriptionAvailable) != Some(0);
        let terms = Terms {
            version,
            names_subscriptions: version == Version::V5 && available != Some(0),
            qos: self.options.qos,
        };
        self.reconnect.connected(version);
        self.connected.store(true, Ordering::Relaxed);
        (self.on_event)(MqttEvent::Connected {
            version: version.name(),
            names_subscriptions: terms.names_subscriptions,
            shares_subscriptions: version == Version::V5 && shares,
            session_kept: response.connect_response().is_some_and(|response| response.session_present),
        });
        let connection = Connection { terms, since: now, next_check: now + CHECK_INTERVAL, doubts: 0 };
        if self.leaving.is_empty() { Phase::Connected(connection) } else { self.leave(&connection) }
    }

    fn failed(&mut self, version: Version, failure: &Failure) -> Phase {
        if !self.leaving.is_empty() {
            return self.left();
        }
        match self.reconnect.failed(version, failure, rand::random()) {
            AfterFailure::FallBack => {
                log::info!(
                    "The broker at {}:{} seems not to speak MQTT 5 ({}): trying 3.1.1",
                    self.options.host,
                    self.options.port,
                    failure.text
                );
                self.attempt(Version::V311, Instant::now())
            }
            AfterFailure::RetryIn(retry_in) => {
                (self.on_event)(MqttEvent::Failed {
                    reason_code: failure.code,
                    reason: failure.text.clone(),
                    retry_in,
                });
                wait(retry_in)
            }
        }
    }

    // ---- connected

    fn serve(&mut self, mut connection: Connection, now: Instant) -> Phase {
        let client = self.clients.of(connection.terms.version);
        if connection.next_check <= now {
            connection.doubts = if client.is_connected() { 0 } else { connection.doubts + 1 };
            if connection.doubts >= DOUBTS_OF_A_LOSS {
                return self.lost(&connection, Gone::Missing);
            }
            connection.next_check = now + CHECK_INTERVAL;
        }
        let mut context = Context::from_waker(&self.waker);
        self.requests.advance(client, connection.terms, now, &mut context);
        Phase::Connected(connection)
    }

    fn check_loss(&mut self, version: Version, why: Gone) {
        let Phase::Connected(connection) = &self.phase else {
            return;
        };
        // Word of an earlier connection may come late.
        if connection.terms.version != version || self.clients.of(version).is_connected() {
            return;
        }
        if let Phase::Connected(connection) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.phase = self.lost(&connection, why);
        }
    }

    fn lost(&mut self, connection: &Connection, why: Gone) -> Phase {
        self.connected.store(false, Ordering::Relaxed);
        self.requests.fail_all();
        let taken_over = why == Gone::Dismissed(ReasonCode::SessionTakenOver);
        let after = self.reconnect.lost(connection.since.elapsed(), taken_over, rand::random());
        let cause = if after.id_taken { self.second_client() } else { String::new() };
        let reason =
            format!("{}{cause}; trying again in {:.1} s", describe(why), after.retry_in.as_secs_f64());
        (self.on_event)(MqttEvent::Lost { reason });
        wait(after.retry_in)
    }

    fn second_client(&self) -> String {
        format!(
            "; another client with the client id {:?} is the likely cause, usually a Python service still running",
            self.options.client_id
        )
    }

    fn publish(&self, topic: &str, payload: Vec<u8>) {
        // Paho panics on NUL, which no topic may hold.
        if let Phase::Connected(connection) = &self.phase
            && !topic.contains('\0')
        {
            drop(self.clients.of(connection.terms.version).publish(Message::new(topic, payload, 1)));
        }
    }

    // ---- leaving

    fn leave(&mut self, connection: &Connection) -> Phase {
        self.connected.store(false, Ordering::Relaxed);
        self.requests.fail_all();
        let version = connection.terms.version;
        let options = (self.farewell == Farewell::ForgetSession).then(|| forgetting(version)).flatten();
        // Without properties the broker keeps the session for as long as CONNECT said.
        let token = self.clients.of(version).disconnect(options);
        self.check_farewell(token)
    }

    fn check_farewell(&mut self, mut token: Token) -> Phase {
        match self.poll(&mut token) {
            // An error says that the connection is gone already: as good.
            Poll::Ready(_) => self.left(),
            Poll::Pending => Phase::Leaving(token),
        }
    }

    fn left(&mut self) -> Phase {
        for reply in self.leaving.drain(..) {
            // One who no longer waits does not mind.
            let _ = reply.send(());
        }
        Phase::Idle
    }
}

/// Has the broker forget the session at once; MQTT 3.1.1 has no word for it.
fn forgetting(version: Version) -> Option<DisconnectOptions> {
    if version != Version::V5 {
        return None;
    }
    let mut properties = Properties::new();
    // Fails only when memory is out.
    properties.push_u32(PropertyCode::SessionExpiryInterval, 0).ok()?;
    Some(DisconnectOptionsBuilder::new().properties(properties).finalize())
}

fn wait(time: Duration) -> Phase {
    Phase::Waiting { until: Instant::now() + time }
}

fn describe(why: Gone) -> String {
    match why {
        Gone::Broken => "the connection broke".to_owned(),
        Gone::Dismissed(code) => format!("the broker closed the connection: {code} ({})", code as u8),
        Gone::Missing => "the MQTT client has no connection any more".to_owned(),
    }
}
