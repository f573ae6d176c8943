//! What becomes of each message, given the locked rows of its flows. Decides; writes nothing.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::counters::Counter;
use super::keys::Keys;
use super::locked_flow::LockedFlow;
use super::writes::{DataRow, DeadLetterRow, Text, Writes};
use super::{BatchRules, Parsed};
use crate::domain::batch::{ProcessError, ProcessResult, Rejection};
use crate::domain::dead_letter::DeadLetterReason;
use crate::domain::flow::Action;
use crate::domain::message::{Body, FlowId, Record};
use crate::domain::outbox::{OutboxItem, OutboxKey, OutboxPayload};
use crate::domain::payload::{Attribute, Payload, PayloadError};
use crate::domain::value_style::ValueStyle;

/// Messages of one flow that the database itself refused, by place in the batch.
pub(super) type Poison = HashMap<(usize, FlowId), String>;

/// Judges the messages of one transaction, in order.
pub(super) struct Judge<'a> {
    rules: &'a BatchRules,
    flows: BTreeMap<FlowId, LockedFlow>,
    keys: Keys,
    poison: &'a Poison,
    /// Messages of this transaction that go to the outbox, by flow.
    posted: HashMap<FlowId, u64>,
    current: Current<'a>,
    writes: Writes<'a>,
}

/// Why a message cannot have a number in a flow: the word for `dead_letters.reason`, and the sentence.
type Refusal = (DeadLetterReason, String);

/// What is known of the message that is being judged, whichever of its flows it is judged for.
#[derive(Default)]
struct Current<'a> {
    /// Its place in the batch.
    index: usize,
    /// Rows that it becomes in the flows so far.
    rows: usize,
    /// Its values as they are stored, or why they cannot be; none until a flow stores it.
    values: Option<Result<Vec<Text<'a>>, Refusal>>,
}

impl<'a> Judge<'a> {
    pub(super) fn new(
        rules: &'a BatchRules,
        flows: BTreeMap<FlowId, LockedFlow>,
        keys: Keys,
        poison: &'a Poison,
    ) -> Self {
        Self {
            rules,
            flows,
            keys,
            poison,
            posted: HashMap::new(),
            current: Current::default(),
            writes: Writes::default(),
        }
    }

    /// Judges one message for one flow.
    pub(super) fn message(&mut self, index: usize, parsed: &'a Parsed<'a>, flow_id: FlowId) {
        let record = parsed.record;
        let judged = match (&parsed.payload, self.poison.get(&(index, flow_id))) {
            // Answered for by the lane that judges payloads; this one has nothing to do with it.
            (Err(_), _) => return,
            (Ok(_), Some(reason)) => {
                Err(self.refuse(record, flow_id, DeadLetterReason::RefusedByDatabase, reason.clone()))
            }
            (Ok(payload), None) => self.number(record, payload, (index, flow_id)),
        };
        self.writes.results.push(judged);
    }

    /// States that a payload cannot be read, for no flow in particular.
    pub(super) fn unreadable(&mut self, parsed: &'a Parsed<'a>) {
        if let Err(error) = &parsed.payload {
            let rejection = Rejection {
                flow: None,
                message_id: None,
                topic: parsed.record.topic.clone(),
                reason: error.reason(),
                detail: error.to_string(),
            };
            self.bury(parsed.record, rejection.clone());
            self.writes.results.push(Err(ProcessError::Rejected(rejection)));
        }
    }

    /// All that is to be written, counters included.
    pub(super) fn verdict(mut self) -> Writes<'a> {
        self.writes.counters = self
            .flows
            .values()
            .filter(|flow| flow.given > 0)
            .map(|flow| Counter { flow: flow.id, last: flow.last_message_id, given: flow.given })
            .collect();
        self.writes.keys = self.keys.into_rows();
        self.writes
    }

    fn number(
        &mut self,
        record: &'a Arc<Record>,
        payload: &'a Payload<'a>,
        message @ (_, flow_id): (usize, FlowId),
    ) -> Result<ProcessResult, ProcessError> {
        let flow = match enabled(self.flows.get(&flow_id)) {
            Ok(flow) => flow,
            Err((reason, detail)) => return Err(self.refuse(record, flow_id, reason, detail)),
        };
        // Before all else: what has come before stays without consequence, whatever the flow is like now.
        if let Some(message_id) = self.keys.holder(message, record.received_at_us) {
            return Err(ProcessError::Repeated { flow_code: Arc::clone(&flow.code), message_id });
        }
        let checked = fits_a_statement(record, self.rules)
            .and_then(|()| check(flow, payload, self.rules))
            .and_then(|action| self.current.check(action, message.0, payload, self.rules));
        let action = match checked {
            Ok(action) => action,
            Err((reason, detail)) => return Err(self.refuse(record, flow_id, reason, detail)),
        };
        let message_id = self.take_number(flow_id);
        self.keys.take(message, message_id, record.received_at_us);
        let code = self.code_of(flow_id).unwrap_or_default();
        match action {
            Action::StoreDb => self.store(record, payload, &code, message_id),
            Action::PostEndpoint => self.post(record, flow_id, &code, message_id)?,
        }
        Ok(ProcessResult { flow_code: code, message_id, action })
    }

    fn take_number(&mut self, flow_id: FlowId) -> i64 {
        self.flows.get_mut(&flow_id).map_or(0, |flow| {
            flow.last_message_id += 1;
            flow.given += 1;
            flow.last_message_id
        })
    }

    /// Unknown when the row is gone.
    fn code_of(&self, flow_id: FlowId) -> Option<Arc<str>> {
        self.flows.get(&flow_id).map(|flow| Arc::clone(&flow.code))
    }

    fn store(&mut self, record: &'a Record, payload: &'a Payload<'a>, code: &Arc<str>, message_id: i64) {
        // The check has put them there.
        let Some(Ok(values)) = &self.current.values else { return };
        self.writes.data.extend(payload.attributes().iter().zip(values).map(|(attribute, value)| DataRow {
            received_at_us: record.received_at_us,
            flow_code: Arc::clone(code),
            name: attribute.name(),
            value: value.clone(),
            message_id,
        }));
    }

    fn post(
        &mut self,
        record: &'a Arc<Record>,
        flow_id: FlowId,
        code: &Arc<str>,
        message_id: i64,
    ) -> Result<(), ProcessError> {
        let posted = self.posted.entry(flow_id).or_default();
        if self.rules.gauge.waiting(flow_id) + *posted >= self.rules.outbox_max_rows_per_flow {
            let detail = format!("{} messages wait already", self.rules.outbox_max_rows_per_flow);
            let mut rejection = self.rejection(record, flow_id, DeadLetterReason::OutboxFull, detail);
            rejection.message_id = Some(message_id);
            self.bury(record, rejection.clone());
            return Err(ProcessError::Rejected(rejection));
        }
        *posted += 1;
        let url = self.flows.get(&flow_id).and_then(|flow| flow.endpoint_url.clone()).unwrap_or_default();
        self.writes.posts.push(OutboxItem {
            key: OutboxKey {
                inbox_id: Arc::clone(&self.rules.inbox_id),
                inbox_offset: record.offset,
                flow_id,
            },
            message_id,
            flow_code: Arc::clone(code),
            url,
            topic: record.topic.clone(),
            payload: OutboxPayload::Received(Arc::clone(record)),
            attempts: 0,
            created_at_us: record.received_at_us,
        });
        Ok(())
    }

    fn refuse(
        &mut self,
        record: &'a Record,
        flow_id: FlowId,
        reason: DeadLetterReason,
        detail: String,
    ) -> ProcessError {
        let rejection = self.rejection(record, flow_id, reason, detail);
        self.bury(record, rejection.clone());
        ProcessError::Rejected(rejection)
    }

    fn rejection(
        &self,
        record: &Record,
        flow_id: FlowId,
        reason: DeadLetterReason,
        detail: String,
    ) -> Rejection {
        Rejection {
            flow: Some((flow_id, self.code_of(flow_id))),
            message_id: None,
            topic: record.topic.clone(),
            reason,
            detail,
        }
    }

    fn bury(&mut self, record: &'a Record, rejection: Rejection) {
        self.writes.dead_letters.push(DeadLetterRow { record, rejection });
    }
}

impl<'a> Current<'a> {
    /// Whether the message at `index` can be stored in one more flow, if that is the flow's action.
    fn check(
        &mut self,
        action: Action,
        index: usize,
        payload: &'a Payload<'a>,
        rules: &BatchRules,
    ) -> Result<Action, Refusal> {
        if action != Action::StoreDb {
            return Ok(action);
        }
        if self.index != index {
            *self = Self { index, ..Self::default() };
        }
        let values = self.values.get_or_insert_with(|| stored_values(payload, rules));
        let rows = self.rows + values.as_ref().map_err(Refusal::clone)?.len();
        let most = rules.max_rows_per_message;
        if rows > most {
            let attributes = rows - self.rows;
            let detail = format!(
                "{attributes} attributes make more than {most} rows, together with those of the message's other flows"
            );
            return Err((DeadLetterReason::TooManyRows, detail));
        }
        self.rows = rows;
        Ok(action)
    }
}

/// The flow of a row, if there is one that is enabled; else the reason and its sentence.
fn enabled(flow: Option<&LockedFlow>) -> Result<&LockedFlow, Refusal> {
    match flow {
        Some(flow) if flow.enabled => Ok(flow),
        Some(flow) => Err((DeadLetterReason::FlowDisabled, format!("flow {} is disabled", flow.code))),
        None => Err((DeadLetterReason::FlowDeleted, "its row in flows was deleted".to_owned())),
    }
}

/// Whether a message may have a number in this flow; else the reason and its sentence.
///
/// Everything that can be known is refused here, before a number is taken: the database is the
/// last to refuse a value, and the dearest.
fn check(flow: &LockedFlow, payload: &Payload<'_>, rules: &BatchRules) -> Result<Action, Refusal> {
    let action =
        Action::parse(&flow.action).map_err(|error| (DeadLetterReason::UnknownAction, error.to_string()))?;
    if action == Action::PostEndpoint && flow.endpoint_url.is_none() {
        return Err((DeadLetterReason::NoUsableUrl, flow.endpoint_error.clone().unwrap_or_default()));
    }
    if let Err(error) = &flow.message_key {
        return Err((DeadLetterReason::UnusableMessageKey, error.clone()));
    }
    match &*flow.schema {
        Err(error) => return Err((DeadLetterReason::InvalidSchema, error.clone())),
        Ok(schema) => schema
            .validate(payload)
            .map_err(|error| (DeadLetterReason::ValidationFailed, error.to_string()))?,
    }
    if flow.last_message_id >= rules.limits.max_message_id {
        let detail = format!("last_msg_id of flow {} is at its maximum, {}", flow.code, flow.last_message_id);
        return Err((DeadLetterReason::CounterExhausted, detail));
    }
    Ok(action)
}

/// Only a server that takes less than it did at the start has any to refuse here.
fn fits_a_statement(record: &Record, rules: &BatchRules) -> Result<(), Refusal> {
    let most = rules.statement_bytes;
    let (Body::Whole(kept) | Body::Head { head: kept, .. }) = &record.body;
    let length = kept.len();
    if length <= most {
        return Ok(());
    }
    let error = PayloadError::TooLarge { length, limit: most };
    Err((error.reason(), error.to_string()))
}

/// In JSON it can only be escaped, and within an object or an array it is stored like that.
fn holds_nul(attribute: &Attribute<'_>, style: ValueStyle) -> bool {
    const ESCAPED: &str = "\\u0000";
    let in_value = attribute.raw().contains(ESCAPED) && attribute.text(style).contains('\0');
    in_value || attribute.name().contains('\0')
}

/// The values of the attributes in their order, if all names and values fit into their columns.
fn stored_values<'a>(payload: &'a Payload<'a>, rules: &BatchRules) -> Result<Vec<Text<'a>>, Refusal> {
    if let Some(at) = payload.half_pair() {
        let detail = format!("half of a surrogate pair at byte {at} is no character, so it cannot be stored");
        return Err((DeadLetterReason::HalfSurrogatePair, detail));
    }
    payload.attributes().iter().map(|attribute| stored_value(attribute, rules)).collect()
}

fn stored_value<'a>(attribute: &'a Attribute<'a>, rules: &BatchRules) -> Result<Text<'a>, Refusal> {
    let (name, longest_name) = (attribute.name(), rules.limits.attribute_name_chars);
    // Counting characters is dear, and a name has at least as many bytes.
    if name.len() > longest_name && name.chars().count() > longest_name {
        let shown: String = name.chars().take(40).collect();
        return Err((
            DeadLetterReason::NameTooLong,
            format!("the name {shown}… is longer than {longest_name} characters"),
        ));
    }
    if !rules.limits.takes_nul && holds_nul(attribute, rules.value_style) {
        let shown: String = name.chars().take(40).collect();
        return Err((
            DeadLetterReason::NulCharacter,
            format!("the attribute {shown} holds the character U+0000, which the database cannot store"),
        ));
    }
    let value = Text::from(attribute.text(rules.value_style));
    match rules.limits.attribute_value_bytes {
        Some(most) if value.len() > most => {
            Err((DeadLetterReason::ValueTooLong, format!("the value of {name} is longer than {most} bytes")))
        }
        _ => Ok(value),
    }
}
