//! Selects the filters to subscribe, so that copies of one message cannot be mistaken for several messages.
//!
//! An MQTT 5 broker with subscription identifiers names the subscription in every copy, so all filters are subscribed
//! unchanged. Any other broker may send one copy for each matching filter, and the copies are indistinguishable. There,
//! a covered filter is not subscribed, and overlapping filters are replaced by their join. A join may match additional
//! topics (`a/+` and `+/b` become `+/+`); the routing table drops their messages.

use std::collections::BTreeSet;

use super::replicas::ShareGroup;
use super::topic::TopicFilter;
use super::trie::FilterTrie;

/// Returns the filters to subscribe for `filters`.
///
/// Shared subscriptions are unchanged, because a join would change the messages of their group. Only the filters of
/// `own_group` are joined with each other, because all its members have the same filters.
#[must_use]
pub fn plan(
    filters: &BTreeSet<TopicFilter>,
    broker_names_subscriptions: bool,
    own_group: Option<&ShareGroup>,
) -> BTreeSet<TopicFilter> {
    if broker_names_subscriptions {
        return filters.clone();
    }
    let (mut by_itself, mut of_the_group, mut planned) =
        (Disjoint::default(), Disjoint::default(), BTreeSet::new());
    for filter in filters {
        let within = own_group.and_then(|group| group.filter_within(filter.as_str()));
        match within.map(TopicFilter::parse) {
            Some(Ok(within)) => of_the_group.add(&within),
            _ if filter.is_shared() => _ = planned.insert(filter.clone()),
            _ => by_itself.add(filter),
        }
    }
    planned.extend(by_itself.filters);
    let shared =
        of_the_group.filters.iter().filter_map(|filter| own_group.map(|group| group.filter(filter.as_str())));
    planned.extend(shared.filter_map(|shared| TopicFilter::parse(&shared).ok()));
    planned
}

/// A set of filters without overlaps.
#[derive(Default)]
struct Disjoint {
    filters: BTreeSet<TopicFilter>,
    /// Finds filters that may overlap. Also contains replaced filters, which are no longer in `filters`.
    ever_added: FilterTrie<TopicFilter>,
}

impl Disjoint {
    fn add(&mut self, filter: &TopicFilter) {
        let mut wanted = filter.clone();
        loop {
            let met = self.overlapping(&wanted);
            if met.iter().any(|other| other.covers(&wanted)) {
                return;
            }
            if met.is_empty() {
                break;
            }
            // The join may overlap further filters, so the search is repeated.
            for other in met {
                self.filters.remove(&other);
                wanted = merge(wanted, &other);
            }
        }
        self.ever_added.insert(&wanted, wanted.clone());
        self.filters.insert(wanted);
    }

    fn overlapping(&self, wanted: &TopicFilter) -> Vec<TopicFilter> {
        let mut met = Vec::new();
        self.ever_added.visit_near(wanted, |other| {
            if self.filters.contains(other) && wanted.overlaps(other) {
                met.push(other.clone());
            }
        });
        met
    }
}

/// Returns one filter for two that overlap: the wider one unchanged, or their join.
fn merge(wanted: TopicFilter, other: &TopicFilter) -> TopicFilter {
    if wanted.covers(other) {
        return wanted;
    }
    // Overlapping filters always have a join.
    wanted.join(other).unwrap_or(wanted)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::topic::tests::{all_topics, any_filter};
    use super::*;

    fn filters(raw: &[&str]) -> BTreeSet<TopicFilter> {
        raw.iter().map(|raw| TopicFilter::parse(raw).expect(raw)).collect()
    }

    #[test]
    fn identifiers_allow_overlapping_filters() {
        let all = filters(&["a/+", "+/b", "#", "$share/g/#"]);
        assert_eq!(plan(&all, true, None), all);
    }

    #[test]
    fn overlapping_filters_are_joined() {
        let cases: [(&[&str], &[&str]); 7] = [
            (&["a/b", "a/+", "c"], &["a/+", "c"]),
            (&["a/+", "+/b"], &["+/+"]),
            (&["a/+", "+/b", "c/d", "c/d/e"], &["+/+", "c/d/e"]),
            (&["a/b/#", "a/+/c", "a/x"], &["a/+/#"]),
            (&["#", "$SYS/#", "a"], &["#", "$SYS/#"]),
            (&["#", "+/#"], &["#"]),
            (&["$share/g/a/+", "$share/h/a/b", "a/b", "a/+"], &["$share/g/a/+", "$share/h/a/b", "a/+"]),
        ];
        for (given, expected) in cases {
            assert_eq!(plan(&filters(given), false, None), filters(expected), "{given:?}");
        }
    }

    #[test]
    fn own_group_filters_are_joined() {
        let group = ShareGroup::parse("g").unwrap();
        let given = filters(&["$share/g/a/+", "$share/g/+/b", "$share/g/c", "$share/h/a/b", "a/b"]);
        let expected = filters(&["$share/g/+/+", "$share/g/c", "$share/h/a/b", "a/b"]);
        assert_eq!(plan(&given, false, Some(&group)), expected);
        assert_eq!(plan(&given, true, Some(&group)), given);
    }

    proptest! {
        #[test]
        fn plan_covers_topics_without_overlap(
            given in prop::collection::btree_set(any_filter(), 0..12),
            topics in prop::collection::vec(prop::sample::select(all_topics()), 60),
        ) {
            let planned = plan(&given, false, None);
            for a in &planned {
                prop_assert!(planned.iter().all(|b| a == b || !a.overlaps(b)), "{:?}", planned);
            }
            for filter in &given {
                prop_assert!(planned.iter().any(|wide| wide.covers(filter)), "{} lost in {:?}", filter, planned);
            }
            for topic in topics {
                let matching = planned.iter().filter(|filter| filter.matches(&topic)).count();
                prop_assert!(matching <= 1);
                prop_assert!(matching == 1 || !given.iter().any(|filter| filter.matches(&topic)));
            }
        }

        #[test]
        fn plan_is_idempotent(given in prop::collection::btree_set(any_filter(), 0..12)) {
            let planned = plan(&given, false, None);
            prop_assert_eq!(plan(&planned, false, None), planned);
        }
    }
}
