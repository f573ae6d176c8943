//! The tables and limits by which a batch is made.

use super::super::batch::{Lane, lane_of};
use super::super::message::{FlowId, Record, SubscriptionId};
use super::super::payload::PayloadLimits;
use super::super::routing_history::RoutingHistory;
use super::super::subscription_ids::Binding;

/// The tables and limits by which a batch is made.
pub struct BatchContext<'a> {
    /// The routing table of each record.
    pub tables: &'a RoutingHistory,
    /// The meaning of a subscription identifier.
    pub binding_of: &'a dyn Fn(SubscriptionId) -> Option<Binding<'a>>,
    /// Number of lanes.
    pub lanes: u32,
    /// Limits of a payload.
    pub payload: &'a PayloadLimits,
    /// Most messages of a batch, counted once for each flow.
    pub max_pairs: usize,
    /// Most payload bytes of a batch.
    pub max_bytes: usize,
    /// Most records to scan for one batch. It keeps a turn of the router short, even if a million records are not for
    /// the lane.
    pub scan_limit: usize,
    /// Most flows of a lane that may lag at the same time.
    pub max_lagging: usize,
}

impl BatchContext<'_> {
    /// The flows of `lane` that a record belongs to, by the routing table of its time.
    pub(super) fn flows_of(&self, record: &Record, lane: Lane) -> Vec<FlowId> {
        let mut flows = Vec::new();
        if let Some(table) = self.tables.at(record.offset) {
            table.route(&record.topic, &record.delivery.subscription_ids, self.binding_of, &mut flows);
            flows.retain(|flow| lane_of(*flow, self.lanes) == lane);
        }
        flows
    }
}
