//! Posts as the libraries of receivers read them: Standard Webhooks in Python and JavaScript, `CloudEvents` in
//! Python.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};
use test_support::http_sink::Request;
use test_support::python::tool;

use super::batches::{batch, posted};
use super::{KEY, answering, clients};

const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
/// 41 bytes, with characters that base64 of URLs writes differently.
const OTHER_SECRET: &str = "whsec_+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/+/8=";

/// What a library returns for a request, or why it refuses it.
fn read_by(library: &mut Command, check: &str, secret: &str, request: &Request) -> Result<Value, String> {
    let headers: BTreeMap<_, _> = request.headers().collect();
    let input = json!({"check": check, "secret": secret, "headers": headers, "body": request.text()});
    let pipes = library.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut process = pipes.spawn().expect("the interpreter has to be installed");
    process.stdin.take().unwrap().write_all(input.to_string().as_bytes()).unwrap();
    let output = process.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(serde_json::from_slice(&output.stdout).unwrap());
    }
    Err(String::from_utf8_lossy(&output.stderr).into_owned())
}

fn in_python(check: &str, secret: &str, request: &Request) -> Result<Value, String> {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/adapters/endpoints/receiver.py");
    read_by(Command::new(tool("python")).arg(script), check, secret, request)
}

/// Asserts that a library accepts the signatures of both secrets, and nothing that was changed on the way.
async fn assert_verified(verify: impl Fn(&str, &Request) -> Result<Value, String>, refusal: &str) {
    let secrets = json!([SECRET, OTHER_SECRET]);
    let single = posted(&json!({ "signing_secrets": secrets }).to_string(), 1).await;
    let batch =
        posted(&json!({"signing_secrets": secrets, "batch": {"max_messages": 9}}).to_string(), 2).await;
    for request in [&single, &batch] {
        for secret in [SECRET, OTHER_SECRET] {
            let read = verify(secret, request).unwrap();
            assert_eq!(read, serde_json::from_slice::<Value>(&request.body).unwrap());
        }
        let mut changed = request.clone();
        changed.body = request.text().replace('1', "2").into();
        let error = verify(SECRET, &changed).unwrap_err();
        assert!(error.contains(refusal), "{error}");
        let error = verify("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", request).unwrap_err();
        assert!(error.contains(refusal), "{error}");
    }
}

#[actix::test]
async fn python_library_verifies_signatures() {
    assert_verified(|secret, request| in_python("signature", secret, request), "No matching signature").await;
}

#[actix::test]
#[ignore = "needs node and a package of npm, which scripts/faults installs"]
async fn javascript_library_verifies_signatures() {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/adapters/endpoints/receiver.mjs");
    let verify = |secret: &str, request: &Request| {
        read_by(Command::new("node").arg(script), "signature", secret, request)
    };
    assert_verified(verify, "No matching signature").await;
}

fn event(key: &str, flow: &str, number: u64, topic: &str) -> Value {
    json!({
        "attributes": {
            "specversion": "1.0",
            "id": key,
            "source": format!("/mqtt-gateway/flows/{flow}"),
            "type": "mqtt-gateway.message",
            "subject": topic,
            "time": "1970-01-01 00:00:00+00:00",
            "sequence": number.to_string(),
            "datacontenttype": "application/json",
        },
        "data": {"n": number},
    })
}

/// Posts as `posted` does, with characters that headers and paths cannot hold in code and topic.
async fn posted_event(delivery: &str, count: u64) -> Request {
    let mut sink = answering("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    let mut items = batch(&sink.url(), delivery, count);
    for item in &mut items {
        let item = std::sync::Arc::make_mut(item);
        (item.flow_code, item.topic) = ("a b/é".into(), "home/1 \"é%€\"".to_owned());
    }
    clients().post(&items).await.unwrap();
    sink.next().await
}

#[actix::test]
async fn python_sdk_reads_binary_events() {
    let request = posted_event(r#"{"format": "cloudevents"}"#, 1).await;
    let expected = event(KEY, "a%20b%2F%C3%A9", 1, "home/1 \"é%€\"");
    assert_eq!(in_python("event", "", &request).unwrap(), expected);
    // A single post without the format is no event.
    let request = posted_event("{}", 1).await;
    assert!(in_python("event", "", &request).unwrap_err().contains("Missing required attribute"));
}

#[actix::test]
async fn python_sdk_reads_batched_events() {
    let delivery = r#"{"format": "cloudevents", "batch": {"max_messages": 9}}"#;
    let request = posted_event(delivery, 2).await;
    let read = in_python("batch", "", &request).unwrap();
    let expected = |key: &str, number| event(key, "a%20b%2F%C3%A9", number, "home/1 \"é%€\"");
    assert_eq!(read, json!([expected(KEY, 1), expected(&KEY.replace("-7-", "-8-"), 2)]));
    // The elements of the format json are no events.
    let request = posted_event(r#"{"batch": {"max_messages": 9}}"#, 2).await;
    assert!(in_python("batch", "", &request).unwrap_err().contains("Missing required attribute"));
}
