//! Connected state: serves requests, detects losses, and checks for preferred brokers.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::Context;
use std::thread;
use std::time::{Duration, Instant};

use paho_mqtt::ReasonCode;

use super::super::clients::{Client, is_prepared};
use super::super::input::{ConnectionLoss, Input};
use super::super::options::MqttEvent;
use super::super::packet::Terms;
use super::super::reconnect::{LosingBroker, NextBroker};
use super::super::relay::Relay;
use super::super::requests::LossReport;
use super::super::tcp;
use super::super::watchdog::patience;
use super::keepalive_probe::{KeepaliveAction, KeepaliveProbe};
use super::{Driver, Phase, wait};
use crate::domain::broker::{Broker, MqttVersion};
use crate::domain::filter_trials::TrialOutcome;

/// Interval at which the connection state of paho is polled, in case a callback is missing.
const CHECK_INTERVAL: Duration = Duration::from_secs(30);

/// Number of polls in a row that must find no connection. The first may run just before the callback.
const MAX_MISSED_CHECKS: u32 = 2;

pub(super) struct Connection {
    pub(super) server: Arc<Broker>,
    pub(super) client: Client,
    pub(super) relay: Relay,
    pub(super) terms: Terms,
    since: Instant,
    next_check: Instant,
    missed_checks: u32,
    pub(super) has_published: bool,
    keepalive_probe: KeepaliveProbe,
    /// Time of the next check for a preferred broker; unused at the first of the list.
    pub(super) preferred_check_at: Instant,
}

impl Connection {
    pub(super) fn new(
        server: Arc<Broker>,
        client: Client,
        relay: Relay,
        terms: Terms,
        preferred_check_at: Instant,
    ) -> Connection {
        let now = Instant::now();
        Connection {
            server,
            client,
            relay,
            terms,
            since: now,
            next_check: now + CHECK_INTERVAL,
            missed_checks: 0,
            has_published: false,
            keepalive_probe: KeepaliveProbe::new(now),
            preferred_check_at,
        }
    }

    /// Returns the time of the next check if no input arrives before.
    pub(super) fn deadline(&self) -> Instant {
        self.next_check.min(self.preferred_check_at).min(self.keepalive_probe.deadline())
    }
}

impl Driver {
    pub(super) fn serve(&mut self, mut connection: Connection, now: Instant) -> Phase {
        if connection.next_check <= now {
            connection.missed_checks =
                if connection.client.paho.is_connected() { 0 } else { connection.missed_checks + 1 };
            if connection.missed_checks >= MAX_MISSED_CHECKS {
                return self.lost(&connection, ConnectionLoss::Unreported);
            }
            connection.next_check = now + CHECK_INTERVAL;
        }
        if connection.preferred_check_at <= now {
            connection.preferred_check_at = now + self.reconnect.preferred_check_delay(rand::random());
            self.check_preferred(&connection.server);
        }
        let is_silent =
            self.heartbeat.is_free_for(patience()) && !connection.relay.has_answered_ping_within(patience());
        match connection.keepalive_probe.update(is_silent, now) {
            KeepaliveAction::Wait => {}
            KeepaliveAction::Send(request) => self.requests.push(request, connection.terms, now),
            KeepaliveAction::Close => {
                drop(connection.client.paho.disconnect(None));
                return self.lost(&connection, ConnectionLoss::Silent);
            }
        }
        let mut context = Context::from_waker(&self.waker);
        self.requests.advance(&connection.client.paho, connection.terms, now, &mut context);
        Phase::Connected(connection)
    }

    /// Checks for a preferred broker by its files and a TCP connection. Only a real attempt shows the answer to a
    /// CONNECT; failed attempts make later ones rarer.
    fn check_preferred(&self, present: &Broker) {
        let preferred = self.servers.before(present);
        if preferred.is_empty() {
            return;
        }
        let (inputs, allowed) = (self.inputs.clone(), self.clients.allowed_credentials().clone());
        let check = move || {
            let is_back = |server: &Broker| {
                is_prepared(server, &allowed) && tcp::connect(&server.host, server.port).is_ok()
            };
            let back = preferred.into_iter().find(|server| is_back(server));
            if let Some(server) = back {
                let _ = inputs.send(Input::PreferredBroker(server));
            }
        };
        if let Err(error) = thread::Builder::new().name("mqtt-look".to_owned()).spawn(check) {
            log::warn!("Cannot check for a preferred broker: {error}");
        }
    }

    pub(super) fn return_to(&mut self, server: &Broker) {
        let Phase::Connected(connection) = &self.phase else {
            return;
        };
        let (there, here) = (self.servers.position(server), self.servers.position(&connection.server));
        if there.is_some() && there < here {
            self.reconnect.record_return();
            self.move_away(&format!("{} is available again and precedes it", server.address()));
        }
    }

    /// Disconnects in good order and starts a round at the first broker of the list.
    pub(super) fn move_away(&mut self, reason: &str) {
        self.phase = match std::mem::replace(&mut self.phase, Phase::Idle) {
            Phase::Connected(connection) => self.leave(connection, Some(reason)),
            phase => phase,
        };
    }

    pub(super) fn check_loss(&mut self, version: MqttVersion, loss: ConnectionLoss) {
        let Phase::Connected(connection) = &self.phase else {
            return;
        };
        // Events of an earlier connection may arrive late.
        if connection.terms.version != version || connection.client.paho.is_connected() {
            return;
        }
        if let Phase::Connected(connection) = std::mem::replace(&mut self.phase, Phase::Idle) {
            self.phase = self.lost(&connection, loss);
        }
    }

    fn lost(&mut self, connection: &Connection, loss: ConnectionLoss) -> Phase {
        self.connected.store(false, Ordering::Relaxed);
        if connection.has_published {
            self.clients.renew(connection.terms.version);
        }
        let taken_over = loss == ConnectionLoss::ServerDisconnect(ReasonCode::SessionTakenOver);
        let LossReport { outcome, takes_filters } = self.report_loss(taken_over);
        let following = self.servers.next_after(&connection.server);
        // A broker that has left the list has no counter.
        let mut none = 0;
        let quick_losses = self.servers.quick_losses(&connection.server).unwrap_or(&mut none);
        let losing_broker = LosingBroker { quick_losses, has_next: following.is_some() };
        // A broker that accepts none of our filters keeps no connection: the next one may be better.
        let after = if outcome != TrialOutcome::Nothing && (takes_filters || !losing_broker.has_next) {
            self.reconnect.record_filter_loss(rand::random())
        } else {
            self.reconnect.record_loss(losing_broker, connection.since.elapsed(), taken_over, rand::random())
        };
        self.next_round = match after.next {
            NextBroker::First => None,
            NextBroker::Same => Some(Arc::clone(&connection.server)),
            NextBroker::Following => following,
        };
        let cause = if after.id_taken { self.second_client() } else { String::new() };
        let further =
            if after.next == NextBroker::Following { "; the next broker of the list is tried" } else { "" };
        let retry_in = after.retry_in;
        let reason =
            format!("{}{}{cause}{further}", describe(loss, &connection.relay), describe_outcome(&outcome));
        self.emit(MqttEvent::Lost { server: connection.server.address(), reason, retry_in });
        wait(retry_in)
    }

    /// Fails pending requests. A session takeover explains the loss, so no filter is suspected.
    fn report_loss(&mut self, taken_over: bool) -> LossReport {
        if taken_over {
            self.requests.fail_all();
            return LossReport { outcome: TrialOutcome::Nothing, takes_filters: false };
        }
        let mut context = Context::from_waker(&self.waker);
        self.requests.connection_lost(Instant::now(), &mut context)
    }

    fn second_client(&self) -> String {
        format!(
            "; another client with the client id {:?} is the likely cause, usually a Python service still running",
            self.client_id
        )
    }
}

fn describe_outcome(outcome: &TrialOutcome) -> String {
    match outcome {
        TrialOutcome::Nothing => String::new(),
        TrialOutcome::Suspects(filters) => {
            format!("; {filters} topic filters were unanswered and are retried one by one after all others")
        }
        TrialOutcome::Culprit { filter, retry_in } => format!(
            "; the topic filter {filter:?} was sent alone and is the likely cause: it is omitted and retried in {} s",
            retry_in.as_secs()
        ),
    }
}

fn describe(loss: ConnectionLoss, relay: &Relay) -> String {
    match loss {
        ConnectionLoss::Broken => match relay.end_reason() {
            Some(reason) => format!("the connection broke: {reason}"),
            None => "the connection broke".to_owned(),
        },
        ConnectionLoss::ServerDisconnect(code) => {
            format!("the broker closed the connection: {code} ({})", code as u8)
        }
        ConnectionLoss::Silent => {
            format!("no message and no answer to a keepalive probe for {} s", 2 * patience().as_secs())
        }
        ConnectionLoss::Unreported => "the MQTT client has no connection any more".to_owned(),
    }
}
