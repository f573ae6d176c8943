//! The routing tables and limits for a batch.

use super::super::batch::{Lane, lane_of};
use super::super::message::{FlowId, Record, SubscriptionId};
use super::super::payload::PayloadLimits;
use super::super::routing_history::RoutingHistory;
use super::super::subscription_ids::Binding;

/// The routing tables and limits for a batch.
pub struct BatchContext<'a> {
    /// The routing table of each record.
    pub tables: &'a RoutingHistory,
    /// Looks up the filter and flows of a subscription identifier.
    pub binding_of: &'a dyn Fn(SubscriptionId) -> Option<Binding<'a>>,
    /// Number of lanes.
    pub lanes: u32,
    /// Limits of a payload.
    pub payload: &'a PayloadLimits,
    /// Maximum number of messages in a batch, counted once for each flow.
    pub max_pairs: usize,
    /// Maximum payload bytes of a batch.
    pub max_bytes: usize,
    /// Maximum number of scanned records for a batch. It bounds the time in the router, even if a million records
    /// belong to other lanes.
    pub scan_limit: usize,
    /// Maximum number of lagging flows of a lane.
    pub max_lagging: usize,
}

impl BatchContext<'_> {
    /// Returns the flows of `lane` for a record, by the routing table of its time.
    pub(super) fn flows_of(&self, record: &Record, lane: Lane) -> Vec<FlowId> {
        let mut flows = Vec::new();
        if let Some(table) = self.tables.at(record.offset) {
            table.route(&record.topic, &record.delivery.subscription_ids, self.binding_of, &mut flows);
            flows.retain(|flow| lane_of(*flow, self.lanes) == lane);
        }
        flows
    }
}
