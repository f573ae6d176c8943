//! Messages that the database refuses, on real databases: whose fault it is, and what becomes of a flow
//! whose messages are all refused.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../support/batches.rs"]
mod batches;
#[macro_use]
#[path = "../support/database.rs"]
mod database;
mod aside;
mod fault;
