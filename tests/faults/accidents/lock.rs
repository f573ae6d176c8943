//! Files of the inbox are removed under a running gateway.

use super::is_refused;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::world::{Backend, World};

#[test]
fn removed_lock_file_does_not_admit_second_gateway() {
    let world = World::with_broker(Backend::MariaDb, Broker::private());
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start_subscribed();
    std::fs::remove_file(world.inbox_directory().join("lock")).unwrap();
    is_refused(&world.settings, &world, &["is in use by"]);
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn removed_inbox_directory_ends_gateway() {
    let world = World::with_broker(Backend::MariaDb, Broker::private());
    let mut load = Load::over(&world, 2);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    std::fs::remove_dir_all(world.inbox_directory()).unwrap();
    gateway.wait_for_line("was removed or replaced");
    assert_eq!(gateway.wait_for_exit().code(), Some(1));
}
