//! What is asked of a measurement, and whether it can be done.

use secrecy::{ExposeSecret, SecretString};

use super::error::BenchError;
use crate::settings::{self, BrokerAddress};

/// What the bench gives the gateway itself.
const OWN_SETTINGS: [&str; 15] = [
    "DATABASE_URL",
    "DATABASE_URL_FILE",
    "DB_HOST",
    "DB_PORT",
    "DB_NAME",
    "DB_USER",
    "DB_PASSWORD",
    "DB_PASSWORD_FILE",
    "MQTT_CLIENT_ID",
    "MQTT_QOS",
    "INBOX_DIR",
    "LOG_DIR",
    "LOG_FORMAT",
    "RUST_LOG",
    "MAILBOX_REPORT_SECONDS",
];

/// What is to be measured, and with what.
pub(crate) struct BenchOptions {
    /// Messages to publish.
    pub(crate) messages: u64,
    /// Flows that they are spread over.
    pub(crate) flows: u64,
    /// Quality of service of publisher and gateway, 0 or 1.
    pub(crate) qos: u8,
    /// Messages a second; none is as fast as they are taken.
    pub(crate) rate: Option<f64>,
    /// `STORE_DB` or `POST_ENDPOINT`.
    pub(crate) action: &'static str,
    /// Attributes of a message.
    pub(crate) attributes: u32,
    /// A URL as in `DATABASE_URL`; none is a file of the bench's own.
    pub(crate) database: Option<SecretString>,
    /// Whether that database may be dropped if it is there.
    pub(crate) may_replace: bool,
    /// Whether it stays at the end.
    pub(crate) keep: bool,
    /// A URL; none is the embedded broker.
    pub(crate) broker: Option<SecretString>,
    /// Settings of the gateway, `NAME=VALUE`.
    pub(crate) set: Vec<String>,
    /// Whether a machine reads the result.
    pub(crate) json: bool,
}

impl BenchOptions {
    /// The broker that is named.
    pub(super) fn broker(&self) -> Result<Option<BrokerAddress>, BenchError> {
        let url = self.broker.as_ref().map(ExposeSecret::expose_secret);
        url.map(settings::broker_of).transpose().map_err(BenchError::BrokerUrl)
    }

    /// The settings that are named, by name.
    pub(super) fn settings(&self) -> Result<Vec<(String, String)>, BenchError> {
        self.set.iter().map(|pair| setting(pair)).collect()
    }
}

fn setting(pair: &str) -> Result<(String, String), BenchError> {
    let (name, value) = pair.split_once('=').ok_or(BenchError::NoSetting)?;
    if OWN_SETTINGS.contains(&name) {
        return Err(BenchError::OwnSetting { name: name.to_owned() });
    }
    if !settings::is_setting(name) {
        return Err(BenchError::UnknownSetting { name: name.to_owned() });
    }
    Ok((name.to_owned(), value.to_owned()))
}
