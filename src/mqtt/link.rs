//! Handle of the link.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::clients::{Clients, OnIncoming};
use super::driver::{Driver, SharedState};
use super::incoming::Incoming;
use super::input::Input;
use super::options::{BrokerOptions, MqttError, MqttEvent, RefusedCode, SessionEnd, Subscription};
use super::packet::{Answers, PROBE_FILTER};
use super::requests::{Request, RequestKind};
use super::watchdog::{Heartbeat, watch};
use crate::domain::broker::Broker;

/// Time that [`MqttLink::disconnect`] waits for the MQTT client, which a blocked message callback delays.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Time limit for the acknowledgement of a published message.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(30);

/// Broker connection that reconnects by itself. Clones are handles to the same link.
///
/// The link lives as long as the process: its MQTT client cannot be dropped safely while a message callback waits.
#[derive(Debug, Clone)]
pub struct MqttLink {
    inputs: Sender<Input>,
    connected: Arc<AtomicBool>,
    heartbeat: Arc<Heartbeat>,
}

impl MqttLink {
    /// Creates a link, which stays idle until [`connect`](Self::connect).
    ///
    /// `on_incoming` is called for every connection and for each of its messages, on the one receiving thread of all
    /// MQTT clients. Its return acknowledges the message, so it must return only once the message is safe, however long
    /// that takes. It must not panic: that would abort the process.
    ///
    /// `on_event` receives the events of the connection and should not block.
    pub fn start(
        options: BrokerOptions,
        on_incoming: Box<dyn Fn(Incoming<'_>) + Send + Sync>,
        on_event: Box<dyn Fn(MqttEvent) + Send + Sync>,
    ) -> Result<MqttLink, MqttError> {
        let (inputs, received) = mpsc::channel();
        let connected = Arc::new(AtomicBool::new(false));
        let (heartbeat, on_event) = (Heartbeat::new(), Arc::from(on_event));
        let watched = Arc::clone(&heartbeat);
        let on_incoming: OnIncoming =
            Arc::new(move |incoming| watched.during_callback(|| on_incoming(incoming)));
        let clients = Clients::new(&options, &on_incoming, &inputs)?;
        start_watchdog(&heartbeat, &on_event)?;
        let link = MqttLink { inputs, connected, heartbeat: Arc::clone(&heartbeat) };
        let shared = SharedState {
            inputs: link.inputs.clone(),
            on_event,
            connected: Arc::clone(&link.connected),
            heartbeat,
        };
        let driver = Driver::new(options, clients, shared);
        thread::Builder::new().name("mqtt".to_owned()).spawn(move || driver.run(&received))?;
        Ok(link)
    }

    /// Replaces the broker list, in the order of attempts; an empty list changes nothing. If the connected broker is
    /// removed or changed, the link reconnects to the first of the list.
    pub fn use_servers(&self, servers: Vec<Broker>) {
        // The thread ends only with the process, so the send cannot fail.
        let _ = self.inputs.send(Input::Servers(servers));
    }

    /// Connects, and reconnects after every loss until [`disconnect`](Self::disconnect).
    pub fn connect(&self) {
        // The thread ends only with the process, so the send cannot fail.
        let _ = self.inputs.send(Input::Connect);
    }

    /// Whether the link is connected, as far as is known. Never blocks.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Whether a received message waits for its callback to return. Answers of the broker wait behind it.
    #[must_use]
    pub fn is_receiving_blocked(&self) -> bool {
        self.heartbeat.is_in_callback()
    }

    /// Subscribes, and returns the granted code (the `QoS`) or the refusal of each filter, in no particular order.
    ///
    /// Identifiers are omitted on connections that do not support them.
    pub async fn subscribe(
        &self,
        subscriptions: Vec<Subscription>,
    ) -> Result<Vec<(String, Result<u8, RefusedCode>)>, MqttError> {
        self.request(RequestKind::Subscribe(subscriptions)).await
    }

    /// Unsubscribes, and returns the refused filters with their codes. Afterwards the broker sends no new messages for
    /// the accepted filters; messages in flight still arrive.
    pub async fn unsubscribe(&self, filters: Vec<String>) -> Result<Vec<(String, RefusedCode)>, MqttError> {
        let answers = self.request(RequestKind::Unsubscribe(filters)).await?.into_iter();
        Ok(answers.filter_map(|(filter, answer)| Some((filter, answer.err()?))).collect())
    }

    /// Whether the broker answers a probe request. All messages that it sent before its answer have arrived by then.
    pub async fn answers(&self) -> bool {
        self.unsubscribe(vec![PROBE_FILTER.to_owned()]).await.is_ok()
    }

    /// Publishes at `QoS` 1 if connected. The outcome is not reported; the message may be lost with the connection.
    pub fn publish(&self, topic: &str, payload: &[u8]) {
        // The thread ends only with the process, so the send cannot fail.
        let (topic, payload) = (topic.to_owned(), payload.to_owned());
        let _ = self.inputs.send(Input::Publish { topic, payload, token: None });
    }

    /// Publishes at `QoS` 1 and waits for the broker's acknowledgement.
    pub async fn publish_acknowledged(&self, topic: &str, payload: &[u8]) -> Result<(), MqttError> {
        let (token, published) = oneshot::channel();
        let (topic, payload) = (topic.to_owned(), payload.to_owned());
        self.inputs
            .send(Input::Publish { topic, payload, token: Some(token) })
            .map_err(|_| thread_ended())?;
        // Without a connection the sender is dropped.
        let published = published.await.map_err(|_| MqttError::NotConnected)?;
        match timeout(PUBLISH_TIMEOUT, published).await {
            Ok(outcome) => outcome.map_err(|error| MqttError::Client(error.to_string())),
            Err(_) => Err(MqttError::NoAnswer(PUBLISH_TIMEOUT)),
        }
    }

    /// Disconnects in good order and stays disconnected. The broker keeps the session and its messages.
    ///
    /// Fails if a message callback blocks the client. The process may then exit; the broker notices by itself.
    pub async fn disconnect(&self) -> Result<(), MqttError> {
        self.disconnect_with(SessionEnd::KeepSession).await
    }

    /// Disconnects as [`disconnect`](Self::disconnect) does, and chooses the fate of the session. Deleting the session
    /// fails without a connection.
    pub async fn disconnect_with(&self, session_end: SessionEnd) -> Result<(), MqttError> {
        let (reply, done) = oneshot::channel();
        self.inputs.send(Input::Disconnect(session_end, reply)).map_err(|_| thread_ended())?;
        match timeout(DISCONNECT_TIMEOUT, done).await {
            Ok(done) => done.map_err(|_| thread_ended())?,
            Err(_) => Err(MqttError::NoAnswer(DISCONNECT_TIMEOUT)),
        }
    }

    async fn request(&self, kind: RequestKind) -> Result<Answers, MqttError> {
        let (reply, answers) = oneshot::channel();
        let request = Request { kind, reply };
        self.inputs.send(Input::Request(request)).map_err(|_| thread_ended())?;
        answers.await.map_err(|_| thread_ended())?
    }
}

type OnEvent = Arc<dyn Fn(MqttEvent) + Send + Sync>;

fn start_watchdog(heartbeat: &Arc<Heartbeat>, on_event: &OnEvent) -> Result<(), MqttError> {
    let on_event = Arc::clone(on_event);
    watch(Arc::clone(heartbeat), move |reason| on_event(MqttEvent::Stuck { reason }))?;
    Ok(())
}

fn thread_ended() -> MqttError {
    MqttError::Client("its thread has ended".to_owned())
}
