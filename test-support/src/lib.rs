//! The parts around the gateway under test: servers, brokers, proxies, endpoints and publishers.
//!
//! The gateway is the real binary. Its effects are read from the database, the broker's log, the endpoint
//! and its standard error. Nothing here uses its crate. So a change of the gateway
//! does not compile this crate again, and a test of the library alone does not compile the library twice.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::missing_panics_doc,
    clippy::must_use_candidate,
    clippy::return_self_not_must_use,
    clippy::new_without_default,
    reason = "a test reports a failure by a panic"
)]

pub mod audit;
pub mod cell;
pub mod certificates;
pub mod endpoints;
pub mod flows;
pub mod http;
pub mod http_sink;
pub mod mariadb;
pub mod mosquitto;
pub mod net;
pub mod oracle;
pub mod passwords;
pub mod postgres;
pub mod process;
pub mod proxy;
pub mod publisher;
pub mod python;
pub mod scripted_broker;
pub mod sink;
pub mod sql;
pub mod sqlalchemy;
pub mod stream;
pub mod world;

use std::time::{Duration, Instant};

/// Timeout for any event. It bounds failures and measures nothing: it has to hold on
/// a slow machine that runs all tests at once.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// Polls until `probe` returns a value. For events without a notification, such as a row in a table.
///
/// # Panics
/// When `probe` found nothing in time, with `what` in the message.
pub fn eventually<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    eventually_within(PATIENCE, what, probe)
}

/// The same with another timeout, for events that are slow by design.
///
/// # Panics
/// When `probe` found nothing in time, with `what` in the message.
pub fn eventually_within<T>(patience: Duration, what: &str, mut probe: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(found) = probe() {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out waiting for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
