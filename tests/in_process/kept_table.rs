//! The routing that a gateway keeps for its next start, read beside it.

use std::path::Path;

use mqtt_gateway::domain::message::Offset;
use mqtt_gateway::domain::routing_history::RoutingHistory;
use mqtt_gateway::inbox::KeptTables;

use test_support::eventually;

/// Waits until messages of this filter are routed to `flows` flows. Until the broker has confirmed all changes of the
/// subscriptions, they are routed to leaving flows too: so this is the end of an edit, and of a handover.
pub(crate) fn wait_until_routed_to(flows: usize, filter: &str, inbox: &Path) {
    let kept = KeptTables::new(inbox);
    eventually(&format!("{filter} to be routed to {flows} flows"), || {
        let history = RoutingHistory::from_text(&kept.read().unwrap()?).unwrap();
        (history.at(Offset::MAX)?.flows_of_filter(filter).len() == flows).then_some(())
    });
}
