//! `kill -9` of the broker. What it had acknowledged to the publisher and not saved is its own loss: mosquitto saves at
//! an orderly stop and every half hour. What it had handed over is ours.

use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::publisher::Publisher;
use test_support::world::{Backend, World};

#[test]
fn killed_broker_causes_no_gap_or_duplicate() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let mut publisher = Publisher::connect(world.broker.address);
    for _ in 0..3 {
        publisher.publish_all(load.next(&world, 1_000));
        // The last has just been acknowledged to the publisher: the gateway is in the midst of them.
        world.broker.kill();
        let mark = world.broker.mark();
        world.broker.start();
        world.wait_for_flows(mark);
    }
    let acknowledged = world.broker.acknowledged_by(&world.name);
    let of_the_last = load.next(&world, 1_000);
    publisher.publish_all(of_the_last);
    world.broker.wait_for_acknowledged(&world.name, acknowledged + 1_000);
    assert_eq!(gateway.stop(), Some(0));

    let stored = load.judge_with_a_broker_that_loses(&world);
    let by_the_publisher = Load::keys_of(&publisher.resent);
    let extra = &stored.extra;
    assert!(
        extra.iter().all(|key| by_the_publisher.contains(key)),
        "twice, and not published twice: {extra:?}"
    );
    assert!(
        stored.messages >= world.broker.acknowledged_by(&world.name),
        "{} stored of {} that the gateway had acknowledged",
        stored.messages,
        world.broker.acknowledged_by(&world.name)
    );
    assert!(stored.missing.iter().all(|key| *key < 3_000), "after the last kill nothing may be missing");
    eprintln!("{} lost by the broker, {} twice by the publisher", stored.missing.len(), stored.extra.len());
}
