//! Prepares inbox and database before the actors start. Waits for an unavailable database.

use std::path::Path;
use std::time::Duration;

use super::StartError;
use super::identity::{self, RegisteredStart};
use crate::actors::kind_of;
use crate::domain::broker::Broker;
use crate::domain::identity::Consent;
use crate::domain::routing_history::RoutingHistory;
use crate::files;
use crate::inbox::{Inbox, InboxError, InboxOptions, KeptTables, MetaOrigin};
use crate::observe::Telemetry;
use crate::settings::{DatabaseSettings, Settings};
use crate::store::{
    Database, LoadServerError, MqttServers, StoreError, StoreLimits, answer_timeout, check_tables,
    commit_risk, load_limits, load_mqtt_servers, migrate, protection, with_timeout,
};

/// Delay between two attempts to reach the database at startup.
const DATABASE_RETRY: Duration = Duration::from_secs(2);

/// Write permission for other users in a file mode.
const OTHERS_WRITE: u32 = 0o002;
const OTHERS_READ_OR_WRITE: u32 = 0o006;

/// Opens the inbox and logs any damage.
pub(super) fn open_inbox(settings: &Settings) -> Result<Inbox, StartError> {
    // SQLite has one writer, so a second lane would only wait for the first.
    let lanes = match settings.database {
        DatabaseSettings::Sqlite { .. } => 1,
        DatabaseSettings::MySql { .. } | DatabaseSettings::Postgres { .. } => settings.lanes,
    };
    let (inbox, recovery) = Inbox::open(InboxOptions {
        dir: settings.inbox.dir.clone(),
        max_bytes: settings.inbox.max_bytes,
        segment_bytes: settings.inbox.segment_bytes,
        keep: settings.inbox.keep,
        fsync: settings.inbox.fsync,
        lanes,
        max_payload_bytes: settings.limits.max_payload_bytes,
    })
    .map_err(|error| match error {
        InboxError::Io { .. } => {
            StartError::InboxDirectory { dir: settings.inbox.dir.clone(), source: error }
        }
        other => other.into(),
    })?;
    for damage in recovery.damages.iter().filter(|damage| damage.is_new) {
        log::error!("Inbox: {damage}");
    }
    if matches!(recovery.meta, MetaOrigin::Rebuilt | MetaOrigin::Replaced) {
        log::error!("Inbox: the file with its identity was lost ({:?})", recovery.meta);
    }
    if settings.has_explicit_lanes && settings.lanes != lanes {
        log::warn!("LANES={} has no effect on SQLite, which has one writer", settings.lanes);
    } else if settings.has_explicit_lanes && inbox.lanes() != lanes {
        log::warn!(
            "LANES={lanes} is for a new inbox; this one was made with {} and keeps them. \
             To change them, drain it (stop with SIGTERM) and delete {}",
            inbox.lanes(),
            settings.inbox.dir.display()
        );
    }
    if files::allows(&settings.inbox.dir, OTHERS_WRITE) {
        log::warn!(
            "Every user of this machine may write to the inbox directory {0}: chmod o-w {0}",
            settings.inbox.dir.display()
        );
    }
    if let Some(kind) = volatile_file_system(&settings.inbox.dir) {
        log::warn!(
            "The inbox directory {} is on {kind}: what was received and not stored is lost with the machine or the \
             container. Put INBOX_DIR on a volume that outlives them",
            settings.inbox.dir.display()
        );
    }
    log::info!(
        inbox = inbox.id().to_string().as_str(), lanes = inbox.lanes(), records = recovery.records, bytes = inbox.bytes();
        "Inbox opened"
    );
    Ok(inbox)
}

/// The kind of the file system, if its content is lost when the machine or the container restarts.
pub(crate) fn volatile_file_system(dir: &Path) -> Option<&'static str> {
    const TMPFS: i64 = 0x0102_1994;
    const RAMFS: i64 = 0x8584_58f6;
    const OVERLAYFS: i64 = 0x794c_7630;
    match rustix::fs::statfs(dir).ok()?.f_type {
        TMPFS => Some("tmpfs"),
        RAMFS => Some("ramfs"),
        OVERLAYFS => Some("overlayfs"),
        _ => None,
    }
}

/// The routing tables for records that an earlier run left in the inbox.
pub(super) fn tables_of_before(kept: &KeptTables) -> Result<RoutingHistory, InboxError> {
    let Some(text) = kept.read()? else { return Ok(RoutingHistory::default()) };
    let history = RoutingHistory::from_text(&text);
    if history.is_none() {
        log::error!("Inbox: cannot read the routing tables of the last run; the current flows replace them");
    }
    Ok(history.unwrap_or_default())
}

/// The result of the database preparation.
pub(super) struct Prepared {
    pub(super) limits: StoreLimits,
    /// Brokers in the order of connection attempts.
    pub(super) servers: Vec<Broker>,
    /// Reasons for which rows of the table are skipped.
    pub(super) skipped: Vec<String>,
}

/// Migrates the database and reads the startup data. Waits for an unavailable database.
pub(super) async fn prepare_database(
    settings: &Settings,
    observed: &Telemetry,
) -> Result<Prepared, StartError> {
    loop {
        // A concurrent migration by another gateway counts towards the same timeout.
        match with_timeout(2 * answer_timeout(), Box::pin(try_prepare_database(settings))).await {
            Ok(prepared) => {
                observed.metrics.database.mark_up();
                return Ok(prepared);
            }
            // A retry would hide that an operator must alter a table or replace the server.
            Err(LoadServerError::Store(error)) if error.is_about_the_tables() => {
                return Err(StartError::Store(error));
            }
            Err(LoadServerError::Store(error)) if error.is_unsupported() => {
                return Err(StartError::Unsupported(error));
            }
            Err(LoadServerError::Store(error)) => wait_for_database(&error, observed).await,
            Err(no_server) => return Err(StartError::Server(no_server)),
        }
    }
}

/// Registers this start. Waits for an unavailable database.
pub(super) async fn register_start(
    settings: &Settings,
    inbox: &Inbox,
    consent: Consent,
    observed: &Telemetry,
) -> Result<RegisteredStart, StartError> {
    loop {
        match identity::register_start(settings, inbox, consent).await {
            Err(StartError::Store(error)) => wait_for_database(&error, observed).await,
            registered => return registered,
        }
    }
}

async fn wait_for_database(error: &StoreError, observed: &Telemetry) {
    observed.metrics.database.failed(kind_of(error));
    let retry_in_ms = DATABASE_RETRY.as_millis();
    if error.is_refusal() {
        log::error!(retry_in_ms; "The database refuses what the start needs, trying again: {error}");
    } else {
        log::error!(retry_in_ms; "The database is not available, waiting for it: {error}");
    }
    actix_rt::time::sleep(DATABASE_RETRY).await;
}

async fn try_prepare_database(settings: &Settings) -> Result<Prepared, LoadServerError> {
    let database = Database::connect(&settings.database, 1).await?;
    for step in migrate(&database).await?.added {
        log::info!("Database: added {step}");
    }
    check_tables(&database).await?;
    let limits = load_limits(&database).await?;
    let servers = match load_mqtt_servers(&database).await {
        Err(LoadServerError::Store(error)) => return Err(error.into()),
        servers => servers,
    };
    if let Some(protection) = protection(&settings.database).await {
        log::info!("Database: the connection is {protection}");
    }
    if let Some(risk) = commit_risk(&database).await {
        log::warn!("Database: {risk}");
    }
    if let DatabaseSettings::Sqlite { path } = &settings.database
        && files::allows(path, OTHERS_READ_OR_WRITE)
    {
        log::warn!(
            "Every user of this machine may read the database {0}, passwords of brokers among it: chmod 600 {0}*",
            path.display()
        );
    }
    database.close().await?;
    let MqttServers { usable: servers, skipped } = servers?;
    // The first reload follows at once and logs the skipped rows.
    let skipped = skipped.iter().map(ToString::to_string).collect();
    Ok(Prepared { limits, servers, skipped })
}
