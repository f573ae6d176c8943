//! Producers' keys: a repeated message counts once, also across crashes.

use std::process::Command;

use test_support::publisher::Message;
use test_support::world::World;

/// Flows are inserted as the Python service does it, which does not know the column.
fn keyed_flow(world: &World, code: &str, topic: &str, message_key: &str) {
    assert!(world.command(&["migrate"]).status.success());
    world.flow(code, topic).insert(&world.sql);
    let sql = "UPDATE flows SET message_key = ? WHERE code = ?";
    world.sql.execute(sql, [message_key.into(), code.into()]);
}

fn values<'a>(stored: &'a [test_support::flows::Stored], name: &str) -> Vec<&'a str> {
    stored.iter().map(|message| message.value(name).unwrap()).collect()
}

fn duplicate_key_is_stored_once(world: World) {
    keyed_flow(&world, "keyed", "t", "/meta/id");
    let gateway = world.start_subscribed();
    for (id, n) in [(1, 1), (2, 2), (1, 3), (3, 4)] {
        world.publish("t", format!(r#"{{"n": {n}, "meta": {{"id": {id}}}}}"#));
    }
    let stored = world.wait_for_stored("keyed", 3);
    assert_eq!(values(&stored, "n"), ["1", "2", "4"]);
    assert!(stored.iter().map(|message| message.id).eq(1..=3));
    assert_eq!(world.last_msg_id("keyed"), Some(3));
    assert!(world.dead_letters().is_empty());
    assert_eq!(gateway.count_lines(r#""level":"ERROR""#), 0, "{}", gateway.stderr());
}

/// A producer without acknowledgements publishes everything again.
fn republished_keys_after_crash_store_nothing(world: World) {
    const MESSAGES: usize = 600;
    keyed_flow(&world, "keyed", "t", "/id");
    let all = || (0..MESSAGES).map(|id| Message::new(&world.topic("t"), format!(r#"{{"id": "m{id}"}}"#)));
    let mut gateway = world.start_subscribed();
    world.publish_all(all());
    // The broker has just taken the last of them: the gateway is in the midst.
    gateway.kill();
    let gateway = world.start();
    world.publish_all(all());
    world.publish("t", r#"{"id": "last"}"#);
    let stored = world.wait_for_stored("keyed", MESSAGES + 1);
    let ids: Vec<String> = (0..MESSAGES).map(|id| format!("m{id}")).chain(["last".to_owned()]).collect();
    assert_eq!(values(&stored, "id"), ids);
    assert!(stored.iter().map(|message| message.id).eq(1..=i64::try_from(MESSAGES).unwrap() + 1));
    drop(gateway);
}

fn a_user_property_can_be_the_key(world: World) {
    keyed_flow(&world, "keyed", "t", "property:message-id");
    let _gateway = world.start_subscribed();
    for (key, n) in [("ä", 1), ("b", 2), ("ä", 3), ("", 4), ("", 5), ("c", 6)] {
        publish_with_property(&world, "message-id", key, &format!(r#"{{"n": {n}}}"#));
    }
    let stored = world.wait_for_stored("keyed", 5);
    assert_eq!(values(&stored, "n"), ["1", "2", "4", "5", "6"], "an empty key is none");
}

/// By a client that speaks MQTT 5; it returns when the broker has acknowledged.
fn publish_with_property(world: &World, name: &str, value: &str, payload: &str) {
    let address = world.broker.address;
    let status = Command::new("mosquitto_pub")
        .args(["-V", "5", "-q", "1", "-h", &address.ip().to_string(), "-p", &address.port().to_string()])
        .args(["-D", "publish", "user-property", "other", "x", "-D", "publish", "user-property", name, value])
        .args(["-t", &world.topic("t"), "-m", payload])
        .status()
        .unwrap();
    assert!(status.success(), "mosquitto_pub: {status}");
}

on_each_database!(
    duplicate_key_is_stored_once,
    republished_keys_after_crash_store_nothing,
    a_user_property_can_be_the_key,
);
