//! Deletes old dead letters and old stored messages, if the settings say so, for as long as the process runs.

use std::sync::Arc;
use std::time::Duration;

use super::maintenance::{CLEANING_INTERVAL, repeat_on_tables};
use crate::observe::Telemetry;
use crate::settings::{DatabaseSettings, RetentionSettings};
use crate::store::{
    StoreError, answer_timeout, delete_excess_letters, delete_old_data, delete_old_letters, with_timeout,
};

/// Delay between two portions, so that the workers come first.
const PORTION_DELAY: Duration = Duration::from_millis(10);

/// Deletes rows beyond the limits of `retention`; returns at once without limits.
pub(super) async fn delete_old_rows(
    settings: DatabaseSettings,
    retention: RetentionSettings,
    observed: Arc<Telemetry>,
) {
    let RetentionSettings { letters_max_age, letters_max_rows, data_max_age } = retention;
    if retention == RetentionSettings::default() {
        return;
    }
    repeat_on_tables(settings, observed, "deleting old rows", CLEANING_INTERVAL, async |database| {
        if let Some(age) = letters_max_age {
            let deleted = in_portions(async || delete_old_letters(database, age).await).await?;
            log_deleted(deleted, "dead letters", "DEAD_LETTERS_MAX_AGE_SECONDS");
        }
        if let Some(rows) = letters_max_rows {
            let deleted = in_portions(async || delete_excess_letters(database, rows).await).await?;
            log_deleted(deleted, "dead letters", "DEAD_LETTERS_MAX_ROWS");
        }
        if let Some(age) = data_max_age {
            let deleted = in_portions(async || delete_old_data(database, age).await).await?;
            log_deleted(deleted, "rows of data", "DATA_MAX_AGE_SECONDS");
        }
        Ok(())
    })
    .await;
}

/// Repeats a deletion until it finds nothing more, and returns the number of deleted rows.
async fn in_portions(mut delete: impl AsyncFnMut() -> Result<u64, StoreError>) -> Result<u64, StoreError> {
    let mut deleted = 0;
    loop {
        match with_timeout(answer_timeout(), delete()).await? {
            0 => return Ok(deleted),
            rows => deleted += rows,
        }
        tokio::time::sleep(PORTION_DELAY).await;
    }
}

fn log_deleted(rows: u64, what: &str, setting: &str) {
    if rows > 0 {
        log::info!("Deleted {rows} {what} beyond {setting}");
    }
}
