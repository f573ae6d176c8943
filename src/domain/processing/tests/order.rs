//! The reason of each rule, and that an earlier rule precedes a later one.

use super::super::super::flow_options::FlowOptions;
use super::*;

/// Breaks one rule: the flow, the message or the limits.
struct Breach {
    said: &'static str,
    breaks: fn(&mut Input),
}

/// In the order of the rules.
const BREACHES: &[Breach] = &[
    Breach {
        said: "refused_by_database",
        breaks: |input| drop(input.poison.insert((0, 1), "no".to_owned())),
    },
    Breach { said: "flow_disabled", breaks: |input| input.flows[0].enabled = false },
    Breach {
        said: "-7",
        breaks: |input| {
            input.known = vec![(key_of_flow_1("a"), KeyHolder { message_id: 7, received_at_us: 0 })];
        },
    },
    Breach { said: "payload_too_large", breaks: |input| input.rules.max_statement_bytes = 5 },
    Breach {
        said: "unusable_options",
        breaks: |input| input.flows[0].options = FlowOptions::parse(Some("[]")).map(FlowOptions::shared),
    },
    Breach { said: "unknown_action", breaks: |input| input.flows[0].action = Action::parse("store") },
    Breach {
        said: "no_usable_url",
        breaks: |input| {
            input.flows[0].action = Ok(Action::PostEndpoint);
            input.flows[0].endpoint_url = endpoint_url(None).map(|url| url.as_str().into());
        },
    },
    Breach {
        said: "invalid_schema",
        breaks: |input| input.flows[0].schema = Arc::new(PayloadSchema::compile("[]")),
    },
    Breach {
        said: "validation_failed",
        breaks: |input| input.flows[0].schema = Arc::new(PayloadSchema::compile(r#"{"gone":"int"}"#)),
    },
    Breach { said: "counter_exhausted", breaks: |input| input.rules.limits.max_message_id = 100 },
    Breach { said: "half_surrogate_pair", breaks: |input| set_payload(input, r#""b":"\ud83d""#) },
    Breach { said: "too_many_rows", breaks: |input| input.rules.max_rows_per_message = 1 },
];

fn input() -> Input {
    let mut input = Input::one(keyed(stores(1)), "{}");
    set_payload(&mut input, r#""b":1"#);
    input
}

fn set_payload(input: &mut Input, attribute: &str) {
    input.entries = vec![entry(1, &format!(r#"{{"id":"a",{attribute}}}"#), &[1])];
}

#[test]
fn each_rule_has_its_reason() {
    assert_eq!(input().process().said(), ["101"]);
    for breach in BREACHES {
        let mut input = input();
        (breach.breaks)(&mut input);
        let output = input.process();
        assert_eq!(output.said(), [breach.said]);
        assert_eq!((output.data.len(), output.posts.len(), output.keys.len()), (0, 0, 0), "{}", breach.said);
        assert_eq!(output.counters, [], "{}: takes no number", breach.said);
    }
}

#[test]
fn first_broken_rule_is_the_reason() {
    for (place, first) in BREACHES.iter().enumerate() {
        for later in &BREACHES[place + 1..] {
            let mut input = input();
            // The first rule last: both may be about the same column.
            (later.breaks)(&mut input);
            (first.breaks)(&mut input);
            assert_eq!(input.process().said(), [first.said], "{} is broken as well", later.said);
        }
    }
}

#[test]
fn rules_of_also_posted_messages_are_the_same() {
    let also_posting = |breach: Option<&Breach>| {
        let mut input = input();
        input.flows[0] = keyed(stores_and_posts(1));
        if let Some(breach) = breach {
            (breach.breaks)(&mut input);
        }
        input
    };
    assert_eq!(also_posting(None).process().said(), ["101"]);
    for breach in BREACHES {
        let output = also_posting(Some(breach)).process();
        assert_eq!(output.said(), [breach.said]);
        assert_eq!((output.data.len(), output.posts.len(), output.keys.len()), (0, 0, 0), "{}", breach.said);
    }
    let mut input = also_posting(None);
    input.flows[0].endpoint_url = endpoint_url(None).map(|url| url.as_str().into());
    let output = input.process();
    assert_eq!(output.said(), ["no_usable_url"]);
    assert_eq!((output.data.len(), output.counters.len()), (0, 0), "takes no number");
}

#[test]
fn deleted_flow_precedes_all_but_the_database() {
    let mut input = input();
    input.flows.clear();
    assert_eq!(input.process().said(), ["flow_deleted"]);
}

#[test]
fn unusable_message_key_is_rejected_before_the_schema() {
    let mut input = input();
    input.flows[0].message_key = MessageKey::parse(Some("id"));
    input.flows[0].schema = Arc::new(PayloadSchema::compile("[]"));
    assert_eq!(input.process().said(), ["unusable_message_key"]);
}

#[test]
fn names_and_values_must_fit_their_columns() {
    let cases = [
        (r#"{"exactly 10":1}"#, "101"),
        (r#"{"eleven char":1}"#, "name_too_long"),
        (r#"{"zehn äöüß€":1}"#, "101"),
        (r#"{"a":"12345678901234567890"}"#, "101"),
        (r#"{"a":"123456789012345678901"}"#, "value_too_long"),
        (r#"{"a":"öööööööööö!"}"#, "value_too_long"),
        (r#"{"a":"\u0000"}"#, "nul_character"),
        (r#"{"a\u0000":1}"#, "nul_character"),
    ];
    for (payload, said) in cases {
        assert_eq!(Input::one(stores(1), payload).process().said(), [said], "{payload}");
    }
}
