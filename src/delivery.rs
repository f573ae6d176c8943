//! The HTTP side: the delivery queue and the HTTP client.

pub mod client;
pub mod queue;
pub mod redaction;
mod tls;
