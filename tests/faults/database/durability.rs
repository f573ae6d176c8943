//! A server that may lose commits.

use test_support::mariadb::MariaDbServer;
use test_support::mosquitto::Broker;
use test_support::oracle::Load;
use test_support::world::{Backend, World, text_of};

#[test]
fn nondurable_server_is_warned_about() {
    let server = MariaDbServer::with(&["--innodb-flush-log-at-trx-commit=2"]);
    let world = World::on_server(&server, Broker::shared());
    let risk =
        "innodb_flush_log_at_trx_commit is 2: a loss of power at the database server loses the last commits";
    let _flow = Load::over(&world, 1);
    let mut gateway = world.start_subscribed();
    gateway.wait_for_line(&format!("Database: {risk}"));
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(gateway.count_warnings(risk), 1);
    let output = world.command(&["check"]);
    assert!(output.status.success(), "a warning is no failure: {}", text_of(&output));
    assert!(text_of(&output).contains(&format!("warn database {risk}")), "{}", text_of(&output));
}

#[test]
fn durable_server_gets_no_warning() {
    for backend in [Backend::MariaDb, Backend::Postgres, Backend::Sqlite] {
        let world = World::on(backend);
        let _flow = Load::over(&world, 1);
        let mut gateway = world.start_subscribed();
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(gateway.count_warnings("loses the last commits"), 0);
    }
}
