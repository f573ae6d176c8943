//! An embedded broker that speaks 3.1.1 only.

use std::collections::HashMap;
use std::thread;

use rumqttd::{Broker, Config, ConnectionSettings, RouterConfig, ServerSettings, Strategy};

use crate::mqtt_link::free_port;

/// Starts it and returns its port.
pub(crate) fn start() -> u16 {
    let port = free_port();
    let server = ServerSettings {
        name: "old".to_owned(),
        listen: ([127, 0, 0, 1], port).into(),
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: 1 << 20,
            max_inflight_count: 100,
            auth: None,
            external_auth: None,
            dynamic_filters: true,
        },
    };
    let config = Config {
        id: 0,
        router: RouterConfig {
            max_connections: 100,
            max_outgoing_packet_count: 200,
            max_segment_size: 1 << 20,
            max_segment_count: 10,
            custom_segment: None,
            initialized_filters: None,
            shared_subscriptions_strategy: Strategy::RoundRobin,
        },
        v4: Some(HashMap::from([("old".to_owned(), server)])),
        v5: None,
        ws: None,
        cluster: None,
        console: None,
        bridge: None,
        prometheus: None,
        metrics: None,
    };
    // Runs until the process ends; a test that cannot reach it fails for that.
    thread::spawn(move || drop(Broker::new(config).start()));
    port
}
