//! The HTTP side: which message is posted when, and how.

pub mod client;
pub mod queue;
pub mod redaction;
mod tls;
