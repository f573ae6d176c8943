//! Finds out whether a message or the database is at fault for a rejection. A trial decides, not the error code.
//!
//! A duplicate key can be a device that repeats itself, or an exhausted `data.id`. So the message is rehearsed, then a
//! harmless row, then the message again. If the database accepts the harmless row and rejects the message both times,
//! the message is at fault. If it accepts no harmless row, the database is at fault, and the message waits.

use std::time::Duration;

use super::BatchRules;
use super::harmless::takes_harmless_rows;
use super::locked_flow::SchemaCache;
use super::part::BatchPart;
use super::transaction::rehearse;
use crate::domain::message::FlowId;
use crate::store::connect::{Database, with_timeout};
use crate::store::error::{ErrorClass, StoreError};

/// The reason why the database rejects the only message of `part` for its only flow; `None` if it accepts it.
///
/// The second rehearsal is for errors that change with each attempt: identifiers that were set back collide with
/// existing rows until they are past them, and may be past them by the time of the harmless row.
///
/// # Errors
/// The database cannot do its work, so nothing is known of the message.
pub(super) async fn refusal_of(
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    part: &BatchPart<'_>,
    flow: FlowId,
    timeout: Duration,
) -> Result<Option<StoreError>, StoreError> {
    let Some(message) = part.messages().first() else { return Ok(None) };
    let Some(refusal) = refused(database, rules, schemas, part, timeout).await? else { return Ok(None) };
    let rows = message.payload.as_ref().map_or(1, |payload| payload.attributes().len().max(1));
    let harmless = takes_harmless_rows(database, rules, flow, message.record.offset, rows);
    if !with_timeout(timeout, harmless).await? {
        return Err(StoreError::NoRowGoesIn { refusal: Box::new(refusal) });
    }
    refused(database, rules, schemas, part, timeout).await
}

async fn refused(
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    part: &BatchPart<'_>,
    timeout: Duration,
) -> Result<Option<StoreError>, StoreError> {
    match with_timeout(timeout, rehearse(database, rules, schemas, part)).await {
        Ok(()) => Ok(None),
        Err(error) if error.class() == ErrorClass::Poison => Ok(Some(error)),
        Err(error) => Err(error),
    }
}
