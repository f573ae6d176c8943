//! The log is bounded for any input.

use std::fs;
use std::path::Path;

use crate::logs::page::assert_quoted;
use crate::logs::{assert_one_object_a_line, await_record, parse, text};
use test_support::eventually;
use test_support::publisher::Message;
use test_support::world::{Backend, World};

/// The least that may be asked for.
const MAX_BYTES: u64 = 1_048_576;

const CLOSING: &str = "The error files have reached LOG_DIR_MAX_BYTES: ";

/// Their names, and how many bytes they have.
fn files(dir: &Path) -> Vec<(String, u64)> {
    let files = fs::read_dir(dir).unwrap().map(Result::unwrap);
    let mut files: Vec<_> =
        files.map(|file| (file.file_name().into_string().unwrap(), file.metadata().unwrap().len())).collect();
    files.sort();
    files
}

fn daily_file(days_ago: u64) -> String {
    let day = chrono::Local::now().date_naive() - chrono::Days::new(days_ago);
    format!("{day}.log")
}

#[test]
fn oldest_error_files_are_removed_first() {
    let mut world = World::on(Backend::Sqlite);
    world.set("LOG_DIR_MAX_BYTES", &MAX_BYTES.to_string()).set("LOG_REPEAT_SECONDS", "0");
    world.flow("any", "t/#").insert(&world.sql);
    let dir = world.log_directory();
    fs::create_dir_all(&dir).unwrap();
    let old = [daily_file(2), daily_file(1), "of-somebody-else.log".to_owned()];
    for name in &old {
        fs::write(dir.join(name), vec![b'.'; 600_000]).unwrap();
    }
    let mut gateway = world.start_subscribed();
    assert_eq!(files(&dir).len(), 2, "the oldest is too much at the start already");
    let topic = world.topic(&format!("t/{}", "x".repeat(1_000)));
    let flood = || {
        world.publish_all((0..200).map(|_| Message::new(&topic, b"garbage")));
        gateway.stderr().contains(CLOSING).then_some(())
    };
    eventually("word that the error files take no more", flood);
    let closed = await_record(&gateway, CLOSING, &[("level", "ERROR"), ("max_bytes", "1048576")]);
    assert!(text(&closed, "message").ends_with(" until there is room or another day begins"), "{closed:?}");

    let after = world.topic("t/after");
    world.publish("t/after", b"garbage");
    await_record(&gateway, "Invalid payload in topic ", &[("topic", &after)]);
    assert_eq!(gateway.stop(), Some(0));
    let files = files(&dir);
    let names: Vec<&str> = files.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, [&daily_file(0), "of-somebody-else.log"], "the younger one went later");
    assert!(files[0].1 <= MAX_BYTES && files[0].1 > MAX_BYTES - 2_000, "{files:?}");
    let today = fs::read_to_string(dir.join(&files[0].0)).unwrap();
    assert!(today.lines().last().unwrap().contains(&format!(" | ERROR | mqtt_gateway | {CLOSING}")));
    assert!(!today.contains(&after));
    assert_eq!(gateway.stderr().matches(CLOSING).count(), 1);
    assert_one_object_a_line(&gateway);
    assert_quoted("Error files full", &[CLOSING]);
}

#[test]
fn long_topics_are_shortened_in_lines() {
    const MOST: usize = 2_000;
    let world = World::on(Backend::Sqlite);
    world.flow("any", "t/#").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let begin = format!("Invalid payload in topic {}/xxx", world.topic("t"));
    world.publish(&format!("t/{}", "x".repeat(60_000)), b"garbage");
    let told = [("topic", "…"), ("message", "…"), ("message", "xxx: not JSON: ")];
    let record = await_record(&gateway, &begin, &told);
    for field in ["topic", "message"] {
        assert_eq!(text(&record, field).chars().count(), MOST, "{field}");
    }
    assert_eq!(gateway.stop(), Some(0));
    assert!(
        gateway.stderr().lines().filter_map(parse).all(|record| text(&record, "message").len() < 2 * MOST)
    );
    let name = files(&world.log_directory()).pop().unwrap().0;
    let file = fs::read_to_string(world.log_directory().join(name)).unwrap();
    let line = file.lines().find(|line| line.contains(&begin)).unwrap();
    assert!(line.len() < MOST + 100 && line.contains("xxx: not JSON: "), "{line}");
}
