//! The way to the broker breaks, at a place of the test's choice, in the midst of the stream.

use crate::backlog;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::proxy::{Act, How, Mqtt, Proxy, Sign, Way};
use test_support::world::{Backend, World};

fn world_behind_a_proxy() -> (World, Proxy) {
    let world = World::with_broker(Backend::Sqlite, Broker::private());
    let proxy = Proxy::to_mqtt(world.broker.address);
    world.reach_broker_at(proxy.address());
    (world, proxy)
}

/// After this number of messages it is known that the broker does not reuse packet identifiers early. Before, a
/// redelivered message is processed again if it could be new.
const PROOF: usize = 2_100;

/// Breaks the connection by `breaks` while 600 messages are sent over it. Each must be stored once: redelivered
/// messages are recognised.
fn nothing_is_lost_or_doubled(breaks: impl Fn(&Proxy)) {
    let (world, proxy) = world_behind_a_proxy();
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, PROOF);
    backlog::publish(&world, messages);
    breaks(&proxy);
    for _ in 0..2 {
        let messages = load.next(&world, 300);
        world.publish_all(messages);
    }
    load.wait_until_stored(&world);
    assert!(proxy.taken() > 1, "the connection did not break");
    assert!(gateway.is_running());
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0], "twice");
}

#[test]
fn cut_within_publish_is_exactly_once() {
    // Not all at the same place of a packet; each is some 80 bytes long.
    for bytes in [1_013, 4_042, 9_771] {
        let cut = |proxy: &Proxy| drop(proxy.cut_at_byte(Way::ToClient, bytes, How::Rst));
        nothing_is_lost_or_doubled(cut);
    }
}

#[test]
fn cut_before_puback_is_exactly_once() {
    for nth in [1, 50] {
        let cut = |proxy: &Proxy| {
            drop(proxy.at(Sign::Packet(Way::ToServer, Mqtt::Puback), nth).before(Act::Cut(How::Rst)));
        };
        nothing_is_lost_or_doubled(cut);
    }
}

#[test]
fn orderly_broker_close_is_exactly_once() {
    let close = |proxy: &Proxy| {
        drop(proxy.at(Sign::Packet(Way::ToServer, Mqtt::Puback), 30).after(Act::Cut(How::Fin)));
    };
    nothing_is_lost_or_doubled(close);
}

#[test]
fn unconfirmed_subscription_is_repeated() {
    let (world, proxy) = world_behind_a_proxy();
    let mut load = Load::over(&world, 2);
    let cut = proxy.at(Sign::Packet(Way::ToClient, Mqtt::Suback), 1).before(Act::Cut(How::Rst));
    let mut gateway = world.start();
    cut.wait();
    gateway.wait_for_line("Subscribed");
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// A vanished host sends no FIN and no RST, so only silence shows it.
#[test]
#[ignore = "waits for the keepalive; run by scripts/faults"]
fn keepalive_detects_half_open_connection() {
    silence_is_noticed(&[Way::ToServer, Way::ToClient]);
}

/// One way only: we hear the broker, the broker does not hear us.
#[test]
#[ignore = "waits for the keepalive; run by scripts/faults"]
fn keepalive_detects_one_way_silence() {
    silence_is_noticed(&[Way::ToServer]);
}

fn silence_is_noticed(mute: &[Way]) {
    let (mut world, proxy) = world_behind_a_proxy();
    world.set("MQTT_KEEPALIVE", "5");
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, PROOF);
    backlog::publish(&world, messages);
    for way in mute {
        proxy.stall(*way);
    }
    let messages = load.next(&world, 300);
    world.publish_all(messages);
    gateway.wait_for_line("Connection to the broker lost");
    proxy.flow();
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0], "twice");
}

#[test]
#[ignore = "waits for an attempt to time out; run by scripts/faults"]
fn unresponsive_broker_is_retried() {
    let (world, proxy) = world_behind_a_proxy();
    let mut load = Load::over(&world, 2);
    proxy.stall(Way::ToClient);
    let mut gateway = world.start();
    gateway.wait_for_line("MQTT connection failed with reason code: ");
    proxy.flow();
    gateway.wait_for_line("Subscribed");
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
