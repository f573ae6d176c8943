//! Applies the rules to one message after the other.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::super::batch::{ProcessError, ProcessResult, Rejection};
use super::super::dead_letter::DeadLetterReason;
use super::super::flow::Action;
use super::super::message::{FlowId, Record};
use super::super::outbox::{OutboxItem, OutboxKey, OutboxPayload};
use super::super::payload::PayloadError;
use super::super::posting::attempts::RecentAttempts;
use super::super::posting::destination::PostDestination;
use super::checks::{Accepted, check_enabled, check_message, check_post};
use super::flow_state::FlowState;
use super::keys::MessageKeys;
use super::message::ParsedMessage;
use super::outbox_space::OutboxSpace;
use super::outcome::{DataRow, DeadLetterRow, ProcessingOutcome};
use super::reject::{NotProcessed, RejectCause};
use super::rules::ProcessingRules;
use super::stored_values::{Storable, StoredValues};

/// Messages that the database itself rejected, by place in the batch and flow, with its error.
pub(crate) type PoisonMessages = HashMap<(usize, FlowId), String>;

/// Processes the messages of one transaction, in order.
pub(crate) struct MessageProcessor<'r, 'a> {
    rules: &'r ProcessingRules,
    flows: BTreeMap<FlowId, FlowState>,
    keys: MessageKeys,
    poison: &'r PoisonMessages,
    outbox: OutboxSpace<'r>,
    outcome: ProcessingOutcome<'a>,
}

impl<'r, 'a> MessageProcessor<'r, 'a> {
    /// `flows` and `keys` are as the locked rows say. `waiting` gives the number of messages of a flow in the outbox.
    pub(crate) fn new(
        rules: &'r ProcessingRules,
        flows: BTreeMap<FlowId, FlowState>,
        keys: MessageKeys,
        poison: &'r PoisonMessages,
        waiting: &'r dyn Fn(FlowId) -> u64,
    ) -> Self {
        let outbox = OutboxSpace::new(waiting, rules.outbox_max_rows_per_flow);
        Self { rules, flows, keys, poison, outbox, outcome: ProcessingOutcome::default() }
    }

    /// Processes a message for `flows`; `index` is its place in the batch.
    pub(crate) fn process(
        &mut self,
        index: usize,
        message: &'a ParsedMessage<'a>,
        flows: impl Iterator<Item = FlowId>,
    ) {
        match &message.payload {
            Ok(payload) => {
                let mut values = StoredValues::new(payload);
                for flow in flows {
                    let number = self.number(message.record, &mut values, (index, flow));
                    let result = number.map_err(|error| self.not_processed(message.record, flow, error));
                    self.outcome.results.push(result);
                }
            }
            Err(error) if message.reports_invalid_payload => self.reject_payload(message.record, error),
            // Another lane makes the dead letter.
            Err(_) => {}
        }
    }

    /// Posts a message that has a number, or refuses it. The number stays, and so does the former code of the flow.
    pub(crate) fn post_again(
        &mut self,
        record: &'a Arc<Record>,
        flow: FlowId,
        message_id: i64,
        code: Option<Arc<str>>,
    ) {
        let result = self.place_post(record, flow, message_id, code).map_err(|cause| {
            let cause = RejectCause { message_id: Some(message_id), ..cause };
            self.not_processed(record, flow, cause.into())
        });
        self.outcome.results.push(result);
    }

    fn place_post(
        &mut self,
        record: &'a Arc<Record>,
        flow_id: FlowId,
        message_id: i64,
        code: Option<Arc<str>>,
    ) -> Result<ProcessResult, RejectCause> {
        let flow = check_enabled(self.flows.get_mut(&flow_id))?;
        let flow_code = code.unwrap_or_else(|| Arc::clone(&flow.code));
        let destination = check_post(flow)?;
        self.outbox.take(flow_id)?;
        self.post(record, flow_id, &flow_code, message_id, destination);
        let inbox_offset = record.offset;
        Ok(ProcessResult { flow_code, message_id, action: Action::PostEndpoint, inbox_offset })
    }

    /// All that was decided, counters and keys included.
    pub(crate) fn into_outcome(self) -> ProcessingOutcome<'a> {
        ProcessingOutcome {
            counters: self.flows.values().filter_map(FlowState::counter).collect(),
            keys: self.keys.into_rows(),
            ..self.outcome
        }
    }

    /// Applies the rules of one flow. The number is taken last.
    fn number(
        &mut self,
        record: &'a Arc<Record>,
        values: &mut StoredValues<'a>,
        message @ (_, flow_id): (usize, FlowId),
    ) -> Result<ProcessResult, NotProcessed> {
        if let Some(error) = self.poison.get(&message) {
            return Err(RejectCause::new(DeadLetterReason::RefusedByDatabase, error.as_str()).into());
        }
        let flow = check_enabled(self.flows.get_mut(&flow_id))?;
        let flow_code = Arc::clone(&flow.code);
        if let Some(message_id) = self.keys.first_holder(message, record.received_at_us) {
            return Err(NotProcessed::Repeated { flow_code, message_id });
        }
        let Accepted { action, stores, posts } = check_message(flow, record, values, self.rules)?;
        let message_id = flow.take_number();
        self.keys.remember(message, message_id, record.received_at_us);
        if let Some(storable) = stores {
            self.store(record, &storable, &flow_code, message_id);
        }
        if let Some(destination) = posts {
            // The rows of `data` stay: the replay of the dead letter posts the message.
            self.outbox
                .take(flow_id)
                .map_err(|cause| RejectCause { message_id: Some(message_id), ..cause })?;
            self.post(record, flow_id, &flow_code, message_id, destination);
        }
        Ok(ProcessResult { flow_code, message_id, action, inbox_offset: record.offset })
    }

    fn store(
        &mut self,
        record: &'a Record,
        storable: &Storable<'_, 'a>,
        flow_code: &Arc<str>,
        message_id: i64,
    ) {
        self.outcome.data.extend(storable.attributes().map(|(name, value)| DataRow {
            received_at_us: record.received_at_us,
            flow_code: Arc::clone(flow_code),
            name,
            value,
            message_id,
        }));
    }

    fn post(
        &mut self,
        record: &'a Arc<Record>,
        flow_id: FlowId,
        flow_code: &Arc<str>,
        message_id: i64,
        destination: PostDestination,
    ) {
        let inbox_id = Arc::clone(&self.rules.inbox_id);
        self.outcome.posts.push(OutboxItem {
            key: OutboxKey { inbox_id, inbox_offset: record.offset, flow_id },
            message_id,
            flow_code: Arc::clone(flow_code),
            destination,
            topic: record.topic.clone(),
            payload: OutboxPayload::Received(Arc::clone(record)),
            attempts: 0,
            recent_attempts: RecentAttempts::default(),
            created_at_us: record.received_at_us,
        });
    }

    /// The result for a message that was not handed on, after its dead letter if it makes one.
    fn not_processed(&mut self, record: &'a Record, flow_id: FlowId, error: NotProcessed) -> ProcessError {
        match error {
            NotProcessed::Repeated { flow_code, message_id } => {
                ProcessError::Repeated { flow_code, message_id, inbox_offset: record.offset }
            }
            NotProcessed::Rejected(cause) => {
                // A deleted flow has no code any more.
                let code = self.flows.get(&flow_id).map(|flow| Arc::clone(&flow.code));
                self.dead_letter(record, Some((flow_id, code)), cause)
            }
        }
    }

    /// An invalid payload is reported once, and for no flow.
    fn reject_payload(&mut self, record: &'a Record, error: &PayloadError) {
        let cause = RejectCause::new(error.reason(), error.to_string());
        let error = self.dead_letter(record, None, cause);
        self.outcome.results.push(Err(error));
    }

    fn dead_letter(
        &mut self,
        record: &'a Record,
        flow: Option<(FlowId, Option<Arc<str>>)>,
        cause: RejectCause,
    ) -> ProcessError {
        let RejectCause { reason, detail, message_id } = cause;
        let (inbox_offset, topic) = (record.offset, record.topic.clone());
        let rejection = Rejection { flow, message_id, inbox_offset, topic, reason, detail };
        self.outcome.dead_letters.push(DeadLetterRow { record, rejection: rejection.clone() });
        ProcessError::Rejected(rejection)
    }
}
