//! `mqtt-gateway audit`: silent over what is well, also while a gateway works, and by name over each defect.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::needless_pass_by_value,
    reason = "a test that cannot go on says so by panicking"
)]

#[macro_use]
#[path = "../support/database.rs"]
mod database;
#[path = "../support/mod.rs"]
mod support;

mod defects;
mod pieces;
mod traffic;
