//! Repeated `kill -9` of the gateway: the broker redelivers messages without a PUBACK, and none is processed twice.

use super::Flood;
use test_support::mosquitto::{Broker, BrokerOptions};
use test_support::oracle::Load;
use test_support::world::{Backend, World};

const KILLS: usize = 5;
const MANY_KILLS: usize = 100;

/// Messages that may be in flight when the gateway is killed.
const IN_FLIGHT: u32 = 1_000;

fn killed_gateway_loses_nothing(backend: Backend) {
    let broker = Broker::with(&BrokerOptions { max_inflight: IN_FLIGHT, ..BrokerOptions::default() });
    let world = World::with_broker(backend, broker);
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    // More messages than may be in flight, so that the broker has the first acknowledgements: redelivered messages are
    // recognised only after earlier ones.
    let messages = load.next(&world, 1_100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    for _ in 0..KILLS {
        let messages = load.next(&world, 1_000);
        world.publish_all(messages);
        // The broker has just taken the last of a thousand: the gateway is in the midst of them.
        gateway.kill();
        gateway = world.start();
    }
    let messages = load.next(&world, 1_000);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    let resent = world.broker.resent_to(&world.name);
    assert_eq!(load.judge(&world), [0; 0], "twice, of the {resent} that the broker sent again");
}

#[test]
fn on_mariadb() {
    killed_gateway_loses_nothing(Backend::MariaDb);
}

#[test]
fn on_postgres() {
    killed_gateway_loses_nothing(Backend::Postgres);
}

#[test]
fn on_sqlite() {
    killed_gateway_loses_nothing(Backend::Sqlite);
}

#[test]
#[ignore = "takes some minutes; run by scripts/faults"]
fn hundred_kills_are_exactly_once() {
    let quiet = BrokerOptions { max_inflight: IN_FLIGHT, verbose: false, ..BrokerOptions::default() };
    let world = World::with_broker(Backend::MariaDb, Broker::with(&quiet));
    let flows = Flood::make_flows(&world, 8);
    let mut gateway = world.start_subscribed();
    let flood = Flood::over(&world, flows);
    for kill in 0..MANY_KILLS {
        gateway.wait_for_line("Connected to the broker");
        // From the first messages after the connect to the midst of a steady stream.
        let more = u64::try_from(100 + (kill * 397) % 2_900).unwrap();
        flood.stream.wait_for_more(more);
        gateway.kill();
        gateway = world.start();
    }
    flood.end_and_judge(&world, gateway);
}
