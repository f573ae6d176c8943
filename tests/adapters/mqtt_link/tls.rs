//! Encrypted connections to a mosquitto, and the errors of failed ones.

use std::io::Write;
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::thread;
use std::time::Duration;

use mqtt_gateway::domain::broker::{Broker, BrokerConnection, MqttVersion, TlsFiles};
use mqtt_gateway::mqtt::{MqttEvent, certificates as certificates_of};
use tempfile::TempDir;

use crate::mqtt_link::mosquitto::Mosquitto;
use crate::mqtt_link::peer::{Peer, server};
use crate::mqtt_link::{free_port, subscription};
use test_support::certificates::{Authority, EXPIRED, Pair, VALID, listener_lines, write};

const NAMES: &[&str] = &["localhost", "127.0.0.1", "::1"];

/// An authority, a broker with a certificate of it, and a place for the client's files.
struct Stage {
    directory: TempDir,
    authority: Authority,
    broker: Mosquitto,
}

impl Stage {
    fn new() -> Stage {
        Stage::with(NAMES, VALID, false)
    }

    fn with(names: &[&str], years: (i32, i32), wants_client: bool) -> Stage {
        let directory = tempfile::tempdir().unwrap();
        let authority = Authority::new("test authority");
        let own = authority.server(names, years);
        let lines = listener_lines(directory.path(), &authority, &own, wants_client);
        let broker = Mosquitto::start(&format!("allow_anonymous true\n{lines}"));
        Stage { directory, authority, broker }
    }

    fn place(&self) -> &Path {
        self.directory.path()
    }

    /// The broker as it should be reached.
    fn server(&self) -> Broker {
        let ca = write(self.place(), "ca.pem", &self.authority.pem());
        let tls = TlsFiles { ca_file: Some(text(&ca)), client_cert_file: None, client_key_file: None };
        Broker { host: "localhost".to_owned(), tls: Some(tls), ..server(self.broker.port) }
    }

    fn server_trusting(&self, authority: &Authority) -> Broker {
        let server = self.server();
        write(self.place(), "ca.pem", &authority.pem());
        server
    }

    fn server_with_client(&self, certificate: &str, key: &str) -> Broker {
        let mut server = self.server();
        let tls = server.tls.as_mut().unwrap();
        tls.client_cert_file = Some(text(&write(self.place(), "client.pem", certificate)));
        tls.client_key_file = Some(text(&write(self.place(), "client.key", key)));
        server
    }
}

fn text(path: &Path) -> String {
    path.display().to_string()
}

/// Connects and gets a message.
async fn works(stage: &Stage, server: Broker, client_id: &str) {
    let peer = Peer::connect_to(vec![server], client_id);
    let event = peer.event();
    assert!(matches!(event, MqttEvent::Connected(_)), "{event:?}");
    peer.link.subscribe(vec![subscription("t", 1)]).await.unwrap();
    let ca = stage.place().join("listener-ca.pem");
    let mut arguments = vec!["-h", "localhost", "--cafile", ca.to_str().unwrap(), "-t", "t", "-m", "x"];
    let (cert, key) = (stage.place().join("client.pem"), stage.place().join("client.key"));
    if cert.exists() {
        arguments.extend(["--cert", cert.to_str().unwrap(), "--key", key.to_str().unwrap()]);
    }
    crate::mqtt_link::mosquitto::publish_to(stage.broker.port, &arguments);
    assert_eq!(peer.message().payload, "x");
    peer.link.disconnect().await.unwrap();
}

/// The error of the attempt.
async fn refusal(server: Broker, client_id: &str) -> String {
    let peer = Peer::connect_to(vec![server], client_id);
    let event = peer.event();
    let MqttEvent::Failed { reason_code, reason, .. } = event else { panic!("{event:?}") };
    assert!(reason_code < 0, "{reason_code}");
    let _ = peer.link.disconnect().await;
    reason
}

#[tokio::test]
async fn matching_broker_certificate_is_accepted() {
    let stage = Stage::new();
    works(&stage, stage.server(), "tls").await;
    works(&stage, Broker { host: "127.0.0.1".to_owned(), ..stage.server() }, "tls-address").await;
    let old = Broker { version: Some(MqttVersion::V311), ..stage.server() };
    let peer = Peer::connect_to(vec![old], "tls-old");
    assert!(matches!(
        peer.event(),
        MqttEvent::Connected(BrokerConnection { version: MqttVersion::V311, .. })
    ));
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn ipv6_address_is_compared_to_certificate() {
    let (directory, port) = (tempfile::tempdir().unwrap(), free_port());
    let authority = Authority::new("test authority");
    let lines = listener_lines(directory.path(), &authority, &authority.server(&["::1"], VALID), false);
    let _broker = Mosquitto::start(&format!("allow_anonymous true\nlistener {port} ::1\n{lines}"));
    let ca = write(directory.path(), "ca.pem", &authority.pem());
    let tls = TlsFiles { ca_file: Some(text(&ca)), client_cert_file: None, client_key_file: None };
    let there = Broker { host: "::1".to_owned(), tls: Some(tls), ..server(port) };
    let peer = Peer::connect_to(vec![there], "tls-ipv6");
    assert!(matches!(peer.event(), MqttEvent::Connected(_)));
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn foreign_authority_is_refused() {
    let stage = Stage::new();
    let reason = refusal(stage.server_trusting(&Authority::new("another")), "wrong-ca").await;
    assert!(reason.contains("wrong CA") && reason.contains("ca.pem"), "{reason}");
    // Also when it has the same name.
    let reason = refusal(stage.server_trusting(&Authority::new("test authority")), "same-name").await;
    assert!(reason.contains("wrong CA"), "{reason}");
}

#[tokio::test]
async fn wrong_certificate_name_lists_valid_names() {
    let stage = Stage::with(&["broker.example", "192.0.2.1"], VALID, false);
    let reason = refusal(stage.server(), "wrong-name").await;
    assert!(reason.contains("wrong name") && reason.contains("not for localhost"), "{reason}");
    assert!(reason.contains("broker.example"), "{reason}");
    let reason = refusal(Broker { host: "127.0.0.1".to_owned(), ..stage.server() }, "wrong-address").await;
    assert!(reason.contains("wrong name") && reason.contains("not for 127.0.0.1"), "{reason}");
}

#[tokio::test]
async fn expired_certificate_is_refused_with_date() {
    let stage = Stage::with(NAMES, EXPIRED, false);
    let reason = refusal(stage.server(), "expired").await;
    assert!(reason.contains("the broker's certificate has expired on 2015-01-01"), "{reason}");
}

#[tokio::test]
async fn plaintext_port_is_reported() {
    let stage = Stage::new();
    let plain = Mosquitto::start("allow_anonymous true");
    let reason = refusal(Broker { port: plain.port, ..stage.server() }, "plain").await;
    assert!(reason.contains("does not speak TLS") && reason.contains(&plain.port.to_string()), "{reason}");
}

/// A record of TLS that never ends: each byte of it comes in time.
#[tokio::test]
async fn slow_handshake_does_not_block_next_broker() {
    let stage = Stage::new();
    let tarpit = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = tarpit.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in tarpit.incoming() {
            thread::spawn(move || drip(stream.unwrap()));
        }
    });
    let peer = Peer::connect_to(vec![Broker { port, ..stage.server() }, stage.server()], "tarpit");
    let event = peer.event();
    let MqttEvent::Failed { reason, .. } = event else { panic!("{event:?}") };
    assert!(reason.contains("the TLS handshake failed"), "{reason}");
    assert!(matches!(peer.event(), MqttEvent::Connected(_)));
    peer.link.disconnect().await.unwrap();
}

/// Until the other end has gone.
fn drip(mut stream: TcpStream) {
    // A handshake record of 16 KiB.
    let mut sent = stream.write_all(&[22, 3, 3, 0x40, 0]);
    while sent.is_ok() {
        thread::sleep(Duration::from_millis(500));
        sent = stream.write_all(&[2]);
    }
}

#[tokio::test]
async fn a_broker_that_wants_our_certificate_gets_it() {
    let stage = Stage::with(NAMES, VALID, true);
    let Pair { certificate, key } = stage.authority.client("gateway", VALID);
    works(&stage, stage.server_with_client(&certificate, &key), "mutual").await;
    // Both in one file.
    let mut server = stage.server_with_client(&format!("{certificate}{key}"), &key);
    server.tls.as_mut().unwrap().client_key_file = None;
    works(&stage, server, "mutual-one-file").await;
}

#[tokio::test]
async fn required_client_certificate_is_reported() {
    let stage = Stage::with(NAMES, VALID, true);
    let reason = refusal(stage.server(), "no-certificate").await;
    assert!(reason.contains("requires a client certificate"), "{reason}");
    let Pair { certificate, key } = Authority::new("another").client("gateway", VALID);
    let reason = refusal(stage.server_with_client(&certificate, &key), "stranger").await;
    assert!(reason.contains("refused the client certificate"), "{reason}");
}

#[tokio::test]
async fn unusable_tls_files_fail_before_connecting() {
    let stage = Stage::with(NAMES, VALID, true);
    let Pair { certificate, key } = stage.authority.client("gateway", EXPIRED);
    let reason = refusal(stage.server_with_client(&certificate, &key), "own-expired").await;
    assert!(reason.contains("client_cert_file") && reason.contains("has expired on 2015-01-01"), "{reason}");

    let Pair { certificate, .. } = stage.authority.client("gateway", VALID);
    let reason = refusal(stage.server_with_client(&certificate, &key), "other-key").await;
    assert!(reason.contains("does not match the certificate"), "{reason}");

    let mut server = stage.server();
    server.tls.as_mut().unwrap().ca_file = Some("/no/such/ca.pem".to_owned());
    let id = server.id;
    let reason = refusal(server, "missing").await;
    assert!(reason.contains("ca_file /no/such/ca.pem cannot be read"), "{reason}");
    assert!(reason.contains(&format!("id {id}")), "{reason}");
}

#[tokio::test]
async fn corrected_tls_files_are_used_next() {
    let stage = Stage::new();
    let peer = Peer::connect_to(vec![stage.server_trusting(&Authority::new("another"))], "rotated");
    assert!(matches!(peer.event(), MqttEvent::Failed { .. }));
    write(stage.place(), "ca.pem", &stage.authority.pem());
    assert!(matches!(peer.event_after_failures(), MqttEvent::Connected(_)));
    peer.link.disconnect().await.unwrap();
}

#[test]
fn the_certificates_of_a_connection_are_described() {
    let stage = Stage::with(NAMES, VALID, true);
    let Pair { certificate, key } = stage.authority.client("gateway", VALID);
    let found = certificates_of(&stage.server_with_client(&certificate, &key)).unwrap();
    let described: Vec<_> = found.iter().map(|found| found.description.as_str()).collect();
    assert_eq!(
        described,
        [
            "its certificate is for localhost, 127.0.0.1, ::1 valid until 2099-01-01 00:00:00 UTC",
            "the client certificate is valid until 2099-01-01 00:00:00 UTC"
        ]
    );
    assert!(found.iter().all(|found| !found.expires_soon));
}
