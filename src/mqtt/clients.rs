//! The paho clients, made for the life of the process; each attempt says which broker it is for.
//!
//! One for each version of MQTT, because paho refuses MQTT 5 for ever on a client that has once tried 3.1.1: one client
//! would not find the way back after a broker that only seemed to be old. One each with TLS and without, because a
//! client that has once used it does so for ever. Only one of the four is connected or connecting at a time.

use std::mem;
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use chrono::Utc;
use paho_mqtt::{
    AsyncClient, ConnectOptions, ConnectOptionsBuilder, ConnectToken, CreateOptionsBuilder, Error,
    MQTT_VERSION_3_1_1, MQTT_VERSION_5, PersistenceType, Properties, PropertyCode, SslOptions,
    SslOptionsBuilder,
};
use secrecy::{ExposeSecret, SecretString};

use super::credential::Credential;
use super::failure::Failure;
use super::incoming::{Incoming, hand_over};
use super::input::{Gone, Input};
use super::options::{BrokerOptions, MqttError};
use super::pace::{Pace, sleeps_of_this_thread};
use super::server::BrokerServer;
use super::version::Version;
use crate::domain::redelivery::RECEIVE_MAXIMUM;

/// TCP connection, CONNECT and CONNACK together; paho looks at its clock every three seconds.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// The longest keepalive that MQTT can express. Paho turns zero, "never", into one second: this comes nearest.
const LONGEST_KEEPALIVE: Duration = Duration::from_secs(65_535);

/// How long a broker that is not the first of the list keeps our session, seconds: a week. After we have gone back to
/// the first it collects for us what is still published there; that has to end some day.
const LATER_SESSION_SECONDS: u32 = 7 * 24 * 3600;

/// What connections and their messages are given to.
pub(super) type OnIncoming = Arc<dyn Fn(Incoming<'_>) + Send + Sync>;

/// What a client can be used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wire {
    pub(super) version: Version,
    pub(super) encrypted: bool,
}

pub(super) struct Clients {
    options: BrokerOptions,
    on_incoming: OnIncoming,
    inputs: Sender<Input>,
    of_wires: Vec<(Wire, Client)>,
}

#[derive(Clone)]
pub(super) struct Client {
    pub(super) paho: AsyncClient,
    /// The broker of the attempt or connection, for the callback.
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
        let mut of_wires = Vec::new();
        for version in [Version::V5, Version::V311] {
            for encrypted in [false, true] {
                let wire = Wire { version, encrypted };
                of_wires.push((wire, client(&options.client_id, wire, on_incoming, inputs)?));
            }
        }
        let (options, on_incoming, inputs) = (options.clone(), Arc::clone(on_incoming), inputs.clone());
        Ok(Clients { options, on_incoming, inputs, of_wires })
    }

    /// Another client in the place of one that has lost its connection: that one would publish again whatever was not
    /// acknowledged, for ever where the broker ends the connection over it.
    pub(super) fn renew(&mut self, wire: Wire) {
        match client(&self.options.client_id, wire, &self.on_incoming, &self.inputs) {
            Ok(renewed) => {
                for (_, client) in self.of_wires.iter_mut().filter(|(of, _)| *of == wire) {
                    // To end one waits for its callbacks: it is left as it is.
                    mem::forget(mem::replace(client, renewed.clone()));
                }
            }
            Err(error) => log::warn!("Going on with the MQTT client that there is: {error}"),
        }
    }

    /// Begins an attempt, or says why there is no use in one. `first`: it is the first broker of the list.
    pub(super) fn connect(
        &self,
        server: &BrokerServer,
        version: Version,
        first: bool,
    ) -> Result<(Client, ConnectToken), Failure> {
        let wire = Wire { version, encrypted: server.tls.is_some() };
        let found = self.of_wires.iter().find(|(of, _)| *of == wire);
        let client = found.map(|(_, client)| client.clone()).ok_or_else(Failure::overdue)?;
        let options = self.connect_options(server, version, first)?;
        server.address().clone_into(&mut client.server.lock().unwrap_or_else(PoisonError::into_inner));
        let token = client.paho.connect(options);
        Ok((client, token))
    }

    fn connect_options(
        &self,
        server: &BrokerServer,
        version: Version,
        first: bool,
    ) -> Result<ConnectOptions, Failure> {
        refuse_nul(&server.host, "the broker's host")?;
        let mut builder = match version {
            Version::V5 => {
                let expiry = self.options.session_expiry_seconds;
                let expiry = if first { expiry } else { expiry.min(LATER_SESSION_SECONDS) };
                let properties = properties_v5(expiry).map_err(|error| Failure::unprepared(&error))?;
                let mut builder = ConnectOptionsBuilder::new_v5();
                // Not `clean_session`: it would silently turn this into a 3.1.1 connect.
                builder.clean_start(false).properties(properties);
                builder
            }
            Version::V311 => {
                let mut builder = ConnectOptionsBuilder::with_mqtt_version(MQTT_VERSION_3_1_1);
                builder.clean_session(false);
                builder
            }
        };
        let keepalive = match self.options.keepalive {
            Duration::ZERO => LONGEST_KEEPALIVE,
            keepalive => keepalive.min(LONGEST_KEEPALIVE),
        };
        builder.keep_alive_interval(keepalive).connect_timeout(CONNECT_TIMEOUT);
        // Also without TLS: paho prints each address of a list on standard output when it is given none.
        builder.server_uris(&[uri(server)]).ssl_options(ssl_options(server)?);
        if let Some((user, password)) = credentials(server)? {
            refuse_nul(user.expose_secret(), "the MQTT user name")?;
            builder.user_name(user.expose_secret()).password(password.expose_secret());
        }
        Ok(builder.finalize())
    }
}

/// Whether an attempt would get as far as the broker.
pub(super) fn is_prepared(server: &BrokerServer) -> bool {
    credentials(server).is_ok() && ssl_options(server).is_ok()
}

/// Read anew for each attempt: what they refer to may have changed.
fn credentials(server: &BrokerServer) -> Result<Option<(SecretString, SecretString)>, Failure> {
    let Some((user, password)) = &server.credentials else { return Ok(None) };
    let read = |credential: &Credential, column| {
        credential.read().map_err(|error| {
            Failure::unprepared(&format!("{column} of the MQTT server with id {}: {error}", server.id))
        })
    };
    Ok(Some((read(user, "username")?, read(password, "password")?)))
}

/// The files are looked at before, for paho does not say what is wrong with them. Paho reads them at each attempt.
fn ssl_options(server: &BrokerServer) -> Result<SslOptions, Failure> {
    let mut builder = SslOptionsBuilder::new();
    let Some(files) = &server.tls else { return Ok(builder.finalize()) };
    files
        .read(Utc::now().timestamp())
        .map_err(|error| Failure::unprepared(&format!("{error} (MQTT server with id {})", server.id)))?;
    builder.enable_server_cert_auth(true).verify(true);
    let mut name_files = || -> Result<(), Error> {
        if let Some(path) = &files.ca_file {
            builder.trust_store(path)?;
        }
        if let Some(path) = &files.client_cert_file {
            builder.key_store(path)?;
        }
        if let Some(path) = &files.client_key_file {
            builder.private_key(path)?;
        }
        Ok(())
    };
    name_files().map_err(|error| Failure::unprepared(&error))?;
    Ok(builder.finalize())
}

/// Paho panics on a NUL in text that it hands to C.
fn refuse_nul(text: &str, what: &'static str) -> Result<(), Failure> {
    if text.contains('\0') { Err(Failure::unprepared(&MqttError::Nul(what))) } else { Ok(()) }
}

fn client(
    client_id: &str,
    wire: Wire,
    on_incoming: &OnIncoming,
    inputs: &Sender<Input>,
) -> Result<Client, MqttError> {
    let paho = CreateOptionsBuilder::new()
        // Every attempt names its own.
        .server_uri(if wire.encrypted { "ssl://127.0.0.1:8883" } else { "tcp://127.0.0.1:1883" })
        .client_id(client_id)
        // The inbox is what persists; paho's own queues must hold nothing that is not in it.
        .persistence(PersistenceType::None)
        .mqtt_version(match wire.version {
            Version::V5 => MQTT_VERSION_5,
            Version::V311 => MQTT_VERSION_3_1_1,
        })
        .create_client()
        .map_err(|error| MqttError::Client(error.to_string()))?;

    let server = Arc::new(Mutex::new(String::new()));
    let (begins, of) = (Arc::clone(on_incoming), Arc::clone(&server));
    // On the thread that receives, before the first message of the connection.
    paho.set_connected_callback(move |_| {
        let server = of.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let in_flight_bounded = wire.version == Version::V5;
        begins(Incoming::ConnectionBegins { server: &server, in_flight_bounded });
    });
    let on_incoming = Arc::clone(on_incoming);
    // Called by that thread alone; the mutex is there for the compiler.
    let pace = Mutex::new(Pace::new(Instant::now()));
    paho.set_message_callback(move |_, message| {
        // Without a message the call only marks the end of a connection.
        if let Some(message) = message {
            let mut pace = pace.lock().unwrap_or_else(PoisonError::into_inner);
            let pause = pace.arrived(Instant::now(), sleeps_of_this_thread);
            hand_over(&message, &*on_incoming);
            pace_out(&mut pace, pause);
        }
    });
    // For what these post to the channel: nobody is left to miss it once the receiver is gone.
    let gone = inputs.clone();
    paho.set_connection_lost_callback(move |_| {
        let why = Gone::Broken;
        let _ = gone.send(Input::Gone { wire, why });
    });
    let gone = inputs.clone();
    paho.set_disconnected_callback(move |_, _, reason| {
        let why = Gone::Dismissed(reason);
        let _ = gone.send(Input::Gone { wire, why });
    });
    Ok(Client { paho, server })
}

fn pace_out(pace: &mut Pace, pause: Option<Duration>) {
    match pause {
        Some(pause) => {
            thread::sleep(pause);
            pace.is_free_after_pause(Instant::now(), sleeps_of_this_thread());
        }
        None => pace.is_free(Instant::now()),
    }
}

fn uri(server: &BrokerServer) -> String {
    match server.tls {
        // Without brackets: paho would compare an address with one of them to the names in the certificate.
        Some(_) => format!("ssl://{}:{}", server.host, server.port),
        None => server_uri(&server.host, server.port),
    }
}

pub(super) fn server_uri(host: &str, port: u16) -> String {
    // An IPv6 address needs brackets beside a port.
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
    fn an_ipv6_address_is_kept_apart_from_the_port() {
        assert_eq!(server_uri("::1", 1883), "tcp://[::1]:1883");
        assert_eq!(server_uri("broker.example", 8883), "tcp://broker.example:8883");
    }
}
