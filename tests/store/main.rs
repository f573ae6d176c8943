//! The gateway's statements on MariaDB, `PostgreSQL` and SQLite: tables, batches, outbox, keys, members, audit.
//!
//! The tests call the library. `scripts/test` starts the servers.
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

mod audit;
mod batch;
mod columns;
mod connections;
mod dead_letters;
mod deliveries;
mod flow_fields;
mod members;
mod message_keys;
mod outbox;
mod postgres;
mod refusals;
mod refused;
mod retention;
mod schema;
