//! TLS options of a flow: its own authorities, a client certificate, a pinned certificate.

use std::path::Path;

use mqtt_gateway::delivery::client::{EndpointClients, PostError};
use mqtt_gateway::settings::{CredentialSettings, HttpRoute};
use serde_json::json;
use test_support::http_sink::{Reply, Sink, TOO_LONG};

use super::BODY;
use super::options::with_options;
use super::tls_sink::{ClientKind, ClientPair, ClientRule, TlsSink, expired, of_another_name};

/// Clients that trust the certificates in `bundle`, and may read the files in `secrets`.
fn clients(bundle: &Path, secrets: &Path) -> EndpointClients {
    let credentials = CredentialSettings { dir: secrets.to_owned(), ..CredentialSettings::default() };
    let route = HttpRoute { ca_bundle: Some(bundle.to_owned()), credentials, ..HttpRoute::default() };
    EndpointClients::new(TOO_LONG, &route)
}

fn tls(options: &serde_json::Value) -> String {
    json!({ "tls": options }).to_string()
}

fn identity(pair: &ClientPair) -> String {
    tls(&json!({"cert_file": pair.path("client.pem"), "key_file": pair.path("client.key")}))
}

async fn post(clients: &EndpointClients, url: &str, delivery: &str) -> Result<(), PostError> {
    clients.post(&[with_options(url, delivery)]).await.map(drop)
}

#[actix::test]
async fn demanded_client_certificate_is_shown() {
    let pair = ClientPair::new();
    let endpoint = TlsSink::with_clients(|_| (), &ClientRule::Demanded(&pair));
    let clients = clients(&endpoint.bundle(), pair.directory.path());
    post(&clients, &endpoint.url(), &identity(&pair)).await.unwrap();
    let (request, client) = endpoint.next_of();
    assert_eq!((request.text().as_str(), client), (BODY, ClientKind::Authenticated));
    post(&clients, &endpoint.url(), "{}").await.unwrap_err();
}

#[actix::test]
async fn connections_are_not_shared_with_flows_without_certificate() {
    let pair = ClientPair::new();
    let endpoint = TlsSink::with_clients(|_| (), &ClientRule::Asked(&pair));
    let clients = clients(&endpoint.bundle(), pair.directory.path());
    for (delivery, expected) in [
        (identity(&pair), ClientKind::Authenticated),
        ("{}".to_owned(), ClientKind::Unknown),
        (identity(&pair), ClientKind::Authenticated),
    ] {
        post(&clients, &endpoint.url(), &delivery).await.unwrap();
        assert_eq!(endpoint.next_of().1, expected, "{delivery}");
    }
}

#[actix::test]
async fn client_certificate_does_not_follow_to_another_origin() {
    let pair = ClientPair::new();
    let endpoint = TlsSink::with_clients(|_| (), &ClientRule::Asked(&pair));
    let location = format!("HTTP/1.1 307 T\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n", endpoint.url());
    let sink = Sink::start(move |_| Reply::Bytes(location.clone().into_bytes()));
    let clients = clients(&endpoint.bundle(), pair.directory.path());
    post(&clients, &sink.url(), &identity(&pair)).await.unwrap();
    assert_eq!(endpoint.next_of().1, ClientKind::Unknown);
}

#[actix::test]
async fn authorities_of_the_flow_replace_all_others() {
    let (endpoint, other) = (TlsSink::self_signed(|_| ()), TlsSink::self_signed(|_| ()));
    let trusting = |sink: &TlsSink| tls(&json!({ "ca_file": sink.bundle() }));
    // The bundle of the settings is that of the other endpoint.
    let strangers = clients(&other.bundle(), endpoint.bundle().parent().unwrap());
    post(&strangers, &endpoint.url(), &trusting(&endpoint)).await.unwrap();
    assert_eq!(endpoint.next().text(), BODY);
    let friends = clients(&endpoint.bundle(), other.bundle().parent().unwrap());
    let error = post(&friends, &endpoint.url(), &trusting(&other)).await.unwrap_err();
    assert!(matches!(error, PostError::Tls(_)), "{error:?}");
}

#[actix::test]
async fn pinned_certificate_needs_nothing_else() {
    let other = TlsSink::self_signed(|_| ());
    let secrets = tempfile::tempdir().unwrap();
    let clients = clients(&other.bundle(), secrets.path());
    let pinned = |sink: &TlsSink| tls(&json!({ "pinned_sha256": sink.sha256() }));
    for change in [expired, of_another_name] {
        let endpoint = TlsSink::self_signed(change);
        post(&clients, &endpoint.url(), &pinned(&endpoint)).await.unwrap();
        assert_eq!(endpoint.next().text(), BODY);
    }
    // The endpoint is trusted by the bundle, and has another certificate than the pinned one.
    let endpoint = TlsSink::self_signed(|_| ());
    let error = post(&clients, &other.url(), &pinned(&endpoint)).await.unwrap_err();
    assert!(error.to_string().contains("not the one of tls.pinned_sha256"), "{error}");
    assert!(!error.blames_origin(), "other flows reach it");
    let imposter = TlsSink::imposter(&endpoint);
    let error = post(&clients, &imposter.url(), &pinned(&endpoint)).await.unwrap_err();
    assert!(matches!(error, PostError::Tls(_)), "{error:?}");
}

#[actix::test]
async fn unusable_files_are_named_without_content() {
    let pair = ClientPair::new();
    let endpoint = TlsSink::self_signed(|_| ());
    let other = ClientPair::new();
    let foreign = std::fs::read_to_string(other.path("client.key")).unwrap();
    for (key, problem) in [
        (None, "client.key cannot be read: No such file"),
        (Some("s3cret".to_owned()), "contains no private key in PEM format"),
        (Some("-----BEGIN PRIVATE KEY-----\ns3cret!\n-----END PRIVATE KEY-----".to_owned()), "is damaged"),
        (
            Some("-----BEGIN PRIVATE KEY-----\ns3crets3\n-----END PRIVATE KEY-----".to_owned()),
            "and key_file cannot be used",
        ),
        (Some("-----BEGIN s3cret".to_owned()), "is damaged"),
        (Some(foreign), "is not the key of the certificate in cert_file"),
    ] {
        std::fs::remove_file(pair.path("client.key")).unwrap();
        if let Some(key) = &key {
            std::fs::write(pair.path("client.key"), key).unwrap();
        }
        let clients = clients(&endpoint.bundle(), pair.directory.path());
        let error = post(&clients, &endpoint.url(), &identity(&pair)).await.unwrap_err().to_string();
        assert!(error.starts_with("options.delivery.tls") && error.contains("key_file"), "{error}");
        assert!(error.contains(problem), "{error}");
        assert!(!error.contains("s3cret") && !error.contains("115, 51"), "{error}");
        std::fs::write(pair.path("client.key"), "").unwrap();
    }
    let outside = clients(&endpoint.bundle(), endpoint.bundle().parent().unwrap());
    let error = post(&outside, &endpoint.url(), &identity(&pair)).await.unwrap_err().to_string();
    assert!(
        error.starts_with("options.delivery.tls.cert_file: ") && error.contains("CREDENTIALS_DIR"),
        "{error}"
    );
}
