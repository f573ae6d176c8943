//! The batch of one.

use std::collections::BTreeSet;
use std::slice;

use super::judge::Poison;
use super::locked_flow::SchemaCache;
use super::suspects::refusal_of;
use super::transaction::{Failed, Whose, Work, run};
use super::{BatchRules, Parsed};
use crate::domain::batch::{BatchEntry, ProcessError, ProcessResult};
use crate::domain::message::{FlowId, Record};
use crate::store::connect::{Database, silence};
use crate::store::error::Fault;

/// Processes one message for one flow in one transaction, by the same code as a batch: locks the
/// flow's row, validates, numbers, and stores the message or puts it into the outbox.
///
/// The record's offset is part of its idempotency key: a caller without an inbox passes a number
/// that it never uses again.
///
/// ```no_run
/// # use mqtt_gateway::domain::{batch::ProcessError, message::{Body, Record}};
/// # use mqtt_gateway::store::{BatchRules, Database};
/// # async fn example(database: &Database, rules: &BatchRules) -> Result<(), ProcessError> {
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
/// [`ProcessError::Rejected`] when the message is not valid for the flow, or the flow is disabled or
/// deleted (the message is a dead letter now), [`ProcessError::Repeated`] when its key was seen, and
/// [`ProcessError::Unavailable`] when the database refused: then nothing was stored, unless the
/// connection broke during the commit.
pub async fn process_flow_message(
    database: &Database,
    rules: &BatchRules,
    flow: FlowId,
    record: Record,
) -> Result<ProcessResult, ProcessError> {
    let entry = BatchEntry { record: record.into(), flows: vec![flow], judge: true };
    let message = Parsed::new(&entry, &rules.payload);
    let nobody = BTreeSet::new();
    let mut poison = Poison::new();
    let mut schemas = SchemaCache::default();
    loop {
        let work = Work {
            messages: slice::from_ref(&message),
            range: 0..1,
            whose: Whose::AllBut(&nobody),
            waits: true,
            poison: &poison,
        };
        match run(None, database, rules, &mut schemas, None, &work).await {
            Ok(outcome) => {
                let no_result = || Err(ProcessError::Unavailable("the message had no outcome".to_owned()));
                return outcome.results.into_iter().next().unwrap_or_else(no_result);
            }
            Err(Failed::Fault(error)) if error.fault() == Fault::Poison && poison.is_empty() => {
                match refusal_of(database, rules, &mut schemas, &work, flow, silence()).await {
                    Ok(Some(refusal)) => drop(poison.insert((0, flow), refusal.to_string())),
                    // It would go now, or the database is at fault.
                    Ok(None) => return Err(ProcessError::Unavailable(error.to_string())),
                    Err(error) => return Err(ProcessError::Unavailable(error.to_string())),
                }
            }
            Err(Failed::Fault(error) | Failed::Unknown(error, _)) => {
                return Err(ProcessError::Unavailable(error.to_string()));
            }
            // Only a batch with a fence can be fenced off, and this one waits.
            Err(Failed::Fenced(_) | Failed::StillLocked) => {
                return Err(ProcessError::Unavailable("fenced off".to_owned()));
            }
        }
    }
}
