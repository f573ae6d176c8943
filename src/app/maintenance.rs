//! Repeats work on the tables, for as long as the process runs.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::kind_of;
use crate::domain::retry::Backoff;
use crate::observe::Telemetry;
use crate::settings::DatabaseSettings;
use crate::store::{Database, ErrorClass, StoreError};

/// Interval between two deletions of old rows.
pub(super) const CLEANING_INTERVAL: Duration = Duration::from_mins(1);

/// Delay after a database error.
const PAUSE: Backoff = Backoff { base: Duration::from_secs(1), max: CLEANING_INTERVAL };

/// Runs `work`, with `interval` between two runs, on a connection of its own. `doing` names it in the log.
pub(super) async fn repeat_on_tables(
    settings: DatabaseSettings,
    observed: Arc<Telemetry>,
    doing: &'static str,
    interval: Duration,
    mut work: impl AsyncFnMut(&Database) -> Result<(), StoreError>,
) {
    let (mut database, mut failures) = (None, 0_u32);
    loop {
        let done = match connected(&mut database, &settings).await {
            Ok(database) => work(database).await,
            Err(error) => Err(error),
        };
        let pause = match done {
            Ok(()) => {
                observed.metrics.database.mark_up();
                if std::mem::take(&mut failures) > 0 {
                    log::info!("The tables can be accessed again: {doing} goes on");
                }
                interval
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let pause = PAUSE.delay(failures, rand::random());
                observed.metrics.database.failed(kind_of(&error));
                log_failure(doing, &error, pause);
                if let Some(database) = &mut database
                    && let Err(error) = database.recover(&error).await
                {
                    log::warn!("Tables: {error}");
                }
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

async fn connected<'d>(
    database: &'d mut Option<Database>,
    settings: &DatabaseSettings,
) -> Result<&'d Database, StoreError> {
    let database = match database {
        Some(database) => database,
        None => database.insert(Database::connect(settings, 1).await?),
    };
    if database.is_superseded() {
        *database = database.anew();
    }
    Ok(database)
}

fn log_failure(doing: &str, error: &StoreError, pause: Duration) {
    let retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    if error.class() == ErrorClass::Deadlock {
        log::debug!(retry_in_ms; "Tables: {doing} gave way to another transaction: {error}");
    } else {
        log::warn!(retry_in_ms; "Tables: {doing} failed, nothing is lost, trying again: {error}");
    }
}
