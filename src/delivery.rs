//! The HTTP side: the delivery queue, the schedule of its table, and the HTTP client.

pub mod client;
pub mod queue;
pub mod redaction;
pub mod table_work;
mod tls;
