//! Power failures: unsynced data is lost. The tests use a disk of their own, see [`Disk`].

use std::time::Duration;

use super::volume::Disk;
use crate::backlog;
use test_support::oracle::Load;
use test_support::world::World;

fn world_on(disk: &Disk, fsync: &str) -> World {
    let mut world = backlog::world();
    world.set("INBOX_DIR", disk.path().join("inbox").to_str().unwrap()).set("INBOX_FSYNC", fsync);
    world
}

/// The disk is somewhere else after the power has come back.
fn cut_power(world: &mut World, disk: &mut Disk) {
    disk.cut_power();
    world.set("INBOX_DIR", disk.path().join("inbox").to_str().unwrap());
}

fn offset_in_sql(world: &World) -> i64 {
    world.sql.count("SELECT MAX(next_offset) FROM inbox_offsets", [])
}

#[test]
fn fsync_always_survives_power_cut() {
    let mut disk = Disk::of_mebibytes(64);
    let mut world = world_on(&disk, "always");
    let mut load = Load::over(&world, 4);
    for _ in 0..2 {
        let mut gateway = world.start_subscribed();
        backlog::hold(&world);
        let messages = load.next(&world, 300);
        backlog::publish(&world, messages);
        gateway.kill();
        cut_power(&mut world, &mut disk);
        backlog::release(&world);
    }
    let mut gateway = world.start_subscribed();
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn fsync_interval_loses_one_interval_at_most() {
    let mut disk = Disk::of_mebibytes(64);
    let mut world = world_on(&disk, "interval");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    backlog::hold(&world);
    let messages = load.next(&world, 300);
    backlog::publish(&world, messages);
    // Fifty intervals.
    std::thread::sleep(Duration::from_secs(5));
    let messages = load.next(&world, 300);
    backlog::publish(&world, messages);
    gateway.kill();
    cut_power(&mut world, &mut disk);
    backlog::release(&world);

    let mut gateway = world.start_subscribed();
    Load::wait_for_count(&world, 300);
    let messages = load.next(&world, 100);
    backlog::publish(&world, messages);
    assert_eq!(gateway.stop(), Some(0));
    let judgement = load.judge_with_a_broker_that_loses(&world);
    eprintln!("{} of the last interval lost", judgement.missing.len());
    assert!(judgement.missing.iter().all(|key| (300..600).contains(key)), "{:?}", judgement.missing);
    assert_eq!(judgement.extra, [0; 0]);
}

/// The database is ahead of the log: its offsets belong to records that the log has lost.
#[test]
fn offsets_lost_to_power_are_not_reused() {
    let mut disk = Disk::of_mebibytes(64);
    let mut world = world_on(&disk, "never");
    let mut load = Load::over(&world, 4);
    let mut ends = Vec::new();
    for _ in 0..3 {
        let mut gateway = world.start_subscribed();
        let opened = gateway.wait_for_line("Inbox opened");
        assert!(opened.contains(r#""records":0"#), "the power took nothing: {opened}");
        let messages = load.next(&world, 300);
        backlog::publish(&world, messages);
        load.wait_until_stored(&world);
        gateway.kill();
        ends.push(offset_in_sql(&world));
        cut_power(&mut world, &mut disk);
    }
    // Fewer than before: offsets used again would be below those in the database, and skipped.
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 10);
    backlog::publish(&world, messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    ends.push(offset_in_sql(&world));
    assert!(ends.windows(2).all(|two| two[0] >> 40 < two[1] >> 40), "each start has its own range: {ends:?}");
    assert_eq!(load.judge(&world), [0; 0]);
}
