//! Flows of one topic that come to be at different shards.

use crate::fleet::{Fleet, Replica};
use crate::kept_table::wait_until_routed_to;
use test_support::proxy::{Mqtt, Proxy, Sign, Way};
use test_support::world::Backend;

/// The third of them moves from one shard to another one of two.
const FLOWS: usize = 4;

/// Many times the number of messages in flight to a gateway.
const WAITING: u64 = 10_000;

#[test]
fn queued_messages_reach_moved_flows() {
    let fleet = Fleet::of_topics(Backend::MariaDb, FLOWS, 1);
    let proxy = Proxy::to_mqtt(fleet.world.broker.address);
    fleet.world.reach_broker_at(proxy.address());
    let mut shards = fleet.shards(2);
    shards[0].is_one_of(1);
    shards[0].start_subscribed();
    shards[0].stop();
    fleet.world.publish_all(fleet.messages(0..WAITING));
    shards[1].start_subscribed();
    // The broker gets SUBSCRIBEs and no PUBACKs, so it keeps nearly all messages.
    proxy.swallow(Sign::Packet(Way::ToServer, Mqtt::Puback));
    shards[0].is_one_of(2);
    shards[0].start();
    shards[0].wait_for_handover();
    wait_until_routed_to(FLOWS - 1, &fleet.topics()[0], &shards[0].inbox());
    // A shard that has let go of a flow for good does not know it after a restart either.
    for _ in 0..2 {
        shards[0].kill();
        shards[0].start_subscribed();
    }
    proxy.flow();
    shards[0].kill();
    shards[0].start_subscribed();
    assert_eq!(shards[0].running().count_lines("Handing over"), 0);
    let (with_a_key, _) = all_is_there(&fleet, shards);
    // Some unacknowledged messages may look new.
    assert_eq!(with_a_key, 0);
}

/// Gives how many are there twice, in flows with a key and in the others.
fn all_is_there(fleet: &Fleet, mut shards: Vec<Replica>) -> (usize, usize) {
    fleet.world.publish_all(fleet.messages(WAITING..WAITING + 100));
    let published = WAITING + 100;
    fleet.wait_until_stored(published * FLOWS as u64);
    shards.iter_mut().for_each(Replica::stop);
    fleet.judge(published).twice(fleet)
}

/// It has the topic for flows of its own, and nothing for the others.
#[test]
fn restarted_shard_leaves_flows_of_others() {
    let fleet = Fleet::of_topics(Backend::MariaDb, FLOWS, 1);
    let mut shards = fleet.shards(2);
    shards.iter_mut().for_each(Replica::start_subscribed);
    for shard in &mut shards {
        shard.stop();
    }
    fleet.world.publish_all(fleet.messages(0..WAITING));
    shards.iter_mut().for_each(Replica::start_subscribed);
    assert!(shards.iter_mut().all(|shard| shard.running().count_lines("Handing over") == 0));
    assert_eq!(all_is_there(&fleet, shards), (0, 0));
}
