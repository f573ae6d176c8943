//! Network checks of `check`: the database, its schema, and the brokers listed in it.

use std::io;
use std::path::Path;

use super::check::{CheckFailure, CheckReport, CheckResult};
use crate::control::broker::{BrokerFault, BrokerProbe, probe_broker};
use crate::domain::broker::Broker;
use crate::observe::check_writable;
use crate::settings::{DatabaseSettings, Servers, Settings};
use crate::store::{self, Access, Database, StoreError};

/// Remedy for a server that does not support a statement.
const UNSUPPORTED: &str = "use a server of the list in docs/TABLES.md";

/// Checks database, schema and brokers in this order, because each step needs the previous one.
pub(super) fn run(settings: &Settings, report: &mut CheckReport<'_>) -> io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(try_all(settings, report))
}

async fn try_all(settings: &Settings, report: &mut CheckReport<'_>) -> io::Result<()> {
    if let Some(path) = store::missing_file(&settings.database) {
        return no_file_yet(path, settings, report);
    }
    servers(settings, report).await?;
    let database = match Database::connect(&settings.database, 1).await {
        Ok(database) => database,
        Err(error) => {
            report.add("database", &Err(CheckFailure::new(&error, remedy_of(&error, &settings.database))))?;
            report.add("schema", &Err(not_tried()))?;
            return report.add("broker", &Err(not_tried()));
        }
    };
    report.add("database", &Ok(describe(&settings.database)))?;
    if let Some(protection) = store::protection(&settings.database).await {
        report.add("database", &Ok(format!("connection is {protection}")))?;
    }
    durability(&database, report).await?;
    report.add("schema", &schema(&database).await)?;
    super::check_identity::run(&database, settings, report).await?;
    dead_letters(&database, settings, report).await?;
    super::check_flows::run(&database, settings, report).await?;
    brokers(&database, settings, report).await
}

/// Reports on an SQLite file that does not exist. A start would create it, perhaps in the wrong place.
fn no_file_yet(path: &Path, settings: &Settings, report: &mut CheckReport<'_>) -> io::Result<()> {
    let place = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let made =
        check_writable(place).map(|()| format!("{} will be created", path.display())).map_err(|error| {
            let reason = format!("{}: {error}", path.display());
            CheckFailure::new(&reason, database_remedy(&settings.database))
        });
    report.add("database", &made)?;
    let remedy = "check that this is the right file, and run `mqtt-gateway migrate`, \
                  which creates it with a first broker";
    report.add("schema", &Err(CheckFailure::new(&"not tried", remedy)))?;
    report.add("broker", &Err(not_tried()))
}

fn not_tried() -> CheckFailure {
    CheckFailure::new(&"not tried", "repair the database first")
}

fn describe(database: &DatabaseSettings) -> String {
    match database {
        DatabaseSettings::MySql { servers, name, user, .. }
        | DatabaseSettings::Postgres { servers, name, user, .. } => {
            format!("{name} at {} as {user}", servers.address(servers.in_use()))
        }
        DatabaseSettings::Sqlite { path } => path.display().to_string(),
    }
}

/// Checks each server of a list, because any of them may have to replace another. The line of the database reports that
/// no server accepts writes.
async fn servers(settings: &Settings, report: &mut CheckReport<'_>) -> io::Result<()> {
    if !settings.database.servers().is_some_and(Servers::are_several) {
        return Ok(());
    }
    for (address, answer) in store::probe(&settings.database, settings.flow_lock_wait).await {
        match answer {
            Ok(Access::Reads) => report.add("server", &Ok(format!("{address} is there and read-only")))?,
            Ok(Access::Writes | Access::Unknown) => {
                report.add("server", &Ok(format!("{address} takes writes")))?;
            }
            Err(error) => {
                report.warn("server", &format!("{address} cannot replace the others: {error}"))?;
            }
        }
    }
    Ok(())
}

/// Warns if the database may lose commits. This is not a failure, because the gateway works.
async fn durability(database: &Database, report: &mut CheckReport<'_>) -> io::Result<()> {
    match store::commit_risk(database).await {
        Some(risk) => report.warn("database", &risk.to_string()),
        None => Ok(()),
    }
}

fn remedy_of(error: &StoreError, database: &DatabaseSettings) -> &'static str {
    if error.is_unsupported() {
        UNSUPPORTED
    } else if error.is_about_tls() {
        "check the certificate of the server, and DB_SSL_MODE, DB_SSL_CA, DB_SSL_CERT and DB_SSL_KEY (or the options \
         of DATABASE_URL)"
    } else {
        database_remedy(database)
    }
}

fn database_remedy(database: &DatabaseSettings) -> &'static str {
    match database {
        DatabaseSettings::MySql { .. } => {
            "check that the server runs and that DB_HOST, DB_PORT, DB_NAME, DB_USER and DB_PASSWORD \
             (or DATABASE_URL) are correct"
        }
        DatabaseSettings::Postgres { .. } => "check that the server runs and that DATABASE_URL is correct",
        DatabaseSettings::Sqlite { .. } => {
            "check that the directory exists and that this user may write to it"
        }
    }
}

/// Checks the schema. Missing tables and columns are not a failure, because the gateway adds them when it starts.
async fn schema(database: &Database) -> CheckResult {
    let failed = |error: &StoreError, remedy| {
        let remedy = if error.is_unsupported() { UNSUPPORTED } else { remedy };
        CheckFailure::new(error, remedy)
    };
    if let Err(error) = store::check_tables(database).await {
        let remedy = if error.is_about_the_tables() {
            "alter the table while no gateway runs"
        } else {
            "allow this user to read the schema"
        };
        return Err(failed(&error, remedy));
    }
    store::try_migration_lock(database).await.map_err(|error| failed(&error, "see the server's log"))?;
    match store::plan(database).await {
        Ok(report) if report.added.is_empty() => Ok("is complete".to_owned()),
        Ok(report) => Ok(format!("lacks, and the start adds: {report}")),
        Err(error) => Err(failed(&error, "allow this user to read the schema and to create tables in it")),
    }
}

/// Warns of too many dead letters. A missing table counts as empty.
async fn dead_letters(
    database: &Database,
    settings: &Settings,
    report: &mut CheckReport<'_>,
) -> io::Result<()> {
    let warn_rows = settings.dead_letters_warn_rows;
    let rows = store::count_dead_letters(database, warn_rows).await.unwrap_or(0);
    match store::too_many_dead_letters(rows, warn_rows) {
        Some(warning) => report.warn("schema", &warning),
        None => Ok(()),
    }
}

/// Checks each broker of the list, because any of them may have to replace another.
async fn brokers(database: &Database, settings: &Settings, report: &mut CheckReport<'_>) -> io::Result<()> {
    let servers = match store::load_mqtt_servers_before_migration(database).await {
        Ok(servers) => servers,
        Err(error) => {
            let remedy = "run `mqtt-gateway migrate`, or correct or enable a row of mqtt_servers";
            return report.add("broker", &Err(CheckFailure::new(&error, remedy)));
        }
    };
    for server in servers.usable {
        broker(&server, settings, report).await?;
    }
    for error in servers.skipped {
        report.add(
            "broker",
            &Err(CheckFailure::new(&error, "correct this row of mqtt_servers; others are used meanwhile")),
        )?;
    }
    Ok(())
}

async fn broker(server: &Broker, settings: &Settings, report: &mut CheckReport<'_>) -> io::Result<()> {
    let BrokerProbe { result, warnings } = probe_broker(server, settings).await;
    let result = result.map_err(|BrokerFault { reason, remedy }| CheckFailure::new(&reason, remedy));
    report.add("broker", &result)?;
    warnings.iter().try_for_each(|warning| report.warn("broker", warning))
}
