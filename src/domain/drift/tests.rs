use std::time::Duration;

use proptest::prelude::*;

use super::super::payload::{Payload, PayloadLimits};
use super::super::schema::PayloadSchema;
use super::*;

const LIST: &str = r#"{"room": "string", "v": {"type": "number", "unit": "C"}}"#;
const JSON_SCHEMA: &str = r#"{"$schema": "https://json-schema.org/draft/2020-12/schema",
    "properties": {"room": {}, "v": {"type": "number", "minimum": 0}}, "required": ["room", "v"],
    "additionalProperties": false}"#;

/// A flow, its messages and its row in the table.
#[derive(Default)]
struct Story {
    observed: ObservedFields,
    log: FieldLog,
    at_us: i64,
    now: Duration,
}

impl Story {
    fn message(&mut self, payload: &str) {
        self.at_us += 1;
        let payload = Payload::parse(payload.as_bytes(), &PayloadLimits::default()).unwrap();
        self.observed.observe(1, &payload, &format!("t/{}", self.at_us), self.at_us);
    }

    /// Writes the facts, and returns the new changes in words.
    fn write(&mut self, schema: &str) -> Vec<String> {
        let schema = SchemaExpectation::new(schema);
        let mut changes = Vec::new();
        for seen in self.observed.take(self.now, 10) {
            changes.extend(self.log.merge(seen, &schema));
            self.observed.learn(1, &self.log);
        }
        changes.into_iter().map(|change| format!("{} {}", change.field, change.description)).collect()
    }

    fn says(&mut self, schema: &str, payloads: &[&str], expected: &[&str]) {
        for payload in payloads {
            self.message(payload);
        }
        assert_eq!(self.write(schema), expected);
    }

    /// Accepts the changes of a field, and returns the new schema.
    fn accept(&mut self, name: &str, schema: &str) -> String {
        let accepted = Acceptance::new(self.log.field(name).unwrap(), schema);
        let schema = accepted.schema.unwrap_or_else(|| schema.to_owned());
        self.log.dismiss(name, &SchemaExpectation::new(&schema));
        schema
    }
}

fn refusal(schema: &str, payload: &str) -> String {
    let payload = Payload::parse(payload.as_bytes(), &PayloadLimits::default()).unwrap();
    let checked = PayloadSchema::compile(schema).unwrap().validate(&payload);
    checked.err().map(|error| error.to_string()).unwrap_or_default()
}

#[test]
fn first_message_is_no_change() {
    let mut story = Story::default();
    story.says("{}", &[r#"{"a": 1, "b": "x"}"#], &[]);
    story.says("{}", &[r#"{"a": 2, "b": "y"}"#], &[]);
    assert_eq!(story.log.fields.len(), 2);
    story.says("{}", &[r#"{"a": 2, "b": "y", "c": null}"#], &["c appeared as null"]);
    story.says("{}", &[r#"{"a": "2", "c": null}"#], &["a changed from int to string", "b vanished"]);
    story.says("{}", &[r#"{"a": "3", "b": "y"}"#], &[]);
    let changes: Vec<_> = story.log.drift(&SchemaExpectation::default()).map(|drift| drift.kind).collect();
    assert_eq!(changes, [DriftKind::TypeChanged, DriftKind::SometimesMissing, DriftKind::Appeared]);
}

#[test]
fn facts_have_times_topics_and_counts() {
    let mut story = Story::default();
    story.says("{}", &[r#"{"a": 1}"#, r#"{"a": 2}"#, r#"{"a": "x"}"#], &["a changed from int to string"]);
    story.message(r#"{"a": "y"}"#);
    story.now = Duration::from_mins(1);
    assert_eq!(story.write("{}"), [] as [&str; 0]);
    let fact = story.log.field("a").unwrap().fact(FieldKind::String).unwrap();
    assert_eq!((fact.messages, fact.first_at_us, fact.last_at_us), (2, 3, 4));
    assert_eq!((fact.first_topic.as_str(), fact.last_topic.as_str()), ("t/3", "t/4"));
}

#[test]
fn schema_is_known_before_the_first_message() {
    let mut story = Story::default();
    story.says(LIST, &[r#"{"v": "warm"}"#], &["v changed from number to string", "room vanished"]);
    assert!(story.log.drift(&SchemaExpectation::new(LIST)).all(|drift| drift.is_refused()));
    let mut story = Story::default();
    story.says(JSON_SCHEMA, &[r#"{"room": 1, "v": 2.5}"#, r#"{"room": null, "v": 2}"#], &[]);
}

#[test]
fn integers_are_numbers() {
    let mut story = Story::default();
    story.says("{}", &[r#"{"a": 1.5}"#, r#"{"a": 2}"#], &[]);
    story.says(
        "{}",
        &[r#"{"a": 1.5, "b": 2}"#, r#"{"a": 1, "b": 2.5}"#],
        &["b appeared as int or number"; 2],
    );
}

#[test]
fn quiet_flows_are_written_rarely() {
    let mut story = Story::default();
    story.says("{}", &[r#"{"a": 1}"#], &[]);
    let is_written = |story: &mut Story, minutes| {
        story.message(r#"{"a": 1}"#);
        story.now = Duration::from_mins(minutes);
        let seen = story.observed.take(story.now, 10);
        !seen.is_empty()
    };
    assert!(!is_written(&mut story, 1) && !is_written(&mut story, 4));
    assert!(is_written(&mut story, 6) && !is_written(&mut story, 7));
    story.observed.refused(1);
    assert!(is_written(&mut story, 8));
}

#[test]
fn many_quiet_flows_are_written_at_one_per_second() {
    const FLOWS: i64 = 1_000;
    let mut observed = ObservedFields::default();
    let mut written_at = |seconds| {
        let payload = Payload::parse(br#"{"a": 1}"#, &PayloadLimits::default()).unwrap();
        (0..FLOWS).for_each(|flow| observed.observe(flow, &payload, "t", 1));
        let seen = observed.take(Duration::from_secs(seconds), usize::MAX);
        for seen in &seen {
            let mut log = FieldLog::default();
            log.merge(seen.clone(), &SchemaExpectation::new("{}"));
            observed.learn(seen.flow, &log);
        }
        seen.len()
    };
    assert_eq!([0, 301, 999, 1_061].map(&mut written_at), [1_000, 0, 0, 1_000]);
}

#[test]
fn all_facts_are_written_at_the_end() {
    let mut story = Story::default();
    story.says("{}", &[r#"{"a": 1}"#], &[]);
    story.message(r#"{"a": 1}"#);
    assert_eq!(story.observed.take(Duration::ZERO, 10), []);
    story.observed.mark_due();
    assert_eq!(story.write("{}"), [] as [&str; 0]);
    assert_eq!(story.log.field("a").unwrap().facts[0].messages, 2);
    story.observed.mark_due();
    assert_eq!(story.observed.take(Duration::ZERO, 10), [], "once");
}

#[test]
fn restart_knows_the_fields_of_the_table() {
    let mut story = Story::default();
    story.says("{}", &[r#"{"a": 1, "b": 1}"#], &[]);
    story.observed = ObservedFields::default();
    story.says("{}", &[r#"{"a": 1}"#], &["b vanished"]);
    story.says("{}", &[r#"{"a": 1}"#], &[]);
}

#[test]
fn edited_schema_makes_known_facts_changes() {
    let mut story = Story::default();
    story.says(LIST, &[r#"{"room": "x", "v": 1}"#], &[]);
    let edited = r#"{"room": "string", "v": "bool"}"#;
    story.message(r#"{"room": "x", "v": 1}"#);
    story.observed.refused(1);
    story.now = Duration::from_mins(1);
    assert_eq!(story.write(edited), ["v changed from bool to int"]);
    // The schema of before makes it no change again.
    story.log.settle(&SchemaExpectation::new(LIST));
    assert!(!story.log.has_changes());
}

#[test]
fn hostile_names_are_bounded() {
    let mut story = Story::default();
    for message in 0..2_000 {
        let names: Vec<String> = (0..50).map(|name| format!(r#""{message}-{name}": 1"#)).collect();
        story.message(&format!("{{{}}}", names.join(",")));
    }
    story.message(&format!(r#"{{"{}": 1}}"#, "x".repeat(1_000_000)));
    let changes = story.write("{}");
    assert_eq!((story.log.fields.len(), changes.len()), (MAX_FIELDS, MAX_FIELDS));
    let long = format!(r#"{{"{}": 1}}"#, "x".repeat(MAX_NAME_BYTES + 1));
    let mut story = Story::default();
    story.says(
        "{}",
        &[&long, r#"{"\u0000": 1, "\u001b[31m\u202e": 1}"#],
        &["\u{1b}[31m\u{202e} appeared as int"],
    );
    let required: Vec<String> = (0..150).map(|name| format!(r#""f{name}": "int""#)).collect();
    story.message("{}");
    story.write(&format!("{{{}}}", required.join(",")));
    assert_eq!((story.log.fields.len(), story.log.is_cut), (MAX_FIELDS, true));
}

#[test]
fn memory_of_a_lane_is_bounded() {
    let mut observed = ObservedFields::default();
    let names: Vec<String> = (0..MAX_FIELDS).map(|name| format!(r#""n{name}": 1"#)).collect();
    let text = format!("{{{}}}", names.join(","));
    let payload = Payload::parse(text.as_bytes(), &PayloadLimits::default()).unwrap();
    for flow in 0..2_000 {
        observed.observe(flow, &payload, "t", 1);
    }
    let facts = |seen: &[SeenFlow]| seen.iter().map(|seen| seen.facts.len()).sum::<usize>();
    assert_eq!(facts(&observed.take(Duration::ZERO, usize::MAX)), 50_000);
    // Flows without messages make space for others.
    observed.take(Duration::from_mins(1), usize::MAX);
    observed.observe(5_000, &payload, "t", 2);
    assert_eq!(facts(&observed.take(Duration::from_mins(1), usize::MAX)), MAX_FIELDS);
}

#[test]
fn new_type_replaces_the_old_one() {
    let mut story = Story::default();
    story.says(
        LIST,
        &[r#"{"room": "x", "v": 1}"#, r#"{"room": "x", "v": "1"}"#],
        &["v changed from number to string"],
    );
    let accepted = Acceptance::new(story.log.field("v").unwrap(), LIST);
    assert!(accepted.effect.contains("\"v\" in the schema becomes string"), "{}", accepted.effect);
    let text = accepted.letter_text.unwrap();
    assert!(refusal(LIST, r#"{"room": "x", "v": "1"}"#).contains(&text), "{text}");
    let schema = story.accept("v", LIST);
    assert_eq!(schema, r#"{"room": "string", "v": {"type": "string", "unit": "C"}}"#);
    assert!(!story.log.has_changes());
    // The old type is refused now: a change again.
    story.now = Duration::from_mins(1);
    story.says(&schema, &[r#"{"room": "x", "v": 1}"#], &["v changed from string to int"]);
}

#[test]
fn two_types_are_not_checked() {
    let mut story = Story::default();
    let schema = r#"{"properties": {"v": "number"}, "title": "x"}"#;
    let messages = [r#"{"v": 1}"#, r#"{"v": null}"#, r#"{"v": 2}"#];
    story.says(schema, &messages, &["v changed from number to null"]);
    let schema = story.accept("v", schema);
    assert_eq!(schema, r#"{"properties": {}, "title": "x"}"#);
    story.says(&schema, &messages, &[]);
}

#[test]
fn vanished_field_leaves_a_list_of_fields() {
    let mut story = Story::default();
    story.says(LIST, &[r#"{"room": "x", "v": 1}"#, r#"{"v": 1}"#], &["room vanished"]);
    let accepted = Acceptance::new(story.log.field("room").unwrap(), LIST);
    assert!(refusal(LIST, r#"{"v": 1}"#).contains(&accepted.letter_text.unwrap()));
    let schema = story.accept("room", LIST);
    assert_eq!(schema, r#"{"v": {"type": "number", "unit": "C"}}"#);
    assert!(story.log.field("room").is_none());
    story.says(&schema, &[r#"{"v": 1}"#], &[]);
}

#[test]
fn new_field_is_added_unless_it_is_sometimes_missing() {
    let mut story = Story::default();
    story.says(
        LIST,
        &[r#"{"room": "x", "v": 1}"#, r#"{"room": "x", "v": 1, "w": 1}"#],
        &["w appeared as int"],
    );
    let field = story.log.field("w").unwrap().clone();
    let accepted = Acceptance::new(&field, LIST);
    assert_eq!((accepted.letter_text, accepted.schema.unwrap().contains(r#""w": "number""#)), (None, true));
    assert_eq!(Acceptance::new(&field, "null").schema.as_deref(), Some(r#"{"w": "number"}"#));
    story.message(r#"{"room": "x", "v": 1}"#);
    story.now = Duration::from_mins(1);
    story.write(LIST);
    assert_eq!(story.accept("w", LIST), LIST);
    assert!(!story.log.has_changes());
}

#[test]
fn json_schema_is_widened() {
    let mut story = Story::default();
    let messages = [r#"{"room": 1, "v": 1}"#, r#"{"v": "1", "w": [1]}"#];
    let expected = ["v changed from number to string", "w appeared as array", "room vanished"];
    story.says(JSON_SCHEMA, &messages, &expected);
    let text = |name: &str| Acceptance::new(story.log.field(name).unwrap(), JSON_SCHEMA).letter_text.unwrap();
    assert!(refusal(JSON_SCHEMA, r#"{"room": 1, "v": "1"}"#).starts_with(&text("v")));
    assert!(refusal(JSON_SCHEMA, r#"{"room": 1, "v": 1, "w": []}"#).contains(&text("w")));
    assert!(refusal(JSON_SCHEMA, r#"{"v": 1}"#).contains(&text("room")));
    let mut schema = JSON_SCHEMA.to_owned();
    for name in ["v", "w", "room"] {
        schema = story.accept(name, &schema);
    }
    assert!(schema.contains(r#""v": {"type": ["number","string"], "minimum": 0}"#), "{schema}");
    for payload in messages.iter().chain(&[r#"{"v": 2.5, "w": []}"#]) {
        assert_eq!(refusal(&schema, payload), "");
    }
    story.says(&schema, &messages, &[]);
}

#[test]
fn unreadable_schema_is_left_alone() {
    let mut story = Story::default();
    story.says("{", &[r#"{"a": 1}"#, r#"{"a": "x"}"#], &["a changed from int to string"]);
    assert_eq!(story.accept("a", "{"), "{");
    assert!(!story.log.has_changes());
}

fn any_value() -> impl Strategy<Value = &'static str> {
    prop_oneof![
        Just("null"),
        Just("true"),
        Just("1"),
        Just("1.5"),
        Just("\"x\""),
        Just("[1]"),
        Just("{\"a\": 1}")
    ]
}

fn any_payload() -> impl Strategy<Value = String> {
    let members = proptest::collection::vec(("[abc]", any_value()), 0..4);
    members.prop_map(|members| {
        let members: Vec<String> =
            members.iter().map(|(name, value)| format!("\"{name}\": {value}")).collect();
        format!("{{{}}}", members.join(","))
    })
}

fn any_schema() -> impl Strategy<Value = String> {
    let types = prop_oneof![Just("number"), Just("int"), Just("string"), Just("bool"), Just("array")];
    let fields = proptest::collection::btree_map("[abc]", types, 0..3);
    (fields, 0..3).prop_map(|(fields, form)| {
        let member = |(name, kind): (&String, &&str)| match form {
            2 => format!("\"{name}\": {{\"type\": \"{}\"}}", kind.replace("int", "integer").replace("bool", "boolean")),
            _ => format!("\"{name}\": \"{kind}\""),
        };
        let members = fields.iter().map(member).collect::<Vec<_>>().join(", ");
        let required: Vec<String> = fields.keys().map(|name| format!("\"{name}\"")).collect();
        match form {
            0 => format!("{{{members}}}"),
            1 => format!("{{\"properties\": {{{members}}}}}"),
            _ => format!(
                "{{\"$schema\": \"https://json-schema.org/draft/2020-12/schema\", \"properties\": {{{members}}}, \
                 \"required\": [{}]}}",
                required.join(", ")
            ),
        }
    })
}

proptest! {
    /// Whatever a schema refuses is seen as drift, and accepting all of it makes all messages valid.
    #[test]
    fn accepted_messages_are_valid(schema in any_schema(), payloads in proptest::collection::vec(any_payload(), 1..8)) {
        let mut story = Story::default();
        // Twice, so that every type and every absence is present.
        for payload in payloads.iter().chain(&payloads) {
            story.message(payload);
            story.write(&schema);
        }
        for payload in &payloads {
            story.message(payload);
        }
        story.now = Duration::from_mins(2);
        story.write(&schema);
        let is_refused = payloads.iter().any(|payload| !refusal(&schema, payload).is_empty());
        let expectation = SchemaExpectation::new(&schema);
        prop_assert!(!is_refused || story.log.drift(&expectation).any(|drift| drift.is_refused()));
        let names: Vec<String> = story.log.fields.iter().map(|field| field.name.clone()).collect();
        let mut accepted = schema;
        for name in names {
            if story.log.field(&name).is_some_and(|field| field.open().next().is_some()) {
                accepted = story.accept(&name, &accepted);
            }
        }
        prop_assert!(!story.log.has_changes());
        for payload in &payloads {
            prop_assert_eq!(refusal(&accepted, payload), "", "{} {}", accepted, payload);
        }
    }

    /// A row of the table is read as it was written.
    #[test]
    fn log_survives_the_table(payloads in proptest::collection::vec(any_payload(), 1..8)) {
        let mut story = Story::default();
        for payload in &payloads {
            story.message(payload);
        }
        story.write("{}");
        let text = serde_json::to_string(&story.log).unwrap();
        prop_assert_eq!(serde_json::from_str::<FieldLog>(&text).unwrap(), story.log);
    }
}
