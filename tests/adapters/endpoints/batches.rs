//! Several messages in one post.

use std::sync::Arc;

use mqtt_gateway::domain::outbox::{OutboxItem, OutboxPayload};
use mqtt_gateway::domain::posting::signature::{SigningKey, signature_header};
use test_support::http_sink::Request;

use super::options::with_options;
use super::{BODY, KEY, answering, clients};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// Messages 1 to `count` of a flow with these options.
pub(super) fn batch(url: &str, delivery: &str, count: u64) -> Vec<Arc<OutboxItem>> {
    let numbered = |number: u64| {
        let mut item = with_options(url, delivery);
        let numbered = Arc::make_mut(&mut item);
        (numbered.message_id, numbered.key.inbox_offset) = (number.cast_signed(), 6 + number);
        numbered.payload = OutboxPayload::Loaded(format!("{{\"n\": {number}}}").into());
        item
    };
    (1..=count).map(numbered).collect()
}

pub(super) async fn posted(delivery: &str, count: u64) -> Request {
    let mut sink = answering(OK);
    clients().post(&batch(&sink.url(), delivery, count)).await.unwrap();
    sink.next().await
}

#[actix::test]
async fn batch_is_an_array() {
    let request = posted(r#"{"batch": {"max_messages": 2}}"#, 2).await;
    let second = KEY.replace("-7-", "-8-");
    let element = |id: &str, number: u64| {
        format!(
            r#"{{"id":"{id}","message_id":{number},"topic":"t","time":"1970-01-01T00:00:00.000000Z","data":{{"n": {number}}}}}"#
        )
    };
    assert_eq!(request.text(), format!("[{},{}]", element(KEY, 1), element(&second, 2)));
    assert_eq!(request.header("content-type"), "application/json");
    assert_eq!(request.header("x-gateway-flow"), "code");
    for name in ["x-gateway-message-id", "x-gateway-topic", "ce-id"] {
        assert_eq!(request.header(name), "", "{name}");
    }
}

#[actix::test]
async fn single_message_of_a_batching_flow_is_a_batch() {
    let request = posted(r#"{"batch": {"max_messages": 2}}"#, 1).await;
    assert!(request.text().starts_with(r#"[{"id":""#) && request.text().contains(BODY), "{}", request.text());
    assert_eq!(posted("{}", 1).await.text(), BODY);
}

#[actix::test]
async fn batch_of_events_has_its_content_type() {
    let request = posted(r#"{"format": "cloudevents", "batch": {"max_messages": 2}}"#, 2).await;
    assert_eq!(request.header("content-type"), "application/cloudevents-batch+json");
    assert_eq!((request.header("ce-id"), request.header("ce-specversion")), (String::new(), String::new()));
    assert_eq!(request.text().matches(r#""specversion":"1.0""#).count(), 2);
}

#[actix::test]
async fn batch_has_one_key_and_one_signature() {
    const SECRET: &str = "whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX";
    let delivery = format!(r#"{{"signing_secrets": ["{SECRET}"], "batch": {{"max_messages": 2}}}}"#);
    let request = posted(&delivery, 2).await;
    let key = request.header("webhook-id");
    assert!(key.starts_with("batch-") && key == request.header("idempotency-key"), "{key}");
    let timestamp = request.header("webhook-timestamp").parse().unwrap();
    let expected = signature_header(&[SigningKey::parse(SECRET).unwrap()], &key, timestamp, &request.body);
    assert_eq!(request.header("webhook-signature"), expected);
    assert_eq!(posted(&delivery, 2).await.header("webhook-id"), key, "the same messages");
    assert_ne!(posted(&delivery, 1).await.header("webhook-id"), key, "other messages");
}
