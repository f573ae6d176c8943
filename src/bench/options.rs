//! Options of a measurement, and their validation.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::error::BenchError;
use crate::domain::flow::FLOW_ACTION_STORE_DB;
use crate::settings::{self, BrokerAddress};

/// Settings of the gateway that the bench itself sets.
const OWN_SETTINGS: [&str; 17] = [
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
    "MQTT_SESSION_EXPIRY_SECONDS",
    "INBOX_DIR",
    "LOG_DIR",
    "LOG_FORMAT",
    "RUST_LOG",
    "MAILBOX_REPORT_SECONDS",
    "ADMIN_BIND",
];

/// Options of a measurement.
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
pub(crate) struct BenchOptions {
    /// Messages to publish.
    pub(crate) messages: u64,
    /// Flows that the messages are spread over.
    pub(crate) flows: u64,
    /// Quality of service of publisher and gateway, 0 or 1.
    pub(crate) qos: u8,
    /// Messages per second. `None` is as fast as the broker accepts them.
    pub(crate) rate: Option<f64>,
    /// `STORE_DB` or `POST_ENDPOINT`.
    pub(crate) action: &'static str,
    /// Attributes per message.
    pub(crate) attributes: u32,
    /// URL as in `DATABASE_URL`. `None` is a temporary SQLite file.
    pub(crate) database: Option<SecretString>,
    /// Whether an existing database may be dropped first.
    pub(crate) may_replace: bool,
    /// Whether the database is kept at the end.
    pub(crate) keep: bool,
    /// URL of the broker. `None` is the embedded broker.
    pub(crate) broker: Option<SecretString>,
    /// Settings of the gateway, `NAME=VALUE`.
    pub(crate) set: Vec<String>,
    /// Whether the limits of the machine are also measured.
    pub(crate) limits: bool,
    /// Whether all messages are collected in the inbox first.
    pub(crate) backlog: bool,
    /// Duration of the measurement of the idle gateway.
    pub(crate) idle: Option<Duration>,
    /// Whether the result is printed as JSON.
    pub(crate) json: bool,
}

impl BenchOptions {
    /// Returns true if the flows store their messages.
    pub(super) fn stores(&self) -> bool {
        self.action == FLOW_ACTION_STORE_DB
    }

    /// Returns an error if options contradict each other.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        if self.backlog && (self.rate.is_some() || self.qos == 0 || !self.stores()) {
            return Err(BenchError::Backlog);
        }
        Ok(())
    }

    /// Returns the address of the broker, if an option names it.
    pub(super) fn broker(&self) -> Result<Option<BrokerAddress>, BenchError> {
        let url = self.broker.as_ref().map(ExposeSecret::expose_secret);
        url.map(settings::parse_broker_url).transpose().map_err(BenchError::BrokerUrl)
    }

    /// Returns the settings of the gateway, by name.
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::domain::flow::FLOW_ACTION_POST_ENDPOINT;

    fn options() -> BenchOptions {
        BenchOptions {
            messages: 1,
            flows: 1,
            qos: 1,
            rate: None,
            action: FLOW_ACTION_STORE_DB,
            attributes: 1,
            database: None,
            may_replace: false,
            keep: false,
            broker: None,
            set: Vec::new(),
            limits: false,
            backlog: false,
            idle: None,
            json: false,
        }
    }

    #[test]
    fn unknown_and_own_settings_are_rejected() {
        let settings = |pair: &str| BenchOptions { set: vec![pair.to_owned()], ..options() }.settings();
        assert_eq!(settings("LANES=4").unwrap(), [("LANES".to_owned(), "4".to_owned())]);
        assert!(matches!(settings("LANES"), Err(BenchError::NoSetting)));
        assert!(matches!(settings("LANE=4"), Err(BenchError::UnknownSetting { .. })));
        assert!(matches!(settings("DATABASE_URL=sqlite:x"), Err(BenchError::OwnSetting { .. })));
        assert!(OWN_SETTINGS.iter().all(|name| settings::is_setting(name)));
    }

    #[test]
    fn backlogs_need_stored_lossless_messages() {
        let backlog = || BenchOptions { backlog: true, ..options() };
        assert!(backlog().check().is_ok());
        for refused in [
            BenchOptions { qos: 0, ..backlog() },
            BenchOptions { rate: Some(500.0), ..backlog() },
            BenchOptions { action: FLOW_ACTION_POST_ENDPOINT, ..backlog() },
        ] {
            assert!(matches!(refused.check(), Err(BenchError::Backlog)));
        }
    }

    #[test]
    fn url_errors_hide_the_url() {
        let options = BenchOptions { broker: Some("mqtts://me:hush@here".into()), ..options() };
        assert!(!options.broker().unwrap_err().to_string().contains("hush"));
    }
}
