//! A flow that is wrong otherwise than by its filter stays subscribed: its messages become dead letters until it is
//! mended, and take no id.

use test_support::sink::Sink;
use test_support::world::World;

fn broken_flow_dead_letters_until_fixed(world: World) {
    let sink = Sink::new();
    let ids = [
        world.flow("action", "t").action("MAIL").insert(&world.sql),
        world.flow("type", "t").schema(r#"{"a": "date"}"#).insert(&world.sql),
        world.flow("schema", "t").schema("[1]").insert(&world.sql),
        world.flow("no_url", "t").action("POST_ENDPOINT").insert(&world.sql),
        world.flow("bad_url", "t").posts_to("ftp://somewhere/").insert(&world.sql),
        world.flow("empty_url", "t").posts_to("").insert(&world.sql),
    ];
    world.flow("sound", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    assert_eq!(world.wait_for_stored("sound", 1).len(), 1);
    let letters = world.wait_for_dead_letters(ids.len());
    for id in ids {
        let letter = letters.iter().find(|letter| letter.flow_id == Some(id)).unwrap();
        assert_eq!(letter.payload, br#"{"a": 1}"#, "it can be replayed");
        assert!(!letter.reason.is_empty(), "{letter:?}");
    }
    let detail_of = |id| &letters.iter().find(|letter| letter.flow_id == Some(id)).unwrap().detail;
    assert!(detail_of(ids[0]).contains("MAIL"), "{}", detail_of(ids[0]));
    assert!(detail_of(ids[1]).contains("date"), "{}", detail_of(ids[1]));
    for code in ["action", "type", "schema", "no_url", "bad_url", "empty_url"] {
        assert_eq!(world.last_msg_id(code), None, "{code} has taken no id");
    }

    world.sql.run("UPDATE flows SET action = 'STORE_DB' WHERE code = 'action'");
    world.sql.run(r#"UPDATE flows SET payload_schema = '{"a": "int"}' WHERE code IN ('type', 'schema')"#);
    world.sql.execute("UPDATE flows SET endpoint_url = ? WHERE code = 'no_url'", [sink.url("/").into()]);
    world.publish("t", r#"{"a": 2}"#);
    for code in ["action", "type", "schema"] {
        let stored = world.wait_for_stored(code, 1);
        assert_eq!((stored[0].id, stored[0].value("a")), (1, Some("2")), "{code}");
    }
    assert_eq!(sink.wait_for_delivered(1)[0].body, br#"{"a": 2}"#);
}

on_each_database!(broken_flow_dead_letters_until_fixed);
