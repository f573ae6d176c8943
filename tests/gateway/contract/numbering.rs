//! Message ids: consecutive, continued from the row, taken only by stored or posted messages.

use test_support::publisher::Message;
use test_support::world::World;

fn ids(world: &World, code: &str, count: usize) -> Vec<i64> {
    world.wait_for_stored(code, count).iter().map(|message| message.id).collect()
}

fn ids_are_consecutive_in_the_order_of_arrival(world: World) {
    world.flow("a", "a").insert(&world.sql);
    world.flow("b", "b").continues_from(0).insert(&world.sql);
    let _gateway = world.start_subscribed();
    let messages = (0..2_000).map(|number| {
        let topic = world.topic(if number % 3 == 0 { "a" } else { "b" });
        Message::new(&topic, format!(r#"{{"number": {number}}}"#))
    });
    world.publish_all(messages);
    for (code, wanted) in [("a", 667), ("b", 1333)] {
        let stored = world.wait_for_stored(code, wanted);
        assert!(stored.iter().map(|m| m.id).eq(1..=i64::try_from(wanted).unwrap()), "{code}");
        let numbers: Vec<u32> = stored.iter().map(|m| m.value("number").unwrap().parse().unwrap()).collect();
        assert!(numbers.is_sorted(), "{code}: {numbers:?}");
        assert_eq!(world.last_msg_id(code), i64::try_from(wanted).ok());
    }
}

fn numbering_continues_from_the_row(world: World) {
    world.flow("from_null", "t").insert(&world.sql);
    world.flow("from_zero", "t").continues_from(0).insert(&world.sql);
    world.flow("from_41", "t").continues_from(41).insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    assert_eq!(ids(&world, "from_null", 1), [1]);
    assert_eq!(ids(&world, "from_zero", 1), [1]);
    assert_eq!(ids(&world, "from_41", 1), [42]);
}

fn a_counter_set_by_hand_is_continued_from(mut world: World) {
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "3600");
    world.flow("reset", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    assert_eq!(ids(&world, "reset", 1), [1]);
    world.sql.run("UPDATE flows SET last_msg_id = 1000 WHERE code = 'reset'");
    world.publish("t", r#"{"a": 2}"#);
    assert_eq!(ids(&world, "reset", 2), [1, 1001]);
    world.sql.run("UPDATE flows SET last_msg_id = NULL WHERE code = 'reset'");
    world.publish("t", r#"{"a": 3}"#);
    assert_eq!(ids(&world, "reset", 3), [1, 1001, 1]);
}

fn flow_edit_applies_to_next_message(mut world: World) {
    // In one lane, rows of the second flow show that the first is done.
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "3600").set("LANES", "1");
    world.flow("edited", "t").insert(&world.sql);
    world.flow("witness", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_stored("edited", 1);
    world.sql.run(r#"UPDATE flows SET payload_schema = '{"a": "string"}' WHERE code = 'edited'"#);
    world.publish("t", r#"{"a": 2}"#);
    world.publish("t", r#"{"a": "two"}"#);
    let stored = world.wait_for_stored("edited", 2);
    assert_eq!((stored[1].id, stored[1].value("a")), (2, Some("two")));
    assert_eq!(world.wait_for_dead_letters(1).len(), 1);
    world.sql.run("UPDATE flows SET enabled = FALSE WHERE code = 'edited'");
    world.publish("t", r#"{"a": "unseen"}"#);
    world.wait_for_stored("witness", 4);
    assert_eq!(world.stored("edited").len(), 2, "a flow that is disabled when its row is locked takes no id");
    assert_eq!(world.wait_for_dead_letters(2)[1].reason, "flow_disabled");
}

fn empty_object_takes_id_without_row(world: World) {
    world.flow("sparse", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
    for payload in ["{}", r#"{"a": 1}"#, " { } "] {
        world.publish("t", payload);
    }
    world.wait_for_last_msg_id("sparse", 3);
    assert_eq!(ids(&world, "sparse", 1), [2]);
}

on_each_database!(
    ids_are_consecutive_in_the_order_of_arrival,
    numbering_continues_from_the_row,
    a_counter_set_by_hand_is_continued_from,
    flow_edit_applies_to_next_message,
    empty_object_takes_id_without_row,
);
