//! How much the log takes, whatever is published.

use std::fs;

use crate::support::world::{Backend, World};
use crate::{await_record, parse, text};

#[test]
fn no_topic_makes_a_line_longer_than_the_page_says() {
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
    let mut files = fs::read_dir(world.log_directory()).unwrap();
    let file = fs::read_to_string(files.next().unwrap().unwrap().path()).unwrap();
    let line = file.lines().find(|line| line.contains(&begin)).unwrap();
    assert!(line.len() < MOST + 100 && line.contains("xxx: not JSON: "), "{line}");
}
