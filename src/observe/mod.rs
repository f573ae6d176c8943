//! What people and machines can see of the gateway: the log on standard error, the daily error file,
//! and panics in both; its health and its numbers.
//!
//! ```text
//! log::info!, log::error! ──▶ Logger ──▶ LogQueue ──▶ log-writer ──▶ standard error (human or JSON)
//! panic ──▶ panic hook ───────▲                           └─ ERROR ─▶ LOG_DIR/YYYY-MM-DD.log, within LOG_DIR_MAX_BYTES
//!                             └ Limiter: WARN and ERROR of the same kind are written a few times, then counted
//! ```

mod error_file;
pub mod health;
mod length;
mod limiter;
mod line;
mod log_queue;
pub mod logging;
pub mod metrics;
mod panics;
mod repeats;
mod snapshot;
mod telemetry;

pub(crate) use error_file::check_writable;
pub use snapshot::{ActorReading, InboxReading, InboxRefusal, OutboxReading, Snapshot};
pub use telemetry::Telemetry;
