//! Writes the fields of messages to their table, and logs their changes, for as long as the process runs.

use std::sync::Arc;
use std::time::Duration;

use super::maintenance::repeat_on_tables;
use crate::domain::drift::SeenFlow;
use crate::observe::{FieldRecorder, Telemetry};
use crate::settings::DatabaseSettings;
use crate::store::{
    Database, RecordedFields, StoreError, answer_timeout, forget_removed_flows, record_fields, with_timeout,
};

/// Interval at which changes are looked for. Without any, the database is left alone.
const INTERVAL: Duration = Duration::from_secs(1);

/// Interval at which the fields of removed flows are deleted.
const CLEANING_INTERVAL: Duration = Duration::from_hours(1);

/// Most flows of a lane in one transaction.
const MAX_FLOWS: usize = 64;

/// Writes the fields that the lanes see.
pub(super) async fn record_drift(
    settings: DatabaseSettings,
    fields: Arc<FieldRecorder>,
    observed: Arc<Telemetry>,
) {
    let (mut seen, mut cleaned) = (Vec::new(), None::<Duration>);
    let age = Arc::clone(&observed);
    repeat_on_tables(settings, observed, "writing the fields of flows", INTERVAL, async |database| {
        while seen.is_empty() {
            tokio::time::sleep(INTERVAL).await;
            seen = fields.take(age.age(), MAX_FLOWS);
        }
        let is_clean = cleaned.is_some_and(|at| age.age() < at + CLEANING_INTERVAL);
        match with_timeout(answer_timeout(), written(database, &seen, is_clean)).await {
            Ok(recorded) => {
                cleaned = if is_clean { cleaned } else { Some(age.age()) };
                learn(&fields, &std::mem::take(&mut seen), &recorded);
                Ok(())
            }
            Err(error) if error.is_denied() => {
                fields.switch_off();
                seen.clear();
                log::warn!(
                    "Drift is not recorded until the next start; messages are not affected: {error}. Let the user of \
                     the database SELECT, INSERT, UPDATE and DELETE in flow_fields"
                );
                Ok(())
            }
            Err(error) => Err(error),
        }
    })
    .await;
}

/// Writes what the lanes have seen since the last write.
pub(super) async fn record_remaining(database: &Database, fields: &FieldRecorder) -> Result<(), StoreError> {
    fields.mark_due();
    loop {
        let seen = fields.take(Duration::ZERO, MAX_FLOWS);
        if seen.is_empty() {
            return Ok(());
        }
        record_fields(database, &seen).await?;
    }
}

async fn written(
    database: &Database,
    seen: &[SeenFlow],
    is_clean: bool,
) -> Result<Vec<RecordedFields>, StoreError> {
    if !is_clean {
        forget_removed_flows(database).await?;
    }
    record_fields(database, seen).await
}

fn learn(fields: &FieldRecorder, seen: &[SeenFlow], recorded: &[RecordedFields]) {
    for SeenFlow { flow, .. } in seen {
        fields.learn(*flow, recorded.iter().find(|known| known.flow == *flow).map(|known| &known.log));
    }
    for RecordedFields { flow: flow_id, code, changes, .. } in recorded {
        for change in changes {
            let (field, topic) = (change.field.as_str(), change.topic.as_str());
            let consequence = if change.is_refused { "; such messages become dead letters" } else { "" };
            log::warn!(
                flow_id, flow = code.as_str(), field, topic;
                "Flow {code}: field {field:?} {}{consequence}. `mqtt-gateway flows drift` shows it", change.description
            );
        }
    }
}
