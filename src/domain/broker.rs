//! The brokers of `mqtt_servers`, and a connection to one of them.

use std::sync::Arc;

use super::credential::Credential;

/// A broker to connect to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broker {
    /// Key in `mqtt_servers`.
    pub id: i64,
    /// Host name or address, without scheme and port.
    pub host: String,
    /// TCP port.
    pub port: u16,
    /// User name and password; `None`: anonymous.
    pub credentials: Option<(Credential, Credential)>,
    /// TLS files; `None`: no TLS.
    pub tls: Option<TlsFiles>,
    /// Required version of MQTT; `None`: 5, with fallback to 3.1.1.
    pub version: Option<MqttVersion>,
}

impl Broker {
    /// Returns `host:port`, which identifies the broker in log lines and in the inbox.
    #[must_use]
    pub fn address(&self) -> String {
        format!("{}:{}", self.host, self.port)
    }
}

named_enum! {
    /// A version of MQTT.
    #[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
    pub enum MqttVersion {
        /// MQTT 5.
        #[default]
        V5 = "5",
        /// MQTT 3.1.1.
        V311 = "3.1.1",
    }
}

/// Paths of the PEM files of a TLS connection.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// Certificates of trusted authorities; `None`: the system's.
    pub ca_file: Option<String>,
    /// Client certificate, with the intermediate certificates up to the CA of the broker.
    pub client_cert_file: Option<String>,
    /// Private key of the client certificate; `None`: the key is in the file of the certificate.
    pub client_key_file: Option<String>,
}

/// An established connection to a broker.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct BrokerConnection {
    /// `host:port` of the broker.
    pub server: Arc<str>,
    /// Protocol version of the connection.
    pub version: MqttVersion,
    /// Whether messages carry the identifiers of the subscriptions that they matched.
    pub names_subscriptions: bool,
    /// Whether the broker supports shared subscriptions. Always false with MQTT 3.1.1, which cannot announce them.
    pub shares_subscriptions: bool,
    /// Whether the broker resumed the session of an earlier connection.
    pub session_kept: bool,
}
