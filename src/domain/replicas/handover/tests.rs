//! A model of gateways that start, stop and change their settings in any order. Every flow always has a subscriber.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::{ShareGroup, must_wait_for_others};
use super::*;

fn flow(id: FlowId) -> Flow {
    Flow {
        id,
        code: format!("F{id}"),
        topic: format!("t/{id}"),
        action: "STORE_DB".to_owned(),
        endpoint_url: None,
    }
}

fn shard(index: u32, count: u32) -> Role {
    Role::Shard(Shard { index, count })
}

fn member(role: Role, subscribed_at_us: Option<i64>) -> Member {
    Member {
        inbox_id: "other".to_owned(),
        client_id: "other".to_owned(),
        role,
        subscribed_at_us,
        handing_over_since_us: None,
        silent_for_us: 0,
    }
}

/// A flow of shard 1 of 2, and shard 0 as its old owner.
fn moved() -> (Flow, Role, BTreeSet<FlowId>) {
    let id = (1..100).find(|id| owner_of(*id, 2) == 1).unwrap();
    (flow(id), shard(0, 2), BTreeSet::from([id]))
}

#[test]
fn flow_is_kept_until_its_owner_subscribes() {
    let (flow, role, had) = moved();
    let all = [flow.clone()];
    let (_, begun) = Handover::default().next(&role, &all, 100, &had, &Holders::Members(&[]));
    assert_eq!((begun.flows(), begun.since_us()), (&all[..], Some(100)));
    let cases = [
        (member(shard(1, 2), None), true),
        (member(shard(1, 2), Some(99)), true),
        (Member { silent_for_us: 60_000_000, ..member(shard(1, 2), Some(100)) }, true),
        (member(shard(0, 2), Some(100)), true),
        (member(Role::Leaving, Some(100)), true),
        (member(shard(1, 2), Some(100)), false),
        (member(Role::ALONE, Some(100)), false),
        (member(Role::InGroup(ShareGroup::parse("g").unwrap()), Some(100)), false),
    ];
    for (other, is_kept) in cases {
        let (in_force, left) =
            begun.next(&role, &all, 200, &had, &Holders::Members(std::slice::from_ref(&other)));
        assert_eq!(
            (in_force.len(), left.flows().len()),
            (usize::from(is_kept), usize::from(is_kept)),
            "{other:?}"
        );
    }
}

#[test]
fn edited_flow_restarts_the_handover() {
    let (flow, role, had) = moved();
    let (_, begun) =
        Handover::default().next(&role, std::slice::from_ref(&flow), 100, &had, &Holders::Members(&[]));
    let edited = Flow { topic: "elsewhere".to_owned(), ..flow };
    let other = [member(shard(1, 2), Some(150))];
    let (in_force, left) =
        begun.next(&role, std::slice::from_ref(&edited), 200, &had, &Holders::Members(&other));
    assert_eq!(in_force, [edited]);
    assert_eq!(left.since_us(), Some(200));
}

#[test]
fn unsubscribed_flow_needs_no_handover() {
    let (flow, role, _) = moved();
    let (in_force, left) =
        Handover::default().next(&role, &[flow], 100, &BTreeSet::new(), &Holders::Members(&[]));
    assert_eq!((in_force.len(), left.since_us()), (0, None));
}

#[test]
fn last_replica_releases_all_flows() {
    let (flow, _, had) = moved();
    let (in_force, left) = Handover::default().next(&Role::Leaving, &[flow], 100, &had, &Holders::NotNeeded);
    assert_eq!((in_force.len(), left.since_us()), (0, None));
}

// ---- the model

const GATEWAYS: usize = 4;
const FLOWS: FlowId = 12;

/// A gateway. Its session at the broker outlives its process.
#[derive(Default, Clone)]
struct Gateway {
    session: BTreeSet<FlowId>,
    process: Option<Process>,
}

#[derive(Clone)]
struct Process {
    role: Role,
    had: BTreeSet<FlowId>,
    read: Option<Read>,
    handover: Handover,
    seen: Vec<Member>,
    subscribed_at_us: Option<i64>,
}

#[derive(Clone)]
struct Read {
    flows: Vec<Flow>,
    from_us: i64,
    until_us: i64,
}

#[derive(Debug, Clone)]
enum Step {
    /// Starts the gateway with this role, from any state.
    Start(usize, u8),
    Stop(usize),
    ReadFlows(usize),
    /// Writes its own row and reads the rows of the others.
    Heartbeat(usize),
    /// Decides by the last reads, and subscribes new flows.
    Subscribe(usize),
    /// Unsubscribes released flows, at any time after the decision.
    Unsubscribe(usize),
    AddFlow,
}

fn any_step() -> impl Strategy<Value = Step> {
    let gateway = 0..GATEWAYS;
    prop_oneof![
        1 => (gateway.clone(), 0_u8..16).prop_map(|(gateway, role)| Step::Start(gateway, role)),
        1 => gateway.clone().prop_map(Step::Stop),
        4 => gateway.clone().prop_map(Step::ReadFlows),
        6 => gateway.clone().prop_map(Step::Heartbeat),
        6 => gateway.clone().prop_map(Step::Subscribe),
        4 => gateway.prop_map(Step::Unsubscribe),
        1 => Just(Step::AddFlow),
    ]
}

fn role_of(number: u8) -> Role {
    match number {
        0..=2 => shard(number.into(), 3),
        3..=6 => shard(u32::from(number) - 3, 4),
        7..=8 => shard(u32::from(number) - 7, 2),
        9 => Role::ALONE,
        10..=12 => Role::InGroup(ShareGroup::parse("g").unwrap()),
        _ => Role::Leaving,
    }
}

#[derive(Default)]
struct World {
    now_us: i64,
    gateways: [Gateway; GATEWAYS],
    table: BTreeMap<usize, Member>,
    flows: FlowId,
    /// Flows that had a subscriber at any time.
    held_once: BTreeSet<FlowId>,
}

impl World {
    fn run(&mut self, step: &Step) {
        self.now_us += 10;
        let now_us = self.now_us;
        match *step {
            Step::AddFlow => self.flows = (self.flows + 1).min(FLOWS),
            Step::Start(index, role) => {
                let had = self.gateways[index].session.clone();
                self.gateways[index].process = Some(Process {
                    role: role_of(role),
                    had,
                    read: None,
                    handover: Handover::default(),
                    seen: Vec::new(),
                    subscribed_at_us: None,
                });
            }
            Step::Stop(index) => self.gateways[index].process = None,
            Step::ReadFlows(index) => {
                let flows = (1..=self.flows).map(flow).collect();
                if let Some(process) = &mut self.gateways[index].process {
                    process.read = Some(Read { flows, from_us: now_us, until_us: now_us + 1 });
                }
            }
            Step::Heartbeat(index) => self.heartbeat(index),
            Step::Subscribe(index) => self.subscribe(index),
            Step::Unsubscribe(index) => {
                let Gateway { session, process } = &mut self.gateways[index];
                let Some(process) = process.as_mut().filter(|process| process.read.is_some()) else { return };
                if process.had.is_subset(session) {
                    session.clone_from(&process.had);
                }
            }
        }
        for gateway in &self.gateways {
            self.held_once.extend(&gateway.session);
        }
    }

    fn heartbeat(&mut self, index: usize) {
        let Some(process) = &mut self.gateways[index].process else { return };
        let row = Member {
            handing_over_since_us: process.handover.since_us(),
            ..member(process.role.clone(), process.subscribed_at_us)
        };
        self.table.insert(index, row);
        process.seen =
            self.table.iter().filter(|(other, _)| **other != index).map(|(_, row)| row.clone()).collect();
    }

    fn subscribe(&mut self, index: usize) {
        let Gateway { session, process } = &mut self.gateways[index];
        let Some(process) = process else { return };
        let Some(read) = &process.read else { return };
        let holders = Holders::Members(&process.seen);
        let (in_force, handover) =
            process.handover.next(&process.role, &read.flows, read.until_us, &process.had, &holders);
        process.handover = handover;
        let in_force: BTreeSet<FlowId> = in_force.iter().map(|flow| flow.id).collect();
        let new: Vec<FlowId> = in_force.difference(&process.had).copied().collect();
        if must_wait_for_others(&new, &process.role, &process.seen) {
            process.had.retain(|flow| in_force.contains(flow));
            process.subscribed_at_us = None;
        } else {
            process.had = in_force;
            process.subscribed_at_us = Some(read.from_us);
        }
        session.extend(&process.had);
    }

    fn flow_without_subscriber(&self) -> Option<FlowId> {
        let held = |flow: &FlowId| self.gateways.iter().any(|gateway| gateway.session.contains(flow));
        self.held_once.iter().copied().find(|flow| !held(flow))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(512))]

    #[test]
    fn every_flow_always_has_a_holder(steps in prop::collection::vec(any_step(), 1..250)) {
        let mut world = World { flows: 6, ..World::default() };
        for step in steps {
            world.run(&step);
            prop_assert_eq!(world.flow_without_subscriber(), None, "{:?}", step);
        }
    }

    #[test]
    fn stable_shards_hold_each_flow_once(
        steps in prop::collection::vec(any_step(), 1..120), count in 1_usize..=GATEWAYS,
    ) {
        let mut world = World { flows: FLOWS, ..World::default() };
        for step in &steps {
            world.run(step);
        }
        for index in 0..GATEWAYS {
            // Surplus gateways retire.
            let role = if index < count { shard(u32::try_from(index).unwrap(), u32::try_from(count).unwrap()) } else { Role::Leaving };
            world.run(&Step::Start(index, 0));
            world.gateways[index].process.as_mut().unwrap().role = role;
        }
        for _ in 0..4 {
            for step in [Step::ReadFlows, Step::Heartbeat, Step::Subscribe, Step::Unsubscribe, Step::Heartbeat, Step::Subscribe, Step::Unsubscribe] {
                (0..GATEWAYS).for_each(|index| world.run(&step(index)));
            }
        }
        for flow in 1..=FLOWS {
            let holders = world.gateways.iter().filter(|gateway| gateway.session.contains(&flow)).count();
            prop_assert_eq!(holders, 1, "flow {}", flow);
        }
    }
}
