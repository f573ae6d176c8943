//! Replicas that divide the flows: every flow at one of them.

use std::collections::BTreeSet;

use crate::fleet::{Fleet, Replica};
use crate::many_messages;
use test_support::world::{Backend, SERVERS};

const FLOWS: usize = 16;

/// One shard, then four, then two, under load. A pause before and after each change separates the messages that must be
/// in order from those published while flows moved.
fn shards_come_and_go(backend: Backend, published_in_all: u64) {
    let fleet = Fleet::on(backend, FLOWS);
    let part = published_in_all / 5;
    let mut shards = fleet.shards(4);
    shards[0].is_one_of(1);
    shards[0].start_subscribed();
    let stream = fleet.publishing(100);
    stream.wait_for_more(part);
    let with_one = settled(&fleet, &stream);

    stream.go_on();
    for shard in &mut shards {
        shard.is_one_of(4);
    }
    shards[1..].iter_mut().for_each(Replica::start_subscribed);
    shards[0].stop();
    shards[0].start();
    shards[0].wait_for_handover();
    stream.wait_for_more(part);
    let grown = settled(&fleet, &stream);

    stream.go_on();
    stream.wait_for_more(part);
    let with_four = settled(&fleet, &stream);

    stream.go_on();
    for shard in &mut shards[2..] {
        shard.stop();
    }
    stream.wait_for_more(part / 2);
    for shard in &mut shards[..2] {
        shard.is_one_of(2);
        shard.stop();
        shard.start();
    }
    for shard in &shards[2..] {
        shard.retire();
    }
    stream.wait_for_more(part / 2);
    let shrunk = settled(&fleet, &stream);

    stream.go_on();
    stream.wait_for_more(part);
    let published = stream.end();
    fleet.wait_until_stored(published);
    shards[..2].iter_mut().for_each(Replica::stop);
    let verdict = fleet.judge(published);
    for steady in [0..with_one, grown..with_four, shrunk..published] {
        verdict.is_in_order(steady);
    }
    assert_eq!(verdict.twice(&fleet).0, 0, "twice in flows with a key");
}

/// Holds the publisher until all is stored; gives how many were published.
fn settled(fleet: &Fleet, stream: &test_support::stream::Stream) -> u64 {
    stream.hold();
    let published = stream.acknowledged();
    fleet.wait_until_stored(published);
    published
}

#[test]
fn resharding_loses_nothing() {
    for backend in SERVERS {
        shards_come_and_go(backend, 5_000);
    }
}

#[test]
#[ignore = "takes minutes; REPLICAS_MESSAGES says how many messages"]
fn resharding_loses_nothing_at_volume() {
    shards_come_and_go(Backend::MariaDb, many_messages());
}

#[test]
fn every_flow_is_subscribed_by_one_shard() {
    let fleet = Fleet::with_flows(FLOWS);
    let mut shards = fleet.shards(3);
    let mark = fleet.world.broker.mark();
    shards.iter_mut().for_each(Replica::start_subscribed);
    let lines = fleet.world.broker.lines_of(mark, &fleet.world.name);
    let mut subscribed: Vec<&str> = lines
        .iter()
        .filter_map(|line| line.rsplit_once(' '))
        .map(|(_, filter)| filter)
        .filter(|filter| filter.starts_with(&fleet.world.name) && filter.contains("/flow"))
        .collect();
    subscribed.sort_unstable();
    let each_once: BTreeSet<&str> = subscribed.iter().copied().collect();
    assert_eq!((subscribed.len(), each_once.len()), (FLOWS, FLOWS), "{subscribed:?}");
}

#[test]
fn moving_flow_stays_subscribed_until_handover() {
    let fleet = Fleet::with_flows(FLOWS);
    let mut shards = fleet.shards(2);
    shards[0].is_one_of(1);
    shards[0].start_subscribed();
    shards[0].stop();
    shards[0].is_one_of(2);
    shards[0].start().wait_for_line("Handing over");
    // No other shard runs, so all messages still arrive here.
    let stream = fleet.publishing(100);
    stream.wait_for_more(500);
    stream.hold();
    fleet.wait_until_stored(stream.acknowledged());
    stream.go_on();
    // Killed during the handover, it remembers its flows.
    shards[0].kill();
    shards[0].start().wait_for_line("Handing over");
    shards[1].start_subscribed();
    shards[0].wait_for_handover();
    stream.wait_for_more(500);
    let published = stream.end();
    fleet.wait_until_stored(published);
    shards.iter_mut().for_each(Replica::stop);
    assert_eq!(fleet.judge(published).twice(&fleet).0, 0);
}

#[test]
fn group_and_shards_convert_without_loss() {
    let fleet = Fleet::with_flows(FLOWS);
    let mut replicas = fleet.group(2);
    replicas.iter_mut().for_each(Replica::start_subscribed);
    let stream = fleet.publishing(100);
    stream.wait_for_more(500);
    for replica in &mut replicas {
        replica.unset("SHARED_GROUP");
        replica.is_one_of(2);
        replica.stop();
        replica.start_subscribed();
        stream.wait_for_more(300);
    }
    stream.wait_for_more(500);
    for replica in &mut replicas {
        replica.set(&[("SHARED_GROUP", "gateways"), ("SHARD_COUNT", "1")]);
        replica.stop();
        replica.start_subscribed();
        stream.wait_for_more(300);
    }
    let published = stream.end();
    fleet.wait_until_stored(published);
    replicas.iter_mut().for_each(Replica::stop);
    assert_eq!(fleet.judge(published).twice(&fleet).0, 0);
}
