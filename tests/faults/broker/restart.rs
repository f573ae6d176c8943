//! The broker restarts in the middle of the stream.

use std::collections::HashSet;

use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::oracle::Load;
use test_support::publisher::Publisher;
use test_support::world::{Backend, World};

const RESTARTS: usize = 2;

#[test]
fn broker_restart_loses_no_acknowledged_message() {
    let mut world = World::with_broker(Backend::MariaDb, Broker::with(&BrokerOptions::default()));
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let mut publisher = Publisher::connect(world.broker.address);
    // More messages than may be in flight, so that redelivered messages follow earlier ones.
    publisher.publish_all(load.next(&world, 100));
    load.wait_until_stored(&world);
    for _ in 0..RESTARTS {
        publisher.publish_all(load.next(&world, 1_000));
        let mark = world.broker.mark();
        world.broker.stop();
        world.broker.start();
        world.wait_for_flows(mark);
        publisher.publish_all(load.next(&world, 1_000));
    }
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    // What the publisher sent again is its own repetition; the rest is the broker's.
    let resent: HashSet<&[u8]> = publisher.resent.iter().map(|message| message.payload.as_slice()).collect();
    let most = resent.len() + world.broker.resent_to(&world.name);
    let extra = load.judge(&world);
    assert!(extra.len() <= most, "more repeated than the {most} that were sent again: {extra:?}");
}
