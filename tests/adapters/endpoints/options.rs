//! What the options of a flow make of a post.

use std::sync::Arc;

use mqtt_gateway::delivery::client::{EndpointClients, FailedAnswer, PostError};
use mqtt_gateway::domain::flow_options::FlowOptions;
use mqtt_gateway::domain::outbox::OutboxItem;
use mqtt_gateway::domain::posting::signature::{SigningKey, signature_header};
use mqtt_gateway::settings::{CredentialSettings, HttpRoute};
use test_support::http_sink::{Reply, Sink, TOO_LONG};

use super::{BODY, KEY, answering, clients, item};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

pub(super) fn with_options(url: &str, delivery: &str) -> Arc<OutboxItem> {
    let options = FlowOptions::parse(Some(&format!("{{\"delivery\": {delivery}}}"))).unwrap();
    let mut posted = item(url);
    Arc::make_mut(&mut posted).destination.options = options.delivery();
    posted
}

async fn posted_with(delivery: &str) -> test_support::http_sink::Request {
    let mut sink = answering(OK);
    clients().post(&[with_options(&sink.url(), delivery)]).await.unwrap();
    sink.next().await
}

#[actix::test]
async fn method_and_headers_are_those_of_the_flow() {
    let request =
        posted_with(r#"{"method": "PUT", "headers": {"X-Site": "plant-4", "x-b": "plain:env:X"}}"#).await;
    assert_eq!(request.line, "PUT /in HTTP/1.1");
    assert_eq!((request.header("x-site").as_str(), request.header("x-b").as_str()), ("plant-4", "env:X"));
    assert_eq!(request.text(), BODY);
}

#[actix::test]
async fn authorization_replaces_the_user_of_the_url() {
    let bearer = r#"{"auth": {"type": "bearer", "token": "t0ken"}}"#;
    let basic = r#"{"auth": {"type": "basic", "username": "me", "password": "s3cret"}}"#;
    for (delivery, expected) in [(bearer, "Bearer t0ken"), (basic, "Basic bWU6czNjcmV0")] {
        let mut sink = answering(OK);
        let url = sink.url().replace("http://", "http://other:user@");
        clients().post(&[with_options(&url, delivery)]).await.unwrap();
        assert_eq!(sink.next().await.header("authorization"), expected);
    }
}

#[actix::test]
async fn secrets_come_from_files() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("token");
    let credentials =
        CredentialSettings { dir: directory.path().to_owned(), ..CredentialSettings::default() };
    let route = HttpRoute { credentials, ..HttpRoute::default() };
    let delivery = format!(r#"{{"auth": {{"type": "bearer", "token": "file:{}"}}}}"#, file.display());
    for token in ["first", "second"] {
        std::fs::write(&file, token).unwrap();
        let mut sink = answering(OK);
        EndpointClients::new(TOO_LONG, &route).post(&[with_options(&sink.url(), &delivery)]).await.unwrap();
        assert_eq!(sink.next().await.header("authorization"), format!("Bearer {token}"));
    }
    std::fs::remove_file(&file).unwrap();
    let sink = answering(OK);
    let error = EndpointClients::new(TOO_LONG, &route)
        .post(&[with_options(&sink.url(), &delivery)])
        .await
        .unwrap_err();
    assert!(error.to_string().contains("/token cannot be read"), "{error}");
    assert!(!error.blames_message());
    assert_eq!(sink.connections(), 0, "no post without its token");
}

#[actix::test]
async fn signature_covers_id_time_and_body() {
    let secrets = ["whsec_AAECAwQFBgcICQoLDA0ODxAREhMUFRYX", "whsec_FxYVFBMSERAPDg0MCwoJCAcGBQQDAgEA"];
    let request =
        posted_with(&format!(r#"{{"signing_secrets": ["{}", "{}"]}}"#, secrets[0], secrets[1])).await;
    let keys = secrets.map(|secret| SigningKey::parse(secret).unwrap());
    let timestamp = request.header("webhook-timestamp").parse().unwrap();
    let expected = signature_header(&keys, KEY, timestamp, BODY.as_bytes());
    assert_eq!((request.header("webhook-id").as_str(), request.header("webhook-signature")), (KEY, expected));
}

#[actix::test]
async fn unusable_secret_is_named_and_not_shown() {
    let sink = answering(OK);
    let posted = with_options(&sink.url(), r#"{"signing_secrets": ["whsec_s3cret!"]}"#);
    let error = clients().post(&[posted]).await.unwrap_err().to_string();
    assert_eq!(
        error,
        "options.delivery.signing_secrets[0]: a signing secret is whsec_ followed by base64, and this one is not base64"
    );
    let posted = with_options(&sink.url(), "{\"headers\": {\"X-A\": \"s3cret\\n\"}}");
    let error = clients().post(&[posted]).await.unwrap_err().to_string();
    assert_eq!(error, "options.delivery.headers.X-A: is no value of an HTTP header");
    assert_eq!(sink.connections(), 0);
}

#[actix::test]
async fn cloud_event_has_its_attributes() {
    let request = posted_with(r#"{"format": "cloudevents"}"#).await;
    for (name, value) in [
        ("ce-specversion", "1.0"),
        ("ce-id", KEY),
        ("ce-source", "/mqtt-gateway/flows/code"),
        ("ce-type", "mqtt-gateway.message"),
        ("ce-subject", "t"),
        ("ce-sequence", "1"),
        ("content-type", "application/json"),
    ] {
        assert_eq!(request.header(name), value, "{name}");
    }
    assert_eq!(request.text(), BODY);
}

#[actix::test]
async fn lists_decide_what_a_status_means() {
    let delivery = r#"{"success": [409], "message_fault": ["4xx"], "endpoint_fault": [422, "2xx"]}"#;
    for (status, expected) in
        [(409, None), (404, Some(true)), (422, Some(false)), (200, Some(false)), (503, Some(false))]
    {
        let sink = answering(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"));
        let outcome = clients().post(&[with_options(&sink.url(), delivery)]).await;
        let found = match &outcome {
            Ok(_) => None,
            Err(PostError::Status(FailedAnswer { blames_message, .. })) => Some(*blames_message),
            Err(error) => panic!("{status}: {error}"),
        };
        assert_eq!(found, expected, "{status}");
    }
}

#[actix::test]
async fn secrets_do_not_follow_to_another_origin() {
    let mut other = Sink::start(|_| Reply::ok());
    let sink = answering(format!("HTTP/1.1 307 T\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", other.url()));
    let delivery = r#"{"headers": {"X-Key": "s3cret"}, "auth": {"type": "bearer", "token": "s3cret"}}"#;
    clients().post(&[with_options(&sink.url(), delivery)]).await.unwrap();
    let request = other.next().await;
    assert_eq!((request.header("x-key"), request.header("authorization")), (String::new(), String::new()));
    assert_eq!(request.header("webhook-id"), KEY);
}

#[actix::test]
async fn timeout_of_the_flow_counts() {
    let sink = Sink::start(|_| Reply::Stall(Vec::new()));
    let outcome = clients().post(&[with_options(&sink.url(), r#"{"timeout_seconds": 0.2}"#)]).await;
    assert!(matches!(outcome, Err(PostError::Timeout(limit)) if limit.as_millis() == 200), "{outcome:?}");
}
