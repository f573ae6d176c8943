//! The routing table: topic filters and their flows. A table is immutable and is replaced as a whole.

use std::collections::BTreeSet;

use super::flow::Flow;
use super::message::{FlowId, SubscriptionId};
use super::subscription_ids::Binding;
use super::topic::{FilterError, TopicFilter, is_reserved};
use super::trie::FilterTrie;

/// All active flows by topic filter.
#[derive(Debug, Default)]
pub struct RoutingTable {
    flows: Vec<Flow>,
    /// Ordered by the filter's text.
    groups: Vec<FilterFlows>,
    /// Indexes into `groups`.
    trie: FilterTrie<usize>,
}

/// The flows of one filter, in order of their ids.
#[derive(Debug)]
struct FilterFlows {
    filter: TopicFilter,
    flows: Vec<FlowId>,
}

/// A flow with an invalid topic filter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedFlow {
    /// The flow.
    pub flow: Flow,
    /// The error in its topic filter.
    pub error: FilterError,
}

impl RoutingTable {
    /// Creates a table of the flows with a valid topic filter. Returns the other flows with their errors.
    #[must_use]
    pub fn new(flows: Vec<Flow>) -> (RoutingTable, Vec<RejectedFlow>) {
        let mut accepted = Vec::with_capacity(flows.len());
        let mut filters = Vec::with_capacity(flows.len());
        let mut rejected = Vec::new();
        for flow in flows {
            match TopicFilter::parse(&flow.topic) {
                Ok(filter) => {
                    filters.push((filter, flow.id));
                    accepted.push(flow);
                }
                Err(error) => rejected.push(RejectedFlow { flow, error }),
            }
        }
        (RoutingTable::over(accepted, groups(filters)), rejected)
    }

    /// Creates a table from [`Self::routes`] of another table. Only the ids of its flows are known.
    #[must_use]
    pub fn from_routes(routes: impl IntoIterator<Item = (String, Vec<FlowId>)>) -> RoutingTable {
        let parsed = routes
            .into_iter()
            .filter_map(|(filter, flows)| TopicFilter::parse(&filter).ok().map(|filter| (filter, flows)));
        let filters =
            parsed.flat_map(|(filter, flows)| flows.into_iter().map(move |id| (filter.clone(), id)));
        RoutingTable::over(Vec::new(), groups(filters.collect()))
    }

    fn over(flows: Vec<Flow>, groups: Vec<FilterFlows>) -> RoutingTable {
        let mut trie = FilterTrie::default();
        for (place, group) in groups.iter().enumerate() {
            trie.insert(&group.filter, place);
        }
        RoutingTable { flows, groups, trie }
    }

    /// Number of filters.
    #[must_use]
    pub fn filter_count(&self) -> usize {
        self.groups.len()
    }

    /// Every filter and its flows.
    pub fn routes(&self) -> impl Iterator<Item = (&str, &[FlowId])> {
        self.groups.iter().map(|group| (group.filter.as_str(), group.flows.as_slice()))
    }

    /// The filters of all flows.
    #[must_use]
    pub fn filters(&self) -> BTreeSet<TopicFilter> {
        self.groups.iter().map(|group| group.filter.clone()).collect()
    }

    /// The active flows, in the order of [`Self::new`].
    #[must_use]
    pub fn flows(&self) -> &[Flow] {
        &self.flows
    }

    /// The flows with exactly this filter, in order of their ids.
    #[must_use]
    pub fn flows_of_filter(&self, filter: &str) -> &[FlowId] {
        match self.groups.binary_search_by(|group| group.filter.as_str().cmp(filter)) {
            Ok(place) => &self.groups[place].flows,
            Err(_) => &[],
        }
    }

    /// Appends the flows of a message to `out`, sorted and without duplicates.
    ///
    /// A broker with subscription identifiers sends one copy for each subscription. A copy belongs to the current flows
    /// of the filters of `ids`, and to the flows for which these filters were subscribed. The latter may have other
    /// filters now, but had these when the broker matched the message.
    ///
    /// Without identifiers, or with an identifier unknown to `binding_of`, the topic determines the flows.
    pub fn route<'m>(
        &self,
        topic: &str,
        ids: &[SubscriptionId],
        binding_of: &dyn Fn(SubscriptionId) -> Option<Binding<'m>>,
        out: &mut Vec<FlowId>,
    ) {
        let start = out.len();
        if ids.is_empty() || !self.route_by_ids(topic, ids, binding_of, out) {
            out.truncate(start);
            self.trie.visit(topic, |&place| out.extend_from_slice(&self.groups[place].flows));
        }
        sort_and_deduplicate_from(start, out);
    }

    /// The flows whose filters match `topic`, sorted and without duplicates.
    #[must_use]
    pub fn flows_of_topic(&self, topic: &str) -> Vec<FlowId> {
        let mut flows = Vec::new();
        self.route(topic, &[], &|_| None, &mut flows);
        flows
    }

    /// Routes by identifiers. Returns false, with `out` undefined, if an identifier is unknown.
    fn route_by_ids<'m>(
        &self,
        topic: &str,
        ids: &[SubscriptionId],
        binding_of: &dyn Fn(SubscriptionId) -> Option<Binding<'m>>,
        out: &mut Vec<FlowId>,
    ) -> bool {
        ids.iter().all(|&id| {
            let binding = binding_of(id);
            if let Some(binding) = binding.filter(|binding| !is_excluded(topic, binding.filter)) {
                self.route_by(binding, out);
            }
            binding.is_some()
        })
    }

    fn route_by(&self, Binding { filter, flows: former }: Binding<'_>, out: &mut Vec<FlowId>) {
        let current = self.flows_of_filter(filter);
        out.extend_from_slice(current);
        if former != current {
            out.extend_from_slice(former);
        }
    }
}

/// Whether the filter must not match this reserved topic (`$…`). Some brokers deliver such messages nevertheless.
fn is_excluded(topic: &str, filter: &str) -> bool {
    is_reserved(topic) && TopicFilter::parse(filter).is_ok_and(|filter| !filter.matches(topic))
}

fn groups(mut filters: Vec<(TopicFilter, FlowId)>) -> Vec<FilterFlows> {
    filters.sort_unstable();
    let mut groups: Vec<FilterFlows> = Vec::new();
    for (filter, flow) in filters {
        match groups.last_mut() {
            Some(group) if group.filter == filter => group.flows.push(flow),
            _ => groups.push(FilterFlows { filter, flows: vec![flow] }),
        }
    }
    groups
}

/// Sorts the flows from index `start` on and removes duplicates.
fn sort_and_deduplicate_from(start: usize, out: &mut Vec<FlowId>) {
    out[start..].sort_unstable();
    let mut kept = start;
    for next in start..out.len() {
        if kept == start || out[kept - 1] != out[next] {
            out[kept] = out[next];
            kept += 1;
        }
    }
    out.truncate(kept);
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests {
    use proptest::prelude::*;

    use super::super::topic::tests::{all_topics, any_filter};
    use super::*;

    fn flow(id: FlowId, topic: &str) -> Flow {
        Flow {
            id,
            code: format!("f{id}"),
            topic: topic.to_owned(),
            action: "STORE_DB".to_owned(),
            endpoint_url: None,
        }
    }

    fn table(topics: &[(FlowId, &str)]) -> RoutingTable {
        let (table, rejected) =
            RoutingTable::new(topics.iter().map(|&(id, topic)| flow(id, topic)).collect());
        assert!(rejected.is_empty());
        table
    }

    fn routed(table: &RoutingTable, topic: &str, ids: &[SubscriptionId]) -> Vec<FlowId> {
        let known = |id| match id {
            1 => Some(Binding { filter: "a/+", flows: &[3, 7] }),
            2 => Some(Binding { filter: "a/b", flows: &[] }),
            3 => Some(Binding { filter: "gone", flows: &[] }),
            4 => Some(Binding { filter: "gone", flows: &[2, 7] }),
            5 => Some(Binding { filter: "a/+", flows: &[2, 7] }),
            _ => None,
        };
        let mut out = Vec::new();
        table.route(topic, ids, &known, &mut out);
        out
    }

    #[test]
    fn identifiers_route_to_their_flows() {
        let table = table(&[(7, "a/+"), (3, "a/+"), (5, "a/b"), (9, "#")]);
        assert_eq!(routed(&table, "a/b", &[1]), [3, 7]);
        assert_eq!(routed(&table, "a/b", &[2]), [5]);
        assert_eq!(routed(&table, "a/b", &[2, 1, 1]), [3, 5, 7]);
        assert!(routed(&table, "a/b", &[3]).is_empty());
    }

    #[test]
    fn former_flows_receive_matched_copies() {
        let table = table(&[(7, "a/+"), (3, "a/+"), (2, "elsewhere")]);
        assert_eq!(routed(&table, "a/b", &[4]), [2, 7], "the filter has no flow now");
        assert_eq!(routed(&table, "a/b", &[5]), [2, 3, 7], "the filter has another flow now");
        assert_eq!(routed(&table, "a/b", &[1]), [3, 7], "subscribed again without it");
    }

    #[test]
    fn unknown_identifiers_route_by_topic() {
        let table = table(&[(7, "a/+"), (3, "a/+"), (5, "a/b"), (9, "#")]);
        assert_eq!(routed(&table, "a/b", &[]), [3, 5, 7, 9]);
        assert_eq!(routed(&table, "a/b", &[1, 9]), [3, 5, 7, 9]);
        assert!(routed(&table, "$SYS/x", &[]).is_empty());
    }

    #[test]
    fn wildcards_never_match_reserved_topics() {
        let table = table(&[(1, "#"), (2, "$test/#"), (3, "$share/g/+/x")]);
        let bindings = ["#", "$test/#", "$share/g/+/x"].map(|filter| Binding { filter, flows: &[] });
        let routed = |topic: &str, ids: &[SubscriptionId]| {
            let mut out = Vec::new();
            table.route(topic, ids, &|id| bindings.get(id as usize).copied(), &mut out);
            out
        };
        assert_eq!(routed("$test/x", &[0, 1, 2]), [2]);
        assert!(routed("$test/x", &[0]).is_empty(), "no fallback to the topic");
        assert_eq!(routed("test/x", &[0, 2]), [1, 3]);
    }

    #[test]
    fn route_appends_to_out() {
        let table = table(&[(1, "a"), (2, "a")]);
        let mut out = vec![9, 1];
        table.route("a", &[], &|_| None, &mut out);
        assert_eq!(out, [9, 1, 1, 2]);
    }

    #[test]
    fn invalid_filter_rejects_one_flow() {
        let (table, rejected) = RoutingTable::new(vec![flow(1, "a/#/b"), flow(2, "a"), flow(3, "")]);
        assert_eq!(table.flows(), [flow(2, "a")]);
        assert_eq!(table.flows_of_filter("a"), [2]);
        assert_eq!(
            rejected,
            [
                RejectedFlow { flow: flow(1, "a/#/b"), error: FilterError::MultiLevelNotLast },
                RejectedFlow { flow: flow(3, ""), error: FilterError::Empty },
            ]
        );
    }

    proptest! {
        #[test]
        fn topic_routes_to_each_flow_once(
            filters in prop::collection::vec(any_filter(), 0..15),
            topic in prop::sample::select(all_topics()),
        ) {
            let flows = filters.iter().zip(1..).map(|(filter, id)| flow(id, filter.as_str())).collect();
            let (table, _) = RoutingTable::new(flows);
            let expected: Vec<FlowId> =
                filters.iter().zip(1..).filter(|(filter, _)| filter.matches(&topic)).map(|(_, id)| id).collect();
            prop_assert_eq!(routed(&table, &topic, &[]), expected);
            prop_assert_eq!(table.filters(), filters.into_iter().collect::<BTreeSet<_>>());
        }

        #[test]
        fn identifier_routes_to_each_flow_once(
            filters in prop::collection::vec(any_filter(), 0..15),
            named in any_filter(),
            had_it in prop::collection::btree_set(1..20_i64, 0..5),
        ) {
            let flows = filters.iter().zip(1..).map(|(filter, id)| flow(id, filter.as_str())).collect();
            let (table, _) = RoutingTable::new(flows);
            let have_it = filters.iter().zip(1..).filter(|(filter, _)| **filter == named).map(|(_, id)| id);
            let expected: BTreeSet<FlowId> = have_it.chain(had_it.iter().copied()).collect();
            let had_it: Vec<FlowId> = had_it.into_iter().collect();
            let mut out = Vec::new();
            let binding = Binding { filter: named.as_str(), flows: &had_it };
            table.route("of no consequence", &[1], &|_| Some(binding), &mut out);
            prop_assert_eq!(out, expected.into_iter().collect::<Vec<_>>());
        }
    }
}
