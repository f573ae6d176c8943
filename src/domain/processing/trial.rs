//! Predicts the outcome of a message by the rules themselves, without a database transaction.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::batch::{BatchEntry, ProcessError, ProcessResult};
use super::super::flow::{Action, endpoint_url};
use super::super::flow_definition::FlowRecord;
use super::super::flow_options::FlowOptions;
use super::super::message::{Body, DeliveryFacts, FlowId, Record};
use super::super::message_key::MessageKey;
use super::super::schema::PayloadSchema;
use super::flow_state::FlowState;
use super::keys::MessageKeys;
use super::message::ParsedMessage;
use super::processor::MessageProcessor;
use super::rules::ProcessingRules;

/// The outcome that a message would have in one flow.
#[derive(Debug)]
pub struct TrialResult {
    /// Its number and action, or the reason of the dead letter. An invalid payload is one dead letter for all flows.
    pub result: Result<ProcessResult, ProcessError>,
    /// Rows of `data`.
    pub rows: usize,
    /// Whether it is posted.
    pub is_posted: bool,
}

/// Applies the rules to a message for each of `flows`. Its keys count as new, and the outbox as empty.
#[must_use]
pub fn try_message(
    rules: &ProcessingRules,
    flows: &[&FlowRecord],
    topic: &str,
    payload: &[u8],
) -> Vec<TrialResult> {
    let entry = BatchEntry {
        record: Arc::new(Record {
            offset: 0,
            received_at_us: 0,
            topic: topic.to_owned(),
            body: Body::Whole(payload.to_vec()),
            delivery: DeliveryFacts::default(),
        }),
        flows: flows.iter().map(|flow| flow.id).collect(),
        reports_invalid_payload: true,
    };
    let message = ParsedMessage::new(&entry, &rules.payload);
    let states: BTreeMap<FlowId, FlowState> =
        flows.iter().map(|flow| (flow.id, FlowState::from_record(flow))).collect();
    let poison = super::PoisonMessages::new();
    let mut processor = MessageProcessor::new(rules, states, MessageKeys::default(), &poison, &|_| 0);
    processor.process(0, &message, entry.flows.iter().copied());
    let outcome = processor.into_outcome();
    let of_flow = |code: &str| {
        let rows = outcome.data.iter().filter(|row| &*row.flow_code == code).count();
        (rows, outcome.posts.iter().any(|post| &*post.flow_code == code))
    };
    let trial = |result: &Result<ProcessResult, ProcessError>| {
        let (rows, is_posted) = result.as_ref().map_or((0, false), |done| of_flow(&done.flow_code));
        TrialResult { result: result.clone(), rows, is_posted }
    };
    outcome.results.iter().map(trial).collect()
}

impl FlowState {
    /// The state of a flow as its row says.
    fn from_record(FlowRecord { id, definition, last_msg_id }: &FlowRecord) -> Self {
        let url = endpoint_url(definition.endpoint_url.as_deref());
        let schema = definition.payload_schema.as_deref().unwrap_or_default();
        Self {
            id: *id,
            code: definition.code.as_str().into(),
            enabled: definition.is_enabled(),
            action: Action::parse(&definition.action),
            schema: Arc::new(PayloadSchema::compile(schema)),
            endpoint_url: url.map(|url| Arc::from(url.as_str())),
            options: FlowOptions::parse_for(&definition.action, definition.options.as_deref())
                .map(FlowOptions::shared),
            last_message_id: last_msg_id.unwrap_or(0),
            message_key: MessageKey::parse(definition.message_key.as_deref()),
            taken: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::flow_definition::FlowDefinition;
    use super::super::super::payload::PayloadLimits;
    use super::super::super::value_style::ValueStyle;
    use super::super::rules::StoreLimits;
    use super::*;

    fn flow(id: FlowId, definition: FlowDefinition) -> FlowRecord {
        let definition = FlowDefinition { code: format!("F{id}"), enabled: Some(true), ..definition };
        FlowRecord { id, definition, last_msg_id: Some(41) }
    }

    fn results(flows: &[FlowRecord], payload: &str) -> Vec<TrialResult> {
        let limits = StoreLimits {
            max_packet_bytes: 4_000,
            attribute_name_chars: 10,
            attribute_value_bytes: None,
            takes_nul: true,
            max_message_id: 1_000,
            max_data_id: i64::MAX,
        };
        let (payload_limits, retention) = (PayloadLimits::default(), std::time::Duration::from_mins(1));
        let rules =
            ProcessingRules::new("inbox".into(), ValueStyle::Json, payload_limits, limits, 10, retention);
        try_message(&rules, &flows.iter().collect::<Vec<_>>(), "a", payload.as_bytes())
    }

    #[test]
    fn each_flow_says_what_it_would_do() {
        let stores = FlowDefinition {
            action: "STORE_DB".to_owned(),
            payload_schema: Some(r#"{"v": "int"}"#.to_owned()),
            ..FlowDefinition::default()
        };
        let posts = FlowDefinition {
            action: "POST_ENDPOINT".to_owned(),
            endpoint_url: Some("http://h/".to_owned()),
            payload_schema: Some("{}".to_owned()),
            ..FlowDefinition::default()
        };
        let flows = [flow(1, stores), flow(2, posts)];
        let good = results(&flows, r#"{"v": 1, "w": 2}"#);
        assert_eq!((good[0].rows, good[0].is_posted), (2, false));
        assert_eq!((good[1].rows, good[1].is_posted), (0, true));
        assert!(good.iter().all(|trial| trial.result.as_ref().is_ok_and(|done| done.message_id == 42)));
        let bad = results(&flows, r#"{"v": 1.5}"#);
        assert!(
            matches!(&bad[0].result, Err(ProcessError::Rejected(cause)) if cause.detail.contains("\"v\""))
        );
        assert!(bad[1].result.is_ok());
        let invalid = results(&flows, "{");
        assert_eq!(invalid.len(), 1);
        assert!(matches!(&invalid[0].result, Err(ProcessError::Rejected(cause)) if cause.flow.is_none()));
    }
}
