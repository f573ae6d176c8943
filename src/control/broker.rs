//! Connects to a broker as the gateway does, beside a running gateway.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use thiserror::Error;
use tokio::net::TcpStream;
use tokio::sync::mpsc::{self, UnboundedReceiver};
use tokio::time::timeout;

use super::servers::broker;
use super::{Control, ControlError};
use crate::domain::broker::{Broker, BrokerConnection, MqttVersion};
use crate::domain::server_definition::ServerRecord;
use crate::domain::topic_trial::check_topic;
use crate::mqtt::{BrokerOptions, MqttEvent, MqttLink, certificates};
use crate::settings::Settings;

/// Time limit for a broker's answer. It exceeds the two timeouts of the client library, for MQTT 5 and then for 3.1.1,
/// because the library's errors state the cause.
const BROKER_TIMEOUT: Duration = Duration::from_secs(40);

/// Reason codes for rejected credentials, in MQTT 3.1.1 and in MQTT 5.
const WRONG_CREDENTIALS: [i32; 4] = [4, 5, 134, 135];

/// Why there is no connection to a broker.
#[derive(Debug, Error)]
pub enum BrokerRefusal {
    /// No TCP connection.
    #[error(transparent)]
    Unreachable(#[from] io::Error),
    /// No MQTT connection.
    #[error("{reason}")]
    Refused {
        /// Reason code of the broker, or the error code of the client library.
        code: Option<i32>,
        /// The reason.
        reason: String,
    },
}

impl BrokerRefusal {
    /// The remedy.
    #[must_use]
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => {
                "check that the broker runs, and that host and port in mqtt_servers are correct"
            }
            Self::Refused { code: Some(code), .. } if WRONG_CREDENTIALS.contains(code) => {
                "correct username and password in mqtt_servers, or allow this user and client id at the broker"
            }
            Self::Refused { .. } => {
                "check the broker's log, and username, password and TLS files in mqtt_servers"
            }
        }
    }
}

/// A connection with a client id of its own and without a session, so that a running gateway keeps its session.
#[derive(Debug)]
pub struct ControlSession {
    link: MqttLink,
    /// The connection.
    pub connection: BrokerConnection,
}

impl ControlSession {
    /// Connects; `purpose` is part of the client id.
    pub async fn open(server: &Broker, settings: &Settings, purpose: &str) -> Result<Self, BrokerRefusal> {
        reach(server).await?;
        let refused = |reason: String| BrokerRefusal::Refused { code: None, reason };
        let options = BrokerOptions {
            servers: vec![server.clone()],
            client_id: client_id(settings, purpose),
            keepalive: settings.mqtt.keepalive,
            session_expiry_seconds: 0,
            qos: settings.mqtt.qos,
            max_payload_bytes: settings.limits.max_payload_bytes,
            credentials: settings.mqtt.credentials.clone(),
        };
        let (sender, mut events) = mpsc::unbounded_channel();
        let on_event = move |event| {
            // The receiver is dropped after the first answer.
            let _ = sender.send(event);
        };
        let link = MqttLink::start(options, Box::new(|_| {}), Box::new(on_event))
            .map_err(|error| refused(error.to_string()))?;
        link.connect();
        match timeout(BROKER_TIMEOUT, answer(&mut events)).await {
            Ok(Ok(connection)) => Ok(Self { link, connection }),
            failed => {
                leave(&link).await;
                Err(failed.map_or_else(
                    |_| refused(format!("no answer within {} s", BROKER_TIMEOUT.as_secs())),
                    |answer| answer.err().unwrap_or_else(|| refused("the MQTT client has ended".to_owned())),
                ))
            }
        }
    }

    /// Disconnects in good order.
    pub async fn close(self) {
        leave(&self.link).await;
    }
}

/// Unique, since a gateway may have several of these connections at the same time.
fn client_id(settings: &Settings, purpose: &str) -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("{}-{purpose}-{}-{number}", settings.mqtt.client_id, std::process::id())
}

/// A failed disconnect does not matter, because the process ends soon.
async fn leave(link: &MqttLink) {
    let _ = link.disconnect().await;
}

/// Opens a plain TCP connection first, because its errors are more precise than the errors of the client library.
async fn reach(server: &Broker) -> io::Result<()> {
    timeout(BROKER_TIMEOUT, TcpStream::connect((server.host.as_str(), server.port))).await??;
    Ok(())
}

/// Waits for the broker's final answer. The client tries another MQTT version after an attempt without an answer.
async fn answer(events: &mut UnboundedReceiver<MqttEvent>) -> Result<BrokerConnection, BrokerRefusal> {
    let refused = |code, reason| Err(BrokerRefusal::Refused { code, reason });
    loop {
        return match events.recv().await {
            Some(MqttEvent::Unanswered { .. }) => continue,
            Some(MqttEvent::Connected(connection)) => Ok(connection),
            Some(MqttEvent::Failed { reason_code, reason, .. }) => refused(
                Some(reason_code),
                format!("MQTT connection failed with reason code: {reason_code} ({reason})"),
            ),
            Some(
                MqttEvent::Lost { reason, .. } | MqttEvent::Left { reason, .. } | MqttEvent::Stuck { reason },
            ) => refused(None, reason),
            None => refused(None, "the MQTT client has ended".to_owned()),
        };
    }
}

/// What a connection to a broker showed.
#[derive(Debug)]
pub struct BrokerProbe {
    /// What was found, or why the broker cannot be used.
    pub result: Result<String, BrokerFault>,
    /// Certificates that expire soon.
    pub warnings: Vec<String>,
}

/// Why a broker cannot be used.
#[derive(Debug)]
pub struct BrokerFault {
    /// The reason.
    pub reason: String,
    /// The remedy.
    pub remedy: &'static str,
}

/// Connects to a broker as the gateway does, with a client id of its own.
pub async fn probe_broker(server: &Broker, settings: &Settings) -> BrokerProbe {
    let address = server.address();
    match accepted(server, settings).await {
        Err(error) => {
            let fault = BrokerFault { reason: format!("{address}: {error}"), remedy: error.remedy() };
            BrokerProbe { result: Err(fault), warnings: Vec::new() }
        }
        Ok(version) => {
            let tls = if server.tls.is_some() { ", TLS verified" } else { "" };
            with_certificates(server, format!("{address} accepts us by MQTT {version}{tls}")).await
        }
    }
}

async fn accepted(server: &Broker, settings: &Settings) -> Result<MqttVersion, BrokerRefusal> {
    let session = ControlSession::open(server, settings, "check").await?;
    let version = session.connection.version;
    session.close().await;
    Ok(version)
}

/// Adds the certificates to what is known of a broker.
async fn with_certificates(server: &Broker, accepted: String) -> BrokerProbe {
    let known = server.clone();
    let found = tokio::task::spawn_blocking(move || certificates(&known)).await;
    let found = found.map_err(|error| error.to_string()).and_then(|found| found);
    match found {
        Ok(found) => {
            let parts = std::iter::once(accepted.as_str());
            let parts: Vec<&str> =
                parts.chain(found.iter().map(|found| found.description.as_str())).collect();
            let ending = found.iter().filter(|found| found.expires_soon);
            let warnings = ending.map(|found| format!("{}: {}", server.address(), found.description));
            BrokerProbe { result: Ok(parts.join("; ")), warnings: warnings.collect() }
        }
        // The broker has just accepted a connection, so it can be used.
        Err(reason) => BrokerProbe {
            result: Ok(format!("{accepted}; its certificate cannot be shown: {reason}")),
            warnings: Vec::new(),
        },
    }
}

impl Control {
    /// Connects to the broker of a row as the gateway does.
    pub async fn test_server(&self, server: &ServerRecord) -> BrokerProbe {
        match broker(server) {
            Ok(broker) => probe_broker(&broker, &self.settings).await,
            Err(error) => {
                let remedy = "correct it by `mqtt-gateway servers edit`";
                let fault = BrokerFault { reason: error.to_string(), remedy };
                BrokerProbe { result: Err(fault), warnings: Vec::new() }
            }
        }
    }

    /// Publishes a message at `QoS` 1 to the first broker, and waits for its acknowledgement. Returns the address of
    /// the broker.
    pub async fn publish(&self, topic: &str, payload: &[u8]) -> Result<String, ControlError> {
        check_topic(topic).map_err(|problem| ControlError::Invalid { problems: vec![problem] })?;
        let broker = self.first_broker().await?;
        let address = broker.address();
        let session = ControlSession::open(&broker, &self.settings, "publish").await.map_err(|error| {
            ControlError::invalid("broker", format!("{address}: {error}"), error.remedy())
        })?;
        let published = session.link.publish_acknowledged(topic, payload).await;
        session.close().await;
        published.map_err(|error| {
            let remedy = "check the broker's log, and whether this user may publish to the topic";
            ControlError::invalid(
                "broker",
                format!("{address} did not acknowledge the message: {error}"),
                remedy,
            )
        })?;
        Ok(address)
    }
}
