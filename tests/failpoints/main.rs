//! Transactions and inbox with failures that fail points inject.
//!
//! Fail points act on the whole process. So these tests have a process of their own, and each takes the one
//! `FailScenario`: they run one after another.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::string_slice,
    reason = "a test reports a failure by a panic"
)]

#[path = "../in_process/batches.rs"]
mod batches;
#[macro_use]
#[path = "../in_process/database.rs"]
mod database;

mod batch;
mod inbox;
mod lagging;
