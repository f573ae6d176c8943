//! Brokers of other makers: what arrives at the gateway through each of them, over restarts and kills.
//!
//! `scripts/faults` runs these cases and installs the brokers. One that is not there is named, and counted by the
//! script.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    clippy::string_slice,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../support/mod.rs"]
mod support;

mod makers;
mod missing_ids;
mod mosquitto;
mod overlap;
mod peer;
mod rumqttd;
