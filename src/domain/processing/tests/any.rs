//! Properties of the rules for any messages, flows and limits.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

/// Valid and invalid, with and without a key, storable and not.
const PAYLOADS: [&str; 9] = [
    "{}",
    r#"{"a":1}"#,
    r#"{"id":"x"}"#,
    r#"{"id":"y","a":2}"#,
    r#"{"id":"x","a":"\ud83d"}"#,
    r#"{"a":"a value that is too long"}"#,
    r#"{"a":1,"b":2,"c":3}"#,
    "[]",
    "no JSON",
];

fn any_flow(id: FlowId) -> impl Strategy<Value = FlowState> {
    let schema = prop_oneof![4 => Just("{}"), 1 => Just(r#"{"a":"int"}"#), 1 => Just("[]")];
    let action = prop_oneof![4 => Just("STORE_DB"), 4 => Just("POST_ENDPOINT"), 1 => Just("DELETE")];
    let last = prop_oneof![3 => Just(0), 1 => Just(998), 1 => Just(1_000)];
    (schema, action, last, 0_u8..8, any::<bool>(), any::<bool>()).prop_map(
        move |(schema, action, last, disabled, has_key, also_post)| FlowState {
            options: Ok(SharedOptions { also_post, ..SharedOptions::default() }),
            enabled: disabled > 0,
            action: Action::parse(action),
            schema: Arc::new(PayloadSchema::compile(schema)),
            message_key: MessageKey::parse(has_key.then_some("/id")),
            last_message_id: last,
            ..stores(id)
        },
    )
}

/// Of flow 4 there is no row.
fn any_entries() -> impl Strategy<Value = Vec<BatchEntry>> {
    let flows = proptest::sample::subsequence(vec![1, 2, 3, 4], 0..=4);
    let one = (0..PAYLOADS.len(), flows, any::<bool>());
    proptest::collection::vec(one, 0..30).prop_map(|entries| {
        let with_offset = (1..).zip(entries);
        with_offset
            .map(|(offset, (payload, flows, reports_invalid_payload))| BatchEntry {
                reports_invalid_payload,
                ..entry(offset, PAYLOADS[payload], &flows)
            })
            .collect()
    })
}

fn any_input() -> impl Strategy<Value = Input> {
    let flows = (any_flow(1), any_flow(2), any_flow(3));
    let poison = proptest::collection::btree_set((0_usize..30, 1_i64..5), 0..4);
    (flows, any_entries(), poison, 0_u64..5, 1_usize..6).prop_map(
        |((a, b, c), entries, poison, waiting, max_rows_per_message)| Input {
            rules: ProcessingRules { max_rows_per_message, ..rules() },
            poison: poison.into_iter().map(|message| (message, "no".to_owned())).collect(),
            waiting,
            ..Input::new([a, b, c], entries)
        },
    )
}

/// Messages whose payload is an object, once for each flow, and the reported invalid ones.
fn expected_results(entries: &[BatchEntry]) -> usize {
    let is_object = |entry: &BatchEntry| entry.record.body.as_bytes().starts_with(b"{");
    entries
        .iter()
        .map(
            |entry| {
                if is_object(entry) { entry.flows.len() } else { usize::from(entry.reports_invalid_payload) }
            },
        )
        .sum()
}

/// All messages fit the columns and have an attribute, so that each number has rows.
fn storable_entries() -> impl Strategy<Value = Vec<BatchEntry>> {
    proptest::collection::vec(0..3_usize, 0..30).prop_map(|places| {
        let payloads = [r#"{"a":1}"#, r#"{"id":"x","a":1}"#, r#"{"id":"y","b":2}"#];
        (1..).zip(places).map(|(offset, place)| entry(offset, payloads[place], &[1])).collect()
    })
}

proptest! {
    #[test]
    fn rows_and_posts_of_a_flow_agree(entries in storable_entries(), waiting in 0_u64..5, has_key: bool) {
        let flow = if has_key { keyed(stores_and_posts(1)) } else { stores_and_posts(1) };
        let output = Input { waiting, ..Input::new([flow], entries) }.process();
        let of_row = |row: &String| row.split([' ', '.']).nth(1).unwrap().parse().unwrap();
        let stored: BTreeSet<i64> = output.data.iter().map(of_row).collect();
        let letters = output.dead_letters.iter().map(|(_, number, _)| number.unwrap());
        let posted: Vec<i64> = output.posts.iter().map(|(_, number)| *number).chain(letters).collect();
        prop_assert!(posted.iter().eq(&stored), "{posted:?} {stored:?}");
    }

    #[test]
    fn every_message_has_one_outcome_in_each_flow(input in any_input()) {
        let expected = expected_results(&input.entries);
        let also = |flow: &&FlowState| flow.options.as_ref().is_ok_and(|options| options.also_post);
        let also_posting: BTreeSet<String> =
            input.flows.iter().filter(also).map(|flow| flow.code.to_string()).collect();
        let output = input.process();
        prop_assert_eq!(output.results.len(), expected);

        let rejected = |result: &Result<_, ProcessError>| matches!(result, Err(ProcessError::Rejected(_)));
        let dead = output.results.iter().filter(|result| rejected(result)).count();
        prop_assert_eq!(output.dead_letters.len(), dead);

        let stored = |result: &ProcessResult| result.action == Action::StoreDb;
        let posted = |result: &ProcessResult| !stored(result) || also_posting.contains(&*result.flow_code);
        let posts = output.results.iter().flatten().filter(|result| posted(result)).count();
        prop_assert_eq!(output.posts.len(), posts);

        // Each message with rows is a numbered one of a flow that stores; if it is posted too, the outbox may be full.
        let full = output.dead_letters.iter().filter(|letter| letter.2 == DeadLetterReason::OutboxFull);
        let full = full.map(|(flow, number, _)| format!("F{}.{}", flow.unwrap(), number.unwrap()));
        let numbered: BTreeSet<String> = output.results.iter().flatten().filter(|result| stored(result))
            .map(|result| format!("{}.{}", result.flow_code, result.message_id)).chain(full).collect();
        let of_rows = output.data.iter().map(|row| row.split(' ').next().unwrap());
        prop_assert!(of_rows.into_iter().all(|of_row| numbered.contains(of_row)));
    }

    #[test]
    fn numbers_of_a_flow_have_no_gap(input in any_input()) {
        let before: BTreeMap<String, i64> =
            input.flows.iter().map(|flow| (flow.code.to_string(), flow.last_message_id)).collect();
        let max = input.rules.limits.max_message_id;
        let output = input.process();
        let mut last = before.clone();
        for result in &output.results {
            let (code, number) = match result {
                Ok(result) => (result.flow_code.to_string(), result.message_id),
                Err(ProcessError::Rejected(rejection)) => match (&rejection.flow, rejection.message_id) {
                    (Some((_, Some(code))), Some(number)) => (code.to_string(), number),
                    _ => continue,
                },
                Err(ProcessError::Repeated { .. }) => continue,
            };
            prop_assert_eq!(number, last[&code] + 1);
            prop_assert!(number <= max);
            last.insert(code, number);
        }
        let written: BTreeMap<String, i64> =
            output.counters.iter().map(|(flow, last, _)| (format!("F{flow}"), *last)).collect();
        last.retain(|code, last| *last != before[code]);
        prop_assert_eq!(written, last);
        for (flow, last, taken) in output.counters {
            prop_assert_eq!(last - taken, before[&format!("F{flow}")]);
        }
    }

    #[test]
    fn outbox_never_exceeds_its_bound(input in any_input()) {
        let room = OUTBOX_BOUND.saturating_sub(input.waiting);
        let posts = input.process().posts;
        for flow in 1..=3 {
            let added = posts.iter().filter(|(id, _)| *id == flow).count() as u64;
            prop_assert!(added <= room);
        }
    }

    #[test]
    fn batch_and_its_halves_have_the_same_results(entries in any_entries(), half in 0_usize..30) {
        let flows = |last: [i64; 3]| {
            let [a, b, c] = last;
            [
                FlowState { last_message_id: a, ..stores(1) },
                FlowState { last_message_id: b, ..keyed(stores(2)) },
                FlowState { last_message_id: c, ..posts(3) },
            ]
        };
        let whole = Input::new(flows([0; 3]), entries.clone()).process();

        let (first, second) = entries.split_at(half.min(entries.len()));
        let first = Input::new(flows([0; 3]), first).process();
        let last = [1, 2, 3].map(|id| {
            let of_flow = first.counters.iter().find(|(flow, ..)| *flow == id);
            of_flow.map_or(0, |(_, last, _)| *last)
        });
        let known = first.keys.iter().map(|key| ((key.flow, key.hash), key.holder)).collect();
        let waiting = first.posts.len() as u64;
        let second = Input { waiting, known, ..Input::new(flows(last), second) }.process();

        prop_assert_eq!([first.results, second.results].concat(), whole.results);
        prop_assert_eq!([first.data, second.data].concat(), whole.data);
        prop_assert_eq!([first.posts, second.posts].concat(), whole.posts);
    }
}
