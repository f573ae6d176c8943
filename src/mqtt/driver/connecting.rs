//! Connecting state: tries one broker of the list after the other until one answers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use paho_mqtt::{PropertyCode, ServerResponse, Token};

use super::super::clients::{CONNECT_TIMEOUT, Client};
use super::super::failure::{ConnectFailure, FailureKind};
use super::super::options::{MqttEvent, SessionEnd};
use super::super::packet::Terms;
use super::super::relay::Relay;
use super::super::watchdog::patience;
use super::{ATTEMPT_TIMEOUT, Connection, Driver, Phase, wait};
use crate::domain::broker::{Broker, BrokerConnection, MqttVersion};

/// Attempt in progress.
pub(super) struct ConnectAttempt {
    target: ConnectTarget,
    client: Client,
    relay: Relay,
    token: Token,
    pub(super) deadline: Instant,
}

struct ConnectTarget {
    server: Arc<Broker>,
    version: MqttVersion,
}

impl Driver {
    pub(super) fn begin_round(&mut self) -> Phase {
        let next = self.next_round.take().filter(|server| self.servers.position(server).is_some());
        match next.or_else(|| self.servers.get(0)) {
            Some(first) => self.attempt_server(first),
            // The list is empty: wait for a new one.
            None => wait(Duration::from_mins(1)),
        }
    }

    fn attempt_server(&mut self, server: Arc<Broker>) -> Phase {
        let version = self.servers.versions(&server).map_or(MqttVersion::V5, |versions| versions.first());
        self.attempt(ConnectTarget { server, version })
    }

    fn attempt(&mut self, target: ConnectTarget) -> Phase {
        let now = Instant::now();
        let first = self.servers.position(&target.server) == Some(0);
        match self.clients.connect(&target.server, target.version, first) {
            Ok((client, relay, token)) => {
                let deadline = now + ATTEMPT_TIMEOUT;
                self.check_attempt(ConnectAttempt { target, client, relay, token, deadline }, now)
            }
            Err(failure) => self.failed(target, &failure),
        }
    }

    pub(super) fn check_attempt(&mut self, mut attempt: ConnectAttempt, now: Instant) -> Phase {
        match self.poll(&mut attempt.token) {
            Poll::Ready(Ok(response)) => self.established(attempt, &response),
            Poll::Ready(Err(error)) => {
                self.overdue_since = None;
                let mut failure = ConnectFailure::new(&error, || attempt.relay.reachable());
                if failure.kind == FailureKind::NotUnderstood {
                    failure.text = attempt.relay.end_reason().unwrap_or(failure.text);
                }
                self.failed(attempt.target, &failure)
            }
            Poll::Pending if attempt.deadline <= now => {
                // Prevents the overdue attempt from succeeding later.
                drop(attempt.client.paho.disconnect(None));
                // A waiting message callback blocks paho. Afterwards paho gets its full time again.
                let excused = !self.heartbeat.is_free_for(2 * CONNECT_TIMEOUT);
                if excused || attempt.relay.reachable().is_err() {
                    self.overdue_since = None;
                } else {
                    self.report_overdue_attempts();
                }
                self.failed(attempt.target, &ConnectFailure::overdue())
            }
            Poll::Pending => Phase::Connecting(attempt),
        }
    }

    /// Reports a hang after overdue attempts in a row at reachable brokers, which never recover.
    fn report_overdue_attempts(&mut self) {
        let began = Instant::now().checked_sub(ATTEMPT_TIMEOUT).unwrap_or_else(Instant::now);
        let since = *self.overdue_since.get_or_insert(began);
        if since.elapsed() >= patience() {
            let owed = since.elapsed().as_secs();
            self.emit(MqttEvent::Stuck {
                reason: format!("a connection attempt has not ended for {owed} s"),
            });
        }
    }

    fn established(&mut self, attempt: ConnectAttempt, response: &ServerResponse) -> Phase {
        let ConnectAttempt { target: ConnectTarget { server, version }, client, relay, .. } = attempt;
        let available = response.properties().get_int(PropertyCode::SubscriptionIdentifiersAvailable);
        let shares = response.properties().get_int(PropertyCode::SharedSubscriptionAvailable) != Some(0);
        let terms = Terms {
            version,
            names_subscriptions: version == MqttVersion::V5 && available != Some(0),
            qos: self.qos,
        };
        self.overdue_since = None;
        self.requests.begin(server.address(), Instant::now());
        self.reconnect.record_connected();
        if let Some(versions) = self.servers.versions(&server) {
            versions.record_connected(version);
        }
        self.connected.store(true, Ordering::Relaxed);
        self.emit(MqttEvent::Connected(BrokerConnection {
            server: server.address().into(),
            version,
            names_subscriptions: terms.names_subscriptions,
            shares_subscriptions: version == MqttVersion::V5 && shares,
            session_kept: response.connect_response().is_some_and(|response| response.session_present),
        }));
        let listed = self.servers.position(&server).is_some();
        let preferred_check_at = Instant::now() + self.reconnect.preferred_check_delay(rand::random());
        let connection = Connection::new(server, client, relay, terms, preferred_check_at);
        if !self.leaving.is_empty() {
            self.leave(connection, None)
        } else if listed {
            Phase::Connected(connection)
        } else {
            self.leave(connection, Some("its row in mqtt_servers has changed"))
        }
    }

    fn failed(&mut self, target: ConnectTarget, failure: &ConnectFailure) -> Phase {
        if !self.leaving.is_empty() {
            return self.finish_leaving(SessionEnd::KeepSession);
        }
        let ConnectTarget { server, version } = target;
        if self.servers.versions(&server).is_some_and(|versions| versions.fall_back(version, failure.kind)) {
            let address = server.address();
            log::info!(server = address.as_str(); "Broker {address} does not seem to support MQTT 5 ({}); trying 3.1.1", failure.text);
            return self.attempt(ConnectTarget { server, version: MqttVersion::V311 });
        }
        // If the list has changed, continue with its first broker.
        let next = match self.servers.position(&server) {
            Some(_) => self.servers.next_after(&server),
            None => self.servers.get(0),
        };
        let retry_in =
            if next.is_some() { Duration::ZERO } else { self.reconnect.record_failure(rand::random()) };
        let (address, reason) = (server.address(), failure.text.clone());
        let versions = self.servers.versions(&server);
        let is_open = versions.is_some_and(|versions| versions.may_be_version(version, failure.kind));
        self.emit(if is_open {
            MqttEvent::Unanswered { server: address, reason, retry_in }
        } else {
            MqttEvent::Failed { server: address, reason_code: failure.code, reason, retry_in }
        });
        match next {
            Some(next) => self.attempt_server(next),
            None => wait(retry_in),
        }
    }
}
