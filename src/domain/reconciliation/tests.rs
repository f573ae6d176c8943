//! A broker and a router that perform the steps.

use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;

use super::super::broker::MqttVersion;
use super::super::replicas::{FormerFlows, Member, Replica, ShareGroup};
use super::super::routing::RoutingTable;
use super::*;

fn flow(id: FlowId, topic: &str) -> Flow {
    let (code, action) = (format!("F{id}"), "STORE_DB".to_owned());
    Flow { id, code, topic: topic.to_owned(), action, endpoint_url: None }
}

fn flows(topics: &[&str]) -> Vec<Flow> {
    topics.iter().zip(1..).map(|(topic, id)| flow(id, topic)).collect()
}

fn filters(topics: &[&str]) -> BTreeSet<TopicFilter> {
    topics.iter().map(|topic| TopicFilter::parse(topic).unwrap()).collect()
}

fn terms() -> BrokerConnection {
    BrokerConnection {
        server: "broker:1883".into(),
        version: MqttVersion::V5,
        names_subscriptions: true,
        shares_subscriptions: true,
        session_kept: true,
    }
}

/// The record of a gateway that has held these filters; `None` if the record is lost.
struct Record(Option<BTreeSet<TopicFilter>>);

impl SubscriptionRecord for Record {
    fn former_flows(&self) -> FormerFlows {
        FormerFlows::default()
    }

    fn held_at(&self, _: &str) -> Option<Subscriptions> {
        Some(self.0.iter().flatten().map(|filter| (filter.clone(), vec![])).collect())
    }

    fn exists(&self) -> bool {
        self.0.is_some()
    }
}

/// Reconciliation with a broker and a router.
struct World {
    state: Reconciliation,
    record: Record,
    subscribed: Subscriptions,
    table: Arc<RoutingTable>,
    refuses: BTreeSet<TopicFilter>,
    /// The broker performs requests, and its answers are lost.
    is_mute: bool,
    /// The connection is lost at the next request.
    loses_connection: bool,
    is_router_down: bool,
    steps: Vec<String>,
}

impl World {
    fn new(role: Role) -> Self {
        let group = role.group().cloned();
        let (inbox_id, client_id) = ("own".into(), "own".to_owned());
        let replica = Replica { role, group, inbox_id, client_id, is_last_replica: false };
        Self {
            state: Reconciliation::new(Membership::new(replica)),
            record: Record(Some(BTreeSet::new())),
            subscribed: Subscriptions::new(),
            table: Arc::default(),
            refuses: BTreeSet::new(),
            is_mute: false,
            loses_connection: false,
            is_router_down: false,
            steps: Vec::new(),
        }
    }

    /// A gateway that has these flows and subscribed them.
    fn subscribed(topics: &[&str]) -> Self {
        let mut world = Self::new(Role::ALONE);
        world.state.connect(terms());
        let result = world.load(flows(topics));
        assert_eq!(result.is_subscribed, Some(true));
        world.steps.clear();
        world
    }

    fn load(&mut self, flows: Vec<Flow>) -> PassResult {
        self.state.work.reload = true;
        self.run(Some(flows))
    }

    /// Runs a pass. Without flows their load has failed, or was not asked for.
    fn run(&mut self, read: Option<Vec<Flow>>) -> PassResult {
        let mut pass = self.state.start().unwrap();
        assert!(self.state.start().is_none(), "one pass at a time");
        let has_read = read.is_some();
        if let Some(flows) = read {
            pass.state.membership.set_flows(flows, 100, 110);
        }
        pass.plan(has_read, &self.record, Duration::ZERO);
        while let Some(step) = pass.next_step() {
            let answer = self.perform(&step);
            pass.apply_answer(step, answer);
            self.assert_routed();
        }
        self.state.finish(pass)
    }

    fn perform(&mut self, step: &PassStep) -> Option<BTreeSet<TopicFilter>> {
        fn names<'a>(filters: impl IntoIterator<Item = &'a TopicFilter>) -> String {
            filters.into_iter().map(TopicFilter::as_str).collect::<Vec<_>>().join(" ")
        }
        let granted = |filters: &Subscriptions| {
            let granted = filters.iter().filter(|(filter, _)| !self.refuses.contains(*filter));
            granted.map(|(filter, flows)| (filter.clone(), flows.clone())).collect::<Subscriptions>()
        };
        match step {
            PassStep::Route(table) => {
                self.steps.push(format!("route {}", names(&table.filters())));
                if self.is_router_down {
                    return None;
                }
                self.table = Arc::clone(table);
                return Some(BTreeSet::new());
            }
            PassStep::Subscribe(filters) => {
                self.steps.push(format!("subscribe {}", names(filters.keys())));
                self.subscribed.extend(granted(filters));
            }
            PassStep::Resync(filters) => {
                self.steps.push(format!("resync {}", names(filters.keys())));
                self.subscribed = granted(filters);
            }
            PassStep::Unsubscribe(filters) => {
                self.steps.push(format!("unsubscribe {}", names(filters)));
                self.subscribed.retain(|filter, _| !filters.contains(filter));
            }
        }
        if std::mem::take(&mut self.loses_connection) {
            self.state.disconnect();
            return None;
        }
        (!self.is_mute).then(|| self.refuses.clone())
    }

    /// Every message that the broker sends finds its flows. Without identifiers, filters may be joined.
    fn assert_routed(&self) {
        let routed = self.table.filters();
        let is_routed = |filter: &TopicFilter| routed.contains(filter);
        let are_joined = !self.state.terms().names_subscriptions;
        assert!(are_joined || self.subscribed.keys().all(is_routed), "{:?}", self.steps);
    }

    fn take_steps(&mut self) -> Vec<String> {
        std::mem::take(&mut self.steps)
    }
}

// ---- flows

#[test]
fn new_flow_is_routed_before_subscribed() {
    let mut world = World::subscribed(&["a"]);
    let result = world.load(flows(&["a", "b"]));
    assert_eq!(world.take_steps(), ["route a b", "subscribe b"]);
    assert_eq!(result.newly_active, [flow(2, "b")]);
}

#[test]
fn edited_filter_is_routed_until_unsubscribed() {
    let mut world = World::subscribed(&["a"]);
    world.load(flows(&["b"]));
    assert_eq!(world.take_steps(), ["route a b", "subscribe b", "unsubscribe a", "route b"]);
}

#[test]
fn shared_filter_stays_subscribed() {
    let mut world = World::subscribed(&["a", "a", "b"]);
    world.load(vec![flow(2, "a")]);
    assert_eq!(world.take_steps(), ["route a b", "subscribe a", "unsubscribe b", "route a"]);
    assert_eq!(world.subscribed.into_values().collect::<Vec<_>>(), [[2]], "with an identifier for its flow");
}

#[test]
fn shared_filter_stays_without_identifiers() {
    let mut world = World::new(Role::ALONE);
    world.state.connect(BrokerConnection { names_subscriptions: false, ..terms() });
    world.load(flows(&["a", "a"]));
    world.steps.clear();
    world.load(vec![flow(2, "a")]);
    assert_eq!(world.take_steps(), ["route a", "route a"]);
}

#[test]
fn failed_load_keeps_the_last_flows() {
    let mut world = World::subscribed(&["a"]);
    world.state.work.reload = true;
    let result = world.run(None);
    assert_eq!((result.is_subscribed, result.needs_retry), (Some(true), false));
    assert_eq!(world.take_steps(), [""; 0]);
    assert_eq!(world.state.flows.in_force, Some(flows(&["a"])));
}

#[test]
fn failed_load_is_outdated_until_repeated() {
    let mut world = World::subscribed(&["a"]);
    assert!(!world.state.is_outdated());
    world.state.work.reload = true;
    world.run(None);
    world.state.work.announce = true;
    world.run(None);
    assert!(world.state.is_outdated(), "a pass without a load changes nothing");
    world.load(flows(&["a", "b"]));
    assert!(!world.state.is_outdated());
}

#[test]
fn unread_brokers_are_outdated() {
    let mut world = World::subscribed(&["a"]);
    world.state.work.reload = true;
    let mut pass = world.state.start().unwrap();
    pass.state.membership.set_flows(flows(&["a"]), 100, 110);
    pass.has_failed_load = true;
    pass.plan(true, &world.record, Duration::ZERO);
    world.state.finish(pass);
    assert!(world.state.is_outdated());
}

#[test]
fn first_load_is_retried() {
    let mut world = World::new(Role::ALONE);
    world.state.connect(terms());
    assert!(world.run(None).needs_retry);
    let expected = PendingWork { reload: true, resync: true, ..PendingWork::default() };
    assert_eq!(world.state.work, expected, "the subscriptions of before are still unchecked");
    assert_eq!(world.take_steps(), [""; 0]);
}

#[test]
fn invalid_filter_is_reported_once() {
    let mut world = World::subscribed(&["a"]);
    let mut reported = |topics: &[&str]| {
        world.state.work.reload = true;
        let mut pass = world.state.start().unwrap();
        pass.state.membership.set_flows(flows(topics), 100, 110);
        pass.plan(true, &world.record, Duration::ZERO);
        let reported = pass.new_rejections.iter().map(|rejected| rejected.flow.id).collect::<Vec<_>>();
        assert!(pass.rejected() >= reported.len());
        world.state.finish(pass);
        reported
    };
    assert_eq!(reported(&["a", "b/#/c"]), [2]);
    assert_eq!(reported(&["a", "b/#/c", "x/#/y"]), [3]);
    assert_eq!(reported(&["a", ""]), [2], "another error");
    assert_eq!(reported(&["a", "b"]), [0; 0]);
    assert_eq!(reported(&["a", ""]), [2]);
}

#[test]
fn announced_table_is_sent() {
    let mut world = World::subscribed(&["a"]);
    world.state.work.announce = true;
    world.run(None);
    assert_eq!(world.take_steps(), ["route a"]);
}

#[test]
fn nothing_is_subscribed_without_a_route() {
    let mut world = World::subscribed(&["a"]);
    world.is_router_down = true;
    let result = world.load(flows(&["a", "b"]));
    assert!(result.needs_retry && result.newly_active.is_empty());
    assert!(world.run(None).needs_retry);
    assert_eq!(world.take_steps(), ["route a b"; 2]);
    world.is_router_down = false;
    assert_eq!(world.run(None).newly_active, [flow(2, "b")]);
    assert_eq!(world.take_steps(), ["route a b", "resync a b"]);
}

#[test]
fn lost_route_is_repeated_without_a_connection() {
    let mut world = World::subscribed(&["a"]);
    world.state.disconnect();
    world.is_router_down = true;
    assert!(world.load(flows(&["b"])).needs_retry);
    world.is_router_down = false;
    assert!(!world.run(None).needs_retry);
    assert_eq!(world.take_steps(), ["route a b"; 2]);
}

#[test]
fn unchanged_membership_has_no_steps() {
    let mut world = World::subscribed(&["a"]);
    world.state.work.membership = true;
    let result = world.run(None);
    assert_eq!((result, world.take_steps().len()), (PassResult::default(), 0));
}

// ---- the broker

#[test]
fn failed_subscribe_is_retried() {
    let mut world = World::subscribed(&["a", "b"]);
    world.is_mute = true;
    let result = world.load(flows(&["a", "c"]));
    assert!(result.needs_retry && result.newly_active.is_empty());
    assert_eq!(world.take_steps(), ["route a b c", "subscribe c"], "b stays subscribed and routed");
    world.is_mute = false;
    let result = world.run(None);
    assert_eq!((result.is_subscribed, result.needs_retry), (Some(true), false));
    assert_eq!(world.take_steps(), ["resync a c", "route a c"]);
}

#[test]
fn refusal_disturbs_no_other_flow() {
    let mut world = World::subscribed(&["a"]);
    world.refuses = filters(&["b"]);
    let result = world.load(flows(&["a", "b", "c"]));
    assert_eq!((result.is_subscribed, result.newly_active), (Some(true), vec![flow(3, "c")]));
    world.steps.clear();
    world.refuses.clear();
    assert_eq!(world.load(flows(&["a", "b", "c"])).newly_active, [flow(2, "b")]);
    assert_eq!(world.take_steps(), ["subscribe b"], "tried again at each reload");
}

#[test]
fn refused_filter_is_unsubscribed_when_unwanted() {
    let mut world = World::subscribed(&["a"]);
    world.refuses = filters(&["b"]);
    world.load(flows(&["a", "b"]));
    world.steps.clear();
    world.load(flows(&["a"]));
    assert_eq!(world.take_steps(), ["route a b", "unsubscribe b", "route a"]);
}

#[test]
fn no_message_arrives_without_a_grant() {
    let mut world = World::new(Role::ALONE);
    world.refuses = filters(&["a", "b"]);
    world.state.connect(terms());
    assert_eq!(world.load(flows(&["a", "b"])).is_subscribed, Some(false));
    world.refuses = filters(&["a"]);
    assert_eq!(world.load(flows(&["a", "b"])).is_subscribed, Some(true));
    assert_eq!(world.load(vec![]).is_subscribed, Some(true), "nothing is wanted");
}

#[test]
fn connect_resyncs_all_subscriptions() {
    let mut world = World::subscribed(&["a"]);
    world.state.disconnect();
    let result = world.load(flows(&["b"]));
    assert_eq!((result.is_subscribed, result.needs_retry), (None, false));
    assert_eq!(world.take_steps(), ["route a b"], "the broker may still send messages of before");
    world.state.connect(terms());
    world.run(None);
    assert_eq!(world.take_steps(), ["resync b", "route b"]);
}

#[test]
fn lost_connection_confirms_nothing() {
    let mut world = World::subscribed(&["a"]);
    world.loses_connection = true;
    let result = world.load(flows(&["a", "b"]));
    assert_eq!((result.is_subscribed, result.needs_retry), (None, true));
    assert!(!world.state.work.resync, "the next connect does it");
}

#[test]
fn former_connections_confirm_nothing() {
    let mut world = World::subscribed(&["a"]);
    world.state.work.reload = true;
    let pass = world.state.start().unwrap();
    world.state.connect(terms());
    assert_eq!(world.state.finish(pass).is_subscribed, None);
    assert!(world.state.start().is_some(), "a resync is due");
}

#[test]
fn kept_session_activates_no_flow_again() {
    let mut world = World::subscribed(&["a"]);
    world.state.connect(terms());
    assert_eq!(world.run(None).newly_active, []);
    world.state.connect(BrokerConnection { session_kept: false, ..terms() });
    assert_eq!(world.run(None).newly_active, flows(&["a"]));
}

#[test]
fn unfit_broker_gets_no_shared_subscription() {
    let mut world = World::new(Role::InGroup(ShareGroup::parse("g").unwrap()));
    world.state.connect(BrokerConnection { shares_subscriptions: false, ..terms() });
    assert_eq!(world.load(flows(&["a"])).is_subscribed, Some(false));
    assert_eq!(world.take_steps(), ["route $share/g/a"]);
    world.state.connect(terms());
    assert_eq!(world.run(None).is_subscribed, Some(true));
    assert_eq!(world.take_steps(), ["resync $share/g/a"]);
}

// ---- retirement

fn subscribed_group() -> Member {
    Member {
        inbox_id: "other".to_owned(),
        client_id: "other".to_owned(),
        role: Role::InGroup(ShareGroup::parse("g").unwrap()),
        subscribed_at_us: Some(200),
        handing_over_since_us: None,
        silent_for_us: 0,
    }
}

#[test]
fn retiring_gateway_hands_over_its_subscriptions() {
    let mut world = World::new(Role::Leaving);
    world.record = Record(Some(filters(&["a"])));
    world.state.connect(terms());
    assert!(!world.load(flows(&["a", "b"])).has_handed_over);
    assert_eq!(world.take_steps(), ["route a b", "resync a"], "what the broker has lost stays lost");
    world.state.membership.apply_members(vec![subscribed_group()], Duration::ZERO, Duration::MAX);
    assert!(world.load(flows(&["a", "b"])).has_handed_over);
    assert_eq!(
        world.take_steps(),
        ["route a b", "unsubscribe a", "route a b"],
        "its queue is still accepted"
    );
}

#[test]
fn unrecorded_subscriptions_are_unsubscribed() {
    let mut world = World::new(Role::Leaving);
    world.record = Record(None);
    world.state.connect(terms());
    world.load(flows(&["a", "b"]));
    world.steps.clear();
    world.state.membership.apply_members(vec![subscribed_group()], Duration::ZERO, Duration::MAX);
    world.is_mute = true;
    let result = world.load(flows(&["a", "b"]));
    assert!(result.needs_retry && !result.has_handed_over);
    assert_eq!(world.take_steps(), ["route a b", "unsubscribe a b"]);
    world.is_mute = false;
    assert!(world.run(None).has_handed_over);
    assert_eq!(world.take_steps(), ["resync ", "unsubscribe a b", "route a b"]);
}

#[test]
fn lost_session_is_handed_over() {
    let mut world = World::new(Role::Leaving);
    world.record = Record(Some(filters(&["a"])));
    world.state.connect(BrokerConnection { session_kept: false, ..terms() });
    assert!(world.load(flows(&["a"])).has_handed_over);
    assert_eq!(world.take_steps(), ["route a", "resync "]);
}

// ---- any sequence

#[derive(Debug, Clone)]
enum Input {
    Load(Vec<Flow>),
    FailedLoad,
    Announce,
    Connect { session_kept: bool },
    Disconnect,
    LoseConnection,
    Mute(bool),
    RouterDown(bool),
    Refuse(BTreeSet<TopicFilter>),
    Run,
}

fn any_flows() -> impl Strategy<Value = Vec<Flow>> {
    let topics = prop::sample::select(vec!["a", "b", "c", "a/b", "a/+", "+/b", "#"]);
    prop::collection::btree_map(1..6_i64, topics, 0..5)
        .prop_map(|flows| flows.into_iter().map(|(id, topic)| flow(id, topic)).collect())
}

fn any_input() -> impl Strategy<Value = Input> {
    prop_oneof![
        6 => any_flows().prop_map(Input::Load),
        1 => Just(Input::FailedLoad),
        1 => Just(Input::Announce),
        2 => any::<bool>().prop_map(|session_kept| Input::Connect { session_kept }),
        1 => Just(Input::Disconnect),
        1 => Just(Input::LoseConnection),
        2 => any::<bool>().prop_map(Input::Mute),
        2 => any::<bool>().prop_map(Input::RouterDown),
        1 => prop::sample::subsequence(vec!["a", "b", "a/+"], 0..3).prop_map(|refused| {
            Input::Refuse(filters(&refused))
        }),
        3 => Just(Input::Run),
    ]
}

impl World {
    fn apply(&mut self, input: Input, names_subscriptions: bool) {
        match input {
            Input::Load(flows) => _ = self.load(flows),
            Input::FailedLoad => {
                self.state.work.reload = true;
                self.run(None);
            }
            Input::Announce => self.state.work.announce = true,
            Input::Connect { session_kept } => {
                if !session_kept {
                    self.subscribed.clear();
                }
                self.state.connect(BrokerConnection { names_subscriptions, session_kept, ..terms() });
            }
            Input::Disconnect => self.state.disconnect(),
            Input::LoseConnection => self.loses_connection = true,
            Input::Mute(is_mute) => self.is_mute = is_mute,
            Input::RouterDown(is_down) => self.is_router_down = is_down,
            Input::Refuse(filters) => self.refuses = filters,
            Input::Run => {
                if self.state.work != PendingWork::default() {
                    self.run(None);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn subscriptions_converge_after_any_inputs(
        inputs in prop::collection::vec(any_input(), 0..25),
        last in any_flows(),
        reconnects: bool,
        names_subscriptions: bool,
    ) {
        let mut world = World::new(Role::ALONE);
        for input in inputs {
            world.apply(input, names_subscriptions);
        }
        (world.is_mute, world.loses_connection, world.refuses) = (false, false, BTreeSet::new());
        world.is_router_down = false;
        if reconnects || !world.state.session.connected {
            world.state.connect(BrokerConnection { names_subscriptions, ..terms() });
        }
        world.load(last.clone());
        while world.state.work != PendingWork::default() {
            world.run(None);
        }
        let table = RoutingTable::new(last).0;
        let routes = |table: &RoutingTable| {
            table.routes().map(|(filter, flows)| (filter.to_owned(), flows.to_vec())).collect::<Vec<_>>()
        };
        prop_assert_eq!(routes(&world.table), routes(&table));
        if names_subscriptions {
            let subscribed = world.subscribed.into_iter().map(|(filter, flows)| (filter.as_str().to_owned(), flows));
            prop_assert_eq!(subscribed.collect::<Vec<_>>(), routes(&table));
        } else {
            let planned = super::super::subscription_plan::plan(&table.filters(), false, None);
            prop_assert_eq!(world.subscribed.into_keys().collect::<BTreeSet<_>>(), planned);
        }
    }
}
