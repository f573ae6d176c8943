//! A batch of one message, without a lane.

use std::collections::BTreeSet;
use std::slice;

use super::BatchRules;
use super::failed::Failed;
use super::locked_flow::{IfLocked, SchemaCache};
use super::part::{BatchPart, FlowScope};
use super::suspects::refusal_of;
use super::transaction::run;
use crate::domain::batch::{BatchEntry, ProcessError, ProcessResult};
use crate::domain::message::{FlowId, Record};
use crate::domain::processing::{ParsedMessage, PoisonMessages};
use crate::store::connect::{Database, answer_timeout};
use crate::store::error::{ErrorClass, StoreError};

/// Why [`process_flow_message`] did not process a message.
#[derive(Debug, thiserror::Error)]
pub enum ProcessMessageError {
    /// The message is at fault, or the flow.
    #[error(transparent)]
    Message(#[from] ProcessError),
    /// The database failed. Nothing was stored, unless the connection broke during the commit.
    #[error("the database is not available: {0}")]
    Database(#[from] StoreError),
    /// The transaction ended without a result for the message.
    #[error("the message has no result")]
    NoResult,
}

impl ProcessMessageError {
    /// Whether the same message may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Message(_))
    }
}

/// Processes one message for one flow in one transaction, by the same code as a batch: locks the row of the flow,
/// validates, numbers, and stores the message or puts it into the outbox.
///
/// The offset of the record is part of its idempotency key: a caller without an inbox passes a number that it never
/// uses again.
///
/// ```no_run
/// # use mqtt_gateway::domain::message::{Body, Record};
/// # use mqtt_gateway::store::{BatchRules, Database, ProcessMessageError};
/// # async fn example(database: &Database, rules: &BatchRules) -> Result<(), ProcessMessageError> {
/// let record = Record {
///     offset: 1,
///     received_at_us: 1_700_000_000_000_000,
///     topic: "sensors/kitchen/temperature".to_owned(),
///     body: Body::Whole(br#"{"value": 21.5}"#.to_vec()),
///     delivery: Default::default(),
/// };
/// let result = mqtt_gateway::process_flow_message(database, rules, 7, record).await?;
/// println!("{} got number {}", result.flow_code, result.message_id);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// [`ProcessMessageError::Message`] when the message is invalid for the flow, the flow is disabled or deleted (in each
/// case the message is a dead letter), or its key was seen before. [`ProcessMessageError::Database`] when the database
/// failed: nothing was stored, unless the connection broke during the commit.
pub async fn process_flow_message(
    database: &Database,
    rules: &BatchRules,
    flow: FlowId,
    record: Record,
) -> Result<ProcessResult, ProcessMessageError> {
    let entry = BatchEntry { record: record.into(), flows: vec![flow], reports_invalid_payload: true };
    let message = ParsedMessage::new(&entry, &rules.processing.payload);
    let no_flows = BTreeSet::new();
    let mut poison = PoisonMessages::new();
    let mut schemas = SchemaCache::default();
    loop {
        let part = BatchPart {
            messages: slice::from_ref(&message),
            range: 0..1,
            scope: FlowScope::Except(&no_flows),
            if_locked: IfLocked::Wait,
            poison: &poison,
            draft: None,
            waits: None,
        };
        match run(None, database, rules, &mut schemas, None, &part).await {
            Ok(outcome) => {
                let result = outcome.results.into_iter().next().ok_or(ProcessMessageError::NoResult)?;
                return Ok(result?);
            }
            Err(Failed::Error(error)) if error.class() == ErrorClass::Poison && poison.is_empty() => {
                match refusal_of(database, rules, &mut schemas, &part, flow, answer_timeout()).await? {
                    Some(refusal) => drop(poison.insert((0, flow), refusal.to_string())),
                    // Another attempt would succeed, or the database is at fault.
                    None => return Err(error.into()),
                }
            }
            Err(Failed::Error(error) | Failed::Unknown(error, _)) => return Err(error.into()),
            // Only a batch with a fence can be fenced off, and this one waits for locked rows.
            Err(Failed::Fenced(_) | Failed::StillLocked) => return Err(ProcessMessageError::NoResult),
        }
    }
}
