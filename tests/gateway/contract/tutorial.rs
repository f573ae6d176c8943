//! `docs/TUTORIAL.md`, step by step.

use test_support::mosquitto::Broker;
use test_support::publisher::Message;
use test_support::world::{Backend, World};

const TUTORIAL: &str = include_str!("../../../docs/TUTORIAL.md");

/// The text of a step up to the next one.
fn step(heading: &str) -> &'static str {
    let (_, rest) = TUTORIAL.split_once(&format!("## {heading}\n")).expect(heading);
    rest.split("\n## ").next().unwrap()
}

fn statements(step: &'static str) -> impl Iterator<Item = &'static str> {
    step.split("```sql\n").skip(1).map(|block| block.split("```").next().unwrap())
}

/// Payload of the step's `mosquitto_pub`.
fn messages(step: &'static str) -> impl Iterator<Item = Message> {
    let calls = step.lines().filter_map(|line| line.strip_prefix("mosquitto_pub -q 1 -t "));
    calls.map(|call| {
        let (topic, payload) = call.split_once(" -m '").unwrap();
        Message::new(topic, payload.strip_suffix('\'').unwrap())
    })
}

fn the_tutorial_does_what_it_says(backend: Backend) {
    let world = World::with_broker(backend, Broker::private());
    statements(step("3. Add a flow")).for_each(|statement| world.sql.run(statement));
    let mut gateway = world.start_subscribed();
    let (_, active) = step("4. Start it").split_once("```text\n").unwrap();
    // The log is JSON here, which escapes the quotes.
    gateway.wait_for_line(active.split('"').next().unwrap());
    world.publish_all(messages(step("5. Publish")));
    let stored = world.wait_for_stored("TEMP", 1).remove(0);
    assert_eq!((stored.value("value"), stored.value("unit")), (Some("21.5"), Some("C")));
    let letter = world.wait_for_dead_letters(1).remove(0);
    assert!(step("5. Publish").contains(&letter.detail), "{}", letter.detail);

    gateway.kill();
    world.publish_all(messages(step("6. Kill it")));
    let _gateway = world.start_subscribed();
    assert_eq!(world.wait_for_stored("TEMP", 2)[1].value("value"), Some("22"));
    assert_eq!(world.last_msg_id("TEMP"), Some(2));

    statements(step("7. Edit the flow")).for_each(|statement| world.sql.run(statement));
    world.publish_all(messages(step("6. Kill it")));
    assert!(world.wait_for_dead_letters(2)[1].detail.contains("unit"));
}

on_each_backend!(the_tutorial_does_what_it_says);
