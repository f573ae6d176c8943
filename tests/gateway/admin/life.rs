//! Live, ready and started, from the first breath to the last.

use std::time::{Duration, Instant};

use crate::admin::{reasons, wait_for, wait_for_value};
use test_support::http::{admin_of, get, scrape};
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::proxy::{How, Proxy, Way};
use test_support::world::{Backend, World};
use test_support::{PATIENCE, eventually, eventually_within};

/// An actor is dead after a minute of silence.
const LONGER_THAN_THE_DEAD: Duration = Duration::from_secs(75);

fn on_mariadb() -> World {
    let mut world = World::with_broker(Backend::MariaDb, Broker::private());
    world.set("ADMIN_BIND", "127.0.0.1:0");
    world
}

fn with_a_proxy_before_its_database() -> (World, Proxy) {
    let mut world = on_mariadb();
    let proxy = Proxy::to(world.database_address());
    world.reach_database_at(proxy.address());
    (world, proxy)
}

#[test]
fn start_without_database_is_alive_not_ready() {
    let (world, proxy) = with_a_proxy_before_its_database();
    world.flow("F", "f").insert(&world.sql);
    proxy.refuse();
    let gateway = world.start();
    let admin = admin_of(&gateway);
    gateway.wait_for_line("The database is not available");
    let startup = get(admin, "/health/startup");
    assert_eq!(startup.status, 503);
    assert_eq!(startup.json()["missing"], serde_json::json!(["database", "lanes"]));
    assert_eq!(get(admin, "/health/live").status, 200);
    assert_eq!(reasons(admin), ["starting", "not_subscribed"]);
    let samples = scrape(admin);
    assert_eq!(samples["mqtt_gateway_database_up"], 0.0);
    assert!(samples["mqtt_gateway_database_errors_total{kind=\"connection\"}"] > 0.0);
    assert_eq!(samples["mqtt_gateway_inbox_writable"], 1.0);

    proxy.accept();
    wait_for(admin, "/health/startup", 200);
    wait_for(admin, "/health/ready", 200);
    wait_for_value(admin, "mqtt_gateway_database_up", 1.0);
}

#[test]
fn database_outage_keeps_gateway_alive() {
    let (world, proxy) = with_a_proxy_before_its_database();
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let admin = admin_of(&gateway);
    wait_for(admin, "/health/ready", 200);
    proxy.refuse();
    proxy.cut(How::Rst);
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    wait_for_value(admin, "mqtt_gateway_database_up", 0.0);
    wait_for_value(admin, "mqtt_gateway_inbox_uncommitted_records", 100.0);
    for path in ["/health/live", "/health/ready", "/health/startup"] {
        assert_eq!(get(admin, path).status, 200, "{path}");
    }
    let samples = scrape(admin);
    assert!(samples["mqtt_gateway_inbox_oldest_uncommitted_age_seconds"] > 0.0);
    proxy.accept();
    load.wait_until_stored(&world);
    wait_for_value(admin, "mqtt_gateway_inbox_uncommitted_records", 0.0);
    wait_for_value(admin, "mqtt_gateway_database_up", 1.0);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
#[ignore = "takes three minutes; run by scripts/faults"]
fn long_database_outage_keeps_gateway_alive() {
    let (world, proxy) = with_a_proxy_before_its_database();
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let admin = admin_of(&gateway);
    wait_for(admin, "/health/ready", 200);
    let refused = || {
        proxy.refuse();
        proxy.cut(How::Rst);
    };
    let silent = || proxy.stall(Way::ToServer);
    for away in [&refused as &dyn Fn(), &silent] {
        away();
        let messages = load.next(&world, 100);
        world.publish_all(messages);
        let begin = Instant::now();
        while begin.elapsed() < LONGER_THAN_THE_DEAD {
            for path in ["/health/live", "/health/ready", "/health/startup"] {
                assert_eq!(get(admin, path).status, 200, "{path} after {:?}", begin.elapsed());
            }
            std::thread::sleep(Duration::from_millis(500));
        }
        proxy.accept();
        proxy.flow();
        load.wait_until_stored(&world);
    }
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn broker_outage_is_unready_until_subscribed() {
    let mut world = on_mariadb();
    world.flow("F", "f").insert(&world.sql);
    let gateway = world.start_subscribed();
    let admin = admin_of(&gateway);
    wait_for(admin, "/health/ready", 200);
    assert_eq!(scrape(admin)["mqtt_gateway_broker_connected"], 1.0);
    world.broker.stop();
    wait_for(admin, "/health/ready", 503);
    assert_eq!(reasons(admin), ["not_subscribed"]);
    assert_eq!(get(admin, "/health/live").status, 200);
    wait_for_value(admin, "mqtt_gateway_broker_connections_lost_total", 1.0);
    world.broker.start();
    wait_for(admin, "/health/ready", 200);
    wait_for_value(admin, "mqtt_gateway_broker_connections_total", 2.0);
    wait_for_value(admin, "mqtt_gateway_ready", 1.0);
}

#[test]
fn drain_is_unready_and_port_answers() {
    let mut world = on_mariadb();
    // Long enough for the requests before the end.
    world.set("FAILPOINTS", "supervisor-leaves=sleep(3000)");
    let proxy = Proxy::to_mqtt(world.broker.address);
    world.reach_broker_at(proxy.address());
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let admin = admin_of(&gateway);
    wait_for(admin, "/health/ready", 200);
    let other = world.another_session();
    // A lock on the lanes' rows holds up the drain.
    other.run("BEGIN");
    other.rows("SELECT * FROM inbox_offsets FOR UPDATE", []);
    let messages = load.next(&world, 100);
    world.publish_all(messages);
    wait_for_value(admin, "mqtt_gateway_inbox_appended_total", 100.0);
    // The DISCONNECT does not reach the broker, and the gateway waits for that.
    proxy.stall(Way::ToServer);
    gateway.signal("TERM");
    let left = || {
        gateway.count_lines("Disconnected from the broker") + gateway.count_lines("DISCONNECT was not sent")
    };
    wait_for(admin, "/health/ready", 503);
    assert_eq!(left(), 0, "the leave was taken before");
    assert_eq!(reasons(admin), ["draining"]);
    assert_eq!(gateway.count_lines("Drained"), 0);
    assert_eq!(get(admin, "/health/live").status, 200);
    proxy.flow();
    eventually("the end of the leave-taking", || (left() > 0).then_some(()));
    assert!(reasons(admin).contains(&"draining".to_owned()));
    assert_eq!(gateway.count_lines("Drained"), 0, "the rows are held");
    other.run("COMMIT");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
    load.wait_until_stored(&world);
}

#[test]
#[ignore = "takes a minute; run by scripts/faults"]
fn only_frozen_supervisor_fails_liveness() {
    let mut world = on_mariadb();
    world.set("FAILPOINTS", "beat-supervisor=20*off->1*pause->off");
    world.flow("F", "f").insert(&world.sql);
    let gateway = world.start_subscribed();
    let admin = admin_of(&gateway);
    wait_for(admin, "/health/ready", 200);
    let dead = || (get(admin, "/health/live").status == 503).then(|| get(admin, "/health/live").json());
    // A minute of silence comes before it, so one patience is not enough.
    let dead = eventually_within(3 * PATIENCE, "it not to be taken for alive", dead);
    assert_eq!(dead["silent"][0]["actor"], "supervisor");
    assert_eq!(dead["silent"].as_array().unwrap().len(), 1, "{dead}");
    world.publish("f", "{\"a\":1}");
    world.wait_for_stored("F", 1);
}
