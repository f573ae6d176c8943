//! `mqtt-gateway migrate`: brings the schema up to date and ends.

use crate::settings::Settings;

/// Adds missing tables and columns, and widens the ids on request.
pub(super) fn run(settings: &Settings, widen_ids: bool) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let migrated = runtime.map_err(|error| error.to_string()).and_then(|runtime| {
        runtime.block_on(migrate(settings, widen_ids)).map_err(|error| error.to_string())
    });
    migrated.map_err(|error| format!("Migration failed: {error}"))
}

async fn migrate(settings: &Settings, widen_ids: bool) -> Result<(), crate::store::StoreError> {
    let database = crate::store::Database::connect(&settings.database, 1).await?;
    let added = crate::store::migrate(&database).await?;
    log::info!("Added to the schema: {added}");
    if widen_ids {
        let widened = crate::store::widen_ids(&database).await?;
        log::info!("Widened: {widened}");
    }
    crate::store::check_tables(&database).await
}
