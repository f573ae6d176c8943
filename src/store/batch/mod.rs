//! Writes batches of records to the database, each in one transaction. What becomes of a message is decided in
//! [`domain::processing`](crate::domain::processing).
//!
//! ```text
//!  lane.rs         the loop: attempt, retry, split, isolate poison, resolve a lost COMMIT
//!  transaction.rs  one attempt: lock, process, write, commit
//!  frame.rs        how it begins and ends: locks, counters, offset
//!  attempts.rs     a batch under way, and what was learnt on the way
//!  progress.rs     how far it has got, what to attempt next; pure
//!  position.rs     where lane and flow stand before and after; pure
//!  prepared.rs     the transaction that waits for the next batch
//!  fence.rs        the lane's row, which makes a batch count once
//!  lagging.rs      the flows that the lane has gone on without
//!  locked_flow.rs  the flows as their locked rows say
//!  keys.rs         which keys of the messages are known
//!  writes.rs       the rows; insert.rs, counters.rs: how they are written
//!  suspects.rs     whether a message is at fault that the database refuses; harmless.rs: rows to compare it with
//!  refusals.rs     how many messages of a flow were refused in a row; pure
//!  combined_statements.rs two statements in one, for a batch of few flows
//!  for_benches.rs  lets the benchmarks build statements without a database
//! ```

mod attempts;
mod combined_statements;
mod counters;
mod fence;
#[cfg(feature = "bench-internals")]
pub mod for_benches;
mod frame;
mod harmless;
mod insert;
mod keys;
mod lagging;
mod lane;
mod locked_flow;
mod position;
mod prepared;
mod progress;
mod refusals;
mod single;
mod suspects;
mod transaction;
mod writes;

use std::sync::Arc;

pub use lane::{BatchFailure, BrokenOff, Committed, LaneObserver, LaneStore};
pub use single::{ProcessMessageError, process_flow_message};

use super::outbox_gauge::OutboxGauge;
use crate::domain::processing::ProcessingRules;

/// The rules of the messages, and the number of messages in the outbox.
#[derive(Debug, Clone)]
pub struct BatchRules {
    /// The rules of the messages.
    pub processing: ProcessingRules,
    /// Counts the messages in the outbox.
    pub gauge: Arc<OutboxGauge>,
}

impl BatchRules {
    /// The inbox that the messages come from.
    fn inbox_id(&self) -> &str {
        &self.processing.inbox_id
    }

    /// The same rules for a server that now accepts statements of `max_packet_bytes`.
    #[must_use]
    fn with_max_packet_bytes(&self, max_packet_bytes: usize) -> Self {
        let processing = self.processing.with_max_packet_bytes(max_packet_bytes);
        Self { processing, gauge: Arc::clone(&self.gauge) }
    }
}
