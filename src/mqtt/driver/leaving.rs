//! Leaving state: DISCONNECT, either finally or before connecting to another broker.

use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use paho_mqtt::{DisconnectOptions, DisconnectOptionsBuilder, Properties, PropertyCode, Token};

use super::super::options::{MqttError, MqttEvent, SessionEnd};
use super::super::watchdog::patience;
use super::{Connection, Driver, Phase};
use crate::domain::broker::MqttVersion;

pub(super) struct Leaving {
    token: Token,
    connects_next: bool,
    /// Whether the broker is asked to delete the session.
    forgets: bool,
    /// Time at which DISCONNECT counts as overdue.
    pub(super) deadline: Instant,
}

impl Driver {
    /// Disconnects, and reconnects to another broker if `next_broker_reason` gives a reason.
    ///
    /// The broker keeps the session for its expiry interval, and sends unacknowledged messages again when the gateway
    /// returns. Unsubscribing first would lose messages in a cluster whose nodes share sessions.
    pub(super) fn leave(&mut self, connection: &Connection, next_broker_reason: Option<&str>) -> Phase {
        self.connected.store(false, Ordering::Relaxed);
        self.requests.fail_all();
        if let Some(reason) = next_broker_reason {
            self.emit(MqttEvent::Left { server: connection.server.address(), reason: reason.to_owned() });
        }
        let forgets = next_broker_reason.is_none() && self.session_end == SessionEnd::ForgetSession;
        let options = forgets.then(|| delete_session_options(connection.terms.version)).flatten();
        let token = connection.client.paho.disconnect(options);
        let deadline = Instant::now() + patience();
        self.check_disconnect(Leaving {
            token,
            connects_next: next_broker_reason.is_some(),
            forgets,
            deadline,
        })
    }

    pub(super) fn check_disconnect(&mut self, mut leaving: Leaving) -> Phase {
        match self.poll(&mut leaving.token) {
            // An error means that the connection is closed already. Only deleting the session needs the DISCONNECT
            // itself.
            Poll::Ready(_) if leaving.connects_next && self.leaving.is_empty() => self.begin_round(),
            Poll::Ready(Ok(_)) if leaving.forgets => self.finish_leaving(SessionEnd::ForgetSession),
            Poll::Ready(_) => self.finish_leaving(SessionEnd::KeepSession),
            Poll::Pending if leaving.deadline <= Instant::now() => {
                if self.heartbeat.is_free_for(patience()) {
                    let reason = format!("DISCONNECT has not completed for {} s", patience().as_secs());
                    self.emit(MqttEvent::Stuck { reason });
                }
                Phase::Leaving(Leaving { deadline: Instant::now() + patience(), ..leaving })
            }
            Poll::Pending => Phase::Leaving(leaving),
        }
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
