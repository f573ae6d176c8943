//! What replicas are not started with, or do not subscribe.

use crate::fleet::Fleet;
use crate::support::world::text_of;

#[test]
fn settings_by_which_replicas_would_disturb_each_other_are_refused() {
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
fn replicas_that_take_the_same_shard_or_count_otherwise_say_so() {
    let fleet = Fleet::with_flows(2);
    let mut shards = fleet.shards(3);
    shards[2].set(&[("SHARD_COUNT", "5")]);
    shards[1].set(&[("SHARD_INDEX", "0")]);
    for shard in &mut shards {
        shard.start();
    }
    let first = shards[0].running();
    first.wait_long_for_line("takes shard 0 too");
    first.wait_long_for_line("counts 5 shards");
}
