//! `reload_flows`: changes of the table are subscribed and unsubscribed within the interval.

use test_support::eventually;
use test_support::world::World;

fn reload_follows_added_and_removed_flows(world: World) {
    for code in ["stays", "goes", "sleeps"] {
        world.flow(code, code).insert(&world.sql);
    }
    let _gateway = world.start_subscribed();
    let mark = world.broker.mark();
    world.flow("comes", "comes").insert(&world.sql);
    world.sql.run("DELETE FROM flows WHERE code = 'goes'");
    world.sql.run("UPDATE flows SET enabled = NULL WHERE code = 'sleeps'");
    world.wait_for_filters(mark, &[&world.topic("comes")]);
    for gone in ["goes", "sleeps"] {
        world.broker.wait_for_unsubscription(mark, &world.name, &world.topic(gone));
    }
    for code in ["goes", "sleeps", "comes", "stays"] {
        world.publish(code, r#"{"a": 1}"#);
    }
    world.wait_for_stored("comes", 1);
    world.wait_for_stored("stays", 1);
    assert!(world.stored("goes").is_empty() && world.stored("sleeps").is_empty());
}

fn a_disabled_flow_is_not_subscribed(world: World) {
    world.flow("on", "on").insert(&world.sql);
    world.flow("off", "off").enabled(Some(false)).insert(&world.sql);
    world.flow("unknown", "unknown").enabled(None).insert(&world.sql);
    let mark = world.broker.mark();
    let _gateway = world.start_subscribed();
    world.publish("on", r#"{"a": 1}"#);
    world.wait_for_stored("on", 1);
    for topic in ["off", "unknown"] {
        assert!(!world.broker.has_logged(mark, &world.topic(topic)), "{topic}");
    }
    world.sql.run("UPDATE flows SET enabled = TRUE WHERE code = 'off'");
    world.wait_for_filters(mark, &[&world.topic("off")]);
}

fn a_changed_topic_is_followed(world: World) {
    world.flow("moving", "old").insert(&world.sql);
    let _gateway = world.start_subscribed();
    let mark = world.broker.mark();
    world.sql.execute("UPDATE flows SET topic = ? WHERE code = 'moving'", [world.topic("new").into()]);
    world.wait_for_filters(mark, &[&world.topic("new")]);
    world.broker.wait_for_unsubscription(mark, &world.name, &world.topic("old"));
    world.publish("old", r#"{"at": "old"}"#);
    world.publish("new", r#"{"at": "new"}"#);
    assert_eq!(world.wait_for_stored("moving", 1)[0].value("at"), Some("new"));
}

fn bad_filter_is_rejected_alone(world: World) {
    for (code, filter) in [("hash_inside", "a/#/b"), ("hash_in_word", "a#"), ("plus_in_word", "a/b+")] {
        world.flow(code, filter).insert(&world.sql);
    }
    world.flow("good", "good").insert(&world.sql);
    let mark = world.broker.mark();
    let gateway = world.start();
    world.wait_for_filters(mark, &[&world.topic("good")]);
    for code in ["hash_inside", "hash_in_word", "plus_in_word"] {
        gateway.wait_for_line(code);
    }
    world.publish("good", r#"{"a": 1}"#);
    world.wait_for_stored("good", 1);
}

fn failed_reload_keeps_flows(world: World) {
    world.flow("kept", "kept").insert(&world.sql);
    let gateway = world.start_subscribed();
    let mark = world.broker.mark();
    world.sql.run("ALTER TABLE flows RENAME TO flows_away");
    gateway.wait_for_line("Error reloading flows: ");
    world.publish("kept", r#"{"at": "while away"}"#);
    world.sql.run("ALTER TABLE flows_away RENAME TO flows");
    world.publish("kept", r#"{"at": "back"}"#);
    let stored = world.wait_for_stored("kept", 2);
    assert_eq!(stored.iter().map(|m| m.id).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(stored[0].value("at"), Some("while away"));
    world.flow("later", "later").insert(&world.sql);
    world.wait_for_filters(mark, &[&world.topic("later")]);
    assert!(!world.broker.has_logged(mark, &format!(": {} {}", world.name, world.topic("kept"))));
}

fn sighup_reloads_at_once(mut world: World) {
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "3600");
    world.flow("first", "first").insert(&world.sql);
    let gateway = world.start_subscribed();
    let mark = world.broker.mark();
    world.flow("second", "second").insert(&world.sql);
    gateway.signal("HUP");
    world.wait_for_filters(mark, &[&world.topic("second")]);
}

fn an_interval_below_one_second_counts_as_one(mut world: World) {
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "0");
    let gateway = world.start();
    let mark = world.broker.mark();
    // With no flow at all there is nothing to subscribe, and nothing to fail.
    gateway.wait_for_line(&world.name);
    world.flow("first", "first").insert(&world.sql);
    world.wait_for_filters(mark, &[&world.topic("first")]);
    world.publish("first", r#"{"a": 1}"#);
    eventually("the first flow's message", || (!world.stored("first").is_empty()).then_some(()));
}

on_each_database!(
    reload_follows_added_and_removed_flows,
    a_disabled_flow_is_not_subscribed,
    a_changed_topic_is_followed,
    bad_filter_is_rejected_alone,
    failed_reload_keeps_flows,
    sighup_reloads_at_once,
    an_interval_below_one_second_counts_as_one,
);
