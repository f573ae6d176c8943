//! What a batch is made of, and how large it may become.

use super::super::batch::{BatchEntry, Lane, lane_of};
use super::super::message::{Body, FlowId, Record, SubscriptionId};
use super::super::payload::PayloadLimits;
use super::super::routing_history::RoutingHistory;
use super::super::subscription_ids::Meaning;

/// What gathering a batch needs to know.
pub struct BatchContext<'a> {
    /// Which table is for which record.
    pub tables: &'a RoutingHistory,
    /// What a subscription identifier stands for.
    pub meaning_of: &'a dyn Fn(SubscriptionId) -> Option<Meaning<'a>>,
    /// Number of lanes.
    pub lanes: u32,
    /// Bounds of a payload.
    pub payload: &'a PayloadLimits,
    /// Most messages of a batch, counted once for each flow.
    pub max_pairs: usize,
    /// Most payload bytes of a batch.
    pub max_bytes: usize,
    /// Most records looked at in one go: a turn of the router must stay short even where a lane has
    /// nothing to do with a million records.
    pub scan_limit: usize,
    /// Most flows of a lane that may lag at a time.
    pub max_lagging: usize,
}

impl BatchContext<'_> {
    /// The flows of `lane` that a record belongs to, by the table of its time.
    pub(super) fn flows_of(&self, record: &Record, lane: Lane) -> Vec<FlowId> {
        let mut flows = Vec::new();
        if let Some(table) = self.tables.at(record.offset) {
            table.route(&record.topic, &record.delivery.subscription_ids, self.meaning_of, &mut flows);
            flows.retain(|flow| lane_of(*flow, self.lanes) == lane);
        }
        flows
    }
}

/// A batch that is being filled.
pub(super) struct BatchBuilder {
    entries: Vec<BatchEntry>,
    pairs: usize,
    bytes: usize,
    max_pairs: usize,
    max_bytes: usize,
}

impl BatchBuilder {
    pub(super) fn new(max_pairs: usize, max_bytes: usize) -> Self {
        Self { entries: Vec::new(), pairs: 0, bytes: 0, max_pairs, max_bytes }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether `entry` goes in as well. The first always does, whatever its weight.
    pub(super) fn fits(&self, entry: &BatchEntry) -> bool {
        let (pairs, bytes) = weight(entry);
        self.is_empty() || (self.pairs + pairs <= self.max_pairs && self.bytes + bytes <= self.max_bytes)
    }

    pub(super) fn push(&mut self, entry: BatchEntry) {
        let (pairs, bytes) = weight(&entry);
        self.pairs += pairs;
        self.bytes += bytes;
        self.entries.push(entry);
    }

    pub(super) fn into_entries(self) -> Vec<BatchEntry> {
        self.entries
    }
}

/// Messages, counted once for each flow, and payload bytes.
fn weight(entry: &BatchEntry) -> (usize, usize) {
    let pairs = entry.flows.len().max(1);
    let length = match &entry.record.body {
        Body::Whole(bytes) | Body::Head { head: bytes, .. } => bytes.len(),
    };
    (pairs, pairs * length)
}
