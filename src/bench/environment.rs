//! The environment of the gateway under test: a directory, a database and a broker.

use std::path::{self, Path};

use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use super::error::BenchError;
use super::options::BenchOptions;
use super::workload::Workload;
use crate::embedded::broker::EmbeddedBroker;
use crate::mqtt::load::Publisher;
use crate::settings::{BrokerAddress, DatabaseSettings, load_given, parse_database_url};
use crate::store::Database;
use crate::store::bench::schema::{self, BenchBroker, BenchFlows};

/// Buffer of the embedded broker per topic, in mebibytes. It limits how far the gateway may lag.
const BROKER_BUFFER_MIB: usize = 1_024;

/// Expiry of the gateway's session at the broker, in seconds.
const SESSION_EXPIRY_SECONDS: &str = "300";

/// Environment of one measurement.
pub(super) struct Environment {
    directory: TempDir,
    /// URL of `database`, as the gateway receives it.
    database_url: SecretString,
    pub(super) database: DatabaseSettings,
    pub(super) broker: BrokerAddress,
    /// Whether the broker is embedded.
    has_embedded_broker: bool,
    /// Unique prefix of all client ids and topics.
    name: String,
    qos: u8,
    settings: Vec<(String, String)>,
    keep: bool,
}

impl Environment {
    /// Creates the database, and starts a broker if the options name none. All options are validated before anything is
    /// changed.
    pub(super) async fn set_up(options: &BenchOptions) -> Result<Self, BenchError> {
        options.check()?;
        let (named_broker, settings) = (options.broker()?, options.settings()?);
        let directory = tempfile::Builder::new().prefix("mqtt-gateway-bench-").tempdir();
        let directory = directory.map_err(BenchError::Directory)?;
        let (database, database_url) = database(options, directory.path())?;
        let has_embedded_broker = named_broker.is_none();
        let broker = match named_broker {
            Some(broker) => broker,
            None => start_broker()?,
        };
        let name = format!("mqtt-gateway-bench-{:08x}", rand::random::<u32>());
        let keep = options.keep;
        let qos = options.qos;
        let environment = Self {
            directory,
            database_url,
            database,
            broker,
            has_embedded_broker,
            name,
            qos,
            settings,
            keep,
        };
        environment.check_settings()?;
        // The broker is checked first, because the next step may drop an existing database.
        environment.publisher()?.finish()?;
        schema::make(&environment.database, options.may_replace).await?;
        Ok(environment)
    }

    /// Returns the working directory of the gateway.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Returns the prefix of client ids and topics for the measurement of the broker, which the gateway does not use.
    pub(super) fn limit_name(&self) -> String {
        format!("{}-limit", self.name)
    }

    /// Returns the quality of service of publisher and gateway.
    pub(super) fn qos(&self) -> u8 {
        self.qos
    }

    /// Returns the prefix of all topics of this measurement.
    pub(super) fn topic_prefix(&self) -> String {
        self.name.clone()
    }

    /// Returns the name of the broker for the report.
    pub(super) fn broker_name(&self) -> String {
        let BrokerAddress { host, port, .. } = &self.broker;
        if self.has_embedded_broker { "embedded rumqttd".to_owned() } else { format!("{host}:{port}") }
    }

    /// Returns all settings of the gateway.
    pub(super) fn gateway_settings(&self) -> Vec<(String, String)> {
        let own = [
            ("DATABASE_URL", self.database_url.expose_secret()),
            ("MQTT_CLIENT_ID", self.name.as_str()),
            ("MQTT_QOS", if self.qos == 0 { "0" } else { "1" }),
            ("MQTT_SESSION_EXPIRY_SECONDS", SESSION_EXPIRY_SECONDS),
            ("ADMIN_BIND", "off"),
            ("LOG_FORMAT", "json"),
            ("MAILBOX_REPORT_SECONDS", "1"),
        ];
        let own = own.map(|(name, value)| (name.to_owned(), value.to_owned()));
        own.into_iter().chain(self.settings.iter().cloned()).collect()
    }

    /// Inserts the flows and the broker into the database.
    pub(super) async fn furnish(
        &self,
        database: &Database,
        workload: &Workload,
        action: &str,
        endpoint_url: &dyn Fn(u64) -> Option<String>,
    ) -> Result<(), BenchError> {
        let flows = BenchFlows {
            count: workload.flows,
            action,
            payload_schema: workload.payload_schema(),
            topic: &|flow| workload.topic_of(flow),
            endpoint_url,
        };
        let broker =
            BenchBroker { host: &self.broker.host, port: self.broker.port, credentials: self.broker.login() };
        Ok(schema::furnish(database, &flows, &broker).await?)
    }

    /// Connects a publisher to the broker.
    pub(super) fn publisher(&self) -> Result<Publisher, BenchError> {
        let BrokerAddress { host, port, .. } = &self.broker;
        let client_id = format!("{}-publisher", self.name);
        Ok(Publisher::connect(host, *port, &client_id, self.qos, self.broker.login())?)
    }

    /// Deletes the directory, the gateway's session and, unless it is kept, the database.
    pub(super) async fn tear_down(self) -> Result<(), BenchError> {
        let dropped = if self.keep { Ok(()) } else { schema::drop(&self.database).await };
        let forgotten = if self.has_embedded_broker { Ok(()) } else { self.forget_session() };
        let cleared = self.directory.close().map_err(BenchError::Directory);
        dropped?;
        forgotten?;
        cleared
    }

    /// Deletes the gateway's session: a clean connection with its client id replaces the session and then ends.
    fn forget_session(&self) -> Result<(), BenchError> {
        let BrokerAddress { host, port, .. } = &self.broker;
        Ok(Publisher::connect(host, *port, &self.name, self.qos, self.broker.login())?.finish()?)
    }

    /// Validates the settings of the gateway.
    fn check_settings(&self) -> Result<(), BenchError> {
        let settings = self.gateway_settings();
        let given: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        load_given(&given, &[])?;
        Ok(())
    }
}

/// Returns the settings and the URL of the named database, or of an SQLite file in `directory`.
fn database(
    options: &BenchOptions,
    directory: &Path,
) -> Result<(DatabaseSettings, SecretString), BenchError> {
    let named = options.database.as_ref().map(|url| Ok((url, parse_database_url(url.expose_secret())?)));
    match named.transpose().map_err(BenchError::DatabaseUrl)? {
        Some((url, settings @ (DatabaseSettings::MySql { .. } | DatabaseSettings::Postgres { .. }))) => {
            Ok((settings, url.clone()))
        }
        // The path is made absolute, because the gateway has a different working directory.
        Some((_, DatabaseSettings::Sqlite { path })) => {
            Ok(sqlite(&path::absolute(path).map_err(BenchError::Directory)?))
        }
        None => Ok(sqlite(&directory.join("gateway.db"))),
    }
}

fn sqlite(path: &Path) -> (DatabaseSettings, SecretString) {
    let text = path.to_string_lossy().replace('%', "%25").replace('?', "%3F");
    (DatabaseSettings::Sqlite { path: path.to_owned() }, format!("sqlite:{text}").into())
}

fn start_broker() -> Result<BrokerAddress, BenchError> {
    let broker = EmbeddedBroker::new(Some(0), BROKER_BUFFER_MIB)?;
    let ports = broker.ports();
    broker.start()?;
    Ok(BrokerAddress { host: "127.0.0.1".to_owned(), port: ports.v5, credentials: None })
}
