//! Deletes expired keys of messages, for as long as the process runs.

use std::sync::Arc;
use std::time::Duration;

use super::maintenance::{CLEANING_INTERVAL, repeat_on_tables};
use crate::observe::Telemetry;
use crate::settings::DatabaseSettings;
use crate::store::{answer_timeout, forget_keys, with_timeout};

/// Deletes the keys that are older than twice `known_for`, because a repetition may wait in an inbox for the validity
/// before its key is checked. Deletes in small portions, so that no lock is held for long.
pub async fn forget_expired_keys(settings: DatabaseSettings, known_for: Duration, observed: Arc<Telemetry>) {
    let age = known_for.saturating_mul(2);
    repeat_on_tables(
        settings,
        observed,
        "forgetting keys of messages",
        CLEANING_INTERVAL,
        async |database| {
            while with_timeout(answer_timeout(), forget_keys(database, age)).await? {}
            Ok(())
        },
    )
    .await;
}
