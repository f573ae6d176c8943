//! The SQL side.

pub mod outbox_gauge;
