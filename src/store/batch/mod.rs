//! From a batch of records to rows: numbered, stored, remembered, in one transaction.
//!
//! ```text
//!  lane.rs         the loop: attempt, retry, split, isolate poison, resolve a lost COMMIT
//!  transaction.rs  one attempt: lock, judge, write, commit
//!  frame.rs        how it begins and ends: locks, counters, offset
//!  attempts.rs     a batch under way, and what was learnt on the way
//!  progress.rs     how far it has got, what to attempt next; pure
//!  standing.rs     where lane and flow stand before and after; pure
//!  begun.rs        the transaction that waits for the next batch
//!  fence.rs        the lane's row, which makes a batch count once
//!  lagging.rs      the flows that the lane has gone on without
//!  locked_flow.rs  the flows as their locked rows say
//!  keys.rs         the keys of the messages, and which of them are known
//!  judge.rs        what becomes of each message; pure
//!  writes.rs       the rows; insert.rs, counters.rs: how they are written
//!  suspects.rs     whether a message is at fault that the database refuses; harmless.rs: rows to compare it with
//!  refusals.rs     how many messages of a flow were refused in a row; pure
//!  together.rs     two statements in one, for a batch of few flows
//!  for_benches.rs  lets the benchmarks build statements without a database
//! ```

mod attempts;
mod begun;
mod counters;
mod fence;
#[cfg(feature = "bench-internals")]
pub mod for_benches;
mod frame;
mod harmless;
mod insert;
mod judge;
mod keys;
mod lagging;
mod lane;
mod locked_flow;
mod progress;
mod refusals;
mod single;
mod standing;
mod suspects;
mod together;
mod transaction;
mod writes;

use std::sync::Arc;
use std::time::Duration;

pub use lane::{BatchFailure, BrokenOff, Committed, LaneObserver, LaneStore};
pub use single::process_flow_message;

use super::limits::StoreLimits;
use super::outbox_gauge::OutboxGauge;
use crate::domain::batch::BatchEntry;
use crate::domain::message::{FlowId, Record};
use crate::domain::payload::{Payload, PayloadError, PayloadLimits, read_payload};
use crate::domain::value_style::ValueStyle;

/// What every batch is measured against.
#[derive(Debug, Clone)]
pub struct BatchRules {
    /// The inbox the messages come through.
    pub inbox_id: Arc<str>,
    /// How booleans and null are written.
    pub value_style: ValueStyle,
    /// Bounds of a payload.
    pub payload: PayloadLimits,
    /// Bounds of the tables.
    pub limits: StoreLimits,
    /// Longest statement in bytes: a quarter of what the server takes.
    pub statement_bytes: usize,
    /// What waits in the outbox.
    pub gauge: Arc<OutboxGauge>,
    /// Most messages of one flow that may wait there.
    pub outbox_max_rows_per_flow: u64,
    /// Time between two messages from which on they may have the same key.
    pub keys_known_for: Duration,
    /// Most rows of `data` that one message may become, over all its flows in a lane.
    pub max_rows_per_message: usize,
}

/// Whoever publishes chooses the number of attributes, and the flows multiply it: without a bound one message could
/// keep a transaction busy for minutes. So many rows take some seconds, and 90 MB of memory in each lane. A single
/// flow never has more (`MAX_ATTRIBUTES`).
const MAX_ROWS_PER_MESSAGE: usize = 1_000_000;

impl BatchRules {
    /// The rules for a database with `limits`.
    #[must_use]
    pub fn new(
        inbox_id: Arc<str>,
        value_style: ValueStyle,
        payload: PayloadLimits,
        limits: StoreLimits,
        gauge: Arc<OutboxGauge>,
        outbox_max_rows_per_flow: u64,
        keys_known_for: Duration,
    ) -> Self {
        let statement_bytes = limits.max_packet_bytes / 4;
        // A payload that no statement can carry must not come back for ever.
        let max_payload_bytes = payload.max_payload_bytes.min(statement_bytes);
        let payload = PayloadLimits { max_payload_bytes, ..payload };
        Self {
            inbox_id,
            value_style,
            payload,
            limits,
            statement_bytes,
            gauge,
            outbox_max_rows_per_flow,
            keys_known_for,
            max_rows_per_message: MAX_ROWS_PER_MESSAGE,
        }
    }

    /// The same rules for a server that now takes statements of `max_packet_bytes`. The bounds by
    /// which lane 0 answers for payloads stay: all lanes have to agree on them.
    #[must_use]
    fn for_packets_of(&self, max_packet_bytes: usize) -> Self {
        Self { statement_bytes: max_packet_bytes / 4, ..self.clone() }
    }
}

/// A message of a batch, read once for all attempts.
#[derive(Debug)]
struct Parsed<'a> {
    record: &'a Arc<Record>,
    flows: &'a [FlowId],
    judge: bool,
    payload: Result<Payload<'a>, PayloadError>,
}

impl<'a> Parsed<'a> {
    fn new(entry: &'a BatchEntry, limits: &PayloadLimits) -> Self {
        let payload = read_payload(&entry.record, limits);
        Self { record: &entry.record, flows: &entry.flows, judge: entry.judge, payload }
    }
}
