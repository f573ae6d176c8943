//! What a reload changes at the broker.

use std::collections::BTreeSet;

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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::topic::tests::any_filter;
    use super::*;

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
