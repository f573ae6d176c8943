//! `POST_ENDPOINT`: the payload as it came, an id that is kept, and tries until it is delivered.

use std::collections::HashSet;

use test_support::eventually;
use test_support::net::free_port;
use test_support::sink::Sink;
use test_support::world::World;

fn outbox_is_empty(world: &World) {
    let sql = "SELECT COUNT(*) FROM outbox";
    eventually("an empty outbox", || (world.sql.count(sql, []) == 0).then_some(()));
}

fn the_body_is_the_payload_byte_for_byte(world: World) {
    let sink = Sink::new();
    world.flow("post", "t").schema(r#"{"v": "number"}"#).posts_to(&sink.url("/in?x=1")).insert(&world.sql);
    let _gateway = world.start_subscribed();
    let payloads = [
        "{ \"v\" : 1.50 ,\n\t\"ü\": \"\\u00fc 😀\", \"v\": 2e0 }  ",
        r#"{"v":123456789012345678901234567890,"nested":{"a":[1,2,{}]}}"#,
    ];
    for payload in payloads {
        world.publish("t", payload);
    }
    let requests = sink.wait_for_delivered(2);
    for (request, payload) in requests.iter().zip(payloads) {
        assert_eq!(String::from_utf8_lossy(&request.body), payload);
        assert_eq!((request.method.as_str(), request.path.as_str()), ("POST", "/in?x=1"));
        assert_eq!(request.header("content-type"), Some("application/json"));
    }
    let keys: HashSet<&str> = requests.iter().map(|r| r.header("idempotency-key").unwrap()).collect();
    assert_eq!(keys.len(), 2, "each message has a key of its own");
    assert_eq!(world.last_msg_id("post"), Some(2));
    assert!(world.stored("post").is_empty(), "what is posted is not stored");
    outbox_is_empty(&world);
}

fn lone_surrogate_is_posted_not_stored(world: World) {
    let sink = Sink::new();
    world.flow("post", "t").schema(r#"{"v": "string"}"#).posts_to(&sink.url("/in")).insert(&world.sql);
    world.flow("store", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
    let cut = r#"{"v": "cut \ud83d"}"#;
    world.publish("t", cut);
    world.publish("t", r#"{"v": "whole \ud83d\ude00"}"#);
    assert_eq!(String::from_utf8_lossy(&sink.wait_for_delivered(2)[0].body), cut);
    assert_eq!(world.wait_for_stored("store", 1)[0].value("v"), Some("whole 😀"));
    let letters = world.wait_for_dead_letters(1);
    assert_eq!((letters.len(), letters[0].reason.as_str()), (1, "half_surrogate_pair"));
    assert_eq!(letters[0].payload, cut.as_bytes());
}

fn failing_endpoint_is_retried_with_same_id(world: World) {
    let sink = Sink::new();
    sink.answer_with(500);
    let url = sink.url("/hook");
    world.flow("post", "t").posts_to(&url).insert(&world.sql);
    let gateway = world.start_subscribed();
    for number in 1..=3 {
        world.publish("t", format!(r#"{{"number": {number}}}"#));
    }
    world.wait_for_last_msg_id("post", 3);
    // The path may be a secret.
    let shown = url.replace("/hook", "/***");
    gateway.wait_for_line(&format!("Error posting flow post to endpoint {shown}: "));
    assert!(!gateway.stderr().contains("/hook"));
    eventually("a second try", || (sink.requests().len() >= 2).then_some(()));
    sink.answer_with(200);
    let delivered = sink.wait_for_delivered(3);
    let bodies: Vec<_> = delivered.iter().map(|r| String::from_utf8_lossy(&r.body)).collect();
    assert_eq!(bodies, [r#"{"number": 1}"#, r#"{"number": 2}"#, r#"{"number": 3}"#], "in order");
    for request in sink.requests() {
        let same = delivered.iter().find(|other| other.body == request.body).unwrap();
        let key = "idempotency-key";
        assert_eq!(request.header(key), same.header(key), "the key stays the same over all tries");
    }
    outbox_is_empty(&world);
    assert_eq!(world.last_msg_id("post"), Some(3));
}

fn a_redirect_is_a_failure_and_not_followed(world: World) {
    let sink = Sink::new();
    sink.answer_with(302);
    world.flow("post", "t").posts_to(&sink.url("/")).insert(&world.sql);
    let gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    gateway.wait_for_line("Error posting flow post to endpoint ");
    sink.answer_with(200);
    sink.wait_for_delivered(1);
    assert!(sink.requests().iter().all(|request| request.method == "POST"));
}

fn a_proxy_of_the_environment_is_used(mut world: World) {
    let proxy = Sink::new();
    let url = proxy.url("").replace("http://", "http://me:s3cret@");
    world.set("http_proxy", &url);
    world.flow("post", "t").posts_to("http://endpoint.invalid/in?x=1").insert(&world.sql);
    let gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    let request = proxy.wait_for_delivered(1).remove(0);
    assert_eq!(request.path, "http://endpoint.invalid/in?x=1");
    assert_eq!(request.header("proxy-authorization"), Some("Basic bWU6czNjcmV0"));
    outbox_is_empty(&world);
    assert_eq!(gateway.count_lines("s3cret"), 0);
}

fn refused_connection_is_retried_with_same_id(world: World) {
    let port = free_port();
    world.flow("post", "t").posts_to(&format!("http://127.0.0.1:{port}/x")).insert(&world.sql);
    let gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_last_msg_id("post", 1);
    gateway.wait_for_line("Error posting flow post to endpoint ");
    let sink = Sink::on(port);
    assert_eq!(sink.wait_for_delivered(1)[0].body, br#"{"a": 1}"#);
}

fn undelivered_post_survives_restart_with_key(world: World) {
    let sink = Sink::new();
    sink.answer_with(503);
    world.flow("post", "t").posts_to(&sink.url("/")).insert(&world.sql);
    let mut gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    eventually("a first try", || (!sink.requests().is_empty()).then_some(()));
    world.wait_for_last_msg_id("post", 1);
    gateway.kill();
    sink.answer_with(200);
    let _gateway = world.start_subscribed();
    let delivered = sink.wait_for_delivered(1);
    let key = sink.requests()[0].header("idempotency-key").unwrap().to_owned();
    assert_eq!(delivered[0].header("idempotency-key"), Some(key.as_str()));
    assert_eq!(world.last_msg_id("post"), Some(1));
    outbox_is_empty(&world);
}

fn a_failing_endpoint_does_not_hold_up_another(world: World) {
    let (failing, working) = (Sink::new(), Sink::new());
    failing.answer_with(500);
    world.flow("failing", "t").posts_to(&failing.url("/")).insert(&world.sql);
    world.flow("working", "t").posts_to(&working.url("/")).insert(&world.sql);
    world.flow("storing", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
    for number in 0..100 {
        world.publish("t", format!(r#"{{"number": {number}}}"#));
    }
    assert_eq!(working.wait_for_delivered(100).len(), 100);
    assert_eq!(world.wait_for_stored("storing", 100).len(), 100);
    world.wait_for_last_msg_id("failing", 100);
    assert!(failing.delivered().is_empty());
}

fn unresponsive_endpoint_times_out_and_retries(mut world: World) {
    world.set("HTTP_TIMEOUT_SECONDS", "1");
    let sink = Sink::new();
    sink.stall();
    world.flow("post", "t").posts_to(&sink.url("/")).insert(&world.sql);
    let gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    gateway.wait_for_line("Error posting flow post to endpoint ");
    sink.answer_with(200);
    assert_eq!(sink.wait_for_delivered(1)[0].body, br#"{"a": 1}"#);
}

fn expired_post_becomes_dead_letter(mut world: World) {
    world.set("OUTBOX_MAX_AGE_SECONDS", "1");
    let sink = Sink::new();
    sink.answer_with(500);
    let id = world.flow("post", "t").posts_to(&sink.url("/")).insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    let letter = world.wait_for_dead_letters(1).remove(0);
    assert_eq!((letter.flow_id, letter.payload.as_slice()), (Some(id), br#"{"a": 1}"#.as_slice()));
    assert_eq!(world.last_msg_id("post"), Some(1), "the id is not given back");
    outbox_is_empty(&world);
}

fn set_options(world: &World, options: &str) {
    world.sql.run(&format!("UPDATE flows SET options = '{options}' WHERE code = 'post'"));
}

fn options_apply_to_new_and_waiting_posts(world: World) {
    let sink = Sink::new();
    world.flow("post", "t").posts_to(&sink.url("/in")).insert(&world.sql);
    // The column is there from the first start on.
    let mut gateway = world.start_subscribed();
    set_options(&world, r#"{"delivery": {"method": "PUT", "headers": {"X-Site": "plant-4"}}}"#);
    world.publish("t", r#"{"a": 1}"#);
    let first = sink.wait_for_delivered(1).remove(0);
    assert_eq!((first.method.as_str(), first.header("x-site")), ("PUT", Some("plant-4")));

    sink.answer_with(503);
    world.publish("t", r#"{"a": 2}"#);
    gateway.wait_for_line("Error posting flow post to endpoint ");
    gateway.kill();
    set_options(&world, r#"{"delivery": {"auth": {"type": "bearer", "token": "t0ken"}}}"#);
    sink.answer_with(200);
    let _gateway = world.start_subscribed();
    let second = sink.wait_for_delivered(2).remove(1);
    assert_eq!((second.method.as_str(), second.header("x-site")), ("POST", None));
    assert_eq!(second.header("authorization"), Some("Bearer t0ken"));
    outbox_is_empty(&world);
}

fn unusable_options_are_named_and_reject_messages(world: World) {
    let sink = Sink::new();
    world.flow("post", "t").posts_to(&sink.url("/in")).insert(&world.sql);
    let gateway = world.start_subscribed();
    set_options(&world, r#"{"delivery": {"metod": "PUT"}}"#);
    world.publish("t", r#"{"a": 1}"#);
    let letter = world.wait_for_dead_letters(1).remove(0);
    assert_eq!(letter.reason, "unusable_options");
    gateway.signal("HUP");
    gateway.wait_for_line("Flow post cannot use its options: options.delivery.metod: unknown field `metod`");
    assert_eq!(world.last_msg_id("post"), None, "no number is taken");
    assert!(sink.delivered().is_empty());
}

/// Also over a crash, while the endpoint fails.
fn also_posted_messages_reach_table_and_endpoint(world: World) {
    const MESSAGES: i64 = 40;
    let sink = Sink::new();
    sink.answer_with(503);
    let schema = r#"{"v": "number"}"#;
    world.flow("post", "t").schema(schema).posts_to(&sink.url("/")).action("STORE_DB").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    set_options(&world, r#"{"also_post": true}"#);
    (0..MESSAGES).for_each(|number| world.publish("t", format!(r#"{{"v": {number}}}"#)));
    eventually("a first try", || (!sink.requests().is_empty()).then_some(()));
    gateway.kill();
    sink.answer_with(200);
    let _gateway = world.start_subscribed();
    world.wait_for_last_msg_id("post", MESSAGES);
    outbox_is_empty(&world);
    let stored: Vec<i64> = world.wait_for_stored("post", 40).iter().map(|message| message.id).collect();
    assert_eq!(stored, (1..=MESSAGES).collect::<Vec<_>>());
    let delivered = sink.delivered();
    let numbers = delivered.iter().map(|request| request.header("x-gateway-message-id").unwrap());
    let posted: Vec<i64> = numbers.map(|number| number.parse().unwrap()).collect();
    assert_eq!(posted, stored);
    assert_eq!(world.audit(), [""; 0]);
}

on_each_database!(
    also_posted_messages_reach_table_and_endpoint,
    options_apply_to_new_and_waiting_posts,
    unusable_options_are_named_and_reject_messages,
    the_body_is_the_payload_byte_for_byte,
    lone_surrogate_is_posted_not_stored,
    failing_endpoint_is_retried_with_same_id,
    a_redirect_is_a_failure_and_not_followed,
    a_proxy_of_the_environment_is_used,
    refused_connection_is_retried_with_same_id,
    undelivered_post_survives_restart_with_key,
    a_failing_endpoint_does_not_hold_up_another,
    unresponsive_endpoint_times_out_and_retries,
    expired_post_becomes_dead_letter,
);
