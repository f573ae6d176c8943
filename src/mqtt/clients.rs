//! Paho clients, created once per process; each attempt sets its broker.
//!
//! There is one client per MQTT version, because paho refuses MQTT 5 on a client that has once tried 3.1.1. A single
//! client could not return to MQTT 5. Only one of the two is connected or connecting at a time.

use std::fmt::Display;
use std::mem;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::Utc;
use paho_mqtt::{
    AsyncClient, ConnectOptions, ConnectOptionsBuilder, ConnectToken, CreateOptionsBuilder, Error,
    MQTT_VERSION_3_1_1, MQTT_VERSION_5, PersistenceType, Properties, PropertyCode,
};

use secrecy::ExposeSecret;

use super::failure::ConnectFailure;
use super::incoming::{Incoming, convert_message};
use super::input::{ConnectionLoss, Input, progress_waker};
use super::options::{BrokerOptions, MqttError};
use super::relay::{Credentials, Relay, RelayRoute, Token};
use crate::domain::broker::{Broker, MqttVersion};
use crate::domain::credential::Credential;
use crate::domain::redelivery::RECEIVE_MAXIMUM;
use crate::settings::CredentialSettings;

/// Timeout of TCP connection, CONNECT and CONNACK together. Paho checks its clock every three seconds.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// Maximum keepalive of MQTT. Paho turns zero ("never") into one second, so this value replaces it.
const MAX_KEEPALIVE: Duration = Duration::from_secs(65_535);

/// Session expiry in seconds at brokers after the first of the list: a week. After the return to the first broker, such
/// a session collects messages that must expire some day.
const LATER_SESSION_SECONDS: u32 = 7 * 24 * 3600;

/// Receives connections and their messages.
pub(super) type OnIncoming = Arc<dyn Fn(Incoming<'_>) + Send + Sync>;

pub(super) struct Clients {
    options: BrokerOptions,
    on_incoming: OnIncoming,
    inputs: Sender<Input>,
    token: Token,
    by_version: Vec<(MqttVersion, Client)>,
}

#[derive(Clone)]
pub(super) struct Client {
    pub(super) paho: AsyncClient,
    /// Address of the current broker, for the callbacks.
    server: Arc<Mutex<String>>,
}

impl Clients {
    pub(super) fn new(
        options: &BrokerOptions,
        on_incoming: &OnIncoming,
        inputs: &Sender<Input>,
    ) -> Result<Clients, MqttError> {
        if options.client_id.contains('\0') {
            return Err(MqttError::Nul("the MQTT client id"));
        }
        let (options, on_incoming, inputs) = (options.clone(), Arc::clone(on_incoming), inputs.clone());
        let mut clients =
            Clients { options, on_incoming, inputs, token: Token::new(), by_version: Vec::new() };
        for version in [MqttVersion::V5, MqttVersion::V311] {
            clients.by_version.push((version, clients.client(version)?));
        }
        Ok(clients)
    }

    /// Replaces the client after a lost connection. The old client would publish unacknowledged messages again, for
    /// ever if the broker closes the connection over them.
    pub(super) fn renew(&mut self, version: MqttVersion) {
        match self.client(version) {
            Ok(renewed) => {
                for (_, client) in self.by_version.iter_mut().filter(|(of, _)| *of == version) {
                    // Dropping a client waits for its callbacks, so the old one is leaked.
                    mem::forget(mem::replace(client, renewed.clone()));
                }
            }
            Err(error) => log::warn!("Cannot replace the MQTT client, keeping the old one: {error}"),
        }
    }

    /// Returns the sources from which credentials may be read.
    pub(super) fn allowed_credentials(&self) -> &CredentialSettings {
        &self.options.credentials
    }

    /// Starts an attempt, or returns why it cannot succeed. `first` means the first broker of the list.
    pub(super) fn connect(
        &self,
        server: &Broker,
        version: MqttVersion,
        first: bool,
    ) -> Result<(Client, Relay, ConnectToken), ConnectFailure> {
        let found = self.by_version.iter().find(|(of, _)| *of == version);
        let client = found.map(|(_, client)| client.clone()).ok_or_else(ConnectFailure::overdue)?;
        let route = RelayRoute {
            server: server.clone(),
            version,
            credentials: prepare(server, &self.options.credentials)?,
            token: self.token.clone(),
            max_payload_bytes: self.options.max_payload_bytes,
            on_closed: progress_waker(self.inputs.clone()),
        };
        let relay = Relay::start(route).map_err(|error| ConnectFailure::unprepared(&error))?;
        let options = self.connect_options(&relay, version, first)?;
        server.address().clone_into(&mut client.server.lock().unwrap_or_else(PoisonError::into_inner));
        let token = client.paho.connect(options);
        Ok((client, relay, token))
    }

    fn connect_options(
        &self,
        relay: &Relay,
        version: MqttVersion,
        first: bool,
    ) -> Result<ConnectOptions, ConnectFailure> {
        let mut builder = match version {
            MqttVersion::V5 => {
                let expiry = self.options.session_expiry_seconds;
                let expiry = if first { expiry } else { expiry.min(LATER_SESSION_SECONDS) };
                let properties = properties_v5(expiry).map_err(|error| ConnectFailure::unprepared(&error))?;
                let mut builder = ConnectOptionsBuilder::new_v5();
                // `clean_session` would silently turn this into a 3.1.1 connect.
                builder.clean_start(false).properties(properties);
                builder
            }
            MqttVersion::V311 => {
                let mut builder = ConnectOptionsBuilder::with_mqtt_version(MQTT_VERSION_3_1_1);
                builder.clean_session(false);
                builder
            }
        };
        let keepalive = match self.options.keepalive {
            Duration::ZERO => MAX_KEEPALIVE,
            keepalive => keepalive.min(MAX_KEEPALIVE),
        };
        builder.keep_alive_interval(keepalive).connect_timeout(CONNECT_TIMEOUT);
        // The token identifies paho to the relay, which has the credentials.
        builder.server_uris(&[relay.uri()]).user_name(self.token.as_str());
        Ok(builder.finalize())
    }

    fn client(&self, version: MqttVersion) -> Result<Client, MqttError> {
        let paho = CreateOptionsBuilder::new()
            // Every attempt sets its own URI.
            .server_uri("tcp://127.0.0.1:1883")
            .client_id(&self.options.client_id)
            // The inbox is the persistence; paho's own queues must hold nothing else.
            .persistence(PersistenceType::None)
            .mqtt_version(match version {
                MqttVersion::V5 => MQTT_VERSION_5,
                MqttVersion::V311 => MQTT_VERSION_3_1_1,
            })
            .create_client()
            .map_err(|error| MqttError::Client(error.to_string()))?;

        let server = Arc::new(Mutex::new(String::new()));
        let (begins, of) = (Arc::clone(&self.on_incoming), Arc::clone(&server));
        // Runs on the receiving thread, before the first message of the connection.
        paho.set_connected_callback(move |_| {
            let server = of.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let in_flight_bounded = version == MqttVersion::V5;
            begins(Incoming::ConnectionBegins { server: &server, in_flight_bounded });
        });
        // A failed send means that the receiver is gone, and the event with it.
        let (on_incoming, token, ends) =
            (Arc::clone(&self.on_incoming), self.token.clone(), self.inputs.clone());
        paho.set_message_callback(move |_, message| match message {
            Some(message) if token.is_end(message.topic(), message.payload()) => {
                let _ = ends.send(Input::AllReceived);
            }
            Some(message) => convert_message(&message, &token, &*on_incoming),
            // Such a call marks the end of a connection.
            None => {}
        });
        let gone = self.inputs.clone();
        paho.set_connection_lost_callback(move |_| {
            let loss = ConnectionLoss::Broken;
            let _ = gone.send(Input::Lost { version, loss });
        });
        let gone = self.inputs.clone();
        paho.set_disconnected_callback(move |_, _, reason| {
            let loss = ConnectionLoss::ServerDisconnect(reason);
            let _ = gone.send(Input::Lost { version, loss });
        });
        Ok(Client { paho, server })
    }
}

/// Whether an attempt would reach the broker.
pub(super) fn is_prepared(server: &Broker, allowed: &CredentialSettings) -> bool {
    prepare(server, allowed).is_ok()
}

/// Reads the credentials and validates the TLS files. Both may change between attempts.
fn prepare(server: &Broker, allowed: &CredentialSettings) -> Result<Credentials, ConnectFailure> {
    let in_row = |error: &dyn Display| format!("{error} (MQTT server with id {})", server.id);
    if let Some(files) = &server.tls {
        files.read(Utc::now().timestamp()).map_err(|error| ConnectFailure::unprepared(&in_row(&error)))?;
    }
    let Some((user, password)) = &server.credentials else { return Ok(None) };
    let read = |credential: &Credential, column| {
        credential.read(allowed).map_err(|error| {
            ConnectFailure::unprepared(&format!("{column} of the MQTT server with id {}: {error}", server.id))
        })
    };
    let (user, password) = (read(user, "username")?, read(password, "password")?);
    // MQTT can send neither.
    let text = user.expose_secret();
    if text.contains('\0') {
        return Err(ConnectFailure::unprepared(&MqttError::Nul("the MQTT user name")));
    }
    if text.len().max(password.expose_secret().len()) > usize::from(u16::MAX) {
        let reason = "username or password is longer than 65,535 bytes";
        return Err(ConnectFailure::unprepared(&in_row(&reason)));
    }
    Ok(Some((user, password)))
}

#[cfg(any(test, feature = "tools"))]
pub(super) fn server_uri(host: &str, port: u16) -> String {
    // An IPv6 address needs brackets before a port.
    if host.contains(':') { format!("tcp://[{host}]:{port}") } else { format!("tcp://{host}:{port}") }
}

fn properties_v5(session_expiry_seconds: u32) -> Result<Properties, Error> {
    let mut properties = Properties::new();
    properties.push_u32(PropertyCode::SessionExpiryInterval, session_expiry_seconds)?;
    properties.push_u16(PropertyCode::ReceiveMaximum, RECEIVE_MAXIMUM)?;
    Ok(properties)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn ipv6_addresses_get_brackets() {
        assert_eq!(server_uri("::1", 1883), "tcp://[::1]:1883");
        assert_eq!(server_uri("broker.example", 8883), "tcp://broker.example:8883");
    }
}
