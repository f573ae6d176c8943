//! What a reload changes at the broker.

use std::collections::{BTreeSet, HashSet};

use super::flow::Flow;
use super::topic::TopicFilter;

/// Filters to subscribe and to unsubscribe.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FlowDiff {
    /// Wanted, but not subscribed.
    pub subscribe: BTreeSet<TopicFilter>,
    /// Subscribed, but no longer wanted.
    pub unsubscribe: BTreeSet<TopicFilter>,
}

/// What leads from `subscribed` to `wanted`.
#[must_use]
pub fn diff(subscribed: &BTreeSet<TopicFilter>, wanted: &BTreeSet<TopicFilter>) -> FlowDiff {
    FlowDiff {
        subscribe: wanted.difference(subscribed).cloned().collect(),
        unsubscribe: subscribed.difference(wanted).cloned().collect(),
    }
}

/// The flows that are not in force any more, in the form in which messages may still come for them:
/// those that were in force before, and those that had been leaving already.
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
    fn an_edited_flow_keeps_its_old_topic_until_it_has_left() {
        let (old, new, other) = (flow(1, "a"), flow(1, "b"), flow(2, "c"));
        let in_force = [new.clone(), other.clone()];
        let first = leaving(&in_force, &[old.clone(), other.clone()], &[]);
        assert_eq!(first, std::slice::from_ref(&old));
        // The broker is away: the next reload finds nothing new, and it still leaves.
        assert_eq!(leaving(&in_force, &in_force, &first), std::slice::from_ref(&old));
        // Edited back, it is in force again.
        assert_eq!(leaving(&[old, other.clone()], &[new.clone(), other], &first), [new]);
    }

    proptest! {
        #[test]
        fn the_diff_leads_to_what_is_wanted_and_touches_nothing_else(
            subscribed in prop::collection::btree_set(any_filter(), 0..10),
            wanted in prop::collection::btree_set(any_filter(), 0..10),
        ) {
            let change = diff(&subscribed, &wanted);
            prop_assert!(change.subscribe.is_disjoint(&subscribed));
            prop_assert!(change.unsubscribe.is_subset(&subscribed));
            let kept: BTreeSet<_> = subscribed.difference(&change.unsubscribe).cloned().collect();
            prop_assert_eq!(kept.union(&change.subscribe).cloned().collect::<BTreeSet<_>>(), wanted);
        }
    }
}
