//! Options, events and errors of the link.

use std::fmt;
use std::time::Duration;

use paho_mqtt::ReasonCode;

use crate::domain::broker::{Broker, BrokerConnection};
use crate::domain::message::SubscriptionId;
use crate::domain::redelivery::SessionEvidence;
use crate::settings::CredentialSettings;

/// Brokers and session options of a link.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// Brokers in the order of attempts.
    pub servers: Vec<Broker>,
    /// MQTT client id, which names the session at the broker. Two clients with the same id disconnect each other.
    pub client_id: String,
    /// Maximum silence before the connection counts as dead; zero disables the check.
    pub keepalive: Duration,
    /// Session expiry interval in seconds (MQTT 5). Brokers after the first of the list keep the session for a week at
    /// most.
    pub session_expiry_seconds: u32,
    /// Quality of service of all subscriptions: 0 or 1.
    pub qos: u8,
    /// Maximum payload size. Only the beginning of a longer payload is kept.
    pub max_payload_bytes: usize,
    /// Sources from which user names and passwords of the servers may be read.
    pub credentials: CredentialSettings,
}

/// Events of the connection, reported in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MqttEvent {
    /// Connected. Earlier subscriptions may or may not still exist: subscribe again.
    Connected(BrokerConnection),
    /// The connection was lost. The link reconnects by itself.
    Lost {
        /// `host:port` of the broker.
        server: String,
        /// Cause, as far as it is known.
        reason: String,
        /// Delay until the next attempt.
        retry_in: Duration,
    },
    /// The link has disconnected in good order to connect to another broker. The session stays at the old one.
    Left {
        /// `host:port` of the broker.
        server: String,
        /// Reason for the change.
        reason: String,
    },
    /// The broker accepted the connection but did not answer in MQTT 5. The next attempt shows whether it supports only
    /// 3.1.1.
    Unanswered {
        /// `host:port` of the broker.
        server: String,
        /// Description of the failure.
        reason: String,
        /// Delay until the next attempt.
        retry_in: Duration,
    },
    /// An attempt to connect failed. The link tries the next broker or retries by itself.
    Failed {
        /// `host:port` of the broker.
        server: String,
        /// Reason code (MQTT 5) or return code (3.1.1) of the broker, positive; otherwise the error code of the client
        /// library, negative.
        reason_code: i32,
        /// Description of the failure.
        reason: String,
        /// Delay until the next attempt.
        retry_in: Duration,
    },
    /// The client library hangs. Only a new process can recover; no broker is at fault.
    Stuck {
        /// Overdue operation and its age.
        reason: String,
    },
}

impl MqttEvent {
    /// Returns what the event says about the session at the broker.
    #[must_use]
    pub fn session_evidence(&self) -> SessionEvidence<'_> {
        match self {
            MqttEvent::Connected(BrokerConnection { session_kept: false, .. }) => SessionEvidence::New,
            // No CONNACK arrived: the broker may be restarting, or the CONNACK was lost after a new session began.
            MqttEvent::Unanswered { server, .. } => SessionEvidence::Uncertain { server },
            MqttEvent::Failed { reason_code, server, .. } if *reason_code < 0 => {
                SessionEvidence::Uncertain { server }
            }
            MqttEvent::Connected(_)
            | MqttEvent::Lost { .. }
            | MqttEvent::Left { .. }
            | MqttEvent::Failed { .. }
            | MqttEvent::Stuck { .. } => SessionEvidence::Unchanged,
        }
    }
}

/// Fate of the session at the broker after DISCONNECT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SessionEnd {
    /// The broker keeps the session and its messages.
    KeepSession,
    /// The broker deletes the session. MQTT 3.1.1 has no way to request this.
    ForgetSession,
}

impl fmt::Display for SessionEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            SessionEnd::KeepSession => "kept",
            SessionEnd::ForgetSession => "forgotten",
        })
    }
}

/// Topic filter to subscribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Topic filter.
    pub filter: String,
    /// Subscription identifier; sent only on connections that support identifiers.
    pub id: Option<SubscriptionId>,
}

/// Reason code, 128 or above, with which a broker refused a topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct RefusedCode(pub u8);

impl RefusedCode {
    /// Unspecified error, the only refusal in MQTT 3.1.1.
    pub(super) const UNSPECIFIED: RefusedCode = RefusedCode(128);
    /// Topic filter invalid.
    pub(super) const FILTER_INVALID: RefusedCode = RefusedCode(143);
    /// Not a code of MQTT: the broker closes the connection over the filter, which was therefore not sent.
    pub const CLOSES_CONNECTION: RefusedCode = RefusedCode(255);
}

impl fmt::Display for RefusedCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if *self == Self::CLOSES_CONNECTION {
            return f.write_str("it closes the connection over this filter");
        }
        write!(f, "{} ({})", self.0, ReasonCode::from(u32::from(self.0)))
    }
}

/// Error of a link operation.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// There is no connection, or it ended before the broker answered. Retry at the next [`MqttEvent::Connected`].
    #[error("not connected to the broker")]
    NotConnected,
    /// The broker did not answer in time. It may still answer: retry.
    #[error("no answer from the broker for {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// An option contains NUL, which MQTT forbids.
    #[error("{0} must not contain NUL")]
    Nul(&'static str),
    /// The client library failed.
    #[error("MQTT client: {0}")]
    Client(String),
    /// The operating system refused a new thread.
    #[error("cannot start the MQTT thread: {0}")]
    Thread(#[from] std::io::Error),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;
    use crate::domain::broker::MqttVersion;
    use crate::domain::credential::Credential;

    const SERVER: &str = "broker:1883";

    #[test]
    fn debug_output_hides_passwords() {
        let server = Broker {
            id: 1,
            host: "broker".to_owned(),
            port: 1883,
            credentials: Some((Credential::new("user"), Credential::new("hush"))),
            tls: None,
            version: None,
        };
        let options = BrokerOptions {
            servers: vec![server],
            client_id: "gateway".to_owned(),
            keepalive: Duration::from_mins(1),
            session_expiry_seconds: u32::MAX,
            qos: 1,
            max_payload_bytes: 1024,
            credentials: CredentialSettings {
                dir: "/run/secrets".into(),
                env_prefix: "MQTT_".to_owned(),
                files_of_settings: Vec::new(),
            },
        };
        assert!(!format!("{options:?}").contains("hush"));
    }

    #[test]
    fn refusals_show_code_and_meaning() {
        assert_eq!(RefusedCode(135).to_string(), "135 (Not authorized)");
        assert!(RefusedCode::CLOSES_CONNECTION.to_string().contains("closes the connection"));
    }

    fn connected(session_kept: bool) -> MqttEvent {
        MqttEvent::Connected(BrokerConnection {
            server: SERVER.into(),
            version: MqttVersion::V5,
            names_subscriptions: true,
            shares_subscriptions: true,
            session_kept,
        })
    }

    fn failed(reason_code: i32) -> MqttEvent {
        let (server, reason) = (SERVER.to_owned(), String::new());
        MqttEvent::Failed { server, reason_code, reason, retry_in: Duration::ZERO }
    }

    #[test]
    fn connack_tells_whether_the_session_is_new() {
        assert_eq!(connected(true).session_evidence(), SessionEvidence::Unchanged);
        assert_eq!(connected(false).session_evidence(), SessionEvidence::New);
    }

    #[test]
    fn unanswered_connect_makes_the_session_uncertain() {
        let uncertain = SessionEvidence::Uncertain { server: SERVER };
        assert_eq!(failed(135).session_evidence(), SessionEvidence::Unchanged, "the broker has answered");
        assert_eq!(failed(-1).session_evidence(), uncertain);
        let (server, reason) = (SERVER.to_owned(), String::new());
        let unanswered = MqttEvent::Unanswered { server, reason, retry_in: Duration::ZERO };
        assert_eq!(unanswered.session_evidence(), uncertain);
    }
}
