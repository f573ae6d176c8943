//! Duplicates when the number of shards changes: only messages that arrive while two shards have the flow.

use std::time::{Duration, Instant};

use crate::fleet::{Fleet, Replica};
use test_support::stream::{Pace, Stream};

const FLOWS: usize = 12;

/// Messages that are published at a time.
const BURST: u64 = 3;

/// Flows without keys.
fn fleet() -> Fleet {
    let fleet = Fleet::with_flows(FLOWS);
    fleet.world.sql.run("UPDATE flows SET message_key = NULL");
    fleet
}

/// A device that publishes 150 messages a second at most.
fn publishing(fleet: &Fleet) -> Stream {
    Stream::start(fleet.world.broker.address, fleet.topics(), Pace { burst: BURST, pause_ms: 20 })
}

fn restarted(shard: &mut Replica, of: usize) {
    shard.stop();
    shard.is_one_of(of);
    shard.start_subscribed();
}

/// Asserts that all is stored, and that duplicates were published between `begun` and `over`.
fn ends(fleet: &Fleet, stream: Stream, mut shards: Vec<Replica>, begun: u64, over: u64) {
    stream.wait_for_more(300);
    let published = stream.end();
    fleet.wait_until_stored(published);
    shards.iter_mut().for_each(Replica::stop);
    fleet.judge(published).is_once_but_within(begun..over + UNDER_WAY);
}

/// Messages in flight to the broker when its acknowledgements are counted.
const UNDER_WAY: u64 = BURST;

#[test]
fn new_shard_waits_for_agreeing_counts() {
    let fleet = fleet();
    let mut all = fleet.shards(3);
    for shard in &mut all[..2] {
        shard.is_one_of(2);
        shard.start_subscribed();
    }
    let stream = publishing(&fleet);
    all[2].start().wait_for_line("stay for now with gateways that divide them differently");
    stream.wait_for_more(300);
    restarted(&mut all[1], 3);
    stream.wait_for_more(300);
    let begun = stream.acknowledged();
    restarted(&mut all[0], 3);
    all[..2].iter_mut().for_each(Replica::wait_for_handover);
    let over = stream.acknowledged();
    ends(&fleet, stream, all, begun, over);
}

#[test]
fn shard_keeps_flows_until_others_arrive() {
    let fleet = fleet();
    let mut all = fleet.shards(3);
    all[0].is_one_of(1);
    all[0].start_subscribed();
    let stream = publishing(&fleet);
    stream.wait_for_more(300);
    restarted(&mut all[0], 3);
    all[0].running().wait_for_line("Handing over");
    stream.wait_for_more(300);
    let begun = stream.acknowledged();
    all[1..].iter_mut().for_each(Replica::start_subscribed);
    all[0].wait_for_handover();
    let over = stream.acknowledged();
    ends(&fleet, stream, all, begun, over);
}

#[test]
fn early_retirement_keeps_flows_until_agreement() {
    let fleet = fleet();
    let mut all = fleet.shards(3);
    all.iter_mut().for_each(Replica::start_subscribed);
    let stream = publishing(&fleet);
    all[2].stop();
    let mut retiring = all[2].begin_to_retire(&[]);
    retiring.wait_for_line("Handing over");
    all[1].stop();
    all[1].is_one_of(2);
    all[1].start().wait_for_line("stay for now with gateways that divide them differently");
    stream.wait_for_more(300);
    let begun = stream.acknowledged();
    restarted(&mut all[0], 2);
    retiring.wait_for_line("All flows are unsubscribed");
    let over = stream.acknowledged();
    assert_eq!(retiring.wait_for_exit().code(), Some(0));
    all.truncate(2);
    ends(&fleet, stream, all, begun, over);
}

// ---- measured

/// Between two pods of a rollout: `minReadySeconds`, and a little.
const POD: Duration = Duration::from_secs(11);

#[derive(Clone, Copy)]
enum Order {
    /// Pods and count are changed together.
    AtOnce,
    /// More replicas: the count first. Fewer replicas: the pods and the retirement first.
    InSteps,
}

#[test]
#[ignore = "takes minutes and measures"]
fn how_many_messages_are_twice_at_handover() {
    for order in [Order::AtOnce, Order::InSteps] {
        more(1, order);
        more(2, order);
        fewer(order);
    }
}

fn more(from: usize, order: Order) {
    let fleet = fleet();
    let mut all = fleet.shards(3);
    for shard in &mut all[..from] {
        shard.is_one_of(from);
        shard.start_subscribed();
    }
    let stream = publishing(&fleet);
    stream.wait_for_more(450);
    let begun = Instant::now();
    if matches!(order, Order::AtOnce) {
        all[from..].iter_mut().for_each(Replica::start_subscribed);
        std::thread::sleep(POD);
    }
    for shard in all[..from].iter_mut().rev() {
        restarted(shard, 3);
        std::thread::sleep(POD);
    }
    if matches!(order, Order::InSteps) {
        all[from..].iter_mut().for_each(Replica::start_subscribed);
    }
    all[..from].iter_mut().for_each(Replica::wait_for_handover);
    told(&format!("{from} to 3"), order, begun, &fleet, stream, all);
}

fn fewer(order: Order) {
    let fleet = fleet();
    let mut all = fleet.shards(3);
    all.iter_mut().for_each(Replica::start_subscribed);
    let stream = publishing(&fleet);
    stream.wait_for_more(450);
    let begun = Instant::now();
    all[2].stop();
    let mut retiring = matches!(order, Order::InSteps).then(|| all[2].begin_to_retire(&[]));
    if let Some(retiring) = &mut retiring {
        retiring.wait_for_line("Handing over");
    }
    for shard in all[..2].iter_mut().rev() {
        restarted(shard, 2);
        std::thread::sleep(POD);
    }
    match retiring {
        Some(mut retiring) => assert_eq!(retiring.wait_for_exit().code(), Some(0)),
        None => _ = all[2].retire(),
    }
    all.truncate(2);
    told("3 to 2", order, begun, &fleet, stream, all);
}

fn told(what: &str, order: Order, begun: Instant, fleet: &Fleet, stream: Stream, mut all: Vec<Replica>) {
    let took = begun.elapsed();
    stream.wait_for_more(450);
    let published = stream.end();
    fleet.wait_until_stored(published);
    all.iter_mut().for_each(Replica::stop);
    let order = match order {
        Order::AtOnce => "at once",
        Order::InSteps => "in steps",
    };
    println!("{what}, {order}, {took:?}:");
    let (_, _) = fleet.judge(published).twice(fleet);
}
