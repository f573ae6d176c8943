//! Log lines about the broker, the database, the endpoint and the disk.

use crate::logs::page::assert_quoted;
use crate::logs::{assert_one_object_a_line, assert_since, await_record, number, text};
use test_support::eventually;
use test_support::mariadb::MariaDbServer;
use test_support::mosquitto::Broker;
use test_support::net::free_port;
use test_support::publisher::Message;
use test_support::world::{Backend, World};

#[test]
fn broker_loss_is_logged_with_next_attempt() {
    let mut world = World::with_broker(Backend::Sqlite, Broker::private());
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let connected = await_record(&gateway, "Connected to the broker", &[]);
    let server = [("server", text(&connected, "server"))];
    world.broker.stop();
    let lost = await_record(&gateway, "Connection to the broker lost: ", &server);
    let failed = await_record(&gateway, "MQTT connection failed with reason code: ", &server);
    for record in [lost, failed] {
        assert!(record["retry_in_ms"].is_u64(), "{record:?}");
    }
    let line = await_record(&gateway, "mailbox", &[("actor", "mqtt"), ("state", "disconnected")]);
    assert_since(&line, 0);
    world.broker.start();
    assert_eq!(gateway.stop(), Some(0));
    assert_one_object_a_line(&gateway);
    assert_quoted(
        "Disconnected from the broker",
        &[
            "Connection to the broker lost: ",
            "MQTT connection failed with reason code: ",
            "Connected to the broker",
            "state=disconnected",
        ],
    );
}

#[test]
fn filling_inbox_is_logged_in_stages() {
    let mut server = MariaDbServer::new();
    let mut world = World::on_server(&server, Broker::private());
    world.set("INBOX_MAX_BYTES", "1048576").set("INBOX_SEGMENT_BYTES", "65536");
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    world.publish("t", r#"{"n": 0}"#);
    world.wait_for_stored("any", 1);
    server.stop();
    let topic = world.topic("t");
    let padding = "x".repeat(2_000);
    let message = |n| Message::new(&topic, format!(r#"{{"n": {n}, "padding": "{padding}"}}"#));
    world.publish_all((1..1_000).map(message));
    let growing = await_record(&gateway, "Inbox growing: ", &[("max_bytes", "1048576")]);
    assert!(number(&growing, "percent") > 50.0, "{growing:?}");
    assert_since(&growing, 0);
    let full = await_record(&gateway, "The inbox takes no message, so the broker holds them: ", &[]);
    assert_since(&full, 0);
    let refused = await_record(&gateway, "Database refuses, nothing is lost, trying again: ", &[]);
    assert!(refused["retry_in_ms"].is_u64(), "{refused:?}");
    server.start();
    await_record(&gateway, "Inbox shrinks again: ", &[]);
    let taken_again = || {
        world.publish("t", r#"{"n": 0}"#);
        gateway.stderr().contains("The inbox takes messages again").then_some(())
    };
    eventually("word that the inbox takes messages again", taken_again);
    await_record(&gateway, "The inbox takes messages again", &[]);
    assert_eq!(gateway.stop(), Some(0));
    assert_one_object_a_line(&gateway);
    assert_quoted("Inbox growing", &["Inbox growing: ", "Inbox shrinks again: "]);
    assert_quoted(
        "Inbox full",
        &["The inbox takes no message, so the broker holds them: ", "The inbox takes messages again"],
    );
    assert_quoted("Database away", &["Database refuses, nothing is lost, trying again: ", "state=retrying"]);
}

#[test]
fn absent_database_is_logged_with_next_attempt() {
    let mut world = World::on(Backend::MariaDb);
    world.set("DB_PORT", &free_port().to_string());
    let mut gateway = world.start();
    let away = await_record(&gateway, "The database is not available, waiting for it: ", &[]);
    assert!(away["retry_in_ms"].is_u64(), "{away:?}");
    assert_eq!(gateway.stop(), Some(0));
    assert_one_object_a_line(&gateway);
    assert_quoted("Database away", &["The database is not available, waiting for it: "]);
    assert_quoted("Not ready", &["The database is not available, waiting for it: "]);
}

#[test]
fn unprocessable_message_is_logged_with_reason() {
    let world = World::on(Backend::Sqlite);
    let id = world.flow("strict", "t").schema(r#"{"a": "int"}"#).insert(&world.sql);
    let mut gateway = world.start_subscribed();
    world.publish("t", r#"{"a": "text"}"#);
    let (topic, flow_id) = (world.topic("t"), id.to_string());
    let told = [("topic", topic.as_str()), ("flow_id", flow_id.as_str()), ("flow", "strict")];
    let failed = await_record(&gateway, &format!("Error processing topic {topic} (flow_id={id}): "), &told);
    assert_eq!(text(&failed, "reason"), world.wait_for_dead_letters(1)[0].reason);
    assert_eq!(gateway.stop(), Some(0));
    assert_quoted("Dead letters", &["Error processing topic "]);
}

#[test]
fn rejected_flow_is_logged_until_recovery() {
    let world = World::on(Backend::Sqlite);
    let id = world.flow("strict", "t").insert(&world.sql).to_string();
    world.sql.run("CREATE TRIGGER site BEFORE INSERT ON data WHEN NEW.flow_code = 'strict' BEGIN SELECT RAISE(ABORT, 'not now'); END");
    let mut gateway = world.start_subscribed();
    for n in 0..25 {
        world.publish("t", format!(r#"{{"a": {n}}}"#));
    }
    let told = [("flow_id", id.as_str()), ("flow", "strict"), ("refused", "20"), ("message", "not now")];
    await_record(&gateway, "Flow strict is set aside: ", &told);
    world.sql.run("DROP TRIGGER site");
    await_record(&gateway, "A flow that was left behind has caught up", &[("flow_id", id.as_str())]);
    assert_eq!(world.wait_for_stored("strict", 5).len(), 5);
    assert_eq!(gateway.stop(), Some(0));
    assert_quoted("Flow set aside", &["is set aside: ", "has caught up with its lane"]);
}

#[test]
fn flow_with_invalid_filter_is_named() {
    let world = World::on(Backend::Sqlite);
    world.flow("odd", "a/#/b").insert(&world.sql);
    world.flow("any", "t").insert(&world.sql);
    let gateway = world.start();
    await_record(&gateway, "Flow odd is not subscribed: its topic filter ", &[("flow", "odd")]);
    await_record(&gateway, "Flows loaded", &[("flows", "2"), ("rejected", "1")]);
    assert_quoted("Flow rejected or invalid", &["is not subscribed: its topic filter "]);
}

#[test]
fn exhausted_ids_are_logged_with_remedy() {
    let world = World::on(Backend::MariaDb);
    world.flow("high", "t").continues_from(i64::from(i32::MAX) - 5).insert(&world.sql);
    let gateway = world.start();
    await_record(
        &gateway,
        "flows.last_msg_id has reached ",
        &[("message", "run `mqtt-gateway migrate --widen-ids`")],
    );
    assert_quoted(
        "Numbers run out",
        &["flows.last_msg_id has reached ", "run `mqtt-gateway migrate --widen-ids`"],
    );
}
