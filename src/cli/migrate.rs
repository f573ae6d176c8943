//! `mqtt-gateway migrate`: brings the schema up to date and ends.

use crate::settings::Settings;

/// Adds missing tables and columns, and widens the ids on request. Returns the exit code.
pub(super) fn run(settings: &Settings, widen_ids: bool) -> i32 {
    let outcome = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| error.to_string())
        .and_then(|runtime| {
            runtime.block_on(migrate(settings, widen_ids)).map_err(|error| error.to_string())
        });
    match outcome {
        Ok(()) => 0,
        Err(error) => {
            log::error!("Migration failed: {error}");
            super::FAILURE
        }
    }
}

async fn migrate(settings: &Settings, widen_ids: bool) -> Result<(), crate::store::StoreError> {
    let database = crate::store::Database::connect(&settings.database, 1).await?;
    log::info!("Added to the schema: {}", crate::store::migrate(&database).await?);
    if widen_ids {
        log::info!("Widened: {}", crate::store::widen_ids(&database).await?);
    }
    crate::store::check_tables(&database).await
}
