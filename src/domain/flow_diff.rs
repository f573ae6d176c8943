//! The changes of subscriptions after a reload of the flows.

use std::collections::{BTreeSet, HashSet};

use super::flow::Flow;
use super::subscription_ids::Subscriptions;
use super::topic::TopicFilter;

/// Filters to subscribe and to unsubscribe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowDiff {
    /// Wanted filters that are not subscribed, or are subscribed for other flows.
    pub subscribe: Subscriptions,
    /// Subscribed filters that are no longer wanted.
    pub unsubscribe: BTreeSet<TopicFilter>,
}

/// Returns the changes from `subscribed` to `wanted`.
#[must_use]
pub fn diff(subscribed: &Subscriptions, wanted: &Subscriptions) -> FlowDiff {
    let is_other = |(filter, flows): &(&TopicFilter, &Vec<_>)| subscribed.get(*filter) != Some(*flows);
    let subscribe = wanted.iter().filter(is_other).map(|(filter, flows)| (filter.clone(), flows.clone()));
    let unsubscribe = subscribed.keys().filter(|filter| !wanted.contains_key(*filter)).cloned();
    FlowDiff { subscribe: subscribe.collect(), unsubscribe: unsubscribe.collect() }
}

/// Returns the former versions of flows for which the broker may still deliver messages.
///
/// These are flows from `before` and `leaving_already` that are not in `in_force` with the same definition.
#[must_use]
pub fn leaving(in_force: &[Flow], before: &[Flow], leaving_already: &[Flow]) -> Vec<Flow> {
    let mut staying_or_seen: HashSet<&Flow> = in_force.iter().collect();
    let all = before.iter().chain(leaving_already);
    all.filter(|flow| staying_or_seen.insert(flow)).cloned().collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::topic::tests::any_filter;
    use super::*;

    fn flow(id: i64, topic: &str) -> Flow {
        let (code, action) = (format!("F{id}"), "STORE_DB".to_owned());
        Flow { id, code, topic: topic.to_owned(), action, endpoint_url: None }
    }

    #[test]
    fn edited_flow_leaves_its_old_topic() {
        let (old, new, other) = (flow(1, "a"), flow(1, "b"), flow(2, "c"));
        let in_force = [new.clone(), other.clone()];
        let first = leaving(&in_force, &[old.clone(), other.clone()], &[]);
        assert_eq!(first, std::slice::from_ref(&old));
        // Without a connection, the next reload finds no change, and the flow is still leaving.
        assert_eq!(leaving(&in_force, &in_force, &first), std::slice::from_ref(&old));
        // After the edit is reverted, the old version is in force again.
        assert_eq!(leaving(&[old, other.clone()], &[new.clone(), other], &first), [new]);
    }

    fn any_subscriptions() -> impl Strategy<Value = Subscriptions> {
        let flows = prop::collection::btree_set(1..4_i64, 0..3);
        let flows = flows.prop_map(|flows| flows.into_iter().collect());
        prop::collection::btree_map(any_filter(), flows, 0..10)
    }

    proptest! {
        #[test]
        fn diff_is_complete_and_minimal(
            subscribed in any_subscriptions(),
            wanted in any_subscriptions(),
        ) {
            let change = diff(&subscribed, &wanted);
            let stays = |filter: &TopicFilter| subscribed.get(filter) == wanted.get(filter);
            prop_assert!(!change.subscribe.keys().chain(&change.unsubscribe).any(stays));
            let mut then = subscribed.clone();
            then.extend(change.subscribe);
            then.retain(|filter, _| !change.unsubscribe.contains(filter));
            prop_assert_eq!(then, wanted);
        }
    }
}
