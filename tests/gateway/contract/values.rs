//! Rows of `data`.

use test_support::world::World;

const PAYLOAD: &str = r#" { "text": "héllo wörld 😀", "quote": "a \"b\" \\ c\nd", "empty": "",
    "huge": 123456789012345678901234567890, "fraction": 1.50, "exponent": -1E+400, "zero": -0,
    "yes": true, "no": false, "nothing": null,
    "object": {"ü" : [1,2.50,{"a":null,"b":true}],"x":"é 😀", "esc":"\u00e9\n"}, "array":[1 ,"two",[]],
    "no_members":{}, "twice": 1, "after": 0, "twice": "last" }"#;

fn keys_become_rows_with_verbatim_values(world: World) {
    world.flow("all", "t").schema(r#"{"text": "string"}"#).insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("t", PAYLOAD);
    let stored = world.wait_for_stored("all", 1).remove(0);
    let values: Vec<(&str, &str)> =
        stored.attributes.iter().map(|(name, value)| (name.as_str(), value.as_deref().unwrap())).collect();
    let expected = [
        ("text", "héllo wörld 😀"),
        ("quote", "a \"b\" \\ c\nd"),
        ("empty", ""),
        ("huge", "123456789012345678901234567890"),
        ("fraction", "1.50"),
        ("exponent", "-1E+400"),
        ("zero", "-0"),
        ("yes", "True"),
        ("no", "False"),
        ("nothing", "None"),
        ("object", r#"{"ü": [1, 2.50, {"a": null, "b": true}], "x": "é 😀", "esc": "é\n"}"#),
        ("array", r#"[1, "two", []]"#),
        ("no_members", "{}"),
        ("twice", "last"),
        ("after", "0"),
    ];
    assert_eq!(values, expected);
}

fn json_style_writes_booleans_and_null(mut world: World) {
    world.set("VALUE_STYLE", "json");
    world.flow("json", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"yes": true, "no": false, "nothing": null}"#);
    let stored = world.wait_for_stored("json", 1).remove(0);
    let values: Vec<&str> = stored.attributes.iter().map(|(_, value)| value.as_deref().unwrap()).collect();
    assert_eq!(values, ["true", "false", "null"]);
}

fn the_time_of_reception_is_utc(world: World) {
    world.flow("timed", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
    let before = utc_now();
    world.publish("t", r#"{"a": 1, "b": 2}"#);
    let stored = world.wait_for_stored("timed", 1).remove(0);
    let after = utc_now();
    let received_at = &stored.received_at[..19];
    assert!((before.as_str()..=after.as_str()).contains(&received_at), "{before} {received_at} {after}");
}

fn utc_now() -> String {
    chrono::Utc::now().format("%Y-%m-%d %H:%M:%S").to_string()
}

on_each_database!(
    keys_become_rows_with_verbatim_values,
    json_style_writes_booleans_and_null,
    the_time_of_reception_is_utc,
);
