//! Roll-out of a new version: the replicas are restarted one after the other under load.

use crate::fleet::{Fleet, Replica};

const FLOWS: usize = 6;

fn roll(fleet: &Fleet, mut replicas: Vec<Replica>) -> u64 {
    replicas.iter_mut().for_each(Replica::start_subscribed);
    let stream = fleet.publishing(100);
    // More than may be in flight, so that redeliveries can be recognised.
    stream.wait_for_more(3_000);
    for replica in &mut replicas {
        replica.stop();
        replica.start_subscribed();
        stream.wait_for_more(300);
    }
    let published = stream.end();
    fleet.wait_until_stored(published);
    replicas.iter_mut().for_each(Replica::stop);
    published
}

#[test]
fn rolling_shard_restart_is_exactly_once() {
    let fleet = Fleet::with_flows(FLOWS);
    let published = roll(&fleet, fleet.shards(3));
    let verdict = fleet.judge(published);
    verdict.is_in_order(0..published);
    assert_eq!(verdict.twice(&fleet), (0, 0));
}

#[test]
fn rolling_group_restart_is_exactly_once() {
    let fleet = Fleet::with_flows(FLOWS);
    let published = roll(&fleet, fleet.group(3));
    assert_eq!(fleet.judge(published).twice(&fleet), (0, 0));
}
