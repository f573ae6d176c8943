//! Leaving state: DISCONNECT, either finally or before connecting to another broker.
//!
//! ```text
//!   Receiving ──all received messages are handled──▶ Disconnecting ──sent──▶ Closing ──the broker has closed──▶
//! ```
//!
//! Paho does not send what is left of its acknowledgements if it closes a connection from which it has not read
//! everything. The broker would send these messages again. So the relay first stops passing on messages.

use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::{Duration, Instant};

use paho_mqtt::{DisconnectOptions, DisconnectOptionsBuilder, Properties, PropertyCode, Token};

use super::super::clients::Client;
use super::super::options::{MqttError, MqttEvent, SessionEnd};
use super::super::relay::Relay;
use super::super::watchdog::patience;
use super::{Connection, Driver, Phase};
use crate::domain::broker::MqttVersion;

/// Timeout for the messages that paho has received. A message callback may wait for hours while the inbox is full.
const RECEIVE_TIMEOUT: Duration = Duration::from_secs(2);

/// Timeout for the relay and the broker to close the connection. Both timeouts together stay below that of the callers.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

pub(super) struct Leaving {
    step: LeavingStep,
    client: Client,
    relay: Relay,
    version: MqttVersion,
    connects_next: bool,
    /// Whether the broker is asked to delete the session.
    forgets: bool,
    /// Time at which the step counts as overdue.
    pub(super) deadline: Instant,
}

enum LeavingStep {
    /// Paho handles and acknowledges the messages that it has received.
    Receiving,
    /// Paho sends DISCONNECT.
    Disconnecting(Token),
    /// The relay passes on the last packets, and closes the connection.
    Closing { is_sent: bool },
}

impl Driver {
    /// Disconnects, and reconnects to another broker if `next_broker_reason` gives a reason.
    ///
    /// The broker keeps the session for its expiry interval, and sends unacknowledged messages again when the gateway
    /// returns. Unsubscribing first would lose messages in a cluster whose nodes share sessions.
    pub(super) fn leave(&mut self, connection: Connection, next_broker_reason: Option<&str>) -> Phase {
        self.connected.store(false, Ordering::Relaxed);
        self.requests.fail_all();
        if let Some(reason) = next_broker_reason {
            self.emit(MqttEvent::Left { server: connection.server.address(), reason: reason.to_owned() });
        }
        connection.relay.end_download();
        Phase::Leaving(Leaving {
            step: LeavingStep::Receiving,
            client: connection.client,
            relay: connection.relay,
            version: connection.terms.version,
            connects_next: next_broker_reason.is_some(),
            forgets: next_broker_reason.is_none() && self.session_end == SessionEnd::ForgetSession,
            deadline: Instant::now() + RECEIVE_TIMEOUT,
        })
    }

    /// Paho has handled all messages of a connection that ends.
    pub(super) fn disconnect(&mut self) {
        if let Phase::Leaving(leaving) = &mut self.phase
            && matches!(leaving.step, LeavingStep::Receiving)
        {
            leaving.begin_disconnect();
        }
    }

    pub(super) fn continue_leaving(&mut self, mut leaving: Leaving) -> Phase {
        let is_overdue = leaving.deadline <= Instant::now();
        match &mut leaving.step {
            LeavingStep::Receiving => {
                if is_overdue || leaving.relay.is_closed() {
                    leaving.begin_disconnect();
                    return self.continue_leaving(leaving);
                }
            }
            LeavingStep::Disconnecting(token) => match self.poll(token) {
                Poll::Ready(outcome) => {
                    leaving.begin_step(LeavingStep::Closing { is_sent: outcome.is_ok() }, CLOSE_TIMEOUT);
                    return self.continue_leaving(leaving);
                }
                Poll::Pending if is_overdue => {
                    if self.heartbeat.is_free_for(patience()) {
                        let reason = format!("DISCONNECT has not completed for {} s", patience().as_secs());
                        self.emit(MqttEvent::Stuck { reason });
                    }
                    leaving.deadline = Instant::now() + patience();
                }
                Poll::Pending => {}
            },
            LeavingStep::Closing { is_sent } => {
                if is_overdue || leaving.relay.is_closed() {
                    // An error of DISCONNECT means that the connection was closed already. Only deleting the session
                    // needs DISCONNECT itself.
                    let forgotten = leaving.forgets && *is_sent;
                    return self.left(leaving.connects_next, forgotten);
                }
            }
        }
        Phase::Leaving(leaving)
    }

    fn left(&mut self, connects_next: bool, forgotten: bool) -> Phase {
        if connects_next && self.leaving.is_empty() {
            return self.begin_round();
        }
        self.finish_leaving(if forgotten { SessionEnd::ForgetSession } else { SessionEnd::KeepSession })
    }

    /// Answers the callers that wait for the disconnect. Without a connection, the session stays at the broker.
    pub(super) fn finish_leaving(&mut self, reached: SessionEnd) -> Phase {
        let done = reached == SessionEnd::ForgetSession || self.session_end == SessionEnd::KeepSession;
        for reply in self.leaving.drain(..) {
            // The receiver may be gone already.
            let _ = reply.send(if done { Ok(()) } else { Err(MqttError::NotConnected) });
        }
        Phase::Idle
    }
}

impl Leaving {
    fn begin_disconnect(&mut self) {
        let options = self.forgets.then(|| delete_session_options(self.version)).flatten();
        let token = self.client.paho.disconnect(options);
        self.begin_step(LeavingStep::Disconnecting(token), patience());
    }

    fn begin_step(&mut self, step: LeavingStep, timeout: Duration) {
        self.step = step;
        self.deadline = Instant::now() + timeout;
    }
}

/// Returns the options that delete the session. MQTT 3.1.1 has none.
fn delete_session_options(version: MqttVersion) -> Option<DisconnectOptions> {
    if version != MqttVersion::V5 {
        return None;
    }
    let mut properties = Properties::new();
    // Fails only when out of memory.
    properties.push_u32(PropertyCode::SessionExpiryInterval, 0).ok()?;
    Some(DisconnectOptionsBuilder::new().properties(properties).finalize())
}
