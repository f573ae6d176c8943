//! Thread "mqtt": carries out the decisions of [`Reconnect`] and the requests of callers, and reports events.
//!
//! ```text
//!   Idle ──Connect──▶ Waiting ──time──▶ Connecting ──CONNACK──▶ Connected ──Disconnect──▶ Leaving ──▶ Idle
//!                        ▲               │ ▲  │                  │  │  │
//!                        │             failed └──next broker─────┼──┼──┤
//!                        ├──last broker──┘                       │  │  └─a preferred broker is back──▶ Leaving
//!                        │                                       │  │                                     │
//!                        └───────────────────────────────lost────┘  └◀──────────Connecting◀──────────────┘
//! ```

mod connected;
mod connecting;
mod keepalive_probe;
mod leaving;

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use paho_mqtt::{DeliveryToken, Message, ServerResponse, Token};
use tokio::sync::oneshot;

use self::connected::Connection;
use self::connecting::ConnectAttempt;
use self::leaving::Leaving;
use super::clients::{CONNECT_TIMEOUT, Clients};
use super::input::{Input, progress_waker};
use super::options::{BrokerOptions, MqttError, MqttEvent, SessionEnd};
use super::reconnect::Reconnect;
use super::requests::Requests;
use super::server::ServerList;
use super::watchdog::Heartbeat;
use crate::domain::broker::Broker;

/// Time after which an attempt counts as overdue. Paho normally ends attempts earlier.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(3 * CONNECT_TIMEOUT.as_secs());

pub(super) struct Driver {
    servers: ServerList,
    client_id: String,
    qos: u8,
    clients: Clients,
    on_event: Arc<dyn Fn(MqttEvent) + Send + Sync>,
    connected: Arc<AtomicBool>,
    heartbeat: Arc<Heartbeat>,
    inputs: Sender<Input>,
    waker: Waker,
    phase: Phase,
    /// Start of the first in a row of overdue attempts at reachable brokers.
    overdue_since: Option<Instant>,
    reconnect: Reconnect,
    /// Broker at which the next round starts; `None`: the first of the list.
    next_round: Option<Arc<Broker>>,
    requests: Requests,
    /// Callers that wait for the disconnect.
    leaving: Vec<oneshot::Sender<Result<(), MqttError>>>,
    session_end: SessionEnd,
}

enum Phase {
    Idle,
    Waiting { until: Instant },
    Connecting(ConnectAttempt),
    Connected(Connection),
    Leaving(Leaving),
}

/// State shared with the handle and the callbacks.
pub(super) struct SharedState {
    pub(super) inputs: Sender<Input>,
    pub(super) on_event: Arc<dyn Fn(MqttEvent) + Send + Sync>,
    pub(super) connected: Arc<AtomicBool>,
    pub(super) heartbeat: Arc<Heartbeat>,
}

impl Driver {
    pub(super) fn new(options: BrokerOptions, clients: Clients, shared: SharedState) -> Driver {
        let SharedState { inputs, on_event, connected, heartbeat } = shared;
        Driver {
            servers: ServerList::new(options.servers),
            client_id: options.client_id,
            qos: options.qos,
            clients,
            on_event,
            connected,
            heartbeat,
            waker: progress_waker(inputs.clone()),
            inputs,
            phase: Phase::Idle,
            overdue_since: None,
            reconnect: Reconnect::default(),
            next_round: None,
            requests: Requests::new(),
            leaving: Vec::new(),
            session_end: SessionEnd::KeepSession,
        }
    }

    /// Runs until the process ends: paho's callbacks hold the channel open.
    pub(super) fn run(mut self, inputs: &Receiver<Input>) {
        loop {
            self.heartbeat.mark_idle();
            let first = match self.deadline() {
                Some(at) => inputs.recv_timeout(at.saturating_duration_since(Instant::now())),
                None => inputs.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            self.heartbeat.mark_busy();
            match first {
                Ok(input) => self.handle(input),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(input) = inputs.try_recv() {
                self.handle(input);
            }
            self.advance();
        }
    }

    fn deadline(&self) -> Option<Instant> {
        match &self.phase {
            Phase::Idle => None,
            Phase::Leaving(leaving) => Some(leaving.deadline),
            Phase::Waiting { until } => Some(*until),
            Phase::Connecting(attempt) => Some(attempt.deadline),
            Phase::Connected(connection) => {
                let own = connection.deadline();
                Some(self.requests.deadline().map_or(own, |requests| requests.min(own)))
            }
        }
    }

    fn handle(&mut self, input: Input) {
        match input {
            Input::Connect => {
                if matches!(self.phase, Phase::Idle) {
                    self.phase = Phase::Waiting { until: Instant::now() };
                }
            }
            Input::Request(request) => match &self.phase {
                Phase::Connected(connection) => self.requests.push(request, connection.terms, Instant::now()),
                _ => request.fail(),
            },
            Input::Publish { topic, payload, token } => self.publish(&topic, payload, token),
            Input::Disconnect(session_end, reply) => {
                self.session_end = session_end;
                self.leaving.push(reply);
            }
            Input::Servers(servers) => self.replace_servers(servers),
            Input::Lost { version, loss } => self.check_loss(version, loss),
            Input::PreferredBroker(server) => self.return_to(&server),
            Input::AllReceived => self.disconnect(),
            Input::Progress => {}
        }
    }

    /// Applies a new broker list. The connection stays if its broker is in the list unchanged.
    fn replace_servers(&mut self, servers: Vec<Broker>) {
        if servers.is_empty() || !self.servers.replace(servers) {
            return;
        }
        fail::fail_point!("mqtt-list-changed");
        log::info!("Broker list changed, in order of attempts: {}", self.servers.addresses());
        let gone = match &mut self.phase {
            Phase::Waiting { until } => {
                *until = Instant::now();
                false
            }
            Phase::Connected(connection) => match self.servers.position(&connection.server) {
                Some(_) => {
                    connection.preferred_check_at = Instant::now();
                    false
                }
                None => true,
            },
            _ => false,
        };
        if gone {
            self.move_away("its row in mqtt_servers has changed");
        }
    }

    /// Advances the state machine as far as possible without blocking.
    fn advance(&mut self) {
        let now = Instant::now();
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Connected(connection) if self.leaving.is_empty() => self.serve(connection, now),
            Phase::Connected(connection) => self.leave(connection, None),
            Phase::Connecting(attempt) => self.check_attempt(attempt, now),
            Phase::Leaving(leaving) => self.continue_leaving(leaving),
            Phase::Idle | Phase::Waiting { .. } if !self.leaving.is_empty() => {
                self.finish_leaving(SessionEnd::KeepSession)
            }
            Phase::Waiting { until } if until <= now => self.begin_round(),
            phase @ (Phase::Idle | Phase::Waiting { .. }) => phase,
        };
    }

    fn poll(&self, token: &mut Token) -> Poll<Result<ServerResponse, paho_mqtt::Error>> {
        fail::fail_point!("mqtt-outcome", |_| Poll::Pending);
        Pin::new(token).poll(&mut Context::from_waker(&self.waker))
    }

    fn publish(&mut self, topic: &str, payload: Vec<u8>, token: Option<oneshot::Sender<DeliveryToken>>) {
        // Paho panics on NUL, and MQTT forbids it in topics.
        if let Phase::Connected(connection) = &mut self.phase
            && !topic.contains('\0')
        {
            connection.has_published = true;
            let published = connection.client.paho.publish(Message::new(topic, payload, 1));
            // Without a receiver the outcome does not matter.
            let _ = token.map(|token| token.send(published));
        }
    }

    fn emit(&self, event: MqttEvent) {
        (self.on_event)(event);
    }
}

fn wait(time: Duration) -> Phase {
    Phase::Waiting { until: Instant::now() + time }
}
