//! The pure core: decisions without clocks, randomness, sockets or files.

pub mod message;
pub mod outbox;
