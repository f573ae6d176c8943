//! Bytes of the log that cannot be read any more: only the records that they belong to are lost, and loudly.

use std::fs;
use std::path::PathBuf;

use super::volume::flip;
use crate::backlog;
use test_support::oracle::Load;
use test_support::world::World;

const MESSAGES: usize = 400;

/// A gateway that was killed with all its messages in the inbox and none in the database.
fn killed_with_a_backlog() -> (World, Load) {
    let mut world = backlog::world();
    world.set("INBOX_MAX_BYTES", "1048576");
    let mut load = Load::over(&world, 4).of_bytes(1_000);
    let mut gateway = world.start_subscribed();
    backlog::hold(&world);
    let messages = load.next(&world, MESSAGES);
    backlog::publish(&world, messages);
    gateway.kill();
    backlog::release(&world);
    (world, load)
}

fn segments(world: &World) -> Vec<PathBuf> {
    let files = fs::read_dir(world.inbox_directory()).unwrap().map(|entry| entry.unwrap().path());
    let mut segments: Vec<PathBuf> =
        files.filter(|file| file.extension().is_some_and(|e| e == "segment")).collect();
    segments.sort();
    assert!(segments.len() > 1, "{segments:?}");
    segments
}

/// The segment and the place in it where this key is written.
fn place_of(world: &World, key: u64) -> (PathBuf, usize) {
    let text = format!(r#"{{"key": {key},"#);
    let find = |segment: PathBuf| {
        let bytes = fs::read(&segment).unwrap();
        let at = bytes.windows(text.len()).position(|window| window == text.as_bytes())?;
        Some((segment, at))
    };
    segments(world).into_iter().find_map(find).unwrap()
}

fn quarantined(world: &World) -> usize {
    fs::read_dir(world.inbox_directory().join("quarantine")).map_or(0, Iterator::count)
}

#[test]
fn flipped_bytes_cost_only_their_records() {
    let (world, load) = killed_with_a_backlog();
    let damaged = [3, 120, 121, 250];
    for key in damaged {
        let (segment, at) = place_of(&world, key);
        flip(&segment, at + 5);
    }
    let mut gateway = world.start_subscribed();
    Load::wait_for_count(&world, MESSAGES - damaged.len());
    assert_eq!(gateway.stop(), Some(0));
    let judgement = load.judge_with_a_broker_that_loses(&world);
    let mut missing = judgement.missing;
    missing.sort_unstable();
    assert_eq!((missing, judgement.extra), (damaged.to_vec(), vec![]));
    // Two of them lie side by side.
    assert_eq!((gateway.count_lines("cannot be read and are skipped"), quarantined(&world)), (3, 3));
}

#[test]
fn torn_tail_costs_one_record_once() {
    let (world, mut load) = killed_with_a_backlog();
    let last = segments(&world).pop().unwrap();
    let length = fs::metadata(&last).unwrap().len();
    fs::OpenOptions::new().write(true).open(&last).unwrap().set_len(length - 700).unwrap();

    let mut gateway = world.start_subscribed();
    Load::wait_for_count(&world, MESSAGES - 1);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!((gateway.count_lines("were cut off, nothing valid follows"), quarantined(&world)), (1, 1));

    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 100);
    backlog::publish(&world, messages);
    Load::wait_for_count(&world, MESSAGES - 1 + 100);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(gateway.count_lines("cut off"), 0);
    let judgement = load.judge_with_a_broker_that_loses(&world);
    assert_eq!((judgement.missing, judgement.extra), (vec![MESSAGES as u64 - 1], vec![]));
}

#[test]
fn lost_identity_file_loses_no_message() {
    let (world, load) = killed_with_a_backlog();
    fs::write(world.inbox_directory().join("meta"), "torn").unwrap();
    let mut gateway = world.start_subscribed();
    gateway.wait_for_line("the file with its identity was lost");
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
