//! The process is stopped for a while, or one of its actors is.

use std::time::Duration;

use test_support::eventually;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::world::{Backend, World};

#[test]
#[ignore = "takes half a minute; run by scripts/faults"]
fn stopped_process_resumes_without_restarts() {
    let mut world = World::with_broker(Backend::MariaDb, Broker::private());
    world.set("MQTT_KEEPALIVE", "2");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 1_000);
    world.publish_all(messages);
    let mark = world.broker.mark();
    gateway.signal("STOP");
    let messages = load.next(&world, 1_000);
    world.publish_all(messages);
    eventually("the broker to give the gateway up", || {
        world.broker.has_logged(mark, "exceeded timeout").then_some(())
    });
    // Longer than the silence after which an actor that says nothing is replaced.
    std::thread::sleep(Duration::from_secs(32));
    let mark = world.broker.mark();
    gateway.signal("CONT");
    world.wait_for_flows(mark);
    let messages = load.next(&world, 1_000);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.count_lines("no sign of life"), 0, "everybody was stopped, the watch as well");
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
#[ignore = "takes half a minute; run by scripts/faults"]
fn any_frozen_actor_is_replaced_without_loss() {
    let actors = ["router", "flow-worker-0", "flow-worker-1", "flow-registry", "mqtt", "delivery"];
    let mut world = World::with_broker(Backend::MariaDb, Broker::private());
    let stand_still = actors.map(|actor| format!("beat-{actor}=1*off->1*pause->off")).join(";");
    world.set("FAILPOINTS", &stand_still).set("RESTART_BUDGET", "20");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 1_000);
    world.publish_all(messages);
    for actor in actors {
        let replaced = format!("Actor {actor} ended: no sign of life");
        gateway.wait_for_line(&replaced);
    }
    let messages = load.next(&world, 1_000);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
