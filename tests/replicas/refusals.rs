//! Settings and brokers that replicas refuse.

use crate::fleet::Fleet;
use test_support::eventually;
use test_support::http::{admin_of, get};
use test_support::scripted_broker::ScriptedBroker;
use test_support::world::text_of;

#[test]
fn conflicting_replica_settings_are_refused() {
    let fleet = Fleet::with_flows(1);
    let cases: [(&[(&str, &str)], &str); 3] = [
        (&[("SHARED_GROUP", "g"), ("SHARD_COUNT", "2"), ("SHARD_INDEX", "0")], "SHARD_COUNT is 2"),
        (&[("SHARD_COUNT", "2"), ("SHARD_INDEX", "gw-2")], "a number below SHARD_COUNT, which is 2"),
        (&[("SHARED_GROUP", "g"), ("MQTT_CLIENT_ID", "mqtt-gateway")], "MQTT_CLIENT_ID"),
    ];
    for (settings, expected) in cases {
        let output = fleet.replica(0, settings).run(&[]);
        assert_eq!(output.status.code(), Some(2), "{settings:?}");
        assert!(text_of(&output).contains(expected), "{}", text_of(&output));
    }
}

#[test]
fn conflicting_shards_are_reported() {
    let fleet = Fleet::with_flows(2);
    let mut shards = fleet.shards(3);
    shards[2].set(&[("SHARD_COUNT", "5")]);
    shards[1].set(&[("SHARD_INDEX", "0")]);
    for shard in &mut shards {
        shard.set(&[("FAILPOINTS", "dispute-lasts=return(2000)")]);
        shard.start();
    }
    let first = shards[0].running();
    first.wait_for_line("takes shard 0 too");
    first.wait_for_line("has SHARD_COUNT=5");
}

/// The gateway says why and sends nothing but its farewell.
fn is_not_subscribed_in_a_group(broker: &ScriptedBroker, connacks: &[&[u8]]) {
    let fleet = Fleet::with_flows(1);
    fleet.world.sql.execute("UPDATE mqtt_servers SET port = ?", [i32::from(broker.port()).into()]);
    let mut member = fleet.group(1).remove(0);
    member.set(&[("ADMIN_BIND", "127.0.0.1:0")]);
    member.start();
    let mut connections: Vec<_> = connacks.iter().map(|connack| broker.accept_with(connack)).collect();
    let gateway = member.running();
    gateway.wait_for_line("SHARED_GROUP needs a broker that shares subscriptions by MQTT 5");
    // The next reading shows that the connection was handled.
    fleet.world.flow("another", "another").insert(&fleet.world.sql);
    gateway.signal("HUP");
    eventually("the reload", || (gateway.count_lines("Flows loaded") > 1).then_some(()));
    let ready = get(admin_of(gateway), "/health/ready");
    assert_eq!((ready.status, ready.body.contains("not_subscribed")), (503, true), "{}", ready.body);
    member.stop();
    assert_eq!(connections.pop().unwrap().next_packet(), DISCONNECT);
}

const DISCONNECT: u8 = 0xE0;

#[test]
fn broker_without_sharing_is_not_subscribed() {
    // Property 42, Shared Subscription Available: no.
    is_not_subscribed_in_a_group(&ScriptedBroker::new(), &[&[0x20, 5, 0, 0, 2, 42, 0]]);
}

#[test]
fn mqtt_3_broker_is_not_subscribed_in_group() {
    let wrong_version: &[u8] = &[0x20, 3, 0, 0x84, 0];
    is_not_subscribed_in_a_group(&ScriptedBroker::new(), &[wrong_version, &[0x20, 2, 0, 0]]);
}
