//! The rules one by one, their order, and what holds for any messages.

mod any;
mod order;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::super::batch::{BatchEntry, ProcessError, ProcessResult};
use super::super::dead_letter::DeadLetterReason;
use super::super::flow::{Action, endpoint_url};
use super::super::flow_options::SharedOptions;
use super::super::message::{Body, DeliveryFacts, FlowId, Offset, Record};
use super::super::message_key::MessageKey;
use super::super::payload::PayloadLimits;
use super::super::schema::PayloadSchema;
use super::super::value_style::ValueStyle;
use super::*;

const RETENTION: Duration = Duration::from_mins(1);
const OUTBOX_BOUND: u64 = 3;
const URL: &str = "http://endpoint.example/";

fn rules() -> ProcessingRules {
    let limits = StoreLimits {
        max_packet_bytes: 4_000,
        attribute_name_chars: 10,
        attribute_value_bytes: Some(20),
        takes_nul: false,
        max_message_id: 1_000,
        max_data_id: i64::MAX,
    };
    let payload = PayloadLimits::default();
    ProcessingRules::new("inbox".into(), ValueStyle::Json, payload, limits, OUTBOX_BOUND, RETENTION)
}

/// A flow that accepts any payload.
fn flow(id: FlowId, action: Action) -> FlowState {
    FlowState {
        id,
        code: format!("F{id}").into(),
        enabled: true,
        action: Ok(action),
        schema: Arc::new(PayloadSchema::compile("{}")),
        options: Ok(SharedOptions::default()),
        endpoint_url: Ok(URL.into()),
        message_key: Ok(None),
        last_message_id: 100 * id,
        taken: 0,
    }
}

fn stores(id: FlowId) -> FlowState {
    flow(id, Action::StoreDb)
}

fn posts(id: FlowId) -> FlowState {
    flow(id, Action::PostEndpoint)
}

/// Stores each message, and posts it as well.
fn stores_and_posts(id: FlowId) -> FlowState {
    FlowState { options: Ok(SharedOptions { also_post: true, ..SharedOptions::default() }), ..stores(id) }
}

/// The messages with this id as their key are processed once.
fn keyed(flow: FlowState) -> FlowState {
    FlowState { message_key: MessageKey::parse(Some("/id")), ..flow }
}

fn entry(offset: Offset, payload: &str, flows: &[FlowId]) -> BatchEntry {
    let record = Record {
        offset,
        received_at_us: i64::try_from(offset).unwrap() * 1_000_000,
        topic: format!("t/{offset}"),
        body: Body::Whole(payload.as_bytes().to_vec()),
        delivery: DeliveryFacts::default(),
    };
    BatchEntry { record: Arc::new(record), flows: flows.to_vec(), reports_invalid_payload: false }
}

/// The key `id` of flow 1, if that is [`keyed`].
fn key_of_flow_1(id: &str) -> FlowKey {
    let entry = entry(1, &format!(r#"{{"id":"{id}"}}"#), &[1]);
    let message = ParsedMessage::new(&entry, &PayloadLimits::default());
    let flows = BTreeMap::from([(1, keyed(stores(1)))]);
    MessageKeys::new(&flows, [(0, &message)].into_iter(), RETENTION).wanted()[0]
}

/// The input of a [`MessageProcessor`]; nothing is in the outbox, and no key is known.
#[derive(Debug)]
struct Input {
    rules: ProcessingRules,
    flows: Vec<FlowState>,
    entries: Vec<BatchEntry>,
    poison: PoisonMessages,
    waiting: u64,
    known: Vec<(FlowKey, KeyHolder)>,
}

/// The outcome, without borrowed parts: data as `flow.number name=value`, the others as their flow, number or reason.
#[derive(Debug, Default, PartialEq, Eq)]
struct Output {
    data: Vec<String>,
    posts: Vec<(FlowId, i64)>,
    dead_letters: Vec<(Option<FlowId>, Option<i64>, DeadLetterReason)>,
    keys: Vec<KeyRow>,
    counters: Vec<(FlowId, i64, i64)>,
    results: Vec<Result<ProcessResult, ProcessError>>,
}

impl Input {
    fn new(flows: impl Into<Vec<FlowState>>, entries: impl Into<Vec<BatchEntry>>) -> Self {
        Self {
            rules: rules(),
            flows: flows.into(),
            entries: entries.into(),
            poison: PoisonMessages::new(),
            waiting: 0,
            known: Vec::new(),
        }
    }

    /// One message for one flow.
    fn one(flow: FlowState, payload: &str) -> Self {
        let id = flow.id;
        Self::new([flow], [entry(1, payload, &[id])])
    }

    fn process(self) -> Output {
        let messages: Vec<ParsedMessage> =
            self.entries.iter().map(|entry| ParsedMessage::new(entry, &self.rules.payload)).collect();
        let flows: BTreeMap<FlowId, FlowState> = self.flows.into_iter().map(|flow| (flow.id, flow)).collect();
        let mut keys = MessageKeys::new(&flows, messages.iter().enumerate(), self.rules.key_retention);
        self.known.iter().for_each(|(key, holder)| keys.add_known(*key, *holder));
        let waiting = |_| self.waiting;
        let mut processor = MessageProcessor::new(&self.rules, flows, keys, &self.poison, &waiting);
        for (index, message) in messages.iter().enumerate() {
            processor.process(index, message, message.flows.iter().copied());
        }
        output(processor.into_outcome())
    }
}

fn output(outcome: ProcessingOutcome<'_>) -> Output {
    let data = |row: &DataRow| format!("{}.{} {}={}", row.flow_code, row.message_id, row.name, &*row.value);
    let letter = |row: &DeadLetterRow| {
        let rejection = &row.rejection;
        assert_eq!(rejection.topic, row.record.topic);
        (rejection.flow.as_ref().map(|(id, _)| *id), rejection.message_id, rejection.reason)
    };
    Output {
        data: outcome.data.iter().map(data).collect(),
        posts: outcome.posts.iter().map(|post| (post.key.flow_id, post.message_id)).collect(),
        dead_letters: outcome.dead_letters.iter().map(letter).collect(),
        keys: outcome.keys,
        counters: outcome
            .counters
            .iter()
            .map(|counter| (counter.flow, counter.last, counter.taken))
            .collect(),
        results: outcome.results,
    }
}

impl Output {
    /// The number of each result, the number of the first message of a repeated one as negative, or the reason.
    fn said(&self) -> Vec<String> {
        let said = |result: &Result<ProcessResult, ProcessError>| match result {
            Ok(result) => result.message_id.to_string(),
            Err(ProcessError::Repeated { message_id, .. }) => format!("-{message_id}"),
            Err(ProcessError::Rejected(rejection)) => rejection.reason.to_string(),
        };
        self.results.iter().map(said).collect()
    }
}

#[test]
fn stored_message_has_a_row_for_each_attribute() {
    let payload = r#"{"t": 21.50, "ok": true, "none": null, "tags": ["a","b"], "text": "h\u00e9"}"#;
    let output = Input::one(stores(1), payload).process();
    let rows = ["t=21.50", "ok=true", "none=null", r#"tags=["a", "b"]"#, "text=hé"];
    assert_eq!(output.data, rows.map(|row| format!("F1.101 {row}")));
    assert_eq!(output.counters, [(1, 101, 1)]);
    assert_eq!((output.posts.len(), output.dead_letters.len(), output.keys.len()), (0, 0, 0));
}

#[test]
fn posted_message_waits_in_the_outbox() {
    let output = Input::one(posts(2), r#"{"a":1}"#).process();
    assert_eq!((output.posts, output.data.len()), (vec![(2, 201)], 0));
}

#[test]
fn also_posted_message_has_one_number() {
    let output = Input::one(stores_and_posts(2), r#"{"a":1,"b":2}"#).process();
    assert_eq!((output.posts, output.data), (vec![(2, 201)], vec!["F2.201 a=1".into(), "F2.201 b=2".into()]));
    assert_eq!((output.counters, output.results.len()), (vec![(2, 201, 1)], 1));
}

#[test]
fn message_that_cannot_be_stored_is_not_also_posted() {
    let output = Input::one(stores_and_posts(1), r#"{"a":"\ud83d"}"#).process();
    assert_eq!(output.said(), ["half_surrogate_pair"]);
    assert_eq!((output.posts.len(), output.data.len(), output.counters.len()), (0, 0, 0));
}

#[test]
fn full_outbox_keeps_the_rows_of_an_also_posted_message() {
    let input = Input { waiting: OUTBOX_BOUND, ..Input::one(stores_and_posts(1), r#"{"a":1}"#) };
    let output = input.process();
    assert_eq!(output.dead_letters, [(Some(1), Some(101), DeadLetterReason::OutboxFull)]);
    assert_eq!((output.posts.len(), output.data), (0, vec!["F1.101 a=1".to_owned()]));
}

#[test]
fn each_flow_numbers_its_messages_without_gaps() {
    let entries = [entry(1, "{}", &[1, 2]), entry(2, "{}", &[2]), entry(3, "{}", &[1, 2])];
    let output = Input::new([stores(1), posts(2)], entries).process();
    assert_eq!(output.said(), ["101", "201", "202", "102", "203"]);
    assert_eq!(output.counters, [(1, 102, 2), (2, 203, 3)]);
}

#[test]
fn invalid_payload_makes_one_dead_letter_of_no_flow() {
    let reported = BatchEntry { reports_invalid_payload: true, ..entry(1, "no JSON", &[1, 2]) };
    let output = Input::new([stores(1), stores(2)], [reported, entry(2, "[]", &[1, 2])]).process();
    assert_eq!(output.dead_letters, [(None, None, DeadLetterReason::PayloadNotJson)]);
    assert_eq!(output.said(), ["payload_not_json"]);
    assert_eq!(output.counters, []);
}

#[test]
fn valid_payload_is_not_reported() {
    let reporting = BatchEntry { reports_invalid_payload: true, ..entry(1, "{}", &[]) };
    assert_eq!(Input::new([], [reporting]).process(), Output::default());
}

#[test]
fn full_outbox_makes_a_dead_letter_with_a_number() {
    let entries: Vec<BatchEntry> = (1..=3).map(|offset| entry(offset, "{}", &[1])).collect();
    let output = Input { waiting: OUTBOX_BOUND - 2, ..Input::new([posts(1)], entries) }.process();
    assert_eq!(output.posts, [(1, 101), (1, 102)]);
    assert_eq!(output.dead_letters, [(Some(1), Some(103), DeadLetterReason::OutboxFull)]);
    assert_eq!(output.counters, [(1, 103, 3)]);
}

#[test]
fn repeated_key_is_dropped_within_the_retention() {
    let entries = [(1, "a"), (2, "a"), (3, "b"), (70, "a"), (71, "")];
    let entries = entries.map(|(offset, id)| entry(offset, &format!(r#"{{"id":"{id}"}}"#), &[1]));
    let output = Input::new([keyed(stores(1))], entries).process();
    assert_eq!(output.said(), ["101", "-101", "102", "103", "104"]);
    // The second "a" with a number replaces the first; the last message has no key.
    assert_eq!((output.keys.len(), output.dead_letters.len()), (2, 0));
}

#[test]
fn key_that_the_table_knows_is_dropped_whichever_came_first() {
    for (received_at_us, said) in [(30_000_000, "-7"), (-90_000_000, "101"), (90_000_000, "101")] {
        let known = vec![(key_of_flow_1("a"), KeyHolder { message_id: 7, received_at_us })];
        let input = Input { known, ..Input::one(keyed(stores(1)), r#"{"id":"a"}"#) };
        assert_eq!(input.process().said(), [said], "{received_at_us}");
    }
}

#[test]
fn rejected_message_leaves_its_key_free() {
    let wants_b = Arc::new(PayloadSchema::compile(r#"{"b":"int"}"#));
    let flow = FlowState { schema: wants_b, ..keyed(stores(1)) };
    let entries = [entry(1, r#"{"id":"a"}"#, &[1]), entry(2, r#"{"id":"a","b":2}"#, &[1])];
    assert_eq!(Input::new([flow], entries).process().said(), ["validation_failed", "101"]);
}

#[test]
fn rows_of_a_message_are_limited_over_all_its_flows() {
    let flows = [stores(1), posts(2), stores(3), stores(4)];
    let entries = [entry(1, r#"{"a":1,"b":2}"#, &[1, 2, 3, 4]), entry(2, r#"{"a":1}"#, &[4])];
    let mut input = Input::new(flows, entries);
    input.rules.max_rows_per_message = 5;
    // The limit is of one message: the next begins again.
    assert_eq!(input.process().said(), ["101", "201", "301", "too_many_rows", "401"]);
}

#[test]
fn flow_that_posts_takes_values_that_cannot_be_stored() {
    let payload = r#"{"a":"\ud83d","b":"\u0000","much too long":1}"#;
    let output = Input::new([stores(1), posts(2)], [entry(1, payload, &[1, 2])]).process();
    assert_eq!(output.said(), ["half_surrogate_pair", "201"]);
}

#[test]
fn escaped_nul_within_an_object_is_stored() {
    let output = Input::one(stores(1), r#"{"a":{"b":"\u0000"}}"#).process();
    assert_eq!(output.data, [r#"F1.101 a={"b": "\u0000"}"#]);
}

#[test]
fn deleted_flow_has_no_code_in_its_dead_letter() {
    let output = Input::new([], [entry(1, "{}", &[9])]).process();
    let [Err(ProcessError::Rejected(rejection))] = &output.results[..] else { panic!("{output:?}") };
    assert_eq!(rejection.flow, Some((9, None)));
    assert_eq!(rejection.to_string(), "Error processing topic t/1 (flow_id=9): its row in flows was deleted");
}
