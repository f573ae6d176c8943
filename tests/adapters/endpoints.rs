//! Posts to endpoints whose answers are odd, lead elsewhere, or come through a proxy.

mod answers;
mod batches;
mod networks;
mod oauth;
mod options;
mod proxies;
mod receivers;
mod redirects;
mod tls;
mod tls_sink;

use std::sync::Arc;

use mqtt_gateway::delivery::client::{EndpointClients, FailedAnswer, PostError};
use mqtt_gateway::domain::outbox::{OutboxItem, OutboxKey, OutboxPayload};
use mqtt_gateway::domain::posting::attempts::RecentAttempts;
use mqtt_gateway::settings::HttpRoute;
use test_support::http_sink::{Reply, Sink, TOO_LONG};

const BODY: &str = "{\"n\": 1}";
const KEY: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa-7-1";

fn item(url: &str) -> Arc<OutboxItem> {
    Arc::new(OutboxItem {
        key: OutboxKey { inbox_id: "a".repeat(32).into(), inbox_offset: 7, flow_id: 1 },
        message_id: 1,
        flow_code: "code".into(),
        destination: url.into(),
        topic: "t".to_owned(),
        payload: OutboxPayload::Loaded(BODY.into()),
        attempts: 0,
        recent_attempts: RecentAttempts::default(),
        created_at_us: 0,
    })
}

fn clients() -> EndpointClients {
    EndpointClients::new(TOO_LONG, &HttpRoute::default())
}

/// The answer to every request.
fn answering(answer: impl Into<Vec<u8>>) -> Sink {
    let answer = answer.into();
    Sink::start(move |_| Reply::Bytes(answer.clone()))
}

/// Asserts that the message came there once, with its key.
async fn assert_taken_once(sink: &mut Sink) {
    let request = sink.next().await;
    assert_eq!((request.text().as_str(), request.header("idempotency-key").as_str()), (BODY, KEY));
    assert!(sink.try_next().is_none(), "the message came twice");
}
