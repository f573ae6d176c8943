//! The port itself: its paths, and addresses in use.

use std::net::TcpListener;

use test_support::eventually;
use test_support::http::{admin_of, get, request};
use test_support::world::{Backend, World};

fn on_sqlite(bind: &str) -> World {
    let mut world = World::on(Backend::Sqlite);
    world.set("ADMIN_BIND", bind);
    world
}

#[test]
fn admin_port_serves_its_paths_uncached() {
    let world = on_sqlite("127.0.0.1:0");
    let gateway = world.start();
    let admin = admin_of(&gateway);
    for path in ["/health/live", "/health/ready", "/health/startup", "/metrics"] {
        let get = get(admin, path);
        let head = request(admin, "HEAD", path);
        assert_eq!(get.headers["cache-control"], "no-store", "{path}");
        assert_eq!(head.body, "", "{path}");
        assert_eq!(head.headers["content-type"], get.headers["content-type"], "{path}");
        for method in ["POST", "PUT", "DELETE", "OPTIONS"] {
            let refused = request(admin, method, path);
            assert_eq!((refused.status, refused.headers["allow"].as_str()), (405, "GET, HEAD"), "{method}");
        }
    }
    let content_type = &get(admin, "/metrics").headers["content-type"];
    assert!(content_type.starts_with("application/openmetrics-text; version=1.0.0"), "{content_type}");
    let unknown = get(admin, "/nowhere");
    assert_eq!(unknown.status, 404);
    assert!(unknown.body.contains("/metrics"), "{}", unknown.body);
}

#[test]
fn configured_address_in_use_ends_start() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let mut gateway = on_sqlite(&address).start();
    assert_eq!(gateway.wait_for_exit().code(), Some(1));
    let error = gateway.wait_for_line("Fatal error during startup");
    assert!(error.contains(&format!("ADMIN_BIND={address}")) && error.contains("off"), "{error}");
}

#[test]
fn default_address_in_use_only_warns() {
    let mut world = on_sqlite("off");
    world.settings.remove("ADMIN_BIND");
    world.flow("F", "f").insert(&world.sql);
    let _taken = eventually("the default's port", || TcpListener::bind("127.0.0.1:8080").ok());
    let gateway = world.start_subscribed();
    let warning = gateway.wait_for_line("No health and no metrics");
    assert!(warning.contains("ADMIN_BIND"), "{warning}");
    world.publish("f", "{\"a\":1}");
    world.wait_for_stored("F", 1);
}

#[test]
fn off_is_nowhere() {
    let mut world = on_sqlite("off");
    world.flow("F", "f").insert(&world.sql);
    world.set("RUST_LOG", "debug");
    let gateway = world.start_subscribed();
    assert_eq!(gateway.count_lines("Health and metrics"), 0);
    assert_eq!(gateway.count_lines("No health"), 0);
}
