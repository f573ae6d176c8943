//! rumqttd 0.20 forgets the subscription identifiers of a session when its connection ends. It runs in this process.

use std::collections::HashMap;
use std::net::SocketAddr;

use rumqttd::{Broker as Rumqttd, Config, ConnectionSettings, RouterConfig, ServerSettings};

use super::overlap::{Found, Overlap};
use super::peer::{
    ENDS, End, PASSWORD, assert_check_tells_a_wrong_password, publisher_at, restart_under_load, world_at,
};
use test_support::proxy::{Act, How, Mqtt, Proxy, Sign, Way};
use test_support::{eventually, net};

const USER: &str = "gw";

const MAX_IN_FLIGHT: usize = 100;

/// One port for each version of MQTT; both lead to the same sessions.
struct Ports {
    v5: SocketAddr,
    v4: SocketAddr,
}

/// Runs until the process ends.
fn start() -> Ports {
    let ports = [(); 2].map(|()| SocketAddr::from(([127, 0, 0, 1], net::free_port())));
    let server = |name: &str, listen| {
        let connections = ConnectionSettings {
            connection_timeout_ms: 5_000,
            max_payload_size: 1 << 20,
            max_inflight_count: MAX_IN_FLIGHT,
            auth: Some(HashMap::from([(USER.to_owned(), PASSWORD.to_owned())])),
            external_auth: None,
            dynamic_filters: true,
        };
        let settings = ServerSettings {
            name: name.to_owned(),
            listen,
            tls: None,
            next_connection_delay_ms: 1,
            connections,
        };
        Some(HashMap::from([(name.to_owned(), settings)]))
    };
    let config = Config {
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: 1 << 20,
            max_segment_count: 100,
            ..RouterConfig::default()
        },
        v5: server("v5", ports[0]),
        v4: server("v4", ports[1]),
        ..Config::default()
    };
    std::thread::spawn(move || drop(Rumqttd::new(config).start()));
    for port in ports {
        eventually("rumqttd's port", || net::answers(port).then_some(()));
    }
    Ports { v5: ports[0], v4: ports[1] }
}

#[test]
#[ignore = "takes half a minute; run by scripts/faults"]
fn overlapping_copies_end_with_the_next_session() {
    let broker = start();
    let proxy = Proxy::to(broker.v5);
    let world = world_at(proxy.address(), USER);
    // It says nothing and closes the connection.
    assert_check_tells_a_wrong_password(&world, USER, "check the broker's log, and username, password");
    let mut overlap = Overlap::over(&world);
    let gateway = world.start();
    gateway.wait_for_line("\"Subscribed\"");
    let mut publisher = publisher_at(broker.v4, USER);
    publisher.publish_all(overlap.next(&world, 1_000));
    overlap.wait_until_stored(&world);
    assert_eq!(overlap.compare(&world), Found::default());

    let gateway = restart_under_load(End::Kill, &world, &mut overlap, &mut publisher, gateway);
    let found = overlap.compare(&world);
    eprintln!("rumqttd, with identifiers, {ENDS} kills: {found:?}");
    assert_eq!(found.lost, 0);
    assert!(found.twice > 0, "rumqttd keeps identifiers over a reconnect: nothing is left to be tested here");

    let restarted = start();
    proxy.lead_to(restarted.v5);
    proxy.cut(How::Rst);
    gateway.wait_for_line("uses no subscription identifiers");
    gateway.wait_for_line(r#""Subscribed","filters":1"#);
    let mut publisher = publisher_at(restarted.v4, USER);
    let gateway = restart_under_load(End::Orderly, &world, &mut overlap, &mut publisher, gateway);
    assert_eq!(overlap.compare(&world), found, "nothing more after orderly ends");
    let mut gateway = restart_under_load(End::Kill, &world, &mut overlap, &mut publisher, gateway);
    assert_eq!(gateway.stop(), Some(0));
    let killed = overlap.compare(&world);
    eprintln!("rumqttd, without identifiers, {ENDS} kills: {killed:?}");
    assert_eq!((killed.lost, killed.out_of_order), (0, found.out_of_order));
    // It restarts packet identifiers on each connection. So messages in flight come again, for three flows.
    assert!(killed.twice - found.twice <= ENDS * MAX_IN_FLIGHT * 3, "{killed:?} after {found:?}");
}

#[test]
#[ignore = "takes a quarter of a minute; run by scripts/faults"]
fn cut_between_subscribes_misses_no_flow() {
    let proxy = Proxy::to_mqtt(start().v5);
    let world = world_at(proxy.address(), USER);
    Overlap::over(&world);
    let cut = proxy.at(Sign::Packet(Way::ToServer, Mqtt::Subscribe), 2).before(Act::Cut(How::Rst));
    let mut gateway = world.start();
    cut.wait();
    // The filters are suspected now, and rumqttd does not answer the question that comes before them.
    gateway.wait_for_line(r#""Subscribed","filters":6"#);
    assert_eq!(gateway.stop(), Some(0));
}
