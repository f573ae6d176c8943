//! What a caller gives to the link and gets from it.

use std::fmt;
use std::time::Duration;

use paho_mqtt::ReasonCode;

use super::server::BrokerServer;
use crate::domain::message::SubscriptionId;
use crate::settings::CredentialSettings;

/// Which brokers to connect to, and as whom.
#[derive(Debug, Clone)]
pub struct BrokerOptions {
    /// In the order in which they are tried.
    pub servers: Vec<BrokerServer>,
    /// Name of the session at the broker. Two clients of one name throw each other out.
    pub client_id: String,
    /// Longest silence before the connection counts as dead; zero never.
    pub keepalive: Duration,
    /// How long the broker keeps the session of a client that is away, in seconds (MQTT 5). A broker that is not the
    /// first of the list keeps it for a week at most.
    pub session_expiry_seconds: u32,
    /// Quality of service of all subscriptions: 0 or 1.
    pub qos: u8,
    /// Of a longer payload only the beginning is taken in.
    pub max_payload_bytes: usize,
    /// Where user names and passwords of the servers may be read from.
    pub credentials: CredentialSettings,
}

/// What happens to the connection, told in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MqttEvent {
    /// Connected. Subscriptions of an earlier connection may or may not be there any more: subscribe again.
    Connected {
        /// `host:port` of the broker.
        server: String,
        /// `"5"` or `"3.1.1"`.
        version: &'static str,
        /// Messages will name the subscriptions that they matched.
        names_subscriptions: bool,
        /// The broker says that it knows shared subscriptions. Of MQTT 3.1.1 none can say so.
        shares_subscriptions: bool,
        /// The broker goes on with the session of an earlier connection.
        session_kept: bool,
    },
    /// The connection is gone; the link tries again by itself.
    Lost {
        /// `host:port` of the broker.
        server: String,
        /// Why, as far as anybody said.
        reason: String,
        /// When the link tries again.
        retry_in: Duration,
    },
    /// The link has left a broker in good order, to connect to another one at once. The session stays there.
    Left {
        /// `host:port` of the broker.
        server: String,
        /// Why.
        reason: String,
    },
    /// The broker took the connection and gave no answer in MQTT 5. The next attempt tells whether it knows 3.1.1 only.
    Unanswered {
        /// `host:port` of the broker.
        server: String,
        /// What happened instead.
        reason: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// An attempt to connect failed; the link tries the next broker, or again, by itself.
    Failed {
        /// `host:port` of the broker.
        server: String,
        /// The broker's reason code (MQTT 5) or return code (3.1.1), positive; else the client library's, negative.
        reason_code: i32,
        /// The same in words.
        reason: String,
        /// How long until the next attempt.
        retry_in: Duration,
    },
    /// The client library does not come back, and only a new process gets another one. No fault of a broker's.
    Stuck {
        /// What it owes, and since when.
        reason: String,
    },
}

/// What becomes of the session at the broker when the link disconnects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Farewell {
    /// The broker keeps it, and messages for it.
    KeepSession,
    /// The broker forgets it. In MQTT 3.1.1 it cannot be told to.
    ForgetSession,
}

impl fmt::Display for Farewell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Farewell::KeepSession => "kept",
            Farewell::ForgetSession => "forgotten",
        })
    }
}

/// One topic filter to subscribe.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// The filter.
    pub filter: String,
    /// What messages shall name it by; only on connections that name subscriptions.
    pub id: Option<SubscriptionId>,
}

/// The code, 128 or above, with which a broker refused one topic filter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub struct RefusedCode(pub u8);

impl RefusedCode {
    /// Refused without a reason; the only refusal that MQTT 3.1.1 knows.
    pub(super) const UNSPECIFIED: RefusedCode = RefusedCode(128);
    /// The filter itself is at fault.
    pub(super) const FILTER_INVALID: RefusedCode = RefusedCode(143);
    /// No code of MQTT: the broker closes the connection over the filter, which was therefore not sent.
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

/// Why the link could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum MqttError {
    /// There is no connection, or it went before the broker answered. Ask again at the next
    /// [`MqttEvent::Connected`].
    #[error("not connected to the broker")]
    NotConnected,
    /// The broker owes an answer. It may still come: ask again.
    #[error("no answer from the broker for {} s", .0.as_secs())]
    NoAnswer(Duration),
    /// An option cannot be sent to any broker.
    #[error("{0} must not hold a NUL character")]
    Nul(&'static str),
    /// The client library cannot go on.
    #[error("MQTT client: {0}")]
    Client(String),
    /// The operating system gives no thread.
    #[error("cannot start the MQTT thread: {0}")]
    Thread(#[from] std::io::Error),
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::super::credential::Credential;
    use super::*;

    #[test]
    fn a_password_does_not_show_in_debug_output() {
        let server = BrokerServer {
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
    fn a_refusal_says_its_code_and_its_meaning() {
        assert_eq!(RefusedCode(135).to_string(), "135 (Not authorized)");
        assert!(RefusedCode::CLOSES_CONNECTION.to_string().contains("closes the connection"));
    }
}
