use super::super::{Shard, owner_of};
use super::*;

const MINUTE: Duration = Duration::from_mins(1);

fn at(second: u64) -> Duration {
    Duration::from_secs(second)
}

fn flow(id: FlowId) -> Flow {
    Flow {
        id,
        code: format!("F{id}"),
        topic: format!("t/{id}"),
        action: "STORE_DB".to_owned(),
        endpoint_url: None,
    }
}

fn flows(ids: impl IntoIterator<Item = FlowId>) -> Vec<Flow> {
    ids.into_iter().map(flow).collect()
}

fn shard(index: u32, count: u32) -> Role {
    Role::Shard(Shard { index, count })
}

fn replica(role: Role) -> Replica {
    Replica { role, group: None, inbox_id: "own".into(), client_id: "own".to_owned(), is_last_replica: false }
}

fn member(name: &str, role: Role, subscribed_at_us: Option<i64>) -> Member {
    Member {
        inbox_id: name.to_owned(),
        client_id: name.to_owned(),
        role,
        subscribed_at_us,
        handing_over_since_us: None,
        silent_for_us: 0,
    }
}

/// A gateway that has read the flows 1 to 40 between 100 and 110.
fn loaded(replica: Replica) -> Membership {
    let mut membership = Membership::new(replica);
    membership.set_flows(flows(1..=40), 100, 110);
    membership
}

fn ids(flows: &[Flow]) -> BTreeSet<FlowId> {
    flows.iter().map(|flow| flow.id).collect()
}

/// The flows among 1 to 40 of this shard.
fn owned(index: u32, count: u32) -> BTreeSet<FlowId> {
    (1..=40).filter(|id| owner_of(*id, count) == index).collect()
}

impl Membership {
    fn hear(&mut self, second: u64, others: &[Member]) -> Vec<MembershipEvent> {
        self.apply_members(others.to_vec(), at(second), MINUTE);
        self.take_events()
    }

    fn decide(&mut self, second: u64, before: &[Flow]) -> Vec<Flow> {
        self.flows_in_force(Some(before), FormerFlows::default, at(second)).unwrap()
    }

    fn start(&mut self, former: FormerFlows) -> BTreeSet<FlowId> {
        ids(&self.flows_in_force(None, || former, at(0)).unwrap())
    }
}

#[test]
fn lone_gateway_publishes_nothing() {
    let mut alone = loaded(replica(Role::ALONE));
    assert_eq!(alone.hear(0, &[member("own", Role::ALONE, None)]), [], "its own row of before");
    assert_eq!(alone.decide(0, &[]).len(), 40);
    alone.set_subscribed(true);
    assert_eq!((alone.row(), alone.needs_update()), (None, false));
    assert_eq!(alone.hear(3, &[member("other", Role::Leaving, None)]), [MembershipEvent::OthersFound(1)]);
    let row = alone.row().unwrap();
    assert_eq!((row.subscribed_at_us, row.role), (Some(100), Role::ALONE));
    assert!(alone.needs_update());
    assert_eq!(alone.hear(6, &[]), [], "it goes on publishing");
    assert!(alone.row().is_some());
}

#[test]
fn changed_state_is_published_at_once() {
    let mut shard = loaded(replica(shard(0, 2)));
    assert!(shard.needs_update(), "nothing is published yet");
    shard.published = shard.row();
    assert!(!shard.needs_update());
    shard.set_subscribed(true);
    assert!(shard.needs_update());
    shard.update_failed = true;
    assert!(!shard.needs_update(), "a failed write waits for the next update");
    shard.update_failed = false;
    assert!(shard.needs_update());
}

#[test]
fn lasting_dispute_is_reported() {
    let mut own = loaded(replica(shard(0, 2)));
    let others = [member("b", shard(0, 2), None), member("a", shard(0, 3), None)];
    let expected = vec![
        Dispute::SameShard { client_id: "b".to_owned(), index: 0 },
        Dispute::OtherCount { client_id: "a".to_owned(), count: 3 },
    ];
    assert_eq!(own.hear(10, &others), []);
    assert_eq!(own.hear(69, &others), []);
    assert_eq!(own.hear(70, &others), [MembershipEvent::Disputed(expected.clone())]);
    assert_eq!(own.hear(71, &others), [], "reported a moment ago");
    assert_eq!(own.hear(130, &others), [MembershipEvent::Disputed(expected)]);
    assert_eq!(own.hear(131, &others[..1]), [], "another dispute begins");
    assert_eq!(own.hear(132, &[]), [], "it was not reported");
    own.hear(140, &others);
    assert_eq!(own.hear(200, &others).len(), 1);
    assert_eq!(own.hear(201, &[]), [MembershipEvent::Agreed]);
}

#[test]
fn new_flows_wait_for_old_settings() {
    let mut third = loaded(replica(shard(2, 3)));
    let old = [member("0", shard(0, 2), Some(0)), member("1", shard(1, 2), Some(0))];
    let mine = owned(2, 3);
    third.hear(0, &old);
    assert_eq!(third.decide(0, &[]), []);
    assert_eq!(third.take_events(), [MembershipEvent::Waiting(mine.len())]);
    let restarted = [member("0", shard(0, 3), Some(0)), member("1", shard(1, 3), Some(0))];
    third.hear(1, &[old[0].clone(), restarted[1].clone(), member("2", shard(1, 2), Some(0))]);
    assert_eq!(third.decide(1, &[]), [], "one has the old settings");
    third.hear(2, &restarted);
    assert_eq!(ids(&third.decide(2, &[])), mine);
    assert_eq!(third.take_events(), [MembershipEvent::TakenOver(mine.len())]);
}

#[test]
fn waiting_gateway_reports_no_subscription() {
    let mut third = loaded(replica(shard(2, 3)));
    third.hear(0, &[member("0", Role::ALONE, Some(0))]);
    third.decide(0, &[]);
    third.set_subscribed(true);
    assert_eq!(third.row().unwrap().subscribed_at_us, None);
    third.hear(1, &[]);
    third.decide(1, &[]);
    third.set_subscribed(true);
    assert_eq!(third.row().unwrap().subscribed_at_us, Some(100));
}

#[test]
fn lasting_dispute_ends_the_wait() {
    let mut third = loaded(replica(shard(2, 3)));
    let old = [member("0", Role::ALONE, Some(0))];
    third.hear(0, &old);
    assert_eq!(third.decide(0, &[]), []);
    third.hear(60, &old);
    assert_eq!(ids(&third.decide(60, &[])), owned(2, 3));
}

#[test]
fn updates_are_faster_during_a_handover() {
    let mut own = loaded(replica(shard(0, 2)));
    let usual = own.update_interval();
    own.decide(0, &flows(1..=40));
    assert!(own.is_moving_flows() && own.update_interval() < usual);
    own.hear(1, &[member("1", shard(1, 2), Some(110))]);
    own.decide(1, &flows(1..=40));
    assert_eq!(own.update_interval(), usual);
    let mut waiting = loaded(replica(shard(1, 2)));
    waiting.hear(0, &[member("0", Role::ALONE, Some(0))]);
    waiting.decide(0, &[]);
    assert!(waiting.update_interval() < usual);
}

#[test]
fn unfinished_handover_is_reported_again() {
    let mut own = loaded(replica(shard(0, 2)));
    let leaving = flows(owned(1, 2));
    let mut in_force = own.decide(100, &flows(1..=40));
    assert_eq!(in_force.len(), 40, "flows of others stay until those have subscribed them");
    assert_eq!(own.take_events(), [MembershipEvent::HandoverStarted(leaving.clone())]);
    in_force = own.decide(129, &in_force);
    assert_eq!(own.take_events(), []);
    in_force = own.decide(130, &in_force);
    assert_eq!(own.take_events(), [MembershipEvent::HandoverContinues(leaving.clone())]);
    // Two shards of three have subscribed, so the flows of the third are left.
    own.hear(131, &[member("1", shard(1, 3), Some(200))]);
    in_force = own.decide(131, &in_force);
    let left = in_force.len() - owned(0, 2).len();
    assert_eq!(own.take_events(), [MembershipEvent::HandedOver { flows: leaving.len() - left, left }]);
    own.hear(132, &[member("1", shard(1, 2), Some(200))]);
    assert_eq!(ids(&own.decide(132, &in_force)), owned(0, 2));
    assert_eq!(own.take_events(), [MembershipEvent::HandoverFinished(left)]);
}

#[test]
fn restarted_shard_keeps_former_flows() {
    let mut own = loaded(replica(shard(0, 2)));
    let routed = Some(BTreeSet::from([1, 2, 3]));
    let expected = &owned(0, 2) | &BTreeSet::from([1, 2, 3]);
    assert_eq!(own.start(FormerFlows { routed, ..FormerFlows::default() }), expected);
    assert!(!owned(1, 2).is_disjoint(&BTreeSet::from([1, 2, 3])), "some fall to the other shard");
}

#[test]
fn topic_proves_nothing_with_known_tables() {
    let other = *owned(1, 2).first().unwrap();
    let held = BTreeMap::from([(flow(other).topic, vec![])]);
    let start = |routed| {
        let former = FormerFlows { routed, held: held.clone() };
        loaded(replica(shard(0, 2))).start(former).contains(&other)
    };
    assert!(start(None));
    assert!(!start(Some(BTreeSet::new())));
}

#[test]
fn held_subscriptions_name_former_flows() {
    let other = *owned(1, 2).first().unwrap();
    let former = FormerFlows {
        routed: Some(BTreeSet::new()),
        held: BTreeMap::from([("elsewhere".to_owned(), vec![other])]),
    };
    assert!(loaded(replica(shard(0, 2))).start(former).contains(&other));
}

#[test]
fn retiring_gateway_waits_for_all_owners() {
    let mut leaving = loaded(replica(Role::Leaving));
    assert_eq!(leaving.start(FormerFlows::default()).len(), 40, "without tables it may have had any");
    let all = flows(1..=40);
    leaving.hear(1, &[member("0", shard(0, 2), Some(200))]);
    assert_eq!(leaving.decide(1, &all).len(), 40, "it releases all flows at once");
    assert_eq!(leaving.routed_beyond(&all), []);
    leaving.hear(2, &[member("0", shard(0, 2), Some(200)), member("1", shard(1, 2), Some(200))]);
    assert_eq!(leaving.decide(2, &all), []);
    assert_eq!(leaving.routed_beyond(&[]), all, "the broker may have messages for it");
}

#[test]
fn last_replica_releases_its_flows() {
    let mut last = loaded(Replica { is_last_replica: true, ..replica(Role::Leaving) });
    assert_eq!(last.start(FormerFlows::default()).len(), 40);
    assert_eq!(last.decide(1, &flows(1..=40)), []);
    assert!(!last.is_moving_flows());
}

#[test]
fn later_handover_asks_for_a_reload() {
    let mut own = Membership::new(replica(shard(0, 2)));
    let holds = |since_us, silent_for_us| Member {
        handing_over_since_us: Some(since_us),
        silent_for_us,
        ..member("1", shard(1, 2), None)
    };
    own.hear(0, &[holds(500, 0)]);
    assert!(!own.needs_reload(), "nothing was loaded yet");
    own.set_flows(flows(1..=40), 100, 110);
    for (other, expected) in [(holds(101, 0), true), (holds(100, 0), false), (holds(101, 60_000_000), false)]
    {
        own.hear(1, std::slice::from_ref(&other));
        assert_eq!(own.needs_reload(), expected, "{other:?}");
    }
}

#[test]
fn session_sharers_take_no_flows() {
    let mut own = loaded(replica(shard(0, 2)));
    let twin = Member { client_id: "own".to_owned(), ..member("1", shard(1, 2), Some(200)) };
    own.hear(0, &[twin]);
    assert_eq!(own.decide(0, &flows(1..=40)).len(), 40);
}

#[test]
fn unrecorded_filters_have_every_form() {
    let group = ShareGroup::parse("g");
    let mut leaving = loaded(Replica { group, ..replica(Role::Leaving) });
    leaving.set_flows(flows([1]), 100, 110);
    let filters = leaving.possible_filters();
    assert_eq!(filters.iter().map(TopicFilter::as_str).collect::<Vec<_>>(), ["$share/g/t/1", "t/1"]);
    assert!(loaded(replica(Role::ALONE)).possible_filters().is_empty());
}
