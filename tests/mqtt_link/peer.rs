//! A link whose events and messages can be awaited.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use mqtt_gateway::domain::message::DeliveryFacts;
use mqtt_gateway::mqtt::{BrokerOptions, Incoming, MqttEvent, MqttLink};
use secrecy::SecretString;

/// Far more than anything here takes: only a failing test waits as long.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) struct Peer {
    pub(crate) link: MqttLink,
    pub(crate) messages: Receiver<Got>,
    events: Receiver<MqttEvent>,
}

#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) delivery: DeliveryFacts,
}

impl Peer {
    pub(crate) fn connect(port: u16, client_id: &str) -> Peer {
        Peer::new(port, client_id, None, None)
    }

    pub(crate) fn connect_as(port: u16, client_id: &str, credentials: Option<(&str, &str)>) -> Peer {
        Peer::new(port, client_id, credentials, None)
    }

    /// The callback, having handed out its message, does not return until the other end of `gate` is dropped.
    pub(crate) fn connect_blocked(port: u16, client_id: &str, gate: Receiver<()>) -> Peer {
        Peer::new(port, client_id, None, Some(gate))
    }

    fn new(
        port: u16,
        client_id: &str,
        credentials: Option<(&str, &str)>,
        gate: Option<Receiver<()>>,
    ) -> Peer {
        let options = BrokerOptions {
            host: "127.0.0.1".to_owned(),
            port,
            credentials: credentials.map(|(user, password)| (user.to_owned(), SecretString::from(password))),
            client_id: client_id.to_owned(),
            keepalive: Duration::from_mins(1),
            session_expiry_seconds: u32::MAX,
            qos: 1,
        };
        let (message_sender, messages) = mpsc::channel();
        let (event_sender, events) = mpsc::channel();
        let gate = gate.map(Mutex::new);
        let on_incoming = move |incoming: Incoming<'_>| {
            let Incoming::Message(publication) = incoming else {
                return;
            };
            let got = Got {
                topic: publication.topic.to_owned(),
                payload: String::from_utf8(publication.payload.to_vec()).unwrap(),
                delivery: publication.delivery.clone(),
            };
            // A test that is over awaits nothing more; a panic here would abort all of them.
            let _ = message_sender.send(got);
            if let Some(gate) = &gate {
                let _ = gate.lock().unwrap().recv();
            }
        };
        let on_event = move |event| {
            let _ = event_sender.send(event);
        };
        let link = MqttLink::start(options, Box::new(on_incoming), Box::new(on_event)).unwrap();
        link.connect();
        Peer { link, messages, events }
    }

    pub(crate) fn event(&self) -> MqttEvent {
        self.events.recv_timeout(TIMEOUT).unwrap()
    }

    /// The next event that is no failure.
    pub(crate) fn event_after_failures(&self) -> MqttEvent {
        loop {
            match self.event() {
                MqttEvent::Failed { .. } => {}
                event => return event,
            }
        }
    }

    pub(crate) fn message(&self) -> Got {
        self.messages.recv_timeout(TIMEOUT).unwrap()
    }
}
