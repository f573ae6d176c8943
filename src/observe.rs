//! Logging, health state and metrics of the process.
//!
//! Log records go to standard error, and errors also to a daily file. Panics are logged to both.
//!
//! ```text
//! log::info!, log::error! ──▶ Logger ──▶ LogQueue ──▶ log-writer ──▶ standard error (human or JSON)
//! panic ──▶ panic hook ───────▲                           └─ ERROR ─▶ LOG_DIR/YYYY-MM-DD.log, within LOG_DIR_MAX_BYTES
//!                             └ Limiter: repeated WARN and ERROR records are written a few times, then counted
//! ```

mod actor_loads;
mod error_file;
mod events;
mod field_recorder;
mod flow_tails;
mod format;
pub mod health;
mod length;
mod limiter;
mod line;
mod log_queue;
pub mod logging;
pub mod metrics;
mod panics;
mod rates;
mod repeats;
mod snapshot;
mod telemetry;

pub use actor_loads::ActorLoad;
pub(crate) use error_file::check_writable;
pub(crate) use events::dead_post;
pub use events::{Events, Heard, Listener};
pub use field_recorder::FieldRecorder;
pub use flow_tails::{FlowTail, KeptEvents};
pub(crate) use format::{timestamp, whole_milliseconds};
pub use metrics::ActivityReading;
pub use rates::{OutcomeCounts, Rates};
pub use snapshot::{
    ActorReading, FlowOutboxReading, InboxReading, InboxRefusal, OutboxReading, RowWaitReading, Snapshot,
};
pub use telemetry::Telemetry;
