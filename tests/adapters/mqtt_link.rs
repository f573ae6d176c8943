//! The link to the broker, against mosquitto, an embedded 3.1.1 broker, and a scripted one.

mod failover;
mod mosquitto;
mod old_broker;
mod peer;
mod scripted;
mod tls;

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use mosquitto::Mosquitto;
use mqtt_gateway::domain::broker::{BrokerConnection, MqttVersion};
use mqtt_gateway::domain::message::DeliveryFacts;
use mqtt_gateway::mqtt::{MqttError, MqttEvent, RefusedCode, SessionEnd, Subscription};
use peer::Peer;
use scripted::Scripted;

fn subscription(filter: &str, id: u32) -> Subscription {
    Subscription { filter: filter.to_owned(), id: Some(id) }
}

/// A free port.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

#[tokio::test]
async fn overlapping_filters_are_told_apart_by_their_identifiers() {
    let broker = Mosquitto::start("allow_anonymous true");
    let peer = Peer::connect(broker.port, "overlap");
    assert_eq!(peer.event(), peer.connected(MqttVersion::V5, true));
    assert!(peer.link.is_connected());
    let granted =
        peer.link.subscribe(vec![subscription("a/+", 1), subscription("a/#", 268_435_455)]).await.unwrap();
    let granted: BTreeSet<_> = granted.into_iter().map(|(filter, code)| (filter, code.unwrap())).collect();
    assert_eq!(granted, BTreeSet::from([("a/#".to_owned(), 1), ("a/+".to_owned(), 1)]));

    broker.publish("a/b", "hello");
    let mut ids = BTreeSet::new();
    for _ in 0..2 {
        let message = peer.message();
        assert_eq!((message.topic.as_str(), message.payload.as_str()), ("a/b", "hello"));
        assert_eq!((message.delivery.qos, message.delivery.duplicate), (1, false));
        assert_ne!(message.delivery.packet_id, 0);
        ids.extend(message.delivery.subscription_ids);
    }
    assert_eq!(ids, BTreeSet::from([1, 268_435_455]));
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn retained_message_comes_once_per_subscription() {
    let broker = Mosquitto::start("allow_anonymous true");
    broker.publish_retained("state", "old");
    let peer = Peer::connect(broker.port, "retained");
    peer.event();
    peer.link.subscribe(vec![subscription("state", 1)]).await.unwrap();
    assert!(peer.message().delivery.retained);
    // The same subscription again: the live message must come next.
    peer.link.subscribe(vec![subscription("state", 1)]).await.unwrap();
    broker.publish("state", "live");
    assert_eq!(peer.message().payload, "live");
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn message_published_while_away_waits() {
    let broker = Mosquitto::start("allow_anonymous true");
    let peer = Peer::connect(broker.port, "away");
    peer.event();
    peer.link.subscribe(vec![subscription("t", 7)]).await.unwrap();
    peer.link.disconnect().await.unwrap();
    assert!(!peer.link.is_connected());
    assert!(matches!(peer.link.subscribe(Vec::new()).await, Err(MqttError::NotConnected)));

    broker.publish("t", "while away");
    peer.link.connect();
    assert!(matches!(peer.event(), MqttEvent::Connected(BrokerConnection { session_kept: true, .. })));
    let message = peer.message();
    assert_eq!((message.payload.as_str(), message.delivery.subscription_ids), ("while away", vec![7]));
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn session_is_cleared_only_by_connecting() {
    let mut broker = Mosquitto::start("allow_anonymous true");
    let peer = Peer::connect(broker.port, "forgotten");
    peer.event();
    peer.link.disconnect().await.unwrap();
    assert!(matches!(
        peer.link.disconnect_with(SessionEnd::ForgetSession).await,
        Err(MqttError::NotConnected)
    ));
    peer.link.connect();
    assert!(matches!(peer.event(), MqttEvent::Connected(BrokerConnection { session_kept: true, .. })));
    peer.link.disconnect_with(SessionEnd::ForgetSession).await.unwrap();
    peer.link.connect();
    assert_eq!(peer.event(), peer.connected(MqttVersion::V5, true));
    broker.stop();
    assert!(matches!(peer.event(), MqttEvent::Lost { .. }));
    assert!(matches!(
        peer.link.disconnect_with(SessionEnd::ForgetSession).await,
        Err(MqttError::NotConnected)
    ));
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn the_link_comes_back_when_the_broker_does() {
    let mut broker = Mosquitto::start("allow_anonymous true");
    let peer = Peer::connect(broker.port, "restart");
    peer.event();
    broker.stop();
    assert!(matches!(peer.event(), MqttEvent::Lost { .. }));
    assert!(!peer.link.is_connected());
    let failed = peer.event();
    let MqttEvent::Failed { reason_code, reason, .. } = failed else {
        panic!("{failed:?} while the broker is away")
    };
    assert!(reason_code < 0 && reason.contains("refused"), "{reason_code} {reason}");

    broker.start_again();
    assert_eq!(peer.event_after_failures(), peer.connected(MqttVersion::V5, true));
    peer.link.subscribe(vec![subscription("t", 1)]).await.unwrap();
    broker.publish("t", "again");
    assert_eq!(peer.message().payload, "again");
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn refused_credentials_say_so_and_are_tried_again() {
    let broker = Mosquitto::start_with_password("gateway", "right");
    let peer = Peer::connect_as(broker.port, "credentials", Some(("gateway", "wrong")));
    for _ in 0..2 {
        let MqttEvent::Failed { reason_code, reason, .. } = peer.event() else {
            panic!("connected with a wrong password")
        };
        assert_eq!((reason_code, reason.as_str()), (135, "Not authorized"));
    }
    peer.link.disconnect().await.unwrap();
    let peer = Peer::connect_as(broker.port, "credentials", Some(("gateway", "right")));
    assert_eq!(peer.event(), peer.connected(MqttVersion::V5, true));
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn refused_filter_spares_the_others() {
    let broker = Mosquitto::start_allowing_only("open/#");
    let peer = Peer::connect(broker.port, "acl");
    peer.event();
    let filters = vec![subscription("open/a", 1), subscription("shut/a", 2), subscription("open/\0", 3)];
    let mut answers = peer.link.subscribe(filters).await.unwrap();
    answers.sort_by(|a, b| a.0.cmp(&b.0));
    let expected = [
        ("open/\0".to_owned(), Err(RefusedCode(143))),
        ("open/a".to_owned(), Ok(1)),
        ("shut/a".to_owned(), Err(RefusedCode(135))),
    ];
    assert_eq!(answers, expected);
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn thousands_of_filters_are_subscribed_and_unsubscribed() {
    let broker = Mosquitto::start("allow_anonymous true");
    let peer = Peer::connect(broker.port, "many");
    peer.event();
    let filters: Vec<_> = (1..=5000).map(|n| subscription(&format!("many/{n}"), n)).collect();
    let names = filters.iter().map(|s| s.filter.clone()).collect();
    let answers = peer.link.subscribe(filters).await.unwrap();
    assert_eq!(answers.iter().filter(|(_, code)| *code == Ok(1)).count(), 5000);
    broker.publish("many/4711", "x");
    assert_eq!(peer.message().delivery.subscription_ids, [4711]);

    peer.link.unsubscribe(names).await.unwrap();
    peer.link.subscribe(vec![subscription("last", 5001)]).await.unwrap();
    broker.publish("many/4711", "to nobody");
    broker.publish("last", "x");
    assert_eq!(peer.message().topic, "last");
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn blocked_callback_loses_no_message() {
    let broker = Mosquitto::start("allow_anonymous true");
    let (release, released) = mpsc::channel::<()>();
    let peer = Peer::connect_blocked(broker.port, "blocked", released);
    peer.event();
    peer.link.subscribe(vec![subscription("t", 1)]).await.unwrap();
    for n in 0..50 {
        broker.publish("t", &n.to_string());
    }
    // The first is in the callback, which does not return.
    assert_eq!(peer.message().payload, "0");
    assert!(peer.link.is_receiving_blocked());
    assert!(matches!(peer.link.disconnect().await, Err(MqttError::NoAnswer(_))));
    assert!(peer.messages.try_recv().is_err());

    drop(release);
    // The link then disconnects as requested. Messages that it did not take wait at the broker.
    peer.link.disconnect().await.unwrap();
    peer.link.connect();
    peer.event();
    let mut came = BTreeSet::from([0]);
    while came.len() < 50 {
        came.insert(peer.message().payload.parse().unwrap());
    }
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn disconnect_acknowledges_all_received_messages() {
    let broker = Scripted::new();
    let peer = Peer::connect(broker.port(), "acknowledges");
    // What is left at the end differs from time to time.
    for _ in 0..30 {
        peer.link.connect();
        let mut connection = broker.accept_client();
        connection.connect_level();
        connection.send(scripted::CONNACK_V5);
        peer.event();
        let serving = thread::spawn(|| connection.send_until_disconnect());
        peer.message();
        peer.link.disconnect().await.unwrap();
        let received = 1 + peer.messages.try_iter().count();
        assert_eq!(serving.join().unwrap(), received);
    }
}

#[tokio::test]
async fn duplicate_client_id_is_detected_by_quick_losses() {
    // mosquitto 2.0 just closes the connection that it gives to another.
    let broker = Mosquitto::start("allow_anonymous true");
    let first = Peer::connect(broker.port, "taken");
    first.event();
    let second = Peer::connect(broker.port, "taken");
    let reasons = std::iter::repeat_with(|| first.event());
    let named =
        |event| matches!(event, MqttEvent::Lost { reason, .. } if reason.contains("client id \"taken\""));
    assert!(reasons.take(20).any(named));
    first.link.disconnect().await.unwrap();
    second.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn session_taken_over_is_detected_at_once() {
    let broker = Scripted::new();
    let peer = Peer::connect(broker.port(), "told");
    let mut connection = broker.accept();
    connection.connect_level();
    connection.send(scripted::CONNACK_V5);
    peer.event();
    connection.send(scripted::DISCONNECT_TAKEN_OVER);
    let MqttEvent::Lost { reason, .. } = peer.event() else { panic!("still connected") };
    assert!(reason.contains("(142)") && reason.contains("client id \"told\""), "{reason}");
    assert!(!peer.link.is_connected());
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn mqtt_3_broker_gets_mqtt_3() {
    let port = old_broker::start();
    let peer = Peer::connect(port, "old");
    assert_eq!(peer.event_after_failures(), peer.connected(MqttVersion::V311, false));
    let filters: Vec<_> = (1..=20).map(|n| subscription(&format!("old/{n}"), n)).collect();
    let answers = peer.link.subscribe(filters).await.unwrap();
    assert_eq!(answers.iter().filter(|(_, code)| *code == Ok(1)).count(), 20);
    mosquitto::publish_to(port, &["-V", "mqttv311", "-t", "old/3", "-m", "x"]);
    let message = peer.message();
    assert_eq!((message.topic.as_str(), message.delivery.subscription_ids), ("old/3", vec![]));
    peer.link.unsubscribe(vec!["old/1".to_owned()]).await.unwrap();
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn mqtt_3_return_code_is_kept() {
    let broker = Scripted::new();
    let peer = Peer::connect(broker.port(), "old-code");
    let mut connection = broker.accept();
    assert_eq!(connection.connect_level(), 5);
    connection.send(scripted::CONNACK_V5_WRONG_VERSION);
    let mut connection = broker.accept();
    assert_eq!(connection.connect_level(), 4);
    connection.send(scripted::CONNACK_V311_NOT_AUTHORIZED);
    let MqttEvent::Failed { reason_code, .. } = peer.event() else {
        panic!("connected in spite of a refusal")
    };
    assert_eq!(reason_code, 5);
}

#[tokio::test]
async fn two_mqtt_3_answers_switch_version() {
    let broker = Scripted::new();
    let peer = Peer::connect(broker.port(), "old-answer");
    for _ in 0..2 {
        let mut connection = broker.accept_client();
        assert_eq!(connection.connect_level(), 5);
        connection.send(scripted::CONNACK_V311_WRONG_VERSION);
    }
    let mut connection = broker.accept_client();
    assert_eq!(connection.connect_level(), 4);
    connection.send(scripted::CONNACK_V311);
    assert_eq!(peer.event_after_failures(), peer.connected(MqttVersion::V311, false));
    drop(connection);
    // It was upgraded meanwhile.
    let mut connection = broker.accept_client();
    assert_eq!(connection.connect_level(), 5);
    connection.send(scripted::CONNACK_V5);
    assert!(matches!(peer.event(), MqttEvent::Lost { .. }));
    assert_eq!(peer.event(), peer.connected(MqttVersion::V5, true));
}

#[tokio::test]
async fn restarting_mqtt_5_broker_keeps_its_version() {
    let broker = Scripted::new();
    let peer = Peer::connect(broker.port(), "restarting");
    let mut connection = broker.accept_client();
    connection.connect_level();
    connection.send(scripted::CONNACK_V5);
    assert_eq!(peer.event(), peer.connected(MqttVersion::V5, true));
    drop(connection);
    assert!(matches!(peer.event(), MqttEvent::Lost { .. }));
    // A proxy accepts connections and closes them while the broker is away.
    for _ in 0..3 {
        assert_eq!(broker.accept_client().connect_level(), 5);
        assert!(matches!(peer.event(), MqttEvent::Failed { .. }));
    }
    let mut connection = broker.accept_client();
    assert_eq!(connection.connect_level(), 5);
    connection.send(scripted::CONNACK_V5);
    assert_eq!(peer.event(), peer.connected(MqttVersion::V5, true));
}

#[tokio::test]
async fn redelivery_is_complete_and_acknowledged_after_callback() {
    let broker = Scripted::new();
    let (release, released) = mpsc::channel::<()>();
    let peer = Peer::connect_blocked(broker.port(), "dup", released);
    let mut connection = broker.accept();
    connection.connect_level();
    connection.send(scripted::CONNACK_V5);
    peer.event();
    connection.send(&scripted::publish_dup("a/b", 0x1234, &[5, 300], "x"));
    let expected = DeliveryFacts {
        qos: 1,
        packet_id: 0x1234,
        duplicate: true,
        retained: false,
        subscription_ids: vec![5, 300],
        user_properties: Vec::new(),
    };
    assert_eq!(peer.message().delivery, expected);
    assert!(connection.nothing_to_read());
    drop(release);
    assert_eq!(connection.packet()[..4], [0x40, 2, 0x12, 0x34]);
}

#[tokio::test]
async fn a_broker_without_identifiers_is_sent_none() {
    let broker = Scripted::new();
    let peer = Peer::connect(broker.port(), "no-ids");
    let mut connection = broker.accept();
    connection.connect_level();
    connection.send(scripted::CONNACK_V5_WITHOUT_IDENTIFIERS);
    assert_eq!(peer.event(), peer.connected(MqttVersion::V5, false));
    let script = thread::spawn(move || {
        let packet = connection.packet();
        connection.send(&scripted::suback_v5(&packet, 1));
        // Open until the answer has been taken.
        (packet, connection)
    });
    peer.link.subscribe(vec![subscription("t", 9)]).await.unwrap();
    let (packet, _connection) = script.join().unwrap();
    // Fixed header, packet id, and an empty property list.
    assert_eq!(packet[4], 0);
}

#[tokio::test]
async fn unanswered_subscribe_ends_with_connection() {
    let broker = Scripted::new();
    let peer = Peer::connect(broker.port(), "cut");
    let mut connection = broker.accept();
    connection.connect_level();
    connection.send(scripted::CONNACK_V5);
    peer.event();
    let script = thread::spawn(move || connection.packet());
    let answers = peer.link.subscribe(vec![subscription("t", 9)]).await;
    assert!(matches!(answers, Err(MqttError::NotConnected)));
    script.join().unwrap();
}
