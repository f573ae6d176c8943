//! All that the thread "mqtt" reacts to comes through one channel of these.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::task::{Wake, Waker};

use paho_mqtt::ReasonCode;
use tokio::sync::oneshot;

use super::options::{Farewell, MqttError};
use super::requests::Request;
use super::server::BrokerServer;
use super::version::Version;

pub(super) enum Input {
    /// Connect, and stay connected.
    Connect,
    /// Subscribe or unsubscribe.
    Request(Request),
    /// Publish at `QoS` 1, if there is a connection.
    Publish { topic: String, payload: Vec<u8> },
    /// Disconnect, and stay so.
    Disconnect(Farewell, oneshot::Sender<Result<(), MqttError>>),
    /// From now on these are the brokers to connect to.
    Servers(Vec<BrokerServer>),
    /// Paho says that a connection is gone.
    Gone { version: Version, why: Gone },
    /// One of the brokers that are rather had than the present one is back.
    Back(Arc<BrokerServer>),
    /// Something that paho owed has come: look again.
    Progress,
}

/// Why a connection is gone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Gone {
    /// The connection broke.
    Broken,
    /// The broker took its leave and said why (MQTT 5).
    Dismissed(ReasonCode),
    /// Nobody answers, and paho has not noticed.
    Silent,
    /// Paho has no connection and has not said so.
    Missing,
}

/// A waker that makes the thread look at the tokens it waits for.
pub(super) fn progress_waker(inputs: Sender<Input>) -> Waker {
    Waker::from(Arc::new(Progress(inputs)))
}

struct Progress(Sender<Input>);

impl Wake for Progress {
    // Paho calls this within its callbacks: posting never waits, and nobody is left who could miss it.
    fn wake(self: Arc<Self>) {
        let _ = self.0.send(Input::Progress);
    }
}
