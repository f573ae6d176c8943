//! `docs/TUTORIAL.md`, step by step.

use std::process::Command;

use test_support::mosquitto::Broker;
use test_support::process::binary;
use test_support::world::{Backend, World, text_of};

const TUTORIAL: &str = include_str!("../../../docs/TUTORIAL.md");

/// The text of a step up to the next one.
fn step(heading: &str) -> &'static str {
    let (_, rest) = TUTORIAL.split_once(&format!("## {heading}\n")).expect(heading);
    rest.split("\n## ").next().unwrap()
}

/// The blocks of a step in this language.
fn blocks(step: &'static str, language: &str) -> Vec<&'static str> {
    let begin = format!("```{language}\n");
    let begins = step.match_indices(&begin).map(|(at, _)| &step[at + begin.len()..]);
    begins.map(|block| block.split("```").next().unwrap()).collect()
}

/// Runs the commands of a step in a shell, except those that start or kill the gateway, and returns what they print.
fn follow(world: &World, step: &'static str) -> String {
    let programs = binary().parent().unwrap().display().to_string();
    let commands = blocks(step, "sh").concat();
    let commands = commands.lines().filter(|line| line.starts_with("mqtt-gateway "));
    let run = |command| {
        let output = Command::new("sh")
            .args(["-c", command])
            .current_dir(world.directory())
            .env_clear()
            .envs(&world.settings)
            .env("PATH", format!("{programs}:/usr/bin:/bin"))
            .output()
            .unwrap();
        text_of(&output)
    };
    commands.map(run).collect()
}

fn the_tutorial_does_what_it_says(backend: Backend) {
    let world = World::with_broker(backend, Broker::private());
    assert!(world.command(&["migrate"]).status.success());
    let printed = follow(&world, step("3. Add a flow"));
    for expected in blocks(step("3. Add a flow"), "text") {
        assert!(printed.contains(expected), "{printed}");
    }
    let mut gateway = world.start_subscribed();
    let active = blocks(step("4. Start it"), "text").remove(0);
    // The log is JSON here, which escapes the quotes.
    gateway.wait_for_line(active.split('"').next().unwrap());

    let publish = step("5. Publish");
    follow(&world, publish);
    let stored = world.wait_for_stored("TEMP", 1).remove(0);
    assert_eq!((stored.value("value"), stored.value("unit")), (Some("21.5"), Some("C")));
    assert_eq!(world.sql.rows(blocks(publish, "sql")[0], []).len(), 2);
    let letter = world.wait_for_dead_letters(1).remove(0);
    assert!(publish.contains(&letter.detail), "{}", letter.detail);
    let counts = text_of(&world.command(&["dead-letters", "list", "--counts"]));
    assert_eq!(counts, blocks(publish, "text")[1]);

    gateway.kill();
    follow(&world, step("6. Kill it"));
    let _gateway = world.start_subscribed();
    assert_eq!(world.wait_for_stored("TEMP", 2)[1].value("value"), Some("22"));
    assert_eq!(world.last_msg_id("TEMP"), Some(2));

    let edit = step("7. Edit the flow, and replay");
    let [broken, mended] = blocks(edit, "sh")[..] else { panic!("{edit}") };
    follow(&world, &edit[..edit.find(broken).unwrap() + broken.len()]);
    assert!(world.wait_for_dead_letters(2)[1].detail.contains("unit"));
    let printed = follow(&world, &edit[edit.find(mended).unwrap() - "```sh\n".len()..]);
    assert!(printed.ends_with(blocks(edit, "text")[0]), "{printed}");
    let stored = world.wait_for_stored("TEMP", 3).remove(2);
    assert_eq!((stored.id, stored.value("value")), (3, Some("23")));
    assert_eq!(world.dead_letters().len(), 1);
}

on_each_backend!(the_tutorial_does_what_it_says);
