//! The paho clients, one for each version of MQTT, made once for the life of the process.
//!
//! Two, because paho refuses MQTT 5 for ever on a client that has once tried 3.1.1: one client would not find the
//! way back after a broker that only seemed to be old. Only one of them is connected or connecting at a time.

use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

use paho_mqtt::{
    AsyncClient, ConnectOptions, ConnectOptionsBuilder, ConnectToken, CreateOptionsBuilder, Error,
    MQTT_VERSION_3_1_1, MQTT_VERSION_5, PersistenceType, Properties, PropertyCode,
};
use secrecy::ExposeSecret;

use super::incoming::{Incoming, hand_over};
use super::input::{Gone, Input};
use super::options::{BrokerOptions, MqttError};
use super::version::Version;
use crate::domain::redelivery::TAIL_MESSAGES;

/// TCP connection, CONNECT and CONNACK together; paho looks at its clock every three seconds.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Messages of `QoS` 1 that a broker may have under way to us unacknowledged (MQTT 5).
///
/// Enough to keep a fast connection busy, and no more than are remembered to recognise what a broker sends again
/// after a lost connection. Brokers have a lower bound of their own (mosquitto: 20).
const RECEIVE_MAXIMUM: u16 = 1024;
const _: () = assert!(RECEIVE_MAXIMUM as usize <= TAIL_MESSAGES);

/// The longest keepalive that MQTT can express. Paho turns zero, "never", into one second: this comes nearest.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(65_535);

/// What connections and their messages are given to.
pub(super) type OnIncoming = Arc<dyn Fn(Incoming<'_>) + Send + Sync>;

pub(super) struct Clients {
    v5: (AsyncClient, ConnectOptions),
    v311: (AsyncClient, ConnectOptions),
}

impl Clients {
    pub(super) fn new(
        options: &BrokerOptions,
        on_incoming: &OnIncoming,
        inputs: &Sender<Input>,
    ) -> Result<Clients, MqttError> {
        refuse_nul(options)?;
        let client = |version| client(options, version, on_incoming, inputs);
        Ok(Clients {
            v5: (client(Version::V5)?, connect_options_v5(options).map_err(|e| other(&e))?),
            v311: (client(Version::V311)?, connect_options_v311(options)),
        })
    }

    pub(super) fn of(&self, version: Version) -> &AsyncClient {
        match version {
            Version::V5 => &self.v5.0,
            Version::V311 => &self.v311.0,
        }
    }

    pub(super) fn connect(&self, version: Version) -> ConnectToken {
        let (client, options) = match version {
            Version::V5 => &self.v5,
            Version::V311 => &self.v311,
        };
        client.connect(options.clone())
    }
}

/// Paho panics on a NUL in text that it hands to C.
fn refuse_nul(options: &BrokerOptions) -> Result<(), MqttError> {
    let user = options.credentials.as_ref().map_or("", |(user, _)| user);
    let texts = [
        (options.host.as_str(), "the broker's host"),
        (options.client_id.as_str(), "the MQTT client id"),
        (user, "the MQTT user name"),
    ];
    match texts.iter().find(|(text, _)| text.contains('\0')) {
        Some((_, name)) => Err(MqttError::Nul(name)),
        None => Ok(()),
    }
}

fn client(
    options: &BrokerOptions,
    version: Version,
    on_incoming: &OnIncoming,
    inputs: &Sender<Input>,
) -> Result<AsyncClient, MqttError> {
    let client = CreateOptionsBuilder::new()
        .server_uri(server_uri(&options.host, options.port))
        .client_id(&options.client_id)
        // The inbox is what persists; paho's own queues must hold nothing that is not in it.
        .persistence(PersistenceType::None)
        .mqtt_version(match version {
            Version::V5 => MQTT_VERSION_5,
            Version::V311 => MQTT_VERSION_3_1_1,
        })
        .create_client()
        .map_err(|e| other(&e))?;

    let begins = Arc::clone(on_incoming);
    // On the thread that receives, before the first message of the connection.
    client.set_connected_callback(move |_| {
        begins(Incoming::ConnectionBegins { in_flight_bounded: version == Version::V5 });
    });
    let on_incoming = Arc::clone(on_incoming);
    client.set_message_callback(move |_, message| {
        // Without a message the call only marks the end of a connection.
        if let Some(message) = message {
            hand_over(&message, &*on_incoming);
        }
    });
    // For what these post to the channel: nobody is left to miss it once the receiver is gone.
    let gone = inputs.clone();
    client.set_connection_lost_callback(move |_| {
        let why = Gone::Broken;
        let _ = gone.send(Input::Gone { version, why });
    });
    let gone = inputs.clone();
    client.set_disconnected_callback(move |_, _, reason| {
        let why = Gone::Dismissed(reason);
        let _ = gone.send(Input::Gone { version, why });
    });
    Ok(client)
}

pub(super) fn server_uri(host: &str, port: u16) -> String {
    // An IPv6 address needs brackets beside a port.
    if host.contains(':') { format!("tcp://[{host}]:{port}") } else { format!("tcp://{host}:{port}") }
}

fn connect_options_v5(options: &BrokerOptions) -> Result<ConnectOptions, Error> {
    let mut properties = Properties::new();
    properties.push_u32(PropertyCode::SessionExpiryInterval, options.session_expiry_seconds)?;
    properties.push_u16(PropertyCode::ReceiveMaximum, RECEIVE_MAXIMUM)?;
    let mut builder = ConnectOptionsBuilder::new_v5();
    // Not `clean_session`: it would silently turn this into a 3.1.1 connect.
    builder.clean_start(false).properties(properties);
    Ok(with_common(builder, options))
}

fn connect_options_v311(options: &BrokerOptions) -> ConnectOptions {
    let mut builder = ConnectOptionsBuilder::with_mqtt_version(MQTT_VERSION_3_1_1);
    builder.clean_session(false);
    with_common(builder, options)
}

fn with_common(mut builder: ConnectOptionsBuilder, options: &BrokerOptions) -> ConnectOptions {
    let keepalive = match options.keepalive {
        Duration::ZERO => LONGEST_KEEPALIVE,
        keepalive => keepalive.min(LONGEST_KEEPALIVE),
    };
    builder.keep_alive_interval(keepalive).connect_timeout(CONNECT_TIMEOUT);
    if let Some((user, password)) = &options.credentials {
        builder.user_name(user).password(password.expose_secret());
    }
    builder.finalize()
}

fn other(error: &Error) -> MqttError {
    MqttError::Client(error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn an_ipv6_address_is_kept_apart_from_the_port() {
        assert_eq!(server_uri("::1", 1883), "tcp://[::1]:1883");
        assert_eq!(server_uri("broker.example", 8883), "tcp://broker.example:8883");
    }
}
