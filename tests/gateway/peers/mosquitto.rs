//! mosquitto, the reference for the others.

use super::overlap::{Found, Overlap};
use test_support::mosquitto::Broker;
use test_support::world::{Backend, World};

#[test]
fn identifiers_outlive_a_restart_of_the_broker() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    let mut overlap = Overlap::over(&world);
    let mut gateway = world.start_subscribed();
    world.publish_all(overlap.next(&world, 100));
    overlap.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    world.publish_all(overlap.next(&world, 200));
    world.broker.stop();
    world.broker.start();

    let mut gateway = world.start();
    overlap.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(overlap.compare(&world), Found::default());
    assert_eq!(gateway.count_warnings("has omitted subscription identifiers"), 0);
}
