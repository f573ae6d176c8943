//! `flows test FILE`: without settings, without a server.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use test_support::process::Settings;
use test_support::world::{command, text_of};

const FLOWS: &str = r#"
flows:
  - code: TEMP
    topic: sensors/+/temperature
    action: STORE_DB
    payload_schema: {value: number}
  - code: ALARM
    topic: alarms/#
    action: POST_ENDPOINT
    endpoint_url: https://pager.example/hook?key=***
    options:
      delivery:
        method: PUT
        headers: {X-Key: "***", X-Other: "env:NO_SUCH_VARIABLE"}
        signing_secrets: ["***"]
        auth: {type: oauth2, token_url: "https://id.example/token", client_id: me, client_secret: "***"}
        tls: {ca_file: no-such-file.pem}
    enabled: false
"#;

const TESTS: &str = r#"
tests:
  - name: a value is stored
    topic: sensors/kitchen/temperature
    payload: '{"value": 21.50, "on": true, "more": {"b": [1], "a": null}}'
    rows: {value: 21.5, on: true, more: {a: null, b: [1]}}
  - name: a text is refused
    flow: TEMP
    topic: sensors/kitchen/temperature
    payload: {value: warm}
    reason: validation_failed
  - name: no JSON
    topic: alarms/fire
    payload: fire
    reason: payload_not_json
  - name: an alarm is posted
    topic: alarms/fire
    payload: {text: fire}
    request:
      method: PUT
      url: https://pager.example/hook?key=***
      headers: {X-Gateway-Topic: alarms/fire, x-key: "***", Authorization: "***", X-Gateway-Message-Id: "1"}
      body: {text: fire}
"#;

fn run(directory: &Path, arguments: &[&str]) -> Output {
    let settings: Settings = [("TMPDIR".to_owned(), directory.display().to_string())].into();
    command(&[&["flows", "test"], arguments].concat(), &settings, directory)
}

/// The exit code and the output for a file.
fn test(content: &str) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("flows.yaml"), content).unwrap();
    let output = run(directory.path(), &["flows.yaml"]);
    let files = fs::read_dir(directory.path()).unwrap().count();
    assert_eq!(files, 1, "nothing is left behind");
    (output.status.code(), text_of(&output))
}

#[test]
fn tests_of_a_file_pass_without_settings() {
    let expected = "ok    a value is stored (TEMP)\nok    a text is refused (TEMP)\nok    no JSON (ALARM)\n\
                    ok    an alarm is posted (ALARM)\n4 tests passed.\n";
    assert_eq!(test(&format!("{FLOWS}{TESTS}")), (Some(0), expected.to_owned()));
    assert_eq!(test(FLOWS), (Some(0), "flows.yaml has no tests.\n".to_owned()));
}

#[test]
fn differences_of_failing_tests_are_shown() {
    let tests = "tests:\n  - name: wrong\n    topic: sensors/a/temperature\n    payload: {value: 1, x: y}\n    \
                 rows: {value: 2, z: w}\n  - name: refused\n    topic: alarms/a\n    payload: {}\n    \
                 reason: validation_failed\n";
    let (code, text) = test(&format!("{FLOWS}{tests}"));
    let line = FLOWS.lines().count() + 2;
    let expected = format!(
        "FAIL  wrong (TEMP), flows.yaml:{line}:5\n      value: expected 2, got 1\n      z: expected w, there is no such row\n\
         \x20     x: expected no such row, got y\nFAIL  refused (ALARM), flows.yaml:{}:5\n      \
         expected a dead letter, validation_failed, got a request\n2 of 2 tests failed.\n",
        line + 4
    );
    assert_eq!((code, text), (Some(1), expected));
}

#[test]
fn unusable_files_are_refused() {
    let (code, text) = test("flows:\n  - code: T\n    topic: a/#/b\n    action: STORE_DB\n");
    assert!(
        code == Some(1) && text.starts_with("flows.yaml:3:5: error: flow T: topic: '#' must be"),
        "{text}"
    );
    let (code, text) = test("flows: [");
    assert!(code == Some(1) && text.starts_with("flows.yaml:2:1: error: is no YAML"), "{text}");
    let directory = tempfile::tempdir().unwrap();
    let missing = run(directory.path(), &["missing.yml"]);
    assert_eq!(missing.status.code(), Some(1));
    assert!(text_of(&missing).contains("cannot read missing.yml"), "{}", text_of(&missing));
    let both = run(directory.path(), &["missing.yml", "--payload", "{}"]);
    assert!(text_of(&both).contains("leave the other options out"), "{}", text_of(&both));
}

#[test]
fn results_are_a_document() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("flows.yml"), format!("{FLOWS}{TESTS}")).unwrap();
    let output = run(directory.path(), &["flows.yml", "--json"]);
    let document: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(document["ok"], true);
    let first = &document["tests"][0];
    let line = FLOWS.lines().count() + 3;
    let expected = json!({"name": "a value is stored", "flow": "TEMP", "ok": true, "differences": [],
        "line": line, "column": 5});
    assert_eq!(*first, expected);
}
