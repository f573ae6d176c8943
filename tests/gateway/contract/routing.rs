//! Which flows a message reaches: wildcards, overlaps, `$` topics, shared subscriptions.

use test_support::mosquitto::Broker;
use test_support::publisher::Message;
use test_support::world::{Backend, World};

/// The `at` values a flow has stored, in order.
fn arrivals(world: &World, code: &str, count: usize) -> Vec<String> {
    let stored = world.wait_for_stored(code, count);
    stored.iter().map(|message| message.value("at").unwrap().to_owned()).collect()
}

fn publish_marked(world: &World, topics: &[&str]) {
    for topic in topics {
        world.publish_all([Message::new(topic, format!(r#"{{"at": "{topic}"}}"#))]);
    }
}

fn overlapping_filters_give_each_flow_a_message_once(world: World) {
    let filters = [
        ("exact", "a/b"),
        ("twin", "a/b"),
        ("one_level", "a/+"),
        ("other_level", "+/b"),
        ("two_levels", "+/+"),
        ("everything", "#"),
        ("below", "a/#"),
    ];
    for (code, filter) in filters {
        world.flow(code, filter).insert(&world.sql);
    }
    let _gateway = world.start_subscribed();
    for number in 0..50 {
        world.publish("a/b", format!(r#"{{"number": {number}}}"#));
    }
    for (code, _) in filters {
        // The last message is the 50th of each flow exactly when none came twice.
        let stored = world.wait_for_stored(code, 50);
        let numbers: Vec<&str> = stored.iter().map(|m| m.value("number").unwrap()).collect();
        let expected: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        assert_eq!(numbers, expected, "{code}");
    }
}

fn wildcards_match_levels_as_mqtt_says(world: World) {
    let filters = [
        ("plus", "s/+/t"),
        ("hash", "s/#"),
        ("deep", "s/a/#"),
        ("end", "s/a/t"),
        ("empty", "s//t"),
        ("last", "s/+"),
    ];
    for (code, filter) in filters {
        world.flow(code, filter).insert(&world.sql);
    }
    let _gateway = world.start_subscribed();
    let topics = ["s", "s/", "s/a", "s/a/t", "s//t", "s/a/t/u", "s/a/u/t"].map(|rest| world.topic(rest));
    publish_marked(&world, &topics.each_ref().map(String::as_str));
    let expected: [(&str, &[usize]); 6] = [
        ("plus", &[3, 4]),
        ("hash", &[0, 1, 2, 3, 4, 5, 6]),
        ("deep", &[2, 3, 5, 6]),
        ("end", &[3]),
        ("empty", &[4]),
        ("last", &[1, 2]),
    ];
    for (code, matching) in expected {
        let wanted: Vec<&String> = matching.iter().map(|&index| &topics[index]).collect();
        let seen = arrivals(&world, code, matching.len());
        assert_eq!(seen.iter().collect::<Vec<_>>(), wanted, "{code}");
    }
}

fn a_leading_wildcard_does_not_match_dollar_topics(backend: Backend) {
    let world = World::with_broker(backend, Broker::private());
    for (code, filter) in [("all", "#"), ("level", "+/x"), ("dollar", "$own/#"), ("dollar_level", "$own/+")] {
        test_support::flows::NewFlow::new(code, filter).insert(&world.sql);
    }
    let _gateway = world.start_subscribed();
    publish_marked(&world, &["$own/x", "plain/x"]);
    assert_eq!(arrivals(&world, "dollar", 1), ["$own/x"]);
    assert_eq!(arrivals(&world, "dollar_level", 1), ["$own/x"]);
    assert_eq!(arrivals(&world, "all", 1), ["plain/x"]);
    assert_eq!(arrivals(&world, "level", 1), ["plain/x"]);
}

fn a_shared_subscription_serves_its_flow(world: World) {
    let filter = format!("$share/group/{}", world.topic("s/+"));
    test_support::flows::NewFlow::new("shared", &filter).insert(&world.sql);
    world.flow("plain", "s/a").insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("s/a", r#"{"at": "first"}"#);
    world.publish("s/b", r#"{"at": "second"}"#);
    world.publish("s/a", r#"{"at": "third"}"#);
    assert_eq!(arrivals(&world, "shared", 3), ["first", "second", "third"]);
    assert_eq!(arrivals(&world, "plain", 2), ["first", "third"]);
}

on_each_database!(
    overlapping_filters_give_each_flow_a_message_once,
    wildcards_match_levels_as_mqtt_says,
    a_shared_subscription_serves_its_flow,
);

mod private {
    on_each_backend!(a_leading_wildcard_does_not_match_dollar_topics);
    use super::a_leading_wildcard_does_not_match_dollar_topics;
}
