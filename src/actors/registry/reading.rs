//! The registry's database reads: other gateways, flows, brokers, and sequence numbers that run out.

use std::time::Duration;

use tokio::sync::Mutex;

use super::RegistryParts;
use super::membership::update;
use crate::actors::directory::Directory;
use crate::actors::messages::{CountOutbox, UseServers};
use crate::domain::flow::Flow;
use crate::domain::reconciliation::Pass;
use crate::domain::replicas::Role;
use crate::observe::Telemetry;
use crate::store::{
    Database, LoadServerError, MqttServers, NumbersUsed, Span, StoreError, answer_timeout,
    count_dead_letters, load_flows, load_limits, load_mqtt_servers, numbers_used, timed,
    too_many_dead_letters, unusable_options, with_timeout,
};

/// Updates the membership and loads the flows, as far as the pass needs it. Returns whether the flows in force can have
/// changed.
pub(super) async fn refresh(
    pass: &mut Pass,
    database: &Mutex<Option<Database>>,
    parts: &RegistryParts,
    now: Duration,
) -> Result<bool, StoreError> {
    if !pass.needs_database() {
        return Ok(false);
    }
    let mut database = database.lock().await;
    // The first call connects, on the calling arbiter.
    if database.is_none() {
        *database = Some(Database::connect(&parts.database, 1).await?);
    }
    let Some(database) = database.as_mut() else { return Ok(false) };
    if database.is_superseded() {
        *database = database.anew();
    }
    let refreshed = with_timeout(answer_timeout(), update_and_load(pass, database, parts, now)).await;
    if let Err(error) = &refreshed {
        database.recover(error).await?;
    }
    Ok(refreshed? || pass.state.membership.is_moving_flows())
}

/// Returns whether the flows were loaded.
async fn update_and_load(
    pass: &mut Pass,
    database: &mut Database,
    parts: &RegistryParts,
    now: Duration,
) -> Result<bool, StoreError> {
    // Loading flows has priority: a failed membership update is logged, and no flow is released because of it.
    // A server that became read-only still answers the other queries, so only this error triggers the recovery.
    if let Err(error) = update(&mut pass.state.membership, database, now).await {
        database.recover(&error).await?;
    }
    if !pass.needs_load() && !pass.state.membership.needs_reload() {
        return Ok(false);
    }
    // A retiring gateway serves the session at one broker and stays with that broker.
    if *pass.state.membership.role() != Role::Leaving {
        pass.has_failed_load |= !reload_brokers(database, &parts.directory).await;
    }
    let (flows, Span { from_us, until_us }) = timed(database, read_all(database, parts)).await?;
    pass.state.membership.set_flows(flows, from_us, until_us);
    parts.directory.delivery.tell(CountOutbox);
    Ok(true)
}

async fn read_all(database: &Database, parts: &RegistryParts) -> Result<Vec<Flow>, StoreError> {
    let observed = &parts.observed;
    match numbers_of(database).await {
        Ok(numbers) => {
            observed
                .metrics
                .database
                .set_numbers_used(numbers.iter().map(|used| (used.column, used.ratio())));
            let running_out = numbers.into_iter().filter_map(NumbersUsed::warning);
            running_out.for_each(|warning| log::warn!("{warning}"));
        }
        // A failed check must not fail the load.
        Err(error) => log::warn!("Cannot check the remaining sequence numbers: {error}"),
    }
    check_dead_letters(database, observed, parts.dead_letters_warn_rows).await;
    log_unusable_options(database).await;
    load_flows(database).await
}

async fn log_unusable_options(database: &Database) {
    match unusable_options(database).await {
        Ok(flows) => {
            for (flow, error) in &flows {
                let flow = flow.as_str();
                log::error!(flow; "Flow {flow} cannot use its options: {error}. Its messages become dead letters");
            }
        }
        Err(error) => log::warn!("Cannot check the options of the flows: {error}"),
    }
}

/// Warns when the dead-letter table exceeds the limit, and again only after it was below.
async fn check_dead_letters(database: &Database, observed: &Telemetry, warn_rows: u64) {
    let letters = &observed.metrics.dead_letters;
    match count_dead_letters(database, warn_rows).await {
        Ok(rows) => {
            let was_too_large = letters.replace_rows(rows).is_some_and(|before| before > warn_rows);
            if let Some(warning) = too_many_dead_letters(rows, warn_rows).filter(|_| !was_too_large) {
                log::warn!("{warning}");
            }
        }
        Err(error) => log::warn!("Cannot count the dead letters: {error}"),
    }
}

/// Reloads the list of brokers. On an error the current list stays in use. Returns whether the table could be read.
async fn reload_brokers(database: &mut Database, directory: &Directory) -> bool {
    match load_mqtt_servers(database).await {
        Ok(MqttServers { usable, skipped }) => {
            let skipped = skipped.iter().map(ToString::to_string).collect();
            directory.mqtt.tell(UseServers { servers: usable, skipped });
            true
        }
        Err(error) => {
            log::error!("Error reloading the brokers: {error}; those in force stay");
            // Rows that cannot be used stay so until the next edit.
            let LoadServerError::Store(error) = error else { return true };
            // The flows may load without an error, so only this error triggers the recovery.
            if let Err(error) = database.recover(&error).await {
                log::error!("Error reloading the brokers: {error}");
            }
            false
        }
    }
}

async fn numbers_of(database: &Database) -> Result<Vec<NumbersUsed>, StoreError> {
    numbers_used(database, &load_limits(database).await?).await
}
