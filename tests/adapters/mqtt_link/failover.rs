//! More than one broker: the next when one is away, back to the first, and a list that changes.

use mqtt_gateway::domain::broker::{Broker, BrokerConnection};
use mqtt_gateway::domain::credential::Credential;
use mqtt_gateway::mqtt::MqttEvent;

use crate::mqtt_link::mosquitto::Mosquitto;
use crate::mqtt_link::peer::{Peer, server};
use crate::mqtt_link::scripted::{CONNACK_V5, Scripted};
use crate::mqtt_link::subscription;

fn broker() -> Mosquitto {
    Mosquitto::start("allow_anonymous true\nlog_type all")
}

fn address(broker: &Mosquitto) -> String {
    server(broker.port).address()
}

/// The address of the broker that the next connection is to.
fn connected_to(peer: &Peer) -> String {
    let event = peer.event_after_failures();
    let MqttEvent::Connected(BrokerConnection { server, .. }) = event else { panic!("{event:?}") };
    server.to_string()
}

#[tokio::test]
async fn standby_broker_keeps_connection_after_recovery() {
    let (mut first, second) = (broker(), broker());
    first.stop();
    let peer = Peer::connect_to(vec![server(first.port), server(second.port)], "stand-in");
    let event = peer.event();
    let MqttEvent::Failed { server: tried, retry_in, .. } = event else { panic!("{event:?}") };
    assert_eq!((tried, retry_in.as_millis()), (address(&first), 0));
    assert_eq!(connected_to(&peer), address(&second));
    peer.link.subscribe(vec![subscription("t", 1)]).await.unwrap();
    second.publish("t", "before");
    assert_eq!(peer.message().payload, "before");

    first.start_again();
    let event = peer.event();
    let MqttEvent::Left { server: left, reason } = event else { panic!("{event:?}") };
    assert_eq!(left, address(&second));
    assert!(reason.contains(&address(&first)) && reason.contains("is available again"), "{reason}");
    assert_eq!(connected_to(&peer), address(&first));

    second.publish("t", "after we left");
    peer.link.subscribe(vec![subscription("t", 1)]).await.unwrap();
    first.publish("t", "at the first");
    assert_eq!(peer.message().payload, "at the first");
    first.stop();
    assert!(matches!(peer.event(), MqttEvent::Lost { .. }));
    let event = peer.event_after_failures();
    assert!(matches!(event, MqttEvent::Connected(BrokerConnection { session_kept: true, .. })), "{event:?}");
    assert_eq!(peer.message().payload, "after we left");
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn dropping_broker_is_left_for_next() {
    let (unsteady, steady) = (Scripted::new(), broker());
    let servers = vec![server(unsteady.port()), server(steady.port)];
    let first = servers[0].address();
    let peer = Peer::connect_to(servers, "unsteady");
    let mut losses = Vec::new();
    for _ in 0..3 {
        let mut connection = unsteady.accept_client();
        connection.packet();
        connection.send(CONNACK_V5);
        assert_eq!(connected_to(&peer), first);
        drop(connection);
        let event = peer.event();
        let MqttEvent::Lost { server, retry_in, reason } = event else { panic!("{event:?}") };
        assert_eq!(server, first);
        losses.push(retry_in.is_zero() && reason.ends_with("; the next broker of the list is tried"));
    }
    assert_eq!(losses, [false, false, true]);
    // The first one is not tried again before.
    let event = peer.event();
    let MqttEvent::Connected(BrokerConnection { server, .. }) = event else { panic!("{event:?}") };
    assert_eq!(*server, *address(&steady));
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn only_relevant_list_changes_reconnect() {
    let (first, second) = (broker(), broker());
    let peer = Peer::connect_to(vec![server(first.port)], "list");
    assert_eq!(connected_to(&peer), address(&first));
    peer.link.use_servers(vec![server(first.port), server(second.port)]);
    peer.link.use_servers(Vec::new());
    peer.link.subscribe(vec![subscription("t", 1)]).await.unwrap();
    first.publish("t", "still there");
    assert_eq!(peer.message().payload, "still there");

    // It wants another password now, which this broker does not mind.
    let credentials = Some((Credential::new("user"), Credential::new("word")));
    peer.link.use_servers(vec![Broker { credentials, ..server(first.port) }, server(second.port)]);
    let event = peer.event();
    assert!(matches!(&event, MqttEvent::Left { reason, .. } if reason.contains("has changed")), "{event:?}");
    assert_eq!(connected_to(&peer), address(&first));

    peer.link.use_servers(vec![server(second.port)]);
    assert!(matches!(peer.event(), MqttEvent::Left { .. }));
    assert_eq!(connected_to(&peer), address(&second));
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn higher_ranked_broker_is_used_at_once() {
    let (first, second) = (broker(), broker());
    let peer = Peer::connect_to(vec![server(second.port)], "reordered");
    assert_eq!(connected_to(&peer), address(&second));
    peer.link.use_servers(vec![server(first.port), server(second.port)]);
    assert!(matches!(peer.event(), MqttEvent::Left { .. }));
    assert_eq!(connected_to(&peer), address(&first));
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn new_list_is_tried_at_once_when_unconnected() {
    let (mut away, there) = (broker(), broker());
    away.stop();
    let peer = Peer::connect_to(vec![server(away.port)], "mended");
    assert!(matches!(peer.event(), MqttEvent::Failed { .. }));
    peer.link.use_servers(vec![server(there.port)]);
    assert_eq!(connected_to(&peer), address(&there));
    peer.link.disconnect().await.unwrap();
}

#[tokio::test]
async fn password_file_is_read_per_attempt() {
    let broker = Mosquitto::start_with_password("gateway", "right");
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("password");
    let reference = format!("file:{}", file.display());
    let credentials = Some((Credential::new("gateway"), Credential::new(reference.as_str())));
    let peer = Peer::connect_to(vec![Broker { credentials, ..server(broker.port) }], "rotated-word");
    let event = peer.event();
    let MqttEvent::Failed { reason, .. } = event else { panic!("{event:?}") };
    let row = format!("password of the MQTT server with id {}", broker.port);
    assert!(reason.contains(&row) && reason.contains(&reference), "{reason}");

    std::fs::write(&file, "wrong\n").unwrap();
    loop {
        let event = peer.event();
        let MqttEvent::Failed { reason_code, .. } = event else { panic!("{event:?}") };
        if reason_code == 135 {
            break;
        }
    }
    std::fs::write(&file, "right\n").unwrap();
    assert_eq!(connected_to(&peer), address(&broker));
    peer.link.disconnect().await.unwrap();
}
