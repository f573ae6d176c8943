//! Whether it is a message's own fault that the database refuses it. Decided by trying, not by the error.
//!
//! A duplicate key can be a device that repeats itself, or a `data.id` that is used up. So the message is rehearsed,
//! then a harmless row, then the message again. If the harmless row goes in and the message does not, before as well
//! as after, the message is at fault. If no harmless row goes in, the database is, and is waited for.

use std::time::Duration;

use super::BatchRules;
use super::harmless::takes_harmless_rows;
use super::locked_flow::SchemaCache;
use super::transaction::{Work, rehearse};
use crate::domain::message::FlowId;
use crate::store::connect::{Database, with_timeout};
use crate::store::error::{ErrorClass, StoreError};

/// Why the database refuses the only message of `work` for the only flow of it; `None` when it does not.
///
/// The second rehearsal is for what changes with each attempt: identifiers that were set back run into
/// existing rows until they are past them, and may be past them by the time of the harmless row.
///
/// # Errors
/// The database cannot do its work, and so nothing is known of the message.
pub(super) async fn refusal_of(
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    work: &Work<'_>,
    flow: FlowId,
    timeout: Duration,
) -> Result<Option<StoreError>, StoreError> {
    let Some(message) = work.messages().first() else { return Ok(None) };
    let Some(refusal) = refused(database, rules, schemas, work, timeout).await? else { return Ok(None) };
    let rows = message.payload.as_ref().map_or(1, |payload| payload.attributes().len().max(1));
    let harmless = takes_harmless_rows(database, rules, flow, message.record.offset, rows);
    if !with_timeout(timeout, harmless).await? {
        return Err(StoreError::NoRowGoesIn { refusal: Box::new(refusal) });
    }
    refused(database, rules, schemas, work, timeout).await
}

async fn refused(
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    work: &Work<'_>,
    timeout: Duration,
) -> Result<Option<StoreError>, StoreError> {
    match with_timeout(timeout, rehearse(database, rules, schemas, work)).await {
        Ok(()) => Ok(None),
        Err(error) if error.class() == ErrorClass::Poison => Ok(Some(error)),
        Err(error) => Err(error),
    }
}
