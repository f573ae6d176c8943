//! A broker that forwards invalid packets: each bad message becomes a dead letter and is acknowledged, and the good
//! ones in between are stored.

use test_support::mosquitto::Broker;
use test_support::publisher::{packet, string};
use test_support::scripted_broker::{Connection, ScriptedBroker};
use test_support::world::{Backend, World};

const QOS_1: u8 = 0x32;
const DUP: u8 = 0x08;
const RETAINED: u8 = 0x01;

const PAYLOAD: &[u8] = br#"{"bad": 1}"#;

/// A PUBLISH and its outcome.
struct Bad {
    first: u8,
    topic: Vec<u8>,
    /// Of MQTT 5, with their length.
    properties: Vec<u8>,
    reason: &'static str,
}

fn bad_topics() -> Vec<Bad> {
    let topics = [
        b"\0".to_vec(),
        b"a\0b".to_vec(),
        b"t/\xff".to_vec(),
        b"\xc0\xaf".to_vec(),
        b"\xed\xa0\x80".to_vec(),
        b"t\0".to_vec(),
        b"\xf4\x90\x80\x80".to_vec(),
        vec![0xfe; 65_535],
    ];
    let firsts = [QOS_1, QOS_1 | DUP, QOS_1 | RETAINED, QOS_1 | DUP | RETAINED];
    let bad = |topic: &Vec<u8>| {
        let topic = topic.clone();
        firsts.map(|first| Bad { first, topic: topic.clone(), properties: vec![0], reason: "topic_not_utf8" })
    };
    topics.iter().flat_map(bad).collect()
}

/// Properties as MQTT 5 does not allow them: text with NUL or bad UTF-8, cut off, of an unknown kind.
fn bad_properties() -> Vec<Bad> {
    let texts: [&[u8]; 4] = [b"\0", b"k\0", b"\xff", b"\xed\xa0\x80"];
    let mut blocks = Vec::new();
    for text in texts {
        for kind in [0x03, 0x08] {
            blocks.push([[kind].as_slice(), &prefixed(text)].concat());
        }
        blocks.push([[0x26].as_slice(), &prefixed(text), &prefixed(b"v")].concat());
        blocks.push([[0x26].as_slice(), &prefixed(b"k"), &prefixed(text)].concat());
    }
    blocks.extend([
        vec![0x26, 0, 9],
        vec![0x7f],
        vec![0x00, 1],
        vec![0x02, 0],
        vec![0x0b, 0xff, 0xff, 0xff, 0xff],
    ]);
    let bad = |block: &Vec<u8>| {
        let properties = [[u8::try_from(block.len()).unwrap()].as_slice(), block].concat();
        [QOS_1, QOS_1 | DUP].map(|first| Bad {
            first,
            topic: Vec::new(),
            properties: properties.clone(),
            reason: "packet_malformed",
        })
    };
    blocks.iter().flat_map(bad).collect()
}

fn prefixed(text: &[u8]) -> Vec<u8> {
    let length = u16::try_from(text.len()).unwrap();
    [length.to_be_bytes().as_slice(), text].concat()
}

impl Bad {
    fn send(&self, connection: &mut Connection, id: u16, version: u8, topic: &[u8]) {
        let topic = if self.topic.is_empty() { topic } else { &self.topic };
        let mut body = prefixed(topic);
        body.extend(id.to_be_bytes());
        if version == 5 {
            body.extend(&self.properties);
        }
        body.extend(PAYLOAD);
        connection.send(&packet(self.first, &body));
        connection.await_puback(id);
    }
}

fn bad_messages_become_dead_letters_good_stored(version: u8, bad: &[Bad]) {
    let broker = ScriptedBroker::new();
    let world = World::without_broker(Backend::Sqlite, Broker::shared());
    world.add_server("127.0.0.1", Some(broker.port()), Some(true), Some(true));
    if version == 4 {
        assert!(world.command(&["migrate"]).status.success());
        world.sql.run("UPDATE mqtt_servers SET protocol_version = '3.1.1'");
    }
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start();
    let mut connection = broker.accept_version(version);
    let (topic, mut id) = (world.topic("t"), 0);
    for (number, bad) in bad.iter().enumerate() {
        bad.send(&mut connection, id + 1, version, topic.as_bytes());
        let mut good = string(&topic);
        good.extend((id + 2).to_be_bytes());
        if version == 5 {
            good.push(0);
        }
        good.extend(format!(r#"{{"number": {number}}}"#).as_bytes());
        connection.send(&packet(QOS_1, &good));
        connection.await_puback(id + 2);
        id += 2;
    }
    assert_eq!(gateway.stop(), Some(0));
    let numbers: Vec<_> =
        world.stored("any").iter().map(|message| message.value("number").unwrap().to_owned()).collect();
    assert!(numbers.iter().map(String::as_str).eq((0..bad.len()).map(|n| n.to_string())));
    let letters = world.dead_letters();
    assert_eq!(letters.len(), bad.len());
    for (letter, bad) in letters.iter().zip(bad) {
        assert_eq!(letter.reason, bad.reason, "{}", letter.detail);
        assert_eq!(letter.flow_id, None);
        assert!(letter.payload.ends_with(PAYLOAD));
    }
}

#[test]
fn topics_that_are_no_text_are_dead_letters() {
    for version in [4, 5] {
        bad_messages_become_dead_letters_good_stored(version, &bad_topics());
    }
}

#[test]
fn properties_that_are_no_text_are_dead_letters() {
    bad_messages_become_dead_letters_good_stored(5, &bad_properties());
}

#[test]
fn long_message_is_rejected_without_buffering() {
    const LENGTH: usize = 200 * 1024 * 1024;
    let broker = ScriptedBroker::new();
    let world = World::without_broker(Backend::Sqlite, Broker::shared());
    world.add_server("127.0.0.1", Some(broker.port()), Some(true), Some(true));
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start();
    let mut connection = broker.accept_version(5);
    let mut head = string(&world.topic("t"));
    head.extend([0, 1, 0]);
    connection.send(&[[QOS_1].as_slice(), &length(head.len() + LENGTH), &head].concat());
    let piece = vec![b'x'; 1024 * 1024];
    for _ in 0..LENGTH / piece.len() {
        connection.send(&piece);
    }
    connection.await_puback(1);
    let most = gateway.peak_memory_kib() * 1024;
    assert!(most < LENGTH as u64 / 2, "{most}");
    assert_eq!(gateway.stop(), Some(0));
    let letters = world.dead_letters();
    assert_eq!(
        letters.iter().map(|letter| letter.reason.as_str()).collect::<Vec<_>>(),
        ["payload_too_large"]
    );
    let detail = &letters[0].detail;
    assert!(detail.contains(&LENGTH.to_string()), "{detail}");
}

#[test]
fn connection_ending_packet_is_reported() {
    let broker = ScriptedBroker::new();
    let world = World::without_broker(Backend::Sqlite, Broker::shared());
    world.add_server("127.0.0.1", Some(broker.port()), Some(true), Some(true));
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start();
    broker.accept_version(5).send(&[0xf0, 0]);
    gateway.wait_for_line("the broker sent an invalid packet");
    let mut connection = broker.accept_version(5);
    connection.publish(1, false, &world.topic("t"), r#"{"number": 1}"#);
    connection.await_puback(1);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(world.stored("any").len(), 1);
}

/// Remaining length of a packet.
fn length(mut length: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    while length > 127 {
        bytes.push(u8::try_from(length % 128).unwrap() | 128);
        length /= 128;
    }
    bytes.push(u8::try_from(length).unwrap());
    bytes
}
