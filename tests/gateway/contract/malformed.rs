//! The malformed set: each message becomes a row or a dead letter with its reason, and the flow goes on.

use std::fmt::Write;

use test_support::publisher::Message;
use test_support::world::{Backend, World};

enum End {
    Row,
    /// A dead letter with this reason; any, where it is empty.
    Letter(&'static str),
}
use End::{Letter, Row};

fn json(text: impl AsRef<str>) -> Vec<u8> {
    text.as_ref().as_bytes().to_vec()
}

/// The inside of an object with this many attributes, all of one value, with a comma after the last.
fn attributes(count: usize, value: &str) -> String {
    (0..count).fold(String::new(), |mut text, number| {
        write!(text, r#""k{number}":{value},"#).unwrap();
        text
    })
}

fn refused_payloads() -> Vec<(&'static str, Vec<u8>, End)> {
    let many = attributes(40_000, "1");
    let deep = |levels: usize| format!(r#"{{"a": {}{}}}"#, "[".repeat(levels), "]".repeat(levels));
    let deep_objects = format!("{}1{}", r#"{"a":"#.repeat(10_000), "}".repeat(10_000));
    vec![
        ("not UTF-8", b"{\"a\": \"\xff\xfe\"}".to_vec(), Letter("payload_not_utf8")),
        ("truncated", json(r#"{"a": 1, "b"#), Letter("payload_not_json")),
        ("empty", Vec::new(), Letter("payload_not_json")),
        ("blank", json("  \n "), Letter("payload_not_json")),
        ("two documents", json("{} {}"), Letter("payload_not_json")),
        ("trailing comma", json(r#"{"a": 1,}"#), Letter("payload_not_json")),
        ("single quotes", json("{'a': 1}"), Letter("payload_not_json")),
        ("raw control character", json("{\"a\": \"\n\"}"), Letter("payload_not_json")),
        ("byte order mark", json("\u{feff}{}"), Letter("payload_not_json")),
        ("NaN", json(r#"{"a": NaN}"#), Letter("payload_not_json")),
        ("Infinity", json(r#"{"a": -Infinity}"#), Letter("payload_not_json")),
        ("array", json("[1, 2]"), Letter("payload_not_object")),
        ("number", json("12"), Letter("payload_not_object")),
        ("string", json(r#""text""#), Letter("payload_not_object")),
        ("null", json("null"), Letter("payload_not_object")),
        ("true", json("true"), Letter("payload_not_object")),
        ("10,000 arrays deep", json(deep(10_000)), Letter("payload_too_deep")),
        ("10,000 objects deep", json(deep_objects), Letter("payload_too_deep")),
        ("10,000 open brackets", json("[".repeat(10_000)), Letter("")),
        ("40,000 attributes", json(format!("{{{many}\"last\":1}}")), Letter("payload_too_many_attributes")),
        ("a name of 256 characters", json(format!(r#"{{"{}": 1}}"#, "n".repeat(256))), Letter("")),
        ("above the limit in bytes", vec![b' '; 1_300_000], Letter("payload_too_large")),
    ]
}

fn odd_payloads(backend: Backend) -> Vec<(&'static str, Vec<u8>, End)> {
    let filled = |length: usize| json(format!(r#"{{"a": "{}"}}"#, "x".repeat(length)));
    let wide = attributes(20_000, r#""0123456789012345678901234567890""#);
    let too_long_for_text = || {
        if backend == Backend::MariaDb { Letter("") } else { Row }
    };
    vec![
        ("900 levels", json(format!(r#"{{"a": {}{}}}"#, "[".repeat(900), "]".repeat(900))), Row),
        ("huge exponent", json(r#"{"a": 1e400}"#), Row),
        ("5,000 digits", json(format!(r#"{{"a": {}}}"#, "9".repeat(5_000))), Row),
        ("duplicate keys", json(r#"{"a": 1, "a": 2}"#), Row),
        ("4-byte characters", json(r#"{"😀": "𝄞 \ud834\udd1e"}"#), Row),
        ("empty name", json(r#"{"": 1}"#), Row),
        ("a name of 255 4-byte characters", json(format!(r#"{{"{}": 1}}"#, "😀".repeat(255))), Row),
        ("65,535 bytes", filled(65_535), Row),
        ("70,000 bytes", filled(70_000), too_long_for_text()),
        ("1 MB in one string", filled(1_000_000), too_long_for_text()),
        ("1 MB in 20,000 attributes", json(format!("{{{wide}\"last\":1}}")), Row),
        ("quotes", json(r#"{"a'); DROP TABLE data; --": "'\"\\"}"#), Row),
    ]
}

fn malformed_messages_become_rows_or_dead_letters(mut world: World) {
    world.set("MAX_PAYLOAD_BYTES", "1200000");
    let flow_id = world.flow("any", "any").insert(&world.sql);
    world.flow("other", "any").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let topic = world.topic("any");
    let mut set = refused_payloads();
    set.extend(odd_payloads(world.backend));
    for (index, (_, payload, _)) in set.iter().enumerate() {
        let good = format!(r#"{{"good": {index}}}"#);
        world.publish_all([Message::new(&topic, payload), Message::new(&topic, good)]);
    }
    let rows = set.iter().filter(|(_, _, end)| matches!(end, Row)).count();
    for code in ["any", "other"] {
        let stored = world.wait_for_stored(code, set.len() + rows);
        assert!(stored.iter().map(|m| m.id).eq(1..=i64::try_from(set.len() + rows).unwrap()), "{code}");
        let good = stored.iter().filter_map(|m| m.value("good")).map(|value| value.parse::<usize>().unwrap());
        assert!(good.eq(0..set.len()), "{code}: the messages between them");
    }
    let letters = world.dead_letters();
    for (what, payload, end) in &set {
        let wanted = match end {
            Row => continue,
            Letter(reason) => *reason,
        };
        let letter = letters
            .iter()
            .find(|letter| {
                letter.payload == *payload
                    || (payload.starts_with(&letter.payload) && letter.payload.len() > 500)
            })
            .unwrap_or_else(|| panic!("{what} is neither a row nor a dead letter"));
        assert!(!letter.reason.is_empty() && letter.topic == topic, "{what}: {letter:?}");
        assert!(
            wanted.is_empty() || letter.reason == wanted,
            "{what}: {} instead of {wanted}",
            letter.reason
        );
        assert!(letter.flow_id.is_none_or(|_| letters.iter().any(|l| l.flow_id == Some(flow_id))), "{what}");
    }
    assert!(gateway.is_running());
    assert_eq!(gateway.stop(), Some(0));
}

/// NUL and lone surrogates: a value cannot hold them everywhere, so either end is right, but there has to be one.
fn unstorable_character_is_accounted_for(world: World) {
    world.flow("any", "any").insert(&world.sql);
    let _gateway = world.start_subscribed();
    let payloads =
        [r#"{"a": "x\u0000y"}"#, r#"{"\u0000": 1}"#, r#"{"a": "\ud800"}"#, r#"{"a": "\udc00\ud800"}"#];
    for payload in payloads {
        world.publish("any", payload);
    }
    world.publish("any", r#"{"good": 1}"#);
    test_support::eventually("the message after them", || {
        world.stored("any").iter().any(|m| m.value("good") == Some("1")).then_some(())
    });
    let ends = usize::try_from(world.last_msg_id("any").unwrap()).unwrap() + world.dead_letters().len();
    assert_eq!(ends, payloads.len() + 1);
    if world.backend == Backend::Postgres {
        let reasons: Vec<String> = world.dead_letters().into_iter().map(|letter| letter.reason).collect();
        assert_eq!(reasons[..2], ["nul_character", "nul_character"], "{reasons:?}");
    }
}

on_each_database!(malformed_messages_become_rows_or_dead_letters, unstorable_character_is_accounted_for,);
