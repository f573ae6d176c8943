//! Connections that are refused, ended in the middle of a transaction, or that fall silent.

use test_support::eventually;
use test_support::mariadb::MariaDbServer;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::process::Gateway;
use test_support::proxy::{Act, How, Proxy, Sign, Watch};
use test_support::sql::Sql;
use test_support::world::{Backend, PASSWORD, SERVERS, World};

use super::{end_sessions, inbox_bytes, reconnected, sql_text};

/// Half of all transactions stay open for a while, with everything written.
const LINGERING: &str = "worker-before-commit=50%sleep(200)";

#[test]
fn killed_database_keeps_no_partial_transaction() {
    let mut server = MariaDbServer::new();
    let mut world = World::on_server(&server, Broker::shared());
    world.set("FAILPOINTS", LINGERING);
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    for _ in 0..3 {
        eventually("a transaction that has written", || {
            let messages = load.next(&world, 50);
            world.publish_all(messages);
            // A transaction first locks its lane's row, and writes it last before COMMIT.
            let probe = world.sql.try_run("SELECT lane FROM inbox_offsets FOR UPDATE NOWAIT");
            probe.err().filter(|error| error.to_string().contains("Lock wait timeout"))
        });
        server.kill();
        let messages = load.next(&world, 500);
        world.publish_all(messages);
        server.start();
    }
    reconnected(&world);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

/// Freezes the server under load, sees that messages are taken in all the same, and thaws it `then`.
fn frozen(then: impl FnOnce(&Gateway)) {
    const COUNT: usize = 2_000;
    const BYTES: usize = 200;
    let server = MariaDbServer::new();
    let world = World::on_server(&server, Broker::shared());
    let mut load = Load::over(&world, 4).of_bytes(BYTES);
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, COUNT);
    world.publish_all(messages);
    server.freeze();
    let messages = load.next(&world, COUNT);
    world.publish_all(messages);
    eventually("the messages in the inbox", || {
        (inbox_bytes(&world) >= u64::try_from(COUNT * BYTES).unwrap()).then_some(())
    });
    then(&gateway);
    assert!(gateway.is_running());
    server.thaw();
    reconnected(&world);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
}

#[test]
fn frozen_database_makes_messages_wait() {
    frozen(|_| {});
}

#[test]
#[ignore = "takes two minutes; run by scripts/faults"]
fn database_frozen_past_timeout_is_exactly_once() {
    frozen(|gateway| {
        gateway.wait_long_for_line("no answer");
        // With connections of their own by now, and these get no answer either.
        let known = gateway.count_lines("Database still refuses");
        eventually("attempts on new connections", || {
            (gateway.count_lines("Database still refuses") > known + 1).then_some(())
        });
    });
}

#[test]
fn connection_limit_is_waited_out() {
    let server = MariaDbServer::new();
    let world = World::on_server(&server, Broker::shared());
    let mut load = Load::over(&world, 4);
    let fill = || {
        // Sessions that are there stay when the bound sinks below their number.
        let crowd: Vec<Sql> = (0..12).map(|_| Sql::open(&server.url())).collect();
        world.sql.run("SET GLOBAL max_connections = 10");
        crowd
    };
    let room = |crowd: Vec<Sql>| {
        world.sql.run("SET GLOBAL max_connections = 100");
        drop(crowd);
    };

    let crowd = fill();
    let mark = world.broker.mark();
    let mut gateway = world.start();
    gateway.wait_for_line("Too many connections");
    room(crowd);
    world.wait_for_flows(mark);
    let messages = load.next(&world, 200);
    world.publish_all(messages);
    load.wait_until_stored(&world);

    let crowd = fill();
    end_sessions(&world);
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    gateway.wait_for_line_that("the reason", &|line| {
        line.contains("refuses") && line.contains("Too many connections")
    });
    room(crowd);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
}

#[test]
fn absent_database_at_start_is_awaited() {
    let mut server = MariaDbServer::new();
    let world = World::on_server(&server, Broker::shared());
    let mut load = Load::over(&world, 4);
    server.stop();
    let mark = world.broker.mark();
    let mut gateway = world.start();
    gateway.wait_for_line("The database is not available, waiting for it");
    server.start();
    reconnected(&world);
    world.wait_for_flows(mark);
    let messages = load.next(&world, 200);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}

#[test]
fn corrected_database_password_is_enough() {
    let world = World::on(Backend::MariaDb);
    let mut load = Load::over(&world, 4);
    let set_password = |password: &str| {
        world.sql.run(&format!("ALTER USER '{}'@'%' IDENTIFIED BY {}", world.name, sql_text(password)));
    };
    set_password("another");
    let mark = world.broker.mark();
    let mut gateway = world.start();
    let line = gateway.wait_for_line("waiting for it");
    assert!(line.contains("Access denied") && !line.contains(PASSWORD), "{line}");
    set_password(PASSWORD);
    world.wait_for_flows(mark);

    set_password("another");
    end_sessions(&world);
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    gateway.wait_for_line_that("the refusal", &|line| {
        line.contains("Database") && line.contains("refuses") && line.contains("Access denied")
    });
    set_password(PASSWORD);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
}

#[test]
fn database_created_later_is_filled() {
    let mut world = World::on(Backend::MariaDb);
    let later = format!("{}_later", world.name);
    world.set("DB_NAME", &later);
    world.sql.run(&format!("GRANT ALL ON {later}.* TO '{}'@'%'", world.name));
    let mut gateway = world.start();
    let line = gateway.wait_for_line("waiting for it");
    assert!(line.contains("Unknown database"), "{line}");
    world.sql.run(&format!("CREATE DATABASE {later} CHARACTER SET utf8mb4"));
    eventually("a broker to be edited", || {
        world
            .sql
            .try_rows(&format!("SELECT host FROM {later}.mqtt_servers"), [])
            .ok()
            .filter(|rows| !rows.is_empty())
    });
    assert_eq!(gateway.stop(), Some(0));
}

/// A world whose gateway reloads only after edits, and reaches its database by the proxy.
fn without_periodic_reload(backend: Backend) -> (World, Proxy) {
    let mut world = World::on(backend);
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "86400");
    world.flow("first", "first").insert(&world.sql);
    let proxy = world.reach_database_by_proxy();
    (world, proxy)
}

/// The next of these statements each lose their connection.
fn cut_at(proxy: &Proxy, statement: &'static str) -> Vec<Watch> {
    (0..100).map(|_| proxy.at(Sign::Statement(statement), 1).before(Act::Cut(How::Fin))).collect()
}

fn count_fired(cuts: &[Watch]) -> usize {
    cuts.iter().filter(|cut| cut.has_fired()).count()
}

#[test]
fn edited_flow_survives_failed_reload() {
    SERVERS.into_iter().for_each(edited_flow_is_loaded_later);
}

fn edited_flow_is_loaded_later(backend: Backend) {
    let (world, proxy) = without_periodic_reload(backend);
    let mut gateway = world.start_subscribed();
    // The rows as the gateway compares them are read before the edit.
    let compared = proxy.at(Sign::Statement("description FROM flows"), 1).before(Act::HoldAnswer);
    compared.wait();
    let mark = world.broker.mark();
    world.flow("late", "late").insert(&world.sql);
    let cuts = cut_at(&proxy, "endpoint_url FROM flows");
    proxy.flow();
    gateway.wait_for_line("Flow late is new");
    cuts[count_fired(&cuts)].wait();
    proxy.disarm();
    world.wait_for_filters(mark, &[&world.topic("late")]);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn edited_broker_survives_failed_reload() {
    SERVERS.into_iter().for_each(edited_broker_is_loaded_later);
}

fn edited_broker_is_loaded_later(backend: Backend) {
    let (world, proxy) = without_periodic_reload(backend);
    let moved = Proxy::to_mqtt(world.broker.address);
    let mut gateway = world.start_subscribed();
    let cuts = cut_at(&proxy, "FROM mqtt_servers");
    world.reach_broker_at(moved.address());
    let fired = count_fired(&cuts);
    gateway.signal("HUP");
    // One of the two may be the reload after the start.
    cuts[fired + 1].wait();
    proxy.disarm();
    moved.wait_for_taken(1);
    assert_eq!(gateway.stop(), Some(0));
}
