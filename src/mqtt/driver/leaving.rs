//! DISCONNECT: for good, or on the way to another broker.

use std::sync::atomic::Ordering;
use std::task::Poll;
use std::time::Instant;

use paho_mqtt::{DisconnectOptions, DisconnectOptionsBuilder, Properties, PropertyCode, Token};

use super::super::options::{Farewell, MqttError, MqttEvent};
use super::super::version::Version;
use super::super::watchdog::patience;
use super::{Connection, Driver, Phase};

pub(super) struct Leaving {
    token: Token,
    moves_on: bool,
    /// Where it can, the broker is told to forget the session.
    forgets: bool,
    /// When the farewell should have come long ago.
    pub(super) deadline: Instant,
}

impl Driver {
    /// Leaves for another broker if there is a reason to, else for good.
    ///
    /// What the broker has under way to us it sends again when we come back: until then it keeps the session with
    /// its subscriptions, for as long as CONNECT said. To unsubscribe before moving on would lose messages where
    /// brokers share their sessions, as the nodes of a cluster do.
    pub(super) fn leave(&mut self, connection: &Connection, moving_on_because: Option<&str>) -> Phase {
        self.connected.store(false, Ordering::Relaxed);
        self.requests.fail_all();
        if let Some(reason) = moving_on_because {
            self.tell(MqttEvent::Left { server: connection.server.address(), reason: reason.to_owned() });
        }
        let forgets = moving_on_because.is_none() && self.farewell == Farewell::ForgetSession;
        let options = forgets.then(|| forgetting(connection.terms.version)).flatten();
        let token = connection.client.paho.disconnect(options);
        let deadline = Instant::now() + patience();
        self.check_farewell(Leaving { token, moves_on: moving_on_because.is_some(), forgets, deadline })
    }

    pub(super) fn check_farewell(&mut self, mut leaving: Leaving) -> Phase {
        match self.poll(&mut leaving.token) {
            // An error says that the connection is gone already: as good, unless there was something to be said.
            Poll::Ready(_) if leaving.moves_on && self.leaving.is_empty() => self.begin_round(),
            Poll::Ready(outcome) => self.left(leaving.forgets && outcome.is_ok()),
            Poll::Pending if leaving.deadline <= Instant::now() => {
                if self.pulse.is_free_for(patience()) {
                    let reason = format!("it has not disconnected for {} s", patience().as_secs());
                    self.tell(MqttEvent::Stuck { reason });
                }
                Phase::Leaving(Leaving { deadline: Instant::now() + patience(), ..leaving })
            }
            Poll::Pending => Phase::Leaving(leaving),
        }
    }

    /// Without a connection a session is not `forgotten`: whatever the broker has for it stays there.
    pub(super) fn left(&mut self, forgotten: bool) -> Phase {
        let done = forgotten || self.farewell == Farewell::KeepSession;
        for reply in self.leaving.drain(..) {
            // One who no longer waits does not mind.
            let _ = reply.send(if done { Ok(()) } else { Err(MqttError::NotConnected) });
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
