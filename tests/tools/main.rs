//! The commands `bench` and `demo`, and the measurements of `bench`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::float_cmp,
    reason = "a test reports a failure by a panic"
)]

#[macro_use]
#[path = "../in_process/database.rs"]
mod database;

mod bench;
mod demo;
mod limits;
mod load;
mod orphans;
