//! Nothing lost: gateway, database and broker killed under load, workers that panic.
//!
//! What was acknowledged to the publisher has to be in `data`, once, with ids 1 to n in the order of publication.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    clippy::print_stderr,
    clippy::print_stdout,
    reason = "a test that cannot go on says so by panicking"
)]

#[path = "../in_process/kept_table.rs"]
mod kept_table;

mod accidents;
mod backlog;
mod broker;
mod clock;
mod database;
mod delivery;
mod disk;
mod flows;
mod gateway;
mod input;
mod measure;
mod proxy;
mod soak;
