//! The handle to the link.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::clients::{Clients, OnIncoming};
use super::driver::{Driver, Surroundings};
use super::incoming::Incoming;
use super::input::Input;
use super::options::{BrokerOptions, Farewell, MqttError, MqttEvent, RefusedCode, Subscription};
use super::packet::{Answers, NOBODYS_FILTER};
use super::requests::{Request, What};
use super::server::BrokerServer;
use super::watchdog::{Pulse, watch};

/// How long [`MqttLink::disconnect`] waits for the MQTT client, which a blocked message callback holds up.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to a broker that renews itself. Clones are handles to the same link.
///
/// The link lives as long as the process: the MQTT client beneath it cannot be taken down safely while a message
/// callback waits.
#[derive(Debug, Clone)]
pub struct MqttLink {
    inputs: Sender<Input>,
    connected: Arc<AtomicBool>,
}

impl MqttLink {
    /// Prepares a link; it does nothing until [`connect`](Self::connect).
    ///
    /// `on_incoming` is called for every connection and then for every message of it, on the one thread that receives
    /// for all MQTT clients of the process. Returning from it acknowledges the message, so it returns when the message
    /// is safe, however long that takes, and never if it cannot be made safe. It must not panic: that would abort the
    /// process.
    ///
    /// `on_event` is told what happens to the connection; it should not wait.
    pub fn start(
        options: BrokerOptions,
        on_incoming: Box<dyn Fn(Incoming<'_>) + Send + Sync>,
        on_event: Box<dyn Fn(MqttEvent) + Send + Sync>,
    ) -> Result<MqttLink, MqttError> {
        let (inputs, received) = mpsc::channel();
        let connected = Arc::new(AtomicBool::new(false));
        let (pulse, on_event) = (Pulse::new(), Arc::from(on_event));
        let watched = Arc::clone(&pulse);
        let on_incoming: OnIncoming =
            Arc::new(move |incoming| watched.during_callback(|| on_incoming(incoming)));
        let clients = Clients::new(&options, &on_incoming, &inputs)?;
        watch_over(&pulse, &on_event)?;
        let link = MqttLink { inputs, connected };
        let surroundings = Surroundings {
            inputs: link.inputs.clone(),
            on_event,
            connected: Arc::clone(&link.connected),
            pulse,
        };
        let driver = Driver::new(options, clients, surroundings);
        thread::Builder::new().name("mqtt".to_owned()).spawn(move || driver.run(&received))?;
        Ok(link)
    }

    /// From now on these are the brokers to connect to, in this order; an empty list changes nothing. A connection to
    /// a broker that is no longer among them, or not just as it was, is left in good order for the first of them.
    pub fn use_servers(&self, servers: Vec<BrokerServer>) {
        // The thread ends only with the process.
        let _ = self.inputs.send(Input::Servers(servers));
    }

    /// From now on be connected, and connect again whenever the connection is lost, until
    /// [`disconnect`](Self::disconnect).
    pub fn connect(&self) {
        // The thread ends only with the process.
        let _ = self.inputs.send(Input::Connect);
    }

    /// Whether there is a connection, as far as is known. Never waits.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Relaxed)
    }

    /// Subscribes, and says for each filter, in no particular order, with which code the broker granted it (the
    /// `QoS`) or refused it.
    ///
    /// Identifiers are left out on connections that do not name subscriptions.
    pub async fn subscribe(
        &self,
        subscriptions: Vec<Subscription>,
    ) -> Result<Vec<(String, Result<u8, RefusedCode>)>, MqttError> {
        self.request(What::Subscribe(subscriptions)).await
    }

    /// Unsubscribes; when it has, the broker sends nothing more for these filters but what was already under way. Says
    /// which it refused, and why: for those it sends on.
    pub async fn unsubscribe(&self, filters: Vec<String>) -> Result<Vec<(String, RefusedCode)>, MqttError> {
        let answers = self.request(What::Unsubscribe(filters)).await?.into_iter();
        Ok(answers.filter_map(|(filter, answer)| Some((filter, answer.err()?))).collect())
    }

    /// Whether the broker answers a question that changes nothing. What it sent before it did has come before its answer.
    pub async fn answers(&self) -> bool {
        self.unsubscribe(vec![NOBODYS_FILTER.to_owned()]).await.is_ok()
    }

    /// Publishes at `QoS` 1, if there is a connection. What becomes of it nobody is told; it may be lost with the connection.
    pub fn publish(&self, topic: &str, payload: &[u8]) {
        // The thread ends only with the process.
        let _ = self.inputs.send(Input::Publish { topic: topic.to_owned(), payload: payload.to_owned() });
    }

    /// Disconnects in good order and stays so. The broker keeps the session, and messages for it.
    ///
    /// Fails when a message callback holds the client up: the process may end over it, the broker will notice.
    pub async fn disconnect(&self) -> Result<(), MqttError> {
        self.leave(Farewell::KeepSession).await
    }

    /// As [`disconnect`](Self::disconnect), and says what becomes of the session. To have it forgotten fails without a
    /// connection.
    pub async fn leave(&self, farewell: Farewell) -> Result<(), MqttError> {
        let (reply, done) = oneshot::channel();
        self.inputs.send(Input::Disconnect(farewell, reply)).map_err(|_| thread_ended())?;
        match timeout(DISCONNECT_TIMEOUT, done).await {
            Ok(done) => done.map_err(|_| thread_ended())?,
            Err(_) => Err(MqttError::NoAnswer(DISCONNECT_TIMEOUT)),
        }
    }

    async fn request(&self, what: What) -> Result<Answers, MqttError> {
        let (reply, answers) = oneshot::channel();
        let request = Request { what, reply };
        self.inputs.send(Input::Request(request)).map_err(|_| thread_ended())?;
        answers.await.map_err(|_| thread_ended())?
    }
}

type OnEvent = Arc<dyn Fn(MqttEvent) + Send + Sync>;

fn watch_over(pulse: &Arc<Pulse>, on_event: &OnEvent) -> Result<(), MqttError> {
    let on_event = Arc::clone(on_event);
    watch(Arc::clone(pulse), move |reason| on_event(MqttEvent::Stuck { reason }))?;
    Ok(())
}

fn thread_ended() -> MqttError {
    MqttError::Client("its thread has ended".to_owned())
}
