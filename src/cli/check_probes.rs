//! What `check` tries over the network: the database, its schema, and the broker named there.

use std::io;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::check::{Failure, Outcome, Report};
use crate::mqtt::{BrokerOptions, MqttEvent, MqttLink};
use crate::settings::{DatabaseSettings, Settings};
use crate::store::{self, Database, MqttServer};

/// How long the broker may take for an answer.
const BROKER_TIMEOUT: Duration = Duration::from_secs(10);

/// Tries database, schema and broker, in this order, as each needs the one before.
pub(super) fn run(settings: &Settings, report: &mut Report<'_>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(try_all(settings, report))
}

async fn try_all(settings: &Settings, report: &mut Report<'_>) -> io::Result<()> {
    let database = match Database::connect(&settings.database, 1).await {
        Ok(database) => database,
        Err(error) => {
            report.tell("database", &Err(Failure::new(&error, database_remedy(&settings.database))))?;
            report.tell("schema", &Err(not_tried()))?;
            return report.tell("broker", &Err(not_tried()));
        }
    };
    report.tell("database", &Ok(describe(&settings.database)))?;
    report.tell("schema", &schema(&database).await)?;
    report.tell("broker", &broker(&database, settings).await)
}

fn not_tried() -> Failure {
    Failure::new(&"not tried", "mend the database first")
}

fn describe(database: &DatabaseSettings) -> String {
    match database {
        DatabaseSettings::MySql { host, port, name, user, .. }
        | DatabaseSettings::Postgres { host, port, name, user, .. } => {
            format!("{name} at {host}:{port} as {user}")
        }
        DatabaseSettings::Sqlite { path } => path.display().to_string(),
    }
}

fn database_remedy(database: &DatabaseSettings) -> &'static str {
    match database {
        DatabaseSettings::MySql { .. } => {
            "see that the server runs and that DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD \
             (or DATABASE_URL) are right"
        }
        DatabaseSettings::Postgres { .. } => "see that the server runs and that DATABASE_URL is right",
        DatabaseSettings::Sqlite { .. } => {
            "see that the directory is there and that this user may write in it"
        }
    }
}

/// What is missing is no failure: the gateway adds it when it starts.
async fn schema(database: &Database) -> Outcome {
    match store::plan(database).await {
        Ok(report) if report.added.is_empty() => Ok("is complete".to_owned()),
        Ok(report) => Ok(format!("lacks, and the start adds: {report}")),
        Err(error) => Err(Failure::new(&error, "let this user read the schema and create tables in it")),
    }
}

async fn broker(database: &Database, settings: &Settings) -> Outcome {
    let server = store::load_mqtt_server(database).await.map_err(|error| {
        Failure::new(&error, "run `mqtt-gateway migrate`, or enable a row of mqtt_servers")
    })?;
    let address = format!("{}:{}", server.host, server.port);
    reach(&server).await.map_err(|error| {
        let remedy = "see that the broker runs, and that host and port in mqtt_servers are right";
        Failure::new(&format!("{address}: {error}"), remedy)
    })?;
    match connect(&server, settings).await {
        Ok(version) => Ok(format!("{address} accepts us by MQTT {version}")),
        Err(reason) => {
            let remedy = "see the broker's log, and username and password in mqtt_servers";
            Err(Failure::new(&format!("{address}: {reason}"), remedy))
        }
    }
}

/// A connection without MQTT first: its errors say more than those of the client library.
async fn reach(server: &MqttServer) -> io::Result<()> {
    timeout(BROKER_TIMEOUT, TcpStream::connect((server.host.as_str(), server.port))).await??;
    Ok(())
}

/// Connects under a name of its own and without a session, so that a gateway that runs keeps both.
async fn connect(server: &MqttServer, settings: &Settings) -> Result<&'static str, String> {
    let options = BrokerOptions {
        host: server.host.clone(),
        port: server.port,
        credentials: server.credentials(),
        client_id: format!("{}-check-{}", settings.mqtt.client_id, std::process::id()),
        keepalive: settings.mqtt.keepalive,
        session_expiry_seconds: 0,
        qos: settings.mqtt.qos,
    };
    let (events, mut told) = mpsc::unbounded_channel();
    let on_event = move |event| {
        // Nobody listens any more once the first answer is there.
        let _ = events.send(event);
    };
    let link =
        MqttLink::start(options, Box::new(|_| {}), Box::new(on_event)).map_err(|error| error.to_string())?;
    link.connect();
    let answer = match timeout(BROKER_TIMEOUT, told.recv()).await {
        Ok(Some(MqttEvent::Connected { version, .. })) => Ok(version),
        Ok(Some(MqttEvent::Failed { reason_code, reason, .. })) => {
            Err(format!("MQTT connection failed with reason code: {reason_code} ({reason})"))
        }
        Ok(Some(MqttEvent::Lost { reason })) => Err(reason),
        Ok(None) | Err(_) => Err(format!("no answer within {} s", BROKER_TIMEOUT.as_secs())),
    };
    // The answer is what counts; the process ends in a moment anyway.
    let _ = link.disconnect().await;
    answer
}
