//! What is asked of a measurement, and whether it can be done.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};

use super::error::BenchError;
use crate::domain::flow::FLOW_ACTION_STORE_DB;
use crate::settings::{self, BrokerAddress};

/// What the bench gives the gateway itself.
const OWN_SETTINGS: [&str; 16] = [
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
    "ADMIN_BIND",
];

/// What is to be measured, and with what.
#[allow(clippy::struct_excessive_bools, reason = "each is a switch of the command line")]
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
    /// Whether what bounds the gateway is measured too.
    pub(crate) limits: bool,
    /// Whether the messages are to pile up in the inbox first.
    pub(crate) backlog: bool,
    /// How long the gateway is watched when there is nothing to do.
    pub(crate) idle: Option<Duration>,
    /// Whether a machine reads the result.
    pub(crate) json: bool,
}

impl BenchOptions {
    /// Whether the flows store.
    pub(super) fn stores(&self) -> bool {
        self.action == FLOW_ACTION_STORE_DB
    }

    /// An error when they contradict each other.
    pub(super) fn check(&self) -> Result<(), BenchError> {
        if self.backlog && (self.rate.is_some() || self.qos == 0 || !self.stores()) {
            return Err(BenchError::Backlog);
        }
        Ok(())
    }

    /// The broker that is named.
    pub(super) fn broker(&self) -> Result<Option<BrokerAddress>, BenchError> {
        let url = self.broker.as_ref().map(ExposeSecret::expose_secret);
        url.map(settings::parse_broker_url).transpose().map_err(BenchError::BrokerUrl)
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
    fn a_setting_has_a_name_that_there_is_and_that_the_bench_leaves_alone() {
        let settings = |pair: &str| BenchOptions { set: vec![pair.to_owned()], ..options() }.settings();
        assert_eq!(settings("LANES=4").unwrap(), [("LANES".to_owned(), "4".to_owned())]);
        assert!(matches!(settings("LANES"), Err(BenchError::NoSetting)));
        assert!(matches!(settings("LANE=4"), Err(BenchError::UnknownSetting { .. })));
        assert!(matches!(settings("DATABASE_URL=sqlite:x"), Err(BenchError::OwnSetting { .. })));
        assert!(OWN_SETTINGS.iter().all(|name| settings::is_setting(name)));
    }

    #[test]
    fn a_backlog_is_of_messages_that_are_stored_and_cannot_be_lost() {
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
    fn an_error_about_a_url_does_not_quote_it() {
        let options = BenchOptions { broker: Some("mqtts://me:hush@here".into()), ..options() };
        assert!(!options.broker().unwrap_err().to_string().contains("hush"));
    }
}
