//! Connects with a clean session: MQTT 5, or 3.1.1 if the broker does not support 5.

use std::time::Duration;

use paho_mqtt::{
    AsyncClient, ConnectOptions, ConnectOptionsBuilder, CreateOptionsBuilder, MQTT_VERSION_3_1_1,
    MQTT_VERSION_5, PersistenceType,
};

use super::{LoadError, UserPassword};
use crate::domain::broker::MqttVersion;
use crate::mqtt::clients::{CONNECT_TIMEOUT, server_uri};
use crate::mqtt::failure::{ConnectFailure, FailureKind};
use crate::mqtt::tcp;

/// Long enough that no ping disturbs a measurement.
const KEEPALIVE: Duration = Duration::from_mins(10);

/// Maximum number of messages in flight. With MQTT 5 paho also respects a lower limit of the broker.
const MAX_INFLIGHT: i32 = 65_535;

pub(super) struct LoadTarget<'a> {
    pub(super) host: &'a str,
    pub(super) port: u16,
    pub(super) client_id: &'a str,
    pub(super) credentials: Option<UserPassword<'a>>,
}

/// Connects a new client. `prepare` sets its callbacks before.
pub(super) fn connect(
    target: &LoadTarget<'_>,
    prepare: impl Fn(&AsyncClient),
) -> Result<AsyncClient, LoadError> {
    reject_nul(target.host, "the broker's host")?;
    reject_nul(target.client_id, "the MQTT client id")?;
    reject_nul(target.credentials.map_or("", |(user, _)| user), "the MQTT user name")?;
    let client = create_client(target, MqttVersion::V5, &prepare)?;
    let Err(failure) = establish(&client, target, MqttVersion::V5) else { return Ok(client) };
    if !is_version_failure(failure.kind) {
        return Err(LoadError::Connect(failure.text));
    }
    let client = create_client(target, MqttVersion::V311, &prepare)?;
    establish(&client, target, MqttVersion::V311).map_err(|failure| LoadError::Connect(failure.text))?;
    Ok(client)
}

/// Paho panics on NUL in strings that it passes to C.
pub(super) fn reject_nul(text: &str, what: &'static str) -> Result<(), LoadError> {
    if text.contains('\0') { Err(LoadError::Nul(what)) } else { Ok(()) }
}

fn is_version_failure(kind: FailureKind) -> bool {
    matches!(kind, FailureKind::VersionRefused | FailureKind::NotUnderstood | FailureKind::Silent)
}

fn create_client(
    target: &LoadTarget<'_>,
    version: MqttVersion,
    prepare: &impl Fn(&AsyncClient),
) -> Result<AsyncClient, LoadError> {
    let client = CreateOptionsBuilder::new()
        .server_uri(server_uri(target.host, target.port))
        .client_id(target.client_id)
        .persistence(PersistenceType::None)
        .max_buffered_messages(MAX_INFLIGHT)
        .mqtt_version(match version {
            MqttVersion::V5 => MQTT_VERSION_5,
            MqttVersion::V311 => MQTT_VERSION_3_1_1,
        })
        .create_client()
        .map_err(|error| LoadError::Client(error.to_string()))?;
    // Paho's callbacks own handles, and dropping the last handle destroys the client. On paho's thread that waits for
    // ever for a lock of the same thread, which blocks all clients of the process. So the client is leaked, as in the
    // gateway.
    std::mem::forget(client.clone());
    prepare(&client);
    Ok(client)
}

fn establish(
    client: &AsyncClient,
    target: &LoadTarget<'_>,
    version: MqttVersion,
) -> Result<(), ConnectFailure> {
    // Paho ends the attempt itself, but checks its clock rarely.
    let outcome = client.connect(options(target, version)).wait_for(CONNECT_TIMEOUT * 2);
    let failure = |error| {
        ConnectFailure::new(&error, || {
            tcp::connect(target.host, target.port).map(drop).map_err(|error| error.to_string())
        })
    };
    outcome.map(|_| ()).map_err(failure)
}

fn options(target: &LoadTarget<'_>, version: MqttVersion) -> ConnectOptions {
    let mut builder = match version {
        MqttVersion::V5 => ConnectOptionsBuilder::new_v5(),
        MqttVersion::V311 => ConnectOptionsBuilder::with_mqtt_version(MQTT_VERSION_3_1_1),
    };
    match version {
        // `clean_session` would silently turn this into a 3.1.1 connect.
        MqttVersion::V5 => builder.clean_start(true),
        MqttVersion::V311 => builder.clean_session(true),
    };
    builder.keep_alive_interval(KEEPALIVE).connect_timeout(CONNECT_TIMEOUT).max_inflight(MAX_INFLIGHT);
    if let Some((user, password)) = target.credentials {
        builder.user_name(user).password(password);
    }
    builder.finalize()
}
