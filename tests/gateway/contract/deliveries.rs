//! Waiting posts are listed, retried and cancelled by commands, beside the running gateway.

use serde_json::Value;

use test_support::eventually;
use test_support::http::admin_of;
use test_support::process::Gateway;
use test_support::sink::{ASK_FOR_AN_HOUR, Sink};
use test_support::world::{World, text_of};

fn document(world: &World, arguments: &[&str], code: i32) -> Value {
    let output = world.command(&[&["deliveries", "--json"], arguments].concat());
    assert_eq!(output.status.code(), Some(code), "{}", text_of(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A gateway whose endpoint wants the three posts of the flow `f` in an hour.
fn start_with_late_posts(world: &World, sink: &Sink) -> Gateway {
    sink.answer_with(ASK_FOR_AN_HOUR);
    world.flow("f", "t").posts_to(&sink.url("/")).insert(&world.sql);
    let gateway = world.start_subscribed();
    (1..=3).for_each(|n| world.publish("t", format!(r#"{{"n":{n}}}"#)));
    let failed = || world.sql.count("SELECT COUNT(*) FROM outbox WHERE attempts > 0", []) == 1;
    eventually("a failed attempt", || failed().then_some(()));
    eventually("all rows", || (world.sql.count("SELECT COUNT(*) FROM outbox", []) == 3).then_some(()));
    gateway
}

fn retried_posts_are_made_at_once(world: World) {
    let sink = Sink::new();
    let _gateway = start_with_late_posts(&world, &sink);
    let listed = document(&world, &["list"], 0);
    let flow = &listed["deliveries"][0];
    assert_eq!((&flow["flow_code"], &flow["posts"], &flow["attempts"]), (&"f".into(), &3.into(), &1.into()));
    assert_eq!(flow["recent_attempts"][0]["status"], ASK_FOR_AN_HOUR);
    sink.answer_with(200);

    assert_eq!(document(&world, &["retry", "--flow", "f"], 0)["due"], 3);
    sink.wait_for_delivered(3);
    eventually("an empty outbox", || (world.sql.count("SELECT COUNT(*) FROM outbox", []) == 0).then_some(()));
    assert_eq!(document(&world, &["list", "--flow", "f"], 0)["deliveries"], Value::Array(Vec::new()));
    assert_eq!(document(&world, &["retry", "--flow", "none"], 1)["error"]["kind"], "not_found");
}

fn cancelled_post_lets_the_next_ones_pass(world: World) {
    let sink = Sink::new();
    let _gateway = start_with_late_posts(&world, &sink);
    let first = document(&world, &["list"], 0)["deliveries"][0]["first_key"].as_str().unwrap().to_owned();
    assert_eq!(document(&world, &["cancel", &first], 1)["error"]["problems"][0]["field"], "--yes");

    assert_eq!(document(&world, &["cancel", &first, "--yes"], 0)["cancelled"], 1);
    sink.answer_with(200);
    document(&world, &["retry", "--flow", "f"], 0);
    let delivered = sink.wait_for_delivered(2);
    let bodies: Vec<_> = delivered.iter().map(|request| request.body.clone()).collect();
    assert_eq!(bodies, [br#"{"n":2}"#, br#"{"n":3}"#]);
    let letters = world.wait_for_dead_letters(1);
    assert_eq!(letters[0].reason, "cancelled");
    assert_eq!(document(&world, &["cancel", &first, "--yes"], 1)["cancelled"], 0);
}

/// Five failures in a row open the breaker, whichever flows they are of.
fn open_breaker_is_listed(mut world: World) {
    world.set("ADMIN_BIND", "127.0.0.1:0");
    let sink = Sink::new();
    sink.answer_with(503);
    for n in 0..5 {
        world.flow(&format!("f{n}"), &format!("t/{n}")).posts_to(&sink.url("/")).insert(&world.sql);
    }
    let gateway = world.start_subscribed();
    (0..5).for_each(|n| world.publish(&format!("t/{n}"), "{}"));

    let address = format!("http://{}", admin_of(&gateway));
    let listed = eventually("an open breaker", || {
        let listed = document(&world, &["list", "--url", &address], 0);
        (listed["breakers"] != Value::Array(Vec::new())).then_some(listed)
    });
    let breaker = &listed["breakers"][0];
    assert_eq!((&breaker["origin"], &breaker["state"]), (&sink.url("").into(), &"open".into()));
    let table = text_of(&world.command(&["deliveries", "list", "--url", &address]));
    assert!(table.contains("BREAKER"), "{table}");

    drop(gateway);
    assert_eq!(document(&world, &["list", "--url", &address], 0)["breakers"], Value::Null);
    let table = text_of(&world.command(&["deliveries", "list", "--url", &address]));
    assert!(table.contains("Breakers of endpoints are unknown"), "{table}");
}

on_each_database!(
    open_breaker_is_listed,
    retried_posts_are_made_at_once,
    cancelled_post_lets_the_next_ones_pass
);
