//! Start, stop, restart, and more than one gateway.

use std::ops::Range;
use std::process::Stdio;

use test_support::eventually;
use test_support::flows::NewFlow;
use test_support::mariadb::MariaDbServer;
use test_support::mosquitto::Broker;
use test_support::net::free_port;
use test_support::process::{Gateway, binary, command};
use test_support::publisher::Message;
use test_support::world::{Backend, World};

fn restart_keeps_session_and_continues_ids(world: World) {
    world.flow("any", "t").insert(&world.sql);
    for run in 0..3 {
        let mut gateway = world.start_subscribed();
        world.publish("t", format!(r#"{{"at": "up {run}"}}"#));
        world.wait_for_stored("any", 2 * run + 1);
        assert_eq!(gateway.stop(), Some(0));
        world.publish("t", format!(r#"{{"at": "down {run}"}}"#));
    }
    let _gateway = world.start_subscribed();
    let stored = world.wait_for_stored("any", 6);
    let seen: Vec<(i64, &str)> = stored.iter().map(|m| (m.id, m.value("at").unwrap())).collect();
    let expected = [(1, "up 0"), (2, "down 0"), (3, "up 1"), (4, "down 1"), (5, "up 2"), (6, "down 2")];
    assert_eq!(seen, expected);
}

fn a_stop_drains_what_was_taken_in(world: World) {
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let topic = world.topic("t");
    let publish = |numbers: Range<usize>| {
        world.publish_all(numbers.map(|number| Message::new(&topic, format!(r#"{{"number": {number}}}"#))));
    };
    // More messages than may be in flight, so that the broker has the first acknowledgements: redelivered messages are
    // recognised only after earlier ones.
    publish(0..1_100);
    world.wait_for_stored("any", 1_100);
    publish(1_100..3_100);
    assert_eq!(gateway.stop(), Some(0));
    let after_stop = world.stored("any").len();
    let _gateway = world.start_subscribed();
    let stored = world.wait_for_stored("any", 3_100);
    let numbers = stored.iter().map(|m| m.value("number").unwrap().parse::<usize>().unwrap());
    assert!(numbers.eq(0..3_100), "all of them once and in order; {after_stop} before the stop");
}

fn retained_message_arrives_at_subscribe(world: World) {
    let retained = Message { retained: true, ..Message::new(&world.topic("t"), r#"{"at": "before"}"#) };
    world.publish_all([retained]);
    world.flow("any", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
    assert_eq!(world.wait_for_stored("any", 1)[0].value("at"), Some("before"));
}

fn sigint_ends_it_as_well(world: World) {
    world.flow("any", "t").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    gateway.signal("INT");
    assert_eq!(gateway.wait_for_exit().code(), Some(0));
}

fn second_gateway_on_inbox_is_refused(mut world: World) {
    world.flow("any", "t").insert(&world.sql);
    let mut first = world.start_subscribed();
    world.set("MQTT_CLIENT_ID", "second");
    let mut second = world.start();
    assert_eq!(second.wait_for_exit().code(), Some(1));
    let inbox = world.inbox_directory();
    assert!(second.stderr().contains(inbox.to_str().unwrap()), "it says which: {}", second.stderr());
    let holder = format!("is in use by process {} on ", first.id());
    assert!(second.stderr().contains(&holder), "it says by whom: {}", second.stderr());
    assert!(first.is_running());
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_stored("any", 1);
}

#[test]
fn second_gateway_on_port_is_explained() {
    let mut world = World::on(Backend::Sqlite);
    world.set("ADMIN_BIND", &format!("127.0.0.1:{}", free_port()));
    let first = world.start();
    first.wait_for_line("Connected");
    let mut second = world.start();
    assert_eq!(second.wait_for_exit().code(), Some(1));
    let holder = format!("is in use by process {} on ", first.id());
    assert!(second.stderr().contains(&holder), "{}", second.stderr());
}

#[test]
fn without_a_terminal_sighup_reloads() {
    let mut world = World::on(Backend::Sqlite);
    world.set("FLOWS_RELOAD_INTERVAL_SECONDS", "3600");
    let mut gateway = Gateway::start_by("setsid", &["run"], &world.settings, world.directory());
    gateway.wait_for_line("Connected");
    gateway.signal("HUP");
    gateway.wait_for_line("SIGHUP: reloading the flows");
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn with_a_terminal_sighup_ends_it_in_order() {
    let world = World::on(Backend::Sqlite);
    world.flow("any", "t").insert(&world.sql);
    let [said, code] = ["said", "code"].map(|name| world.directory().join(name));
    // Shells pass on signals that the kernel sends to them alone. This one stays to report the exit code.
    let shell = format!(
        "trap 'kill -HUP $!' HUP; {} run & wait $!; wait $!; echo $? >{}",
        binary().display(),
        code.display()
    );
    // A test run under nohup ignores SIGHUP, and its children inherit that.
    let mut terminal = command("env", &world.settings, world.directory())
        .args(["--default-signal=HUP", "script", "--quiet", "--flush", "--command", &shell])
        .arg(&said)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    eventually("the subscription", || {
        std::fs::read_to_string(&said).ok()?.contains("Subscribed").then_some(())
    });
    terminal.kill().unwrap();
    terminal.wait().unwrap();
    let ended = eventually("the exit code", || {
        std::fs::read_to_string(&code).ok().filter(|code| code.ends_with('\n'))
    });
    assert_eq!(ended, "0\n");
}

/// A gateway beside the world's own, with its own client id, inbox and log.
fn replica(world: &World, name: &str) -> Gateway {
    let directory = world.directory().join(name);
    std::fs::create_dir(&directory).unwrap();
    let mut settings = world.settings.clone();
    settings.insert("MQTT_CLIENT_ID".to_owned(), format!("{}_{name}", world.name));
    settings.insert("INBOX_DIR".to_owned(), directory.join("inbox").display().to_string());
    settings.insert("LOG_DIR".to_owned(), directory.join("log").display().to_string());
    Gateway::start(&[], &settings, &directory)
}

fn replicas_share_flow_without_gap_or_duplicate(world: World) {
    let filter = format!("$share/replicas/{}", world.topic("s/+"));
    NewFlow::new("shared", &filter).insert(&world.sql);
    let mark = world.broker.mark();
    let names = ["left", "right"];
    let _replicas = names.map(|name| replica(&world, name));
    for name in names {
        world.broker.wait_for_subscriptions(mark, &format!("{}_{name}", world.name), &[&filter]);
    }
    let topic = world.topic("s/a");
    world.publish_all((0..1_000).map(|number| Message::new(&topic, format!(r#"{{"number": {number}}}"#))));
    // Both insert into one table at once, so the rows of two messages may alternate: judged by columns, not by rows.
    eventually("1,000 messages", || (world.last_msg_id("shared") == Some(1_000)).then_some(()));
    let count = |column: &str| {
        world.sql.count(&format!("SELECT COUNT(DISTINCT {column}) FROM data WHERE flow_code = 'shared'"), [])
    };
    assert_eq!((count("last_msg_id"), count("attribute_value"), count("id")), (1_000, 1_000, 1_000));
}

#[test]
fn a_database_that_is_not_there_is_awaited() {
    let mut server = MariaDbServer::new();
    let world = World::on_server(&server, Broker::shared());
    world.flow("any", "t").insert(&world.sql);
    server.stop();
    let mark = world.broker.mark();
    let mut gateway = world.start();
    // It logs the failure and keeps trying.
    gateway
        .wait_for_line_that("the database not being there", &|line| line.to_lowercase().contains("database"));
    assert!(gateway.is_running());
    server.start();
    world.broker.wait_for_subscriptions(mark, &world.name, &[&world.topic("t")]);
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_stored("any", 1);
}

on_each_database!(
    restart_keeps_session_and_continues_ids,
    a_stop_drains_what_was_taken_in,
    retained_message_arrives_at_subscribe,
    sigint_ends_it_as_well,
    second_gateway_on_inbox_is_refused,
    replicas_share_flow_without_gap_or_duplicate,
);
