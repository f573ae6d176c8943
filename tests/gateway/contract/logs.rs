//! Standard error and the daily error file.

use test_support::eventually;
use test_support::world::World;

fn invalid_payload_is_logged_and_kept(world: World) {
    let id = world.flow("strict", "t").schema(r#"{"a": "int"}"#).insert(&world.sql);
    let days = [today()];
    let gateway = world.start_subscribed();
    world.publish("t", "no json");
    world.publish("t", r#"{"a": "text"}"#);
    let invalid = format!("Invalid payload in topic {}: ", world.topic("t"));
    let failed = format!("Error processing topic {} (flow_id={id}): ", world.topic("t"));
    gateway.wait_for_line(&invalid);
    gateway.wait_for_line(&failed);
    let file = eventually("the error file", || {
        let names = [days[0].clone(), today()].map(|day| world.log_directory().join(format!("{day}.log")));
        let text = names.iter().find_map(|name| std::fs::read_to_string(name).ok())?;
        (text.contains(&invalid) && text.contains(&failed)).then_some(text)
    });
    for line in file.lines() {
        let parts: Vec<&str> = line.splitn(4, " | ").collect();
        assert_eq!(parts.len(), 4, "YYYY-MM-DD HH:MM:SS | LEVEL | NAME | MESSAGE: {line}");
        assert!(chrono::NaiveDateTime::parse_from_str(parts[0], "%Y-%m-%d %H:%M:%S").is_ok(), "{line}");
        assert_eq!((parts[1], parts[2]), ("ERROR", "mqtt_gateway"), "{line}");
    }
    assert!(file.lines().any(|line| line.contains(&format!("| {invalid}"))));
}

fn today() -> String {
    chrono::Local::now().format("%Y-%m-%d").to_string()
}

fn the_error_file_is_appended_to(world: World) {
    world.flow("any", "t").insert(&world.sql);
    for run in 1..=2 {
        let mut gateway = world.start_subscribed();
        world.publish("t", "no json");
        gateway.wait_for_line("Invalid payload in topic ");
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(world.error_log().matches("Invalid payload in topic ").count(), run);
    }
}

fn every_line_is_json_when_asked_for(world: World) {
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    world.publish("t", "no \"json\"");
    gateway.wait_for_line("Invalid payload in topic ");
    gateway.stop();
    for line in gateway.stderr().lines() {
        assert!(serde_json::from_str::<serde_json::Map<_, _>>(line).is_ok(), "{line}");
    }
}

fn the_mailboxes_of_all_actors_are_reported(world: World) {
    world.flow("any", "t").insert(&world.sql);
    let gateway = world.start_subscribed();
    for actor in ["mqtt", "registry", "router", "worker", "delivery"] {
        gateway.wait_for_line_that(&format!("a mailbox report of {actor}"), &|line| {
            line.to_lowercase().contains(actor)
                && ["state", "depth", "capacity", "high_water", "received", "handled", "failed", "restarts"]
                    .iter()
                    .chain(&["wait_p99_ms", "handle_p99_ms", "age_ms"])
                    .all(|field| line.contains(field))
        });
    }
    gateway.wait_for_line_that("the transactions of a worker", &|line| {
        line.contains("flow-worker-0") && line.contains("transactions")
    });
}

fn no_line_holds_a_password(world: World) {
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    gateway.stop();
    assert!(!gateway.stderr().contains("p@ss:w/o"), "{}", gateway.stderr());
}

on_each_database!(
    invalid_payload_is_logged_and_kept,
    the_error_file_is_appended_to,
    every_line_is_json_when_asked_for,
    the_mailboxes_of_all_actors_are_reported,
    no_line_holds_a_password,
);
