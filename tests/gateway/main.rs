//! The binary from outside, between a broker, a database and an endpoint.
//!
//! `scripts/test` starts the servers. Slow cases are ignored there; `scripts/faults` runs them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    clippy::float_cmp,
    reason = "a test reports a failure by a panic"
)]

mod admin;
mod audit;
mod brokers;
#[macro_use]
mod commands;
mod api;
mod console;
mod contract;
mod database_tls;
mod logs;
mod peers;
mod start;
