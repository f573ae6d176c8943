//! Deletes expired keys of messages, for as long as the process runs.

use std::sync::Arc;
use std::time::Duration;

use crate::actors::kind_of;
use crate::domain::retry::Backoff;
use crate::observe::Telemetry;
use crate::settings::DatabaseSettings;
use crate::store::{Database, ErrorClass, StoreError, answer_timeout, forget_keys, with_timeout};

/// Interval between two searches for expired keys.
const INTERVAL: Duration = Duration::from_mins(1);

/// Delay after a database error.
const PAUSE: Backoff = Backoff { base: Duration::from_secs(1), max: INTERVAL };

/// Deletes the keys that are older than twice `known_for`, because a repetition may wait in an inbox for the validity
/// before its key is checked.
pub async fn forget_expired_keys(settings: DatabaseSettings, known_for: Duration, observed: Arc<Telemetry>) {
    let age = known_for.saturating_mul(2);
    let (mut database, mut failures) = (None, 0_u32);
    loop {
        let pause = match forget_all(&mut database, &settings, age, &observed).await {
            Ok(()) => {
                if std::mem::take(&mut failures) > 0 {
                    log::info!("The delivery can access its tables again");
                }
                INTERVAL
            }
            Err(error) => {
                failures = failures.saturating_add(1);
                let pause = PAUSE.delay(failures, rand::random());
                observed.metrics.database.failed(kind_of(&error));
                log_failure(&error, pause);
                if let Some(database) = &mut database
                    && let Err(error) = database.recover(&error).await
                {
                    log::warn!("Outbox: {error}");
                }
                pause
            }
        };
        tokio::time::sleep(pause).await;
    }
}

/// Deletes in small portions, so that no lock is held for long.
async fn forget_all(
    database: &mut Option<Database>,
    settings: &DatabaseSettings,
    age: Duration,
    observed: &Telemetry,
) -> Result<(), StoreError> {
    let database = match database {
        Some(database) => database,
        None => database.insert(Database::connect(settings, 1).await?),
    };
    if database.is_superseded() {
        *database = database.anew();
    }
    while with_timeout(answer_timeout(), forget_keys(database, age)).await? {
        observed.metrics.database.mark_up();
    }
    observed.metrics.database.mark_up();
    Ok(())
}

fn log_failure(error: &StoreError, pause: Duration) {
    const DOING: &str = "forgetting keys of messages";
    let retry_in_ms = u64::try_from(pause.as_millis()).unwrap_or(u64::MAX);
    if error.class() == ErrorClass::Deadlock {
        log::debug!(retry_in_ms; "Outbox: {DOING} gave way to another transaction: {error}");
    } else {
        log::warn!(retry_in_ms; "Outbox: {DOING} failed, nothing is lost, trying again: {error}");
    }
}
