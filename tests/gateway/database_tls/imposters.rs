//! False servers never get the password where the identity of the server is verified.

use test_support::certificates::{Authority, write};
use test_support::world::{Backend, PASSWORD, SERVERS, World};

use super::false_server::{FalseServer, Offer};
use super::{check, line};

/// The server, and a gateway that looks for its database there.
fn at_false_server(backend: Backend, offer: Offer) -> (FalseServer, World, String) {
    let server = FalseServer::start(backend, offer);
    let mut world = World::on(backend);
    world.reach_database_at(server.address);
    let ca = write(world.directory(), "ca.pem", &Authority::new("database authority").pem());
    (server, world, ca.display().to_string())
}

#[test]
fn unverified_impostor_gets_the_password() {
    for backend in SERVERS {
        for mode in ["prefer", "require"] {
            let (server, world, _) = at_false_server(backend, Offer::Tls);
            check(&world, &[("DB_SSL_MODE", mode)]);
            assert!(server.has_received(PASSWORD), "the test would see it: {backend:?} {mode}");
        }
    }
}

#[test]
fn verified_impostor_never_gets_the_password() {
    for backend in SERVERS {
        for mode in ["verify-ca", "verify-full"] {
            let (server, mut world, ca) = at_false_server(backend, Offer::Tls);
            let text = check(&world, &[("DB_SSL_MODE", mode), ("DB_SSL_CA", &ca)]);
            let said = line(&text, "FAIL database: ");
            assert!(said.contains("invalid peer certificate: UnknownIssuer"), "{said}");

            world.set("DB_SSL_MODE", mode).set("DB_SSL_CA", &ca);
            let mut gateway = world.start();
            let waits = gateway.wait_for_line("The database is not available, waiting for it: ");
            assert!(waits.contains("invalid peer certificate: UnknownIssuer"), "{waits}");
            gateway.kill();
            assert!(!server.received().is_empty());
            assert!(!server.has_received(PASSWORD), "{backend:?} {mode}");
            assert!(!server.has_received(&world.name), "nor the user: {backend:?} {mode}");
        }
    }
}

#[test]
fn a_false_server_without_tls_is_told_nothing() {
    for backend in SERVERS {
        for mode in ["require", "verify-ca", "verify-full"] {
            let (server, world, ca) = at_false_server(backend, Offer::Nothing);
            let ca = ("DB_SSL_CA", ca.as_str());
            let authorities = if mode == "require" { &[][..] } else { &[ca] };
            let text = check(&world, &[&[("DB_SSL_MODE", mode)], authorities].concat());
            let said = line(&text, "FAIL database: ");
            assert!(said.contains("server does not support TLS"), "{said}");
            assert!(!server.has_received(PASSWORD), "{backend:?} {mode}");
            assert!(!server.has_received(&world.name), "nor the user: {backend:?} {mode}");
        }
    }
}
