//! Metrics equal the tables.

use std::fmt::Write;

use crate::admin::{wait_for, wait_for_value};
use test_support::eventually;
use test_support::http::{Samples, admin_of, get, parse, scrape};
use test_support::publisher::Message;
use test_support::sink::Sink;
use test_support::world::{Backend, World};

fn world(backend: Backend) -> World {
    let mut world = World::on(backend);
    world.set("ADMIN_BIND", "127.0.0.1:0");
    world
}

fn of_flow(samples: &Samples, what: &str, flow: &str) -> f64 {
    samples[&format!("mqtt_gateway_flow_{what}{{flow=\"{flow}\"}}")]
}

fn agree(backend: Backend) {
    let world = world(backend);
    let sink = Sink::new();
    let schema = r#"{"a": {"type": "number", "required": true}}"#;
    world.flow("S", "s").schema(schema).insert(&world.sql);
    world.flow("P", "p").posts_to(&sink.url("/p")).continues_from(40).insert(&world.sql);
    let gateway = world.start_subscribed();
    let admin = admin_of(&gateway);
    let message = |topic: &str, payload: &str| Message::new(&world.topic(topic), payload);
    let mut messages: Vec<Message> = (0..30).map(|n| message("s", &format!("{{\"a\":{n}}}"))).collect();
    messages.extend((0..20).map(|n| message("p", &format!("{{\"n\":{n}}}"))));
    messages.extend((0..5).map(|_| message("s", "{\"a\":\"text\"}")));
    messages.extend((0..3).map(|_| message("s", "no JSON")));
    world.publish_all(messages);
    world.wait_for_dead_letters(8);
    world.wait_for_last_msg_id("P", 60);
    wait_for_value(admin, "mqtt_gateway_flow_posted_total{flow=\"P\"}", 20.0);
    wait_for_value(admin, "mqtt_gateway_flow_received_total{flow=\"S\"}", 35.0);
    wait_for_value(admin, "mqtt_gateway_outbox_depth", 0.0);

    let samples = scrape(admin);
    assert_eq!(of_flow(&samples, "stored_total", "S"), 30.0);
    assert_eq!(of_flow(&samples, "invalid_total", "S"), 5.0);
    assert_eq!(of_flow(&samples, "last_message_id", "S"), 30.0);
    assert_eq!(of_flow(&samples, "received_total", "P"), 20.0);
    assert_eq!(of_flow(&samples, "last_message_id", "P"), 60.0);
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM data WHERE flow_code = 'S'", []), 30);
    let letters = |reason: &str| samples[&format!("mqtt_gateway_dead_letters_total{{reason=\"{reason}\"}}")];
    for reason in ["validation_failed", "payload_not_json", "outbox_full", "outbox_expired"] {
        let sql = format!("SELECT COUNT(*) FROM dead_letters WHERE reason = '{reason}'");
        assert_eq!(letters(reason), f64::from(u32::try_from(world.sql.count(&sql, [])).unwrap()), "{reason}");
    }
    assert_eq!(samples["mqtt_gateway_batch_messages_sum"], 58.0);
    assert_eq!(samples["mqtt_gateway_inbox_appended_total"], 58.0);
    assert_eq!(samples["mqtt_gateway_outbox_oldest_age_seconds"], 0.0);
}

#[test]
fn outcome_counts_match_mariadb() {
    agree(Backend::MariaDb);
}

#[test]
fn outcome_counts_match_sqlite() {
    agree(Backend::Sqlite);
}

#[test]
fn undelivered_posts_report_age_and_expire() {
    let mut world = world(Backend::MariaDb);
    world.set("OUTBOX_MAX_AGE_SECONDS", "3");
    let sink = Sink::new();
    sink.answer_with(503);
    world.flow("P", "p").posts_to(&sink.url("/p")).insert(&world.sql);
    let gateway = world.start_subscribed();
    let admin = admin_of(&gateway);
    world.publish("p", "{\"n\":1}");
    wait_for_value(admin, "mqtt_gateway_outbox_depth", 1.0);
    wait_for_value(admin, "mqtt_gateway_flow_outbox_depth{flow=\"P\"}", 1.0);
    eventually("an age", || (scrape(admin)["mqtt_gateway_outbox_oldest_age_seconds"] > 0.5).then_some(()));
    wait_for_value(admin, "mqtt_gateway_dead_letters_total{reason=\"outbox_expired\"}", 1.0);
    wait_for_value(admin, "mqtt_gateway_outbox_depth", 0.0);
    let samples = scrape(admin);
    assert_eq!(of_flow(&samples, "posted_total", "P"), 0.0);
    let attempts = samples["mqtt_gateway_flow_post_attempts_total{flow=\"P\",outcome=\"endpoint_fault\"}"];
    assert!(attempts >= 2.0, "{attempts}");
    let origin = sink.url("");
    for name in [
        "attempts_total{origin=\"ORIGIN\",outcome=\"endpoint_fault\"}",
        "post_seconds_count{origin=\"ORIGIN\"}",
    ] {
        assert_eq!(samples[&format!("mqtt_gateway_endpoint_{}", name.replace("ORIGIN", &origin))], attempts);
    }
    assert_eq!(samples["mqtt_gateway_flow_outbox_depth{flow=\"P\"}"], 0.0);
    assert_eq!(world.dead_letters().len(), 1);
}

#[test]
fn panic_counts_as_restart_with_reason() {
    let mut world = world(Backend::MariaDb);
    world.set("LANES", "1").set("FAILPOINTS", "worker-batch=1*panic(made to panic)->off");
    world.flow("F", "f").insert(&world.sql);
    let gateway = world.start_subscribed();
    let admin = admin_of(&gateway);
    world.publish("f", "{\"a\":1}");
    world.wait_for_stored("F", 1);
    let restarts = |reason: &str| {
        format!("mqtt_gateway_actor_restarts_total{{actor=\"flow-worker-0\",reason=\"{reason}\"}}")
    };
    let samples = scrape(admin);
    assert_eq!(samples[&restarts("panic")], 1.0);
    assert_eq!(samples[&restarts("silent")], 0.0);
    assert_eq!(get(admin, "/health/live").status, 200);
    wait_for_value(admin, "mqtt_gateway_flow_stored_total{flow=\"F\"}", 1.0);
}

#[test]
#[ignore = "takes half a minute; run by scripts/faults"]
fn frozen_actor_counts_as_silent_only() {
    let mut world = world(Backend::MariaDb);
    world.set("FAILPOINTS", "beat-router=3*off->1*pause->off");
    world.flow("F", "f").insert(&world.sql);
    let gateway = world.start_subscribed();
    let admin = admin_of(&gateway);
    wait_for(admin, "/health/ready", 200);
    let silent = "mqtt_gateway_actor_restarts_total{actor=\"router\",reason=\"silent\"}";
    eventually("the router's replacement", || {
        assert_eq!(get(admin, "/health/live").status, 200);
        (scrape(admin)[silent] == 1.0).then_some(())
    });
    world.publish("f", "{\"a\":1}");
    world.wait_for_stored("F", 1);
}

#[test]
fn beyond_a_thousand_flows_the_rest_count_together() {
    let world = world(Backend::Sqlite);
    let mut sql =
        String::from("INSERT INTO flows (code, description, topic, action, payload_schema, enabled) VALUES ");
    for n in 0..1_003 {
        let comma = if n == 0 { "" } else { ", " };
        let topic = world.topic(&format!("f{n}"));
        write!(sql, "{comma}('F{n}', 'a flow', '{topic}', 'STORE_DB', '{{}}', TRUE)").unwrap();
    }
    world.sql.run(&sql);
    let gateway = world.start();
    let admin = admin_of(&gateway);
    wait_for(admin, "/health/ready", 200);
    let topics = ["f0", "f999", "f1000", "f1001", "f1002"];
    world.publish_all(topics.map(|topic| Message::new(&world.topic(topic), "{\"a\":1}")));
    for (flow, stored) in [("_other", 3.0), ("F0", 1.0), ("F999", 1.0)] {
        wait_for_value(admin, &format!("mqtt_gateway_flow_stored_total{{flow=\"{flow}\"}}"), stored);
    }
    let samples = scrape(admin);
    let series = samples.keys().filter(|name| name.starts_with("mqtt_gateway_flow_stored_total{")).count();
    assert_eq!(series, 1_001);
    assert!(!samples.contains_key("mqtt_gateway_flow_last_message_id{flow=\"_other\"}"));
    world.sql.run("DELETE FROM flows WHERE code = 'F0'");
    eventually("F0 to leave", || {
        (!scrape(admin).contains_key("mqtt_gateway_flow_stored_total{flow=\"F0\"}")).then_some(())
    });
}

#[test]
fn flow_codes_are_escaped_in_metrics() {
    let world = world(Backend::Sqlite);
    world.flow("a\"} 1\n\\b", "f").insert(&world.sql);
    let gateway = world.start();
    let admin = admin_of(&gateway);
    wait_for(admin, "/health/ready", 200);
    let text = eventually("its series", || {
        let text = get(admin, "/metrics").body;
        text.contains("flow_stored_total{").then_some(text)
    });
    let samples = parse(&text);
    assert_eq!(samples["mqtt_gateway_flow_stored_total{flow=\"a\\\"} 1\\n\\\\b\"}"], 0.0);
}
