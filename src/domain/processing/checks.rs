//! Whether a message may have a number in a flow.
//!
//! All that can be known is checked here, before a number is taken. A rejection by the database costs a transaction.

use std::fmt::Display;
use std::sync::Arc;

use super::super::dead_letter::DeadLetterReason;
use super::super::flow::Action;
use super::super::message::Record;
use super::super::payload::{Payload, PayloadError};
use super::super::posting::destination::PostDestination;
use super::super::schema::PayloadSchema;
use super::flow_state::FlowState;
use super::reject::RejectCause;
use super::rules::ProcessingRules;
use super::stored_values::{Storable, StoredValues};

/// A message that passed all rules of a flow, with what its action needs.
pub(super) struct Accepted<'v, 'a> {
    pub(super) action: Action,
    pub(super) stores: Option<Storable<'v, 'a>>,
    pub(super) posts: Option<PostDestination>,
}

/// Checks that the row of the flow exists and is enabled.
pub(super) fn check_enabled(flow: Option<&mut FlowState>) -> Result<&mut FlowState, RejectCause> {
    match flow {
        Some(flow) if flow.enabled => Ok(flow),
        Some(flow) => {
            let detail = format!("flow {} is disabled", flow.code);
            Err(RejectCause::new(DeadLetterReason::FlowDisabled, detail))
        }
        None => Err(RejectCause::new(DeadLetterReason::FlowDeleted, "its row in flows was deleted")),
    }
}

/// Checks the message against all other rules, in their order.
pub(super) fn check_message<'v, 'a>(
    flow: &FlowState,
    record: &Record,
    values: &'v mut StoredValues<'a>,
    rules: &ProcessingRules,
) -> Result<Accepted<'v, 'a>, RejectCause> {
    check_statement(record, rules)?;
    let FlowColumns { action, posts, schema } = check_columns(flow)?;
    check_payload(schema, values.payload())?;
    check_counter(flow, rules)?;
    let stores = match action {
        Action::StoreDb => Some(values.check(rules)?),
        Action::PostEndpoint => None,
    };
    Ok(Accepted { action, stores, posts })
}

/// Checks what a numbered message needs to be posted: the delivery reads the same columns, whatever the action.
pub(super) fn check_post(flow: &FlowState) -> Result<PostDestination, RejectCause> {
    let unusable = |reason, error: &dyn Display| RejectCause::new(reason, error.to_string());
    let options =
        flow.options.as_ref().map_err(|error| unusable(DeadLetterReason::UnusableOptions, error))?;
    let url = flow.endpoint_url.as_ref().map_err(|error| unusable(DeadLetterReason::NoUsableUrl, error))?;
    Ok(PostDestination { url: Arc::clone(url), options: options.delivery.clone() })
}

/// Fails only for a server whose limit was lowered since the start.
fn check_statement(record: &Record, rules: &ProcessingRules) -> Result<(), RejectCause> {
    let (length, limit) = (record.body.as_bytes().len(), rules.max_statement_bytes);
    if length <= limit {
        return Ok(());
    }
    let error = PayloadError::TooLarge { length, limit };
    Err(RejectCause::new(error.reason(), error.to_string()))
}

/// The usable columns of a flow.
struct FlowColumns<'f> {
    action: Action,
    /// Where its messages are posted, if they are.
    posts: Option<PostDestination>,
    schema: &'f PayloadSchema,
}

fn check_columns(flow: &FlowState) -> Result<FlowColumns<'_>, RejectCause> {
    use DeadLetterReason::{InvalidSchema, UnknownAction, UnusableMessageKey, UnusableOptions};
    let unusable = |reason, error: &dyn Display| RejectCause::new(reason, error.to_string());
    let options = flow.options.as_ref().map_err(|error| unusable(UnusableOptions, error))?;
    let action = *flow.action.as_ref().map_err(|error| unusable(UnknownAction, error))?;
    let is_posted = action == Action::PostEndpoint || options.also_post;
    let posts = if is_posted { Some(check_post(flow)?) } else { None };
    flow.message_key.as_ref().map_err(|error| unusable(UnusableMessageKey, error))?;
    let schema = (*flow.schema).as_ref().map_err(|error| unusable(InvalidSchema, error))?;
    Ok(FlowColumns { action, posts, schema })
}

fn check_payload(schema: &PayloadSchema, payload: &Payload<'_>) -> Result<(), RejectCause> {
    let checked = schema.validate(payload);
    checked.map_err(|error| RejectCause::new(DeadLetterReason::ValidationFailed, error.to_string()))
}

fn check_counter(flow: &FlowState, rules: &ProcessingRules) -> Result<(), RejectCause> {
    if flow.last_message_id < rules.limits.max_message_id {
        return Ok(());
    }
    let detail = format!("last_msg_id of flow {} is at its maximum, {}", flow.code, flow.last_message_id);
    Err(RejectCause::new(DeadLetterReason::CounterExhausted, detail))
}
