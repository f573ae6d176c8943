//! The real gateway with several brokers, with encrypted connections, and with a client library that does not come
//! back.
//!
//! Run by `scripts/test`, which starts the servers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod credentials;
mod failover;
mod table;
mod tls;
mod versions;
mod watchdog;
