//! What people and machines can see of the gateway: the log on standard error, the daily error file,
//! and panics in both; its health and its numbers.
//!
//! ```text
//! log::info!, log::error! ──▶ Logger ──▶ env_logger ──▶ standard error (human or JSON)
//! panic ──▶ panic hook ───────▲   └───── ERROR ───────▶ LOG_DIR/YYYY-MM-DD.log
//! ```

mod error_file;
pub mod health;
mod line;
pub mod logging;
pub mod metrics;
mod observed;
mod panics;
mod readings;

pub(crate) use error_file::check_writable;
pub use observed::Observed;
pub use readings::{ActorReading, InboxReading, InboxRefusal, OutboxReading, Readings};
