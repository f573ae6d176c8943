//! The routing that a gateway keeps for its next start, read beside it.

use std::path::Path;

use mqtt_gateway::domain::message::Offset;
use mqtt_gateway::domain::routing_history::RoutingHistory;
use mqtt_gateway::inbox::KeptTables;

use test_support::eventually;

/// Waits until what comes by this filter is for so many flows. Before the broker has confirmed what is subscribed, and
/// no longer, it is for those that leave as well: so this is the end of an edit, and of a handover.
pub(crate) fn wait_until_routed_to(flows: usize, filter: &str, inbox: &Path) {
    let kept = KeptTables::new(inbox);
    eventually(&format!("{filter} to be routed to {flows} flows"), || {
        let history = RoutingHistory::from_text(&kept.read().unwrap()?).unwrap();
        (history.at(Offset::MAX)?.flows_of_filter(filter).len() == flows).then_some(())
    });
}
