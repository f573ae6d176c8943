//! Writes batches of records to the database, each in one transaction. What becomes of a message is decided in
//! [`domain::processing`](crate::domain::processing).
//!
//! ```text
//!  lane.rs                 the loop: attempt, recover, resolve a lost COMMIT
//!  lane/deferral.rs        goes on without the flows whose rows are locked elsewhere
//!  lane/isolation.rs       isolates poison: dead letters, or the flow is set aside
//!  remedy.rs               what to do about a failed attempt; pure
//!  transaction.rs          one attempt: lock, process, write, commit
//!  frame.rs                first and last statements of a transaction: locks; counters and offset
//!  attempts.rs             the state of a batch over its attempts
//!  progress.rs             how far a batch is, and what to attempt next; pure
//!  position.rs             the expected and the new offsets of lane and flow; pure
//!  prepared.rs             a transaction that is opened before its batch arrives
//!  fence.rs                the row of a lane, by which a batch counts once
//!  lane_waits.rs          the rows that a lane waits for
//!  lagging.rs              the table of the flows that lag behind their lane
//!  locked_flow.rs          locks and reads the rows of the flows
//!  keys.rs                 reads which message keys are known
//!  writes.rs               the columns of the rows; insert.rs, counters.rs: the statements
//!  rehearsal.rs            rehearses one message for an operator
//!  replay.rs               replays dead letters, each in the transaction that deletes it
//!  suspects.rs             whether a rejected message is at fault; harmless.rs: the rows for comparison
//!  refusals.rs             counts the messages that the database rejected in a row, by flow; pure
//!  combined_statements.rs  one statement in place of two, for a batch of few flows
//!  for_benches.rs          builds statements without a database, for the benchmarks
//! ```

mod attempts;
mod combined_statements;
mod counters;
mod failed;
mod fence;
#[cfg(feature = "bench-internals")]
pub mod for_benches;
mod frame;
mod harmless;
mod insert;
mod keys;
mod lagging;
mod lane;
mod lane_waits;
mod locked_flow;
mod part;
mod position;
mod prepared;
mod progress;
mod refusals;
mod rehearsal;
mod remedy;
mod replay;
mod single;
mod suspects;
mod transaction;
mod writes;

use std::sync::Arc;

pub use fence::LaneFenced;
pub use lane::{BrokenOff, Committed, LaneObserver, LaneStore};
pub use lane_waits::LaneWaits;
pub(super) use locked_flow::flow_columns;
pub use rehearsal::{RehearsedMessage, RehearsedRow, rehearse_message};
pub use replay::{LetterReplay, ReplayMode};
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

    /// The same rules for the messages of another inbox.
    #[must_use]
    fn with_inbox(&self, inbox_id: &Arc<str>) -> Self {
        let processing = ProcessingRules { inbox_id: Arc::clone(inbox_id), ..self.processing.clone() };
        Self { processing, gauge: Arc::clone(&self.gauge) }
    }

    /// The same rules for a server that now accepts statements of `max_packet_bytes`.
    #[must_use]
    fn with_max_packet_bytes(&self, max_packet_bytes: usize) -> Self {
        let processing = self.processing.with_max_packet_bytes(max_packet_bytes);
        Self { processing, gauge: Arc::clone(&self.gauge) }
    }
}
