//! `OAuth` 2.0 with client credentials, against a scripted token endpoint.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures_util::future::join_all;
use mqtt_gateway::delivery::client::{EndpointClients, PostError};
use mqtt_gateway::settings::{CredentialSettings, HttpRoute};
use serde_json::json;
use test_support::http_sink::{Reply, Request, Sink, TOO_LONG};

use super::options::with_options;
use super::{answering, clients};

const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";

/// An answer with a body.
fn answer(status: u16, body: &str) -> Reply {
    let head =
        format!("HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {}", body.len());
    Reply::Bytes(format!("{head}\r\n\r\n{body}").into_bytes())
}

/// Issues `t0`, `t1` and so on.
fn issuing(expires_in: u64) -> Sink {
    let issued = AtomicUsize::new(0);
    Sink::start(move |_| {
        let token = format!("t{}", issued.fetch_add(1, Ordering::Relaxed));
        answer(
            200,
            &json!({"access_token": token, "token_type": "Bearer", "expires_in": expires_in}).to_string(),
        )
    })
}

fn delivery(tokens: &Sink) -> serde_json::Value {
    json!({"auth": {"type": "oauth2", "token_url": tokens.url(), "client_id": "me", "client_secret": "s3 cret"}})
}

async fn post(clients: &EndpointClients, url: &str, delivery: &serde_json::Value) -> Result<(), PostError> {
    clients.post(&[with_options(url, &delivery.to_string())]).await.map(drop)
}

async fn authorization(sink: &mut Sink) -> String {
    sink.next().await.header("authorization")
}

/// The requests that came already.
fn count(sink: &mut Sink) -> usize {
    std::iter::from_fn(|| sink.try_next()).count()
}

#[actix::test]
async fn token_is_fetched_once_and_used_by_all() {
    let (mut tokens, mut sink, clients) = (issuing(3600), answering(OK), clients());
    let (url, options) = (sink.url(), delivery(&tokens));
    for outcome in join_all((0..5).map(|_| post(&clients, &url, &options))).await {
        outcome.unwrap();
    }
    post(&clients, &url, &options).await.unwrap();
    for _ in 0..6 {
        assert_eq!(authorization(&mut sink).await, "Bearer t0");
    }
    let request = tokens.next().await;
    assert_eq!(request.line, "POST /in HTTP/1.1");
    assert_eq!(request.text(), "grant_type=client_credentials");
    assert_eq!(request.header("authorization"), "Basic bWU6czMrY3JldA==");
    assert_eq!(request.header("content-type"), "application/x-www-form-urlencoded");
    assert_eq!(count(&mut tokens), 0, "one request for all posts");
}

#[actix::test]
async fn scope_and_audience_are_sent_and_separate_tokens() {
    let (mut tokens, mut sink, clients) = (issuing(3600), answering(OK), clients());
    for (scope, token) in [("a b", "Bearer t0"), ("a", "Bearer t1"), ("a b", "Bearer t0")] {
        let mut options = delivery(&tokens);
        options["auth"]["scope"] = scope.into();
        options["auth"]["audience"] = "https://x".into();
        post(&clients, &sink.url(), &options).await.unwrap();
        assert_eq!(authorization(&mut sink).await, token);
    }
    let body = tokens.next().await.text();
    assert_eq!(body, "grant_type=client_credentials&scope=a+b&audience=https%3A%2F%2Fx");
}

#[actix::test]
async fn expired_token_is_replaced() {
    let (tokens, mut sink, clients) = (issuing(0), answering(OK), clients());
    for token in ["Bearer t0", "Bearer t1"] {
        post(&clients, &sink.url(), &delivery(&tokens)).await.unwrap();
        assert_eq!(authorization(&mut sink).await, token);
    }
}

/// Takes the tokens of this list, and answers 401 to others.
fn taking(tokens: &'static [&'static str]) -> Sink {
    Sink::start(move |request: &Request| {
        let is_known = tokens.contains(&request.header("authorization").as_str());
        answer(if is_known { 200 } else { 401 }, "")
    })
}

#[actix::test]
async fn refused_token_is_fetched_again_once() {
    let (mut tokens, mut sink, clients) = (issuing(3600), taking(&["Bearer t1"]), clients());
    post(&clients, &sink.url(), &delivery(&tokens)).await.unwrap();
    let (first, second) = (sink.next().await, sink.next().await);
    assert_eq!((first.header("authorization").as_str(), first.text()), ("Bearer t0", second.text()));
    assert_eq!(first.header("webhook-id"), second.header("webhook-id"));
    post(&clients, &sink.url(), &delivery(&tokens)).await.unwrap();
    assert_eq!((count(&mut tokens), count(&mut sink)), (2, 1), "the new token is kept");

    let (mut tokens, mut sink) = (issuing(3600), taking(&[]));
    let error = post(&clients, &sink.url(), &delivery(&tokens)).await.unwrap_err();
    assert_eq!((error.status(), error.blames_message()), (Some(401), false));
    assert_eq!((count(&mut tokens), count(&mut sink)), (2, 2));
}

#[actix::test]
async fn failing_token_endpoint_is_named_without_secrets() {
    let replies = [
        (
            answer(401, r#"{"error": "invalid_client", "error_description": "s3 cret"}"#),
            "HTTP status 401, invalid_client",
        ),
        (answer(400, r#"{"error": "s3 cret"}"#), "HTTP status 400, an error code of its own"),
        (answer(503, "s3 cret"), "HTTP status 503, the answer is no JSON object of OAuth 2.0"),
        (
            answer(200, r#"{"token": "s3 cret"}"#),
            "HTTP status 200, the answer is no JSON object of OAuth 2.0",
        ),
        (
            answer(200, r#"{"access_token": "s3 cret\n", "token_type": "bearer"}"#),
            "no value of an HTTP header",
        ),
        (answer(200, &"s3 cret".repeat(20_000)), "cut off or too long"),
        (
            Reply::Bytes(b"HTTP/1.1 307 T\r\nLocation: /s3 cret\r\nContent-Length: 0\r\n\r\n".to_vec()),
            "HTTP status 307",
        ),
        (Reply::Last(Vec::new()), "closed without an answer"),
    ];
    for (reply, problem) in replies {
        let tokens = Sink::start(move |_| reply.clone());
        let sink = answering(OK);
        let error = post(&clients(), &sink.url(), &delivery(&tokens)).await.unwrap_err();
        assert!(matches!(error, PostError::Token { .. }) && !error.blames_message(), "{error:?}");
        assert_eq!(error.status(), None, "the endpoint has not answered");
        let text = error.to_string();
        let named = format!("no token from http://{}: ", tokens.address());
        assert!(text.starts_with(&named) && text.contains(problem), "{text}");
        assert!(!format!("{error:?}").contains("cret"), "{error:?}");
        assert_eq!(sink.connections(), 0, "no post without a token");
    }
}

#[actix::test]
async fn waiting_posts_share_a_failure() {
    let (mut tokens, clients) = (Sink::start(|_| Reply::unavailable()), clients());
    let options = delivery(&tokens);
    for outcome in join_all((0..5).map(|_| post(&clients, "http://127.0.0.1:9/", &options))).await {
        outcome.unwrap_err();
    }
    assert_eq!(count(&mut tokens), 1);
    post(&clients, "http://127.0.0.1:9/", &options).await.unwrap_err();
    assert_eq!(count(&mut tokens), 1, "a later post tries again");
}

#[actix::test]
async fn stalling_token_endpoint_is_given_up() {
    let tokens = Sink::start(|_| Reply::Stall(Vec::new()));
    let mut options = delivery(&tokens);
    options["timeout_seconds"] = 0.2.into();
    let error = post(&clients(), "http://127.0.0.1:9/", &options).await.unwrap_err();
    assert!(error.to_string().ends_with("no answer in time"), "{error}");
}

#[actix::test]
async fn rotated_secret_gets_a_new_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("secret");
    let credentials =
        CredentialSettings { dir: directory.path().to_owned(), ..CredentialSettings::default() };
    let route = HttpRoute { credentials, ..HttpRoute::default() };
    let clients = EndpointClients::new(TOO_LONG, &route);
    let (mut tokens, mut sink) = (issuing(3600), answering(OK));
    let mut options = delivery(&tokens);
    options["auth"]["client_secret"] = format!("file:{}", file.display()).into();
    for (secret, basic, token) in [("one", "bWU6b25l", "t0"), ("two", "bWU6dHdv", "t1")] {
        std::fs::write(&file, secret).unwrap();
        // Options of its own, so that the file is read at once.
        post(&clients, &sink.url(), &options).await.unwrap();
        assert_eq!(authorization(&mut tokens).await, format!("Basic {basic}"));
        assert_eq!(authorization(&mut sink).await, format!("Bearer {token}"));
    }
}

#[actix::test]
async fn token_does_not_follow_to_another_origin() {
    let (tokens, mut other) = (issuing(3600), answering(OK));
    let location = Mutex::new(other.url());
    let sink = Sink::start(move |_| {
        let location = location.lock().unwrap();
        Reply::Bytes(
            format!("HTTP/1.1 307 T\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n").into_bytes(),
        )
    });
    post(&clients(), &sink.url(), &delivery(&tokens)).await.unwrap();
    assert_eq!(authorization(&mut other).await, "");
}
