use proptest::prelude::*;

use super::super::flow_definition::{FlowDefinition, FlowRecord};
use super::super::posting::address_guard::EndpointNetworks;
use super::*;

const FILE: &str = r#"
flows:
  - code: TEMP
    topic: sensors/+/temperature
    action: STORE_DB
    payload_schema: {value: number, at: string}
  - code: ALARM
    description: to the pager
    topic: alarms/#
    action: POST_ENDPOINT
    endpoint_url: https://pager.example/hook?key=***
    options:
      delivery:
        headers: {X-Key: "***"}
    enabled: false
servers:
  - host: broker.example
    port: 8883
    tls: true
    username: gateway
    password: file:/run/secrets/mqtt
tests:
  - name: a value is stored
    topic: sensors/kitchen/temperature
    payload: {value: 21.5, at: noon}
    rows: {value: 21.5, at: noon}
  - name: a text is refused
    flow: TEMP
    topic: sensors/kitchen/temperature
    payload: '{"value": "warm"}'
    reason: validation_failed
  - name: an alarm is posted
    topic: alarms/fire
    payload: {}
    request: {method: POST, headers: {X-Gateway-Flow: ALARM}}
"#;

fn exported(flows: &[FlowRecord]) -> String {
    Exported::new(flows, None).to_yaml()
}

fn lines(problems: &[FileProblem]) -> Vec<String> {
    problems.iter().map(|problem| problem.line("f")).collect()
}

/// The problems of a file that can or cannot be read.
fn problems(text: &str) -> Vec<String> {
    match FlowFile::parse(text) {
        Ok(file) => lines(&file.check(&EndpointNetworks::All)),
        Err(problems) => lines(&problems),
    }
}

#[test]
fn all_parts_are_read() {
    let file = FlowFile::parse(FILE).unwrap();
    assert_eq!(file.check(&EndpointNetworks::All), []);
    let flows = file.flows.unwrap();
    assert_eq!(flows[0].value.payload_schema.as_deref(), Some(r#"{"value":"number","at":"string"}"#));
    assert_eq!((flows[0].value.enabled, flows[1].value.enabled), (Some(true), Some(false)));
    assert_eq!(flows[1].place_of("enabled"), Place { line: 15, column: 5 });
    assert_eq!(file.servers.unwrap()[0].value.port, Some(8883));
    let tests: Vec<&FlowTest> = file.tests.iter().map(|test| &test.value).collect();
    assert_eq!(tests[0].payload, br#"{"value":21.5,"at":"noon"}"#);
    assert_eq!(tests[1].expected, ExpectedOutcome::Reason(DeadLetterReason::ValidationFailed));
    assert!(
        matches!(&tests[2].expected, ExpectedOutcome::Request(request) if request.method.as_deref() == Some("POST"))
    );
}

#[test]
fn every_problem_has_its_place() {
    let file = "flows:\n  - code: A\n    topc: a\n  - code: B\n    topic: b\n    action: STORE_DB\n    enabled: yes\n\
                servers: {}\nflow: []\n";
    assert_eq!(
        problems(file),
        [
            "f:3:5: error: flow A: topc: unknown field `topc`, expected one of `code`, `description`, `topic`, `action`, \
             `payload_schema`, `endpoint_url`, `options`, `message_key`, `enabled`",
            "f:7:5: error: flow B: enabled: expected a boolean, found string",
            "f:8:10: error: servers: expected a list",
            "f:9:1: error: unknown name \"flow\", expected one of flows, servers, tests",
        ]
    );
    let file =
        "flows:\n- {code: A, topic: a/#/b, action: STORE_DB}\n- code: A\n  topic: a\n  action: store\n";
    let found = problems(file).join("\n");
    for line in [
        "f:2:13: error: flow A: topic: '#' must be the last level",
        "f:2:4: error: flow A: code: another flow has the code \"A\"",
        "f:3:3: error: flow A: code: another flow has the code \"A\"",
        "f:5:3: error: flow A: action: unknown action",
    ] {
        assert!(found.contains(line), "{line}: {found}");
    }
    assert_eq!(problems("flows:\n- code: A\n  topic: a\n"), ["f:2:3: error: flow A: missing field `action`"]);
    assert_eq!(problems(""), ["f:1:1: error: expected a mapping with flows, servers or tests"]);
    let text = "flows:\n- {code: A, topic: a, action: STORE_DB, payload_schema: '{}'}\n";
    assert_eq!(problems(text), ["f:2:41: error: flow A: payload_schema: expected a map, found string"]);
}

#[test]
fn tests_must_fit_the_flows() {
    let with = |test: &str| problems(&format!("{FILE}  - {test}\n"));
    for (test, words) in [
        ("{name: x, topic: other, payload: {}, rows: {}}", "topic: no flow of the file matches \"other\""),
        ("{name: x, flow: T, topic: a, payload: {}, rows: {}}", "flow: the file has no flow \"T\""),
        ("{name: x, flow: TEMP, topic: alarms/1, payload: {}, rows: {}}", "does not match \"alarms/1\""),
        ("{name: x, topic: a/+, payload: {}, rows: {}}", "topic: "),
        ("{name: x, topic: alarms/1, payload: {}}", "exactly one of rows, request and reason"),
        ("{name: x, topic: alarms/1, payload: {}, rows: {}, reason: nul_character}", "exactly one of"),
        ("{name: x, topic: alarms/1, payload: {}, reason: broken}", "unknown reason \"broken\""),
        ("{name: x, topic: alarms/1, payload: {}, request: {verb: GET}}", "unknown field `verb`"),
    ] {
        let found = with(test).join("\n");
        assert!(found.contains(words) && found.contains("f:36:"), "{test}: {found}");
    }
}

#[test]
fn problems_show_no_secret() {
    for wrong in [
        "servers: [{host: h, password: 53cret}]",
        "servers: [{host: h, password: [s3cret]}]",
        "servers: [{host: h, port: s3cret}]",
        "flows: [{code: A, topic: a, action: STORE_DB, options: s3cret}]",
        "flows: [{code: A, topic: a, action: STORE_DB, endpoint_url: {s3cret: 1}}]",
        "flows: [{code: A, topic: a, action: STORE_DB, enabled: \"a, expected s3cret\"}]",
        "flows: [{code: A, topic: a, action: STORE_DB, options: {delivery: {auth: s3cret}}}]",
    ] {
        let found = problems(wrong).join("\n");
        assert!(!found.is_empty() && !found.contains("3cret"), "{wrong}: {found}");
    }
    let number = problems("servers: [{host: h, password: 4711}]");
    assert_eq!(number, ["f:1:21: error: server h: password: expected a string, found integer"]);
}

#[test]
fn the_schema_describes_every_field() {
    let schema = FlowFile::schema();
    let fields =
        |name: &str| schema.pointer(&format!("/$defs/{name}/properties")).unwrap().as_object().unwrap().len();
    assert_eq!((fields("FlowItem"), fields("ServerItem"), fields("TestItem")), (9, 11, 7));
    assert_eq!(
        schema.pointer("/$defs/FlowItem/required"),
        Some(&serde_json::json!(["code", "topic", "action"]))
    );
    assert_eq!(schema.pointer("/additionalProperties"), Some(&false.into()));
    let file = jsonschema::validator_for(schema.as_value()).unwrap();
    let written = super::tree::parse(FILE).unwrap().to_value();
    assert!(file.is_valid(&written), "{:?}", file.iter_errors(&written).next());
    assert!(!file.is_valid(&serde_json::json!({"flows": [{"code": "A"}]})));
}

#[test]
fn an_export_names_no_secret_and_no_number() {
    let definition = FlowDefinition {
        code: "P".to_owned(),
        topic: "p".to_owned(),
        action: "POST_ENDPOINT".to_owned(),
        payload_schema: Some("{\"b\": \"int\", \"a\": \"int\"}".to_owned()),
        endpoint_url: Some("https://me:s3cret@h/p?k=s3cret".to_owned()),
        options: Some(r#"{"delivery": {"headers": {"X": "s3cret", "Y": "env:MQTT_Y"}}}"#.to_owned()),
        ..FlowDefinition::default()
    };
    let text = exported(&[FlowRecord { id: 4711, definition: definition.clone(), last_msg_id: Some(4711) }]);
    assert!(!text.contains("s3cret") && !text.contains("4711"), "{text}");
    assert!(
        text.contains("      b: int\n      a: int\n    endpoint_url: \"https://***@h/p?k=***\"\n"),
        "{text}"
    );
    let file = FlowFile::parse(&text).unwrap();
    let restored = file.flows.unwrap()[0].value.restore(Some(&definition)).unwrap();
    let same = FlowDefinition { payload_schema: None, options: None, enabled: Some(false), ..definition };
    assert_eq!(FlowDefinition { payload_schema: None, options: None, ..restored }, same);
}

fn any_options() -> impl Strategy<Value = Option<String>> {
    let secret = prop_oneof![Just("env:MQTT_X"), Just("s3cret"), Just("***"), Just("a: #b\u{1b}")];
    let options = (1..9_u32, secret).prop_map(|(seconds, secret)| {
        serde_json::json!({"delivery": {"timeout_seconds": seconds, "headers": {"X-Key": secret}}})
            .to_string()
    });
    prop::option::of(options)
}

fn any_flow() -> impl Strategy<Value = FlowDefinition> {
    let schema = prop::collection::btree_map(".{0,6}", "(number|string)", 0..4);
    let url = prop::option::of("https?://([a-c]{1,3}(:[a-c]{1,3})?@)?h/[a-c]?([?]a=[a-c])?");
    (
        ".{1,9}",
        ".{0,9}",
        "[ -~]{1,12}",
        schema,
        url,
        any_options(),
        prop::option::of("/[a-c]{1,3}"),
        any::<bool>(),
    )
        .prop_map(|(code, description, topic, schema, endpoint_url, options, message_key, enabled)| {
            FlowDefinition {
                code,
                description,
                topic,
                action: "STORE_DB".to_owned(),
                payload_schema: serde_json::to_string(&schema).ok(),
                endpoint_url,
                options,
                message_key,
                enabled: Some(enabled),
            }
        })
}

proptest! {
    #[test]
    fn an_export_defines_the_same_flows(flows in prop::collection::vec(any_flow(), 0..4)) {
        let records = flows.iter().map(|flow| FlowRecord { id: 1, definition: flow.clone(), last_msg_id: None });
        let text = exported(&records.collect::<Vec<_>>());
        let file = FlowFile::parse(&text).map_err(|problems| TestCaseError::fail(problems[0].line(&text)))?;
        let entries: Vec<_> = file.all_flows().collect();
        prop_assert_eq!(entries.len(), flows.len());
        for (entry, flow) in entries.iter().zip(&flows) {
            prop_assert_eq!(entry.value.restore(Some(flow)), Ok(flow.clone()));
        }
    }
}
