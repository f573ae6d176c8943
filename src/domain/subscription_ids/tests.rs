use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

fn assign(ids: &mut SubscriptionIds, filter: &str, flows: &[FlowId]) -> SubscriptionId {
    ids.assign([(filter, flows)].into_iter()).unwrap()[0]
}

#[test]
fn identifier_changes_with_the_flows() {
    let mut ids = SubscriptionIds::starting_at(5);
    assert_eq!(assign(&mut ids, "a", &[1, 2]), 5);
    assert_eq!(assign(&mut ids, "b", &[3]), 6);
    ids.mark_unsubscribed("a");
    assert_eq!(assign(&mut ids, "a", &[1, 2]), 5);
    assert_eq!(assign(&mut ids, "a", &[2]), 7, "one has left");
    assert_eq!(assign(&mut ids, "a", &[1, 2]), 8, "and is back");
    assert_eq!(assign(&mut ids, "a", &[]), 8, "by a broker that names no subscriptions");
    let bindings = ids.bindings();
    for (id, filter, flows) in [(5, "a", &[1, 2][..]), (6, "b", &[3]), (7, "a", &[2]), (8, "a", &[1, 2])] {
        assert_eq!(bindings.get(id), Some(Binding { filter, flows }), "{id}");
    }
    assert_eq!(bindings.get(9), None);
}

#[test]
fn avoided_filter_is_not_held_until_granted() {
    let mut ids = SubscriptionIds::starting_at(1);
    assign(&mut ids, "a", &[1]);
    assign(&mut ids, "b", &[1]);
    ids.avoid("a");
    let is_held = |ids: &SubscriptionIds| ids.held().any(|(filter, _)| filter == "a");
    assert!(!is_held(&ids));
    ids.mark_all_held();
    assert!(!is_held(&ids), "at another broker");
    assign(&mut ids, "a", &[1]);
    assign(&mut ids, "a", &[1, 2]);
    assert!(!is_held(&ids), "asked for once more");
    let read: SubscriptionIds = serde_json::from_value(serde_json::json!(ids)).unwrap();
    assert_eq!(read.avoided().collect::<Vec<_>>(), ["a"]);
    ids.grant("a");
    assert!(is_held(&ids));
    assert_eq!(ids.avoided().count(), 0);
}

#[test]
fn identifiers_end_at_the_maximum() {
    let mut ids = SubscriptionIds::starting_at(MAX_ID);
    assert_eq!(assign(&mut ids, "a", &[1]), MAX_ID);
    assert_eq!(ids.assign([("a", &[1][..]), ("b", &[1])].into_iter()), None);
}

#[test]
fn oldest_replaced_ids_are_evicted_first() {
    let mut ids = SubscriptionIds::starting_at(1);
    let many: Vec<FlowId> = (0..FlowId::try_from(MAX_REPLACED / 10).unwrap()).collect();
    for turn in 0..30 {
        assign(&mut ids, "a", &[&[-turn], &many[1..]].concat());
    }
    let bindings = ids.bindings();
    let known = (1..=30).filter(|id| bindings.get(*id).is_some());
    assert_eq!(known.collect::<Vec<_>>(), (21..=30).collect::<Vec<_>>());

    let too_many: Vec<FlowId> = (0..FlowId::try_from(MAX_REPLACED).unwrap()).collect();
    let mut ids = SubscriptionIds::starting_at(1);
    for turn in 0..10 {
        assign(&mut ids, "a", &[&[-turn], &too_many[..]].concat());
    }
    assert_eq!(ids.replaced.len(), MIN_REPLACED);
}

#[test]
fn unsubscribed_filters_are_bounded() {
    let mut ids = SubscriptionIds::starting_at(1);
    assign(&mut ids, "subscribed", &[1]);
    assign(&mut ids, "avoided", &[1]);
    ids.avoid("avoided");
    let filters: Vec<String> = (0..MAX_UNSUBSCRIBED + 2).map(|n| format!("t/{n}")).collect();
    let given = ids.assign(filters.iter().map(|filter| (filter.as_str(), &[7][..]))).unwrap();
    for filter in &filters {
        ids.mark_unsubscribed(filter);
    }

    ids.mark_all_held();
    let held: BTreeSet<&str> = ids.held().map(|(filter, _)| filter).collect();
    assert_eq!(held.len(), 1 + MAX_UNSUBSCRIBED);
    assert!(held.contains("subscribed") && held.contains("t/2"));
    assert!(!held.contains("t/0") && !held.contains("t/1"), "the lowest identifiers");
    assert_eq!(ids.avoided().collect::<Vec<_>>(), ["avoided"]);

    let next = ids.next_id;
    assert_eq!(assign(&mut ids, "t/0", &[7]), next);
    let bindings = ids.bindings();
    for (id, filter) in given.into_iter().zip(&filters) {
        assert_eq!(bindings.get(id), Some(Binding { filter, flows: &[7] }), "{id}");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Subscribe(Vec<(u8, BTreeSet<FlowId>)>),
    Unsubscribe(u8),
    AssumeAll,
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let flows = prop::collection::btree_set(1..5_i64, 0..4);
    prop_oneof![
        4 => prop::collection::vec((0..4_u8, flows), 0..4).prop_map(Step::Subscribe),
        2 => (0..4_u8).prop_map(Step::Unsubscribe),
        1 => Just(Step::AssumeAll),
        1 => Just(Step::Restart),
    ]
}

proptest! {
    #[test]
    fn identifier_meaning_never_changes(
        steps in prop::collection::vec(step(), 1..40),
    ) {
        let mut ids = SubscriptionIds::starting_at(1);
        let mut given: BTreeMap<SubscriptionId, (String, Vec<FlowId>)> = BTreeMap::new();
        for step in steps {
            match step {
                Step::Subscribe(wanted) => for (filter, flows) in wanted {
                    let (filter, flows) = (filter.to_string(), flows.into_iter().collect::<Vec<_>>());
                    let id = assign(&mut ids, &filter, &flows);
                    let binding = given.entry(id).or_insert_with(|| (filter.clone(), flows.clone()));
                    prop_assert_eq!(&binding.0, &filter);
                    prop_assert!(flows.is_empty() || binding.1 == flows, "{} of {:?}", id, binding);
                    prop_assert!(ids.held().any(|held| held == (filter.as_str(), &binding.1[..])));
                },
                Step::Unsubscribe(filter) => {
                    ids.mark_unsubscribed(&filter.to_string());
                    prop_assert!(ids.held().all(|(held, _)| held != filter.to_string()));
                }
                Step::AssumeAll => ids.mark_all_held(),
                Step::Restart => {
                    ids = serde_json::from_str(&serde_json::to_string(&ids).unwrap()).unwrap();
                }
            }
            let bindings = ids.bindings();
            for (id, (filter, flows)) in &given {
                prop_assert_eq!(bindings.get(*id), Some(Binding { filter, flows }));
            }
        }
    }
}
