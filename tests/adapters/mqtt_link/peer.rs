//! A link whose events and messages can be awaited.

use std::sync::Mutex;
use std::sync::mpsc::{self, Receiver};
use std::time::Duration;

use mqtt_gateway::domain::broker::{Broker, BrokerConnection, MqttVersion};
use mqtt_gateway::domain::credential::Credential;
use mqtt_gateway::domain::message::DeliveryFacts;
use mqtt_gateway::mqtt::{BrokerOptions, Incoming, MqttEvent, MqttLink};
use mqtt_gateway::settings::CredentialSettings;

/// Far more than anything here takes: only a failing test waits as long.
pub(crate) const TIMEOUT: Duration = Duration::from_mins(1);

pub(crate) struct Peer {
    pub(crate) link: MqttLink,
    pub(crate) messages: Receiver<Got>,
    events: Receiver<MqttEvent>,
    server: String,
}

#[derive(Debug)]
pub(crate) struct Got {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) delivery: DeliveryFacts,
}

/// On this machine, without anything.
pub(crate) fn server(port: u16) -> Broker {
    let host = "127.0.0.1".to_owned();
    Broker { id: i64::from(port), host, port, credentials: None, tls: None, version: None }
}

impl Peer {
    pub(crate) fn connect(port: u16, client_id: &str) -> Peer {
        Peer::new(vec![server(port)], client_id, None)
    }

    /// With a list of brokers.
    pub(crate) fn connect_to(servers: Vec<Broker>, client_id: &str) -> Peer {
        Peer::new(servers, client_id, None)
    }

    pub(crate) fn connect_as(port: u16, client_id: &str, credentials: Option<(&str, &str)>) -> Peer {
        let credentials =
            credentials.map(|(user, password)| (Credential::new(user), Credential::new(password)));
        Peer::new(vec![Broker { credentials, ..server(port) }], client_id, None)
    }

    /// The callback, having handed out its message, does not return until the other end of `gate` is dropped.
    pub(crate) fn connect_blocked(port: u16, client_id: &str, gate: Receiver<()>) -> Peer {
        Peer::new(vec![server(port)], client_id, Some(gate))
    }

    fn new(servers: Vec<Broker>, client_id: &str, gate: Option<Receiver<()>>) -> Peer {
        let server = servers[0].address();
        let options = BrokerOptions {
            servers,
            client_id: client_id.to_owned(),
            keepalive: Duration::from_mins(1),
            session_expiry_seconds: u32::MAX,
            qos: 1,
            max_payload_bytes: 4 * 1024 * 1024,
            credentials: CredentialSettings {
                dir: std::env::temp_dir(),
                env_prefix: "MQTT_".to_owned(),
                files_of_settings: Vec::new(),
            },
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
        Peer { link, messages, events, server }
    }

    /// The event of a new session at the first broker of the list.
    pub(crate) fn connected(&self, version: MqttVersion, names_subscriptions: bool) -> MqttEvent {
        let server = self.server.as_str().into();
        MqttEvent::Connected(BrokerConnection {
            server,
            version,
            names_subscriptions,
            shares_subscriptions: version == MqttVersion::V5,
            session_kept: false,
        })
    }

    pub(crate) fn event(&self) -> MqttEvent {
        self.events.recv_timeout(TIMEOUT).unwrap()
    }

    /// The next event that is no failure.
    pub(crate) fn event_after_failures(&self) -> MqttEvent {
        loop {
            match self.event() {
                MqttEvent::Failed { .. } | MqttEvent::Unanswered { .. } => {}
                event => return event,
            }
        }
    }

    pub(crate) fn message(&self) -> Got {
        self.messages.recv_timeout(TIMEOUT).unwrap()
    }
}
