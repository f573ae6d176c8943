//! Encrypted connections of the real gateway.

use std::path::Path;

use tempfile::TempDir;

use test_support::certificates::{Authority, EXPIRED, Pair, VALID, Years, listener_lines, write};
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::net::free_port;
use test_support::world::{Backend, World, text_of};

/// A broker with a second listener, which is encrypted; the first is for the test's own messages.
struct Stage {
    directory: TempDir,
    authority: Authority,
    port: u16,
    world: World,
}

impl Stage {
    fn new(backend: Backend, wants_client: bool) -> Stage {
        Stage::with(backend, &["localhost"], VALID, wants_client)
    }

    fn with(backend: Backend, names: &[&str], years: Years, wants_client: bool) -> Stage {
        let (directory, port) = (TempDir::new().unwrap(), free_port());
        let authority = Authority::new("test authority");
        let own = authority.server(names, years);
        let lines = listener_lines(directory.path(), &authority, &own, wants_client);
        let access = format!("allow_anonymous true\nlistener {port} 127.0.0.1\n{lines}");
        let world = World::without_broker(
            backend,
            Broker::with(&BrokerOptions { access, ..BrokerOptions::default() }),
        );
        // The columns for TLS, and a row to fill them in.
        assert!(world.command(&["migrate"]).status.success());
        world.sql.execute(
            "UPDATE mqtt_servers SET host = 'localhost', port = ?, tls = TRUE, ca_file = ?",
            [i32::from(port).into(), directory.path().join("listener-ca.pem").display().to_string().into()],
        );
        world.flow("any", "t").insert(&world.sql);
        Stage { directory, authority, port, world }
    }

    fn place(&self) -> &Path {
        self.directory.path()
    }

    fn set_client(&self, Pair { certificate, key }: &Pair) {
        let (certificate, key) =
            (write(self.place(), "client.pem", certificate), write(self.place(), "client.key", key));
        self.world.sql.execute(
            "UPDATE mqtt_servers SET client_cert_file = ?, client_key_file = ?",
            [certificate.display().to_string().into(), key.display().to_string().into()],
        );
    }

    fn stores_a_message(&self) {
        let mut gateway = self.world.start_subscribed();
        self.world.publish("t", r#"{"a": 1}"#);
        self.world.wait_for_stored("any", 1);
        assert_eq!(gateway.stop(), Some(0));
        assert!(!gateway.stderr().contains("checking ssl"), "the client library's own words");
    }

    /// The log line about the attempt.
    fn refusal(&self) -> String {
        let gateway = self.world.start();
        let line = gateway.wait_for_line("MQTT connection failed with reason code: -");
        assert!(line.contains(&format!("localhost:{}", self.port)), "{line}");
        line
    }
}

fn a_message_comes_by_tls(backend: Backend) {
    Stage::new(backend, false).stores_a_message();
}

#[test]
fn a_message_comes_by_tls_on_mariadb() {
    a_message_comes_by_tls(Backend::MariaDb);
}

#[test]
fn a_message_comes_by_tls_on_sqlite() {
    a_message_comes_by_tls(Backend::Sqlite);
}

#[test]
fn system_authorities_are_the_default() {
    let mut stage = Stage::new(Backend::Sqlite, false);
    stage.world.sql.run("UPDATE mqtt_servers SET ca_file = NULL");
    let refusal = stage.refusal();
    assert!(refusal.contains("wrong CA") || refusal.contains("no root certificates"), "{refusal}");
    let ca = stage.place().join("listener-ca.pem").display().to_string();
    // Where both libraries look for those of the system.
    stage.world.set("SSL_CERT_FILE", &ca);
    stage.stores_a_message();
}

#[test]
fn a_client_certificate_is_shown() {
    let stage = Stage::new(Backend::Sqlite, true);
    stage.set_client(&stage.authority.client("gateway", VALID));
    stage.stores_a_message();
}

#[test]
fn each_refusal_says_which() {
    let stage = Stage::new(Backend::Sqlite, true);
    assert!(stage.refusal().contains("requires a client certificate"));
    stage.set_client(&Authority::new("another").client("gateway", VALID));
    assert!(stage.refusal().contains("refused the client certificate"));
    stage.set_client(&stage.authority.client("gateway", EXPIRED));
    assert!(stage.refusal().contains("has expired on 2015-01-01"));
    stage.world.sql.run("UPDATE mqtt_servers SET client_key_file = '/no/such.key'");
    assert!(stage.refusal().contains("has expired on 2015-01-01"), "the certificate comes first");
    stage.world.sql.run("UPDATE mqtt_servers SET ca_file = '/no/such.pem'");
    assert!(stage.refusal().contains("ca_file /no/such.pem cannot be read"));
    let stage = Stage::with(Backend::Sqlite, &["elsewhere.example"], VALID, false);
    assert!(stage.refusal().contains("wrong name"));
    let stage = Stage::with(Backend::Sqlite, &["localhost"], EXPIRED, false);
    assert!(stage.refusal().contains("the broker's certificate has expired on"));
}

#[test]
fn check_shows_certificates_and_expiry() {
    let stage = Stage::new(Backend::Sqlite, true);
    stage.set_client(&stage.authority.client("gateway", VALID));
    let checked = text_of(&stage.world.command(&["check"]));
    let told = format!(
        "ok   broker localhost:{} accepts us by MQTT 5, TLS verified; its certificate is for localhost valid until 2099-01-01",
        stage.port
    );
    assert!(checked.contains(&told), "{checked}");
    assert!(checked.contains("; the client certificate is valid until 2099-01-01"), "{checked}");
    assert!(!checked.contains("warn ") && !checked.contains("FAIL"), "{checked}");

    stage.set_client(&stage.authority.client_for_days("gateway", 5));
    let checked = text_of(&stage.world.command(&["check"]));
    assert!(checked.contains("warn broker") && checked.contains("the client certificate"), "{checked}");

    stage.world.sql.run("UPDATE mqtt_servers SET ca_file = '/no/such.pem'");
    let checked = text_of(&stage.world.command(&["check"]));
    assert!(checked.contains("FAIL broker") && checked.contains("/no/such.pem"), "{checked}");
}
