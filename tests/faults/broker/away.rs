//! The broker is not there for a while.

use std::time::Duration;

use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::publisher::Publisher;
use test_support::world::{Backend, World};

/// Longer than the gateway's longest pause between two attempts.
const A_MINUTE: Duration = Duration::from_mins(1);

fn a_broker_that_is_gone_for(how_long: Duration) {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    Publisher::connect(world.broker.address).publish_all(load.next(&world, 1_000));
    world.broker.stop();
    gateway.wait_for_line("MQTT connection failed with reason code: ");
    std::thread::sleep(how_long);
    let mark = world.broker.mark();
    world.broker.start();
    Publisher::connect(world.broker.address).publish_all(load.next(&world, 1_000));
    world.wait_for_flows(mark);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(
        load.judge(&world),
        [0; 0],
        "nothing twice, although the broker sends what is unanswered again"
    );
}

#[test]
fn short_broker_outage_loses_nothing() {
    a_broker_that_is_gone_for(Duration::ZERO);
}

#[test]
#[ignore = "takes a minute; run by scripts/faults"]
fn minute_long_broker_outage_loses_nothing() {
    a_broker_that_is_gone_for(A_MINUTE);
}
