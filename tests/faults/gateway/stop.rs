//! The gateway is stopped while messages flow, and killed while it stops.

use super::Flood;
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::oracle::Load;
use test_support::world::{Backend, World};

const STOPS: u64 = 4;

#[test]
fn stops_under_load_are_exactly_once() {
    let quiet = BrokerOptions { verbose: false, ..BrokerOptions::default() };
    let world = World::with_broker(Backend::MariaDb, Broker::with(&quiet));
    let flows = Flood::make_flows(&world, 4);
    let mut gateway = world.start_subscribed();
    let flood = Flood::over(&world, flows);
    for stop in 0..STOPS {
        gateway.wait_for_line("Connected to the broker");
        flood.stream.wait_for_more(200 + 400 * stop);
        assert_eq!(gateway.stop(), Some(0));
        gateway = world.start();
    }
    flood.end_and_judge(&world, gateway);
}

#[test]
fn kill_during_drain_is_exactly_once() {
    let mut world = World::with_broker(Backend::MariaDb, Broker::private());
    // Batches so slow that there is something to drain for longer than it takes to be killed.
    world.set("FAILPOINTS", "worker-batch=sleep(300)").set("BATCH_MAX_MESSAGES", "50");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    for _ in 0..3 {
        let messages = load.next(&world, 1_000);
        world.publish_all(messages);
        gateway.signal("TERM");
        gateway.wait_for_line("Disconnected from the broker");
        assert_eq!(gateway.count_lines("Drained"), 0, "there is still something to drain");
        gateway.kill();
        gateway = world.start_subscribed();
    }
    gateway.kill();
    world.settings.remove("FAILPOINTS");
    let mut gateway = world.start();
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
