//! The volume of the inbox is full.

use super::volume::Memory;
use crate::backlog;
use test_support::eventually;
use test_support::oracle::Load;
use test_support::world::World;

/// Inbox and error log on a volume of 6 MiB, as they are beside each other by default.
fn world_on(volume: &Memory) -> World {
    let mut world = backlog::world();
    for (variable, directory) in [("INBOX_DIR", "inbox"), ("LOG_DIR", "log")] {
        world.set(variable, volume.path().join(directory).to_str().unwrap());
    }
    world.set("INBOX_MAX_BYTES", "4194304");
    world
}

#[test]
fn full_disk_stops_acknowledging_until_room() {
    let volume = Memory::of_mebibytes(6);
    let world = world_on(&volume);
    let mut load = Load::over(&world, 4).of_bytes(2_000);
    let mut gateway = world.start_subscribed();
    // The second time more than the segments take that are finished since the first, and are given up.
    for count in [300, 700] {
        // What is committed leaves the inbox, and would make room.
        backlog::hold(&world);
        let messages = load.next(&world, 100);
        backlog::publish(&world, messages);
        let filler = volume.fill();
        let said = gateway.count_lines("The inbox takes no message");
        let acknowledged = world.broker.acknowledged_by(&world.name);
        let messages = load.next(&world, count);
        world.publish_all(messages);
        eventually("word that the inbox takes nothing", || {
            (gateway.count_lines("The inbox takes no message") > said).then_some(())
        });
        assert!(
            world.broker.acknowledged_by(&world.name) < acknowledged + count,
            "the broker holds the rest"
        );
        std::fs::remove_file(filler).unwrap();
        backlog::release(&world);
        load.wait_until_stored(&world);
    }
    gateway.wait_for_line("No space left on device");
    assert!(gateway.is_running());
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn start_on_full_disk_drains_then_accepts() {
    let volume = Memory::of_mebibytes(6);
    let world = world_on(&volume);
    let mut load = Load::over(&world, 4).of_bytes(2_000);
    let mut gateway = world.start_subscribed();
    backlog::hold(&world);
    let messages = load.next(&world, 300);
    backlog::publish(&world, messages);
    gateway.kill();
    let filler = volume.fill();
    backlog::release(&world);

    let mut gateway = world.start();
    load.wait_until_stored(&world);
    // More than the finished segments take, which are given up; and none of it is finished.
    backlog::hold(&world);
    let messages = load.next(&world, 700);
    world.publish_all(messages);
    gateway.wait_for_line("The inbox takes no message");
    std::fs::remove_file(filler).unwrap();
    backlog::release(&world);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// Somebody else's bytes stay where they are, and leave less than half a segment takes.
#[test]
fn full_disk_recovers_after_draining() {
    let volume = Memory::of_mebibytes(6);
    let world = world_on(&volume);
    let mut load = Load::over(&world, 4).of_bytes(2_000);
    let mut gateway = world.start_subscribed();
    volume.fill_but(300 * 1024);
    for _ in 0..2 {
        backlog::hold(&world);
        let said = gateway.count_lines("The inbox takes no message");
        let messages = load.next(&world, 300);
        world.publish_all(messages);
        eventually("word that the inbox takes nothing", || {
            (gateway.count_lines("The inbox takes no message") > said).then_some(())
        });
        backlog::release(&world);
        load.wait_until_stored(&world);
    }
    gateway.wait_for_line("No space left on device");
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
