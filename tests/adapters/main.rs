//! The adapters against real peers: posts to HTTP endpoints, the connection to the broker.
//!
//! The tests call the library. `scripts/test` starts the servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "a test reports a failure by a panic"
)]

#[macro_use]
#[path = "../in_process/database.rs"]
mod database;

mod delivery;
mod endpoints;
mod mqtt_link;
