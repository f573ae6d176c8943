//! The load generators on a real broker: their counts are complete.

use std::net::{Ipv4Addr, TcpListener};
use std::time::Duration;

use mqtt_gateway::mqtt::load::{Discarded, LoadError, Publisher, discard};

const HOST: &str = "127.0.0.1";

/// Only failures wait this long.
const PATIENCE: Duration = Duration::from_mins(1);

fn port() -> u16 {
    std::env::var("TEST_MQTT_PORT").expect("TEST_MQTT_PORT: run scripts/test").parse().unwrap()
}

fn unique(name: &str) -> String {
    format!("{name}-{}", std::process::id())
}

fn publisher(client_id: &str, qos: u8) -> Publisher {
    Publisher::connect(HOST, port(), client_id, qos, None).unwrap()
}

/// Result of a subscriber of `count` messages when `published` are published after it is ready.
fn discarded_of(published: u64, count: u64, idle: Duration, qos: u8) -> Discarded {
    let name = unique(&format!("load-{published}-{count}-{qos}"));
    let mut on_ready = || {
        let mut source = publisher(&format!("{name}-pub"), qos);
        for number in 0..published {
            source.publish(&format!("{name}/{}", number % 16), number.to_string().into_bytes()).unwrap();
        }
        source.finish().unwrap();
    };
    let (filter, subscriber) = (format!("{name}/#"), format!("{name}-sub"));
    discard(HOST, port(), &subscriber, qos, &filter, None, count, idle, &mut on_ready).unwrap()
}

#[test]
fn every_published_message_is_discarded_once_and_counted() {
    // Many windows of the publisher.
    let discarded = discarded_of(5_000, 5_000, PATIENCE, 1);
    assert_eq!(discarded.messages, 5_000);
    assert!(discarded.last_at.is_some() && discarded.first_to_last > Duration::ZERO);
}

#[test]
fn qos_0_messages_are_counted() {
    assert_eq!(discarded_of(3_000, 3_000, PATIENCE, 0).messages, 3_000);
}

#[test]
fn subscriber_ends_after_silence() {
    assert_eq!(discarded_of(10, 11, Duration::from_secs(10), 1).messages, 10);
    assert_eq!(discarded_of(0, 1, Duration::from_millis(10), 1), Discarded::default());
}

#[test]
fn disconnected_subscriber_is_not_complete() {
    let name = unique("load-lost");
    let mut on_ready = || publisher(&name, 1).finish().unwrap();
    let error = discard(HOST, port(), &name, 1, &format!("{name}/#"), None, 1, PATIENCE, &mut on_ready);
    assert!(matches!(error, Err(LoadError::Lost)), "{error:?}");
}

#[test]
fn a_publisher_whose_connection_is_lost_says_so() {
    let name = unique("load-thrown-out");
    let mut thrown_out = publisher(&name, 1);
    publisher(&name, 1).finish().unwrap();
    // However late it learns of it: it cannot publish for ever without an error.
    let error = (0..1_000_000).find_map(|_| thrown_out.publish(&name, vec![]).err());
    assert!(matches!(error, Some(LoadError::Publish(_))), "{error:?}");
}

#[test]
fn missing_broker_is_an_error() {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let error = Publisher::connect(HOST, port, "nobody", 1, None).unwrap_err();
    assert!(matches!(error, LoadError::Connect(_)), "{error}");
}
