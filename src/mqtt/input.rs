//! Inputs of the thread "mqtt", which all arrive through one channel.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Wake, Waker};

use paho_mqtt::{DeliveryToken, ReasonCode};
use tokio::sync::oneshot;

use super::options::{MqttError, SessionEnd};
use super::requests::Request;
use crate::domain::broker::{Broker, MqttVersion};

pub(super) enum Input {
    /// Connect, and reconnect after every loss.
    Connect,
    /// Subscribe or unsubscribe.
    Request(Request),
    /// Publish at `QoS` 1 if connected. The token of the acknowledgement goes to `token`, if anyone waits for it.
    Publish { topic: String, payload: Vec<u8>, token: Option<oneshot::Sender<DeliveryToken>> },
    /// Disconnect, and stay disconnected.
    Disconnect(SessionEnd, oneshot::Sender<Result<(), MqttError>>),
    /// Replace the broker list.
    Servers(Vec<Broker>),
    /// Paho reports the loss of a connection.
    Lost { version: MqttVersion, loss: ConnectionLoss },
    /// A broker that precedes the current one in the list accepts connections again.
    PreferredBroker(Arc<Broker>),
    /// Paho has handled all messages that it gets from a connection which ends.
    AllReceived,
    /// An operation of paho has completed, or a relay has closed: check them.
    Progress,
}

/// Cause of a lost connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ConnectionLoss {
    /// The network connection broke.
    Broken,
    /// The broker sent DISCONNECT with a reason code (MQTT 5).
    ServerDisconnect(ReasonCode),
    /// The broker does not answer, and paho has not noticed.
    Silent,
    /// Paho is disconnected but did not report it.
    Unreported,
}

/// Returns a waker that makes the thread poll its tokens.
pub(super) fn progress_waker(inputs: Sender<Input>) -> Waker {
    Waker::from(Arc::new(ProgressWaker(inputs)))
}

struct ProgressWaker(Sender<Input>);

impl Wake for ProgressWaker {
    // Paho wakes this inside its callbacks, so sending must not block. A closed channel has no reader to miss it.
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(Input::Progress);
    }
}
