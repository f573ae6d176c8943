//! What stands around the gateway under test: a directory, a database and a broker.

use std::path::{self, Path};

use secrecy::{ExposeSecret, SecretString};
use tempfile::TempDir;

use super::error::BenchError;
use super::options::BenchOptions;
use super::workload::Workload;
use crate::embedded::broker::{EmbeddedBroker, Ports};
use crate::mqtt::load::Publisher;
use crate::settings::{BrokerAddress, DatabaseSettings, load_given, parse_database_url};
use crate::store::Database;
use crate::store::bench::schema::{self, BenchBroker, BenchFlows};

/// Mebibytes that the embedded broker keeps for each topic: as much as a gateway may ever be behind.
const BROKER_KEEPS_MIB: usize = 1_024;

/// How long a broker keeps the session of a gateway that is gone for good, in seconds.
const SESSION_EXPIRY_SECONDS: &str = "300";

/// The surroundings of one measurement.
pub(super) struct Stage {
    directory: TempDir,
    /// The same as `database`, as the gateway is told it.
    database_url: SecretString,
    pub(super) database: DatabaseSettings,
    pub(super) broker: BrokerAddress,
    /// Where the gateway finds the broker: the embedded one has a port for each version of MQTT.
    has_embedded_broker: bool,
    /// In the names of all clients and topics.
    name: String,
    qos: u8,
    settings: Vec<(String, String)>,
    keep: bool,
}

impl Stage {
    /// Makes the database, and starts a broker where none is named. Nothing is touched before all
    /// options are known to be good.
    pub(super) async fn set(options: &BenchOptions) -> Result<Self, BenchError> {
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
        let stage = Self {
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
        stage.check_settings()?;
        // A database must not be dropped for a broker that is not there.
        stage.publisher()?.finish()?;
        schema::make(&stage.database, options.may_replace).await?;
        Ok(stage)
    }

    /// Where the gateway runs.
    pub(super) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Begins the names and topics of a measurement of the broker: nothing of the gateway's.
    pub(super) fn limit_name(&self) -> String {
        format!("{}-limit", self.name)
    }

    /// Quality of service of publisher and gateway.
    pub(super) fn qos(&self) -> u8 {
        self.qos
    }

    /// Begins all topics of this measurement.
    pub(super) fn topic_prefix(&self) -> String {
        self.name.clone()
    }

    /// What the broker is called.
    pub(super) fn broker_name(&self) -> String {
        let BrokerAddress { host, port, .. } = &self.broker;
        if self.has_embedded_broker { "embedded rumqttd".to_owned() } else { format!("{host}:{port}") }
    }

    /// Everything that the gateway is told.
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

    /// Writes down the flows and the broker.
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

    /// A publisher, connected.
    pub(super) fn publisher(&self) -> Result<Publisher, BenchError> {
        let BrokerAddress { host, port, .. } = &self.broker;
        let client_id = format!("{}-publisher", self.name);
        Ok(Publisher::connect(host, *port, &client_id, self.qos, self.broker.login())?)
    }

    /// Leaves nothing behind: neither the database, unless it is to be kept, nor the gateway's session.
    pub(super) async fn strike(self) -> Result<(), BenchError> {
        let dropped = if self.keep { Ok(()) } else { schema::drop(&self.database).await };
        let forgotten = if self.has_embedded_broker { Ok(()) } else { self.forget_session() };
        let cleared = self.directory.close().map_err(BenchError::Directory);
        dropped?;
        forgotten?;
        cleared
    }

    /// Whoever begins a session of that name anew, and ends it, ends the gateway's.
    fn forget_session(&self) -> Result<(), BenchError> {
        let BrokerAddress { host, port, .. } = &self.broker;
        Ok(Publisher::connect(host, *port, &self.name, self.qos, self.broker.login())?.finish()?)
    }

    /// What is wrong in a setting is told before anything is made.
    fn check_settings(&self) -> Result<(), BenchError> {
        let settings = self.gateway_settings();
        let given: Vec<(&str, &str)> =
            settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        load_given(&given, &[])?;
        Ok(())
    }
}

/// The database that is named, or a file in `directory`; and how the gateway is told.
fn database(
    options: &BenchOptions,
    directory: &Path,
) -> Result<(DatabaseSettings, SecretString), BenchError> {
    let named = options.database.as_ref().map(|url| Ok((url, parse_database_url(url.expose_secret())?)));
    match named.transpose().map_err(BenchError::DatabaseUrl)? {
        Some((url, settings @ (DatabaseSettings::MySql { .. } | DatabaseSettings::Postgres { .. }))) => {
            Ok((settings, url.clone()))
        }
        // The gateway has a working directory of its own.
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
    let ports = Ports::choose(Some(0))?;
    EmbeddedBroker::new(ports, BROKER_KEEPS_MIB).start()?;
    Ok(BrokerAddress { host: "127.0.0.1".to_owned(), port: ports.v5, credentials: None })
}
