//! The bench as an operator runs it: its output is consistent, and it touches only its own data.

use std::process::{Command, Output, Stdio};

use crate::database::TestDatabase;
use mqtt_gateway::settings::DatabaseSettings;
use mqtt_gateway::store::Dialect;
use secrecy::ExposeSecret;
use serde_json::Value;

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_mqtt-gateway"));
    command.arg("bench").args(arguments).stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    bench(arguments).output().unwrap()
}

/// The JSON object that was printed; the exit code must be 0.
fn measured(arguments: &[&str]) -> Value {
    let output = run(arguments);
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{stderr}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
}

fn url_of(test: &TestDatabase) -> String {
    match test.settings() {
        DatabaseSettings::MySql { servers, name, user, password, .. } => {
            format!("mysql://{user}:{}@{servers}/{name}", password.expose_secret())
        }
        DatabaseSettings::Postgres { servers, name, user, password, .. } => {
            format!("postgres://{user}:{}@{servers}/{name}", password.expose_secret())
        }
        DatabaseSettings::Sqlite { path } => format!("sqlite:{}", path.display()),
    }
}

fn shared_broker() -> String {
    let port = std::env::var("TEST_MQTT_PORT").expect("TEST_MQTT_PORT: run scripts/test");
    format!("mqtt://127.0.0.1:{port}")
}

fn number(report: &Value, name: &str) -> f64 {
    report[name].as_f64().unwrap_or_else(|| panic!("{name} is no number in {report}"))
}

#[test]
fn embedded_run_stores_all_and_reports_all() {
    let report = measured(&["--messages", "300", "--flows", "7", "--attributes", "2", "--json"]);
    assert_eq!((&report["action"], &report["problems"]), (&"STORE_DB".into(), &Value::Array(vec![])));
    assert_eq!((number(&report, "messages_through"), number(&report, "latency_samples")), (300.0, 300.0));
    for name in [
        "cores",
        "seconds",
        "messages_per_second",
        "latency_p50_ms",
        "peak_memory_bytes",
        "messages_per_transaction",
        "limit_database_messages_per_second",
        "limit_broker_messages_per_second",
    ] {
        assert!(number(&report, name) > 0.0, "{name} in {report}");
    }
    let [p50, p99, p999, max] =
        ["p50", "p99", "p999", "max"].map(|of| number(&report, &format!("latency_{of}_ms")));
    assert!(p50 <= p99 && p99 <= p999 && p999 <= max, "{report}");
    let [database, broker] =
        ["database", "broker"].map(|of| number(&report, &format!("limit_{of}_messages_per_second")));
    let bound = 1.0 / (1.0 / database + 1.0 / broker);
    assert!((number(&report, "bound_messages_per_second") - bound).abs() < 1.0, "{report}");
    let share = number(&report, "messages_per_second") / bound;
    assert!((number(&report, "share_of_bound") - share).abs() < 0.01, "{report}");
    let transactions = number(&report, "transactions") * number(&report, "messages_per_transaction");
    assert!((transactions - 300.0).abs() < 0.05 * number(&report, "transactions") + 1.0, "{report}");
}

#[test]
fn fixed_rate_compares_latency_with_commit() {
    let report = measured(&["--messages", "100", "--flows", "3", "--rate", "400", "--json"]);
    // A quarter of a second's worth, the last of them due just before it.
    assert!(number(&report, "seconds") >= 0.247, "{report}");
    let commits = number(&report, "latency_p50_ms") / number(&report, "commit_p50_ms");
    assert!((number(&report, "latency_p50_commits") / commits - 1.0).abs() < 0.05, "{report}");
    assert_eq!(report["bound_messages_per_second"], Value::Null);
}

#[test]
fn bench_posts_empty_the_outbox() {
    let report = measured(&["--messages", "200", "--flows", "5", "--action", "post", "--json"]);
    assert_eq!((&report["action"], &report["problems"]), (&"POST_ENDPOINT".into(), &Value::Array(vec![])));
    assert_eq!(number(&report, "messages_through"), 200.0);
    assert!(number(&report, "limit_post_messages_per_second") > 0.0, "{report}");
    assert_eq!(report["limit_database_messages_per_second"], Value::Null);
    let limits =
        ["outbox", "broker", "post"].map(|of| number(&report, &format!("limit_{of}_messages_per_second")));
    let bound = 1.0 / limits.iter().map(|limit| 1.0 / limit).sum::<f64>();
    assert!((number(&report, "bound_messages_per_second") - bound).abs() < 1.0, "{report}");
    let share = number(&report, "messages_per_second") / bound;
    assert!((number(&report, "share_of_bound") - share).abs() < 0.01, "{report}");
}

#[test]
fn a_backlog_waits_in_the_inbox_and_drains() {
    let report = measured(&[
        "--messages",
        "300",
        "--flows",
        "4",
        "--backlog",
        "--set",
        "BATCH_MAX_MESSAGES=20",
        "--json",
    ]);
    assert_eq!((&report["backlog"], &report["problems"]), (&true.into(), &Value::Array(vec![])));
    assert_eq!(number(&report, "messages_through"), 300.0);
    // None of them was stored as it came.
    assert!(number(&report, "messages_per_transaction") >= 10.0, "{report}");
    assert_eq!(report["latency_p50_ms"], Value::Null);
}

#[test]
fn human_output_is_one_table() {
    let output = run(&["--messages", "50", "--no-limits"]);
    let text = String::from_utf8(output.stdout).unwrap();
    let words: Vec<&str> = text.lines().filter_map(|line| line.split_whitespace().next()).collect();
    assert_eq!(words, ["measured", "with", "rate", "latency", "gateway's", "gateway's", "a"], "{text}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn bench_ignores_directory_and_environment() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(".env"), "DATABASE_URL=sqlite:production.db\nMQTT_QOS=7\n").unwrap();
    let mut command = bench(&["--messages", "20", "--no-limits"]);
    let output = command.current_dir(directory.path()).env("DB_HOST", "production").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 1);
}

#[tokio::test]
async fn existing_database_is_refused_unchanged() {
    for test in [TestDatabase::mariadb().await, TestDatabase::postgres().await, TestDatabase::sqlite()] {
        test.execute("CREATE TABLE treasure (id INT)").await;
        test.execute("INSERT INTO treasure VALUES (42)").await;
        let output = run(&["--messages", "10", "--database", &url_of(&test), "--broker", &shared_broker()]);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert!(stderr.contains("--yes"), "{stderr}");
        assert_eq!(test.column::<i64>("SELECT id FROM treasure").await, [42]);
    }
}

#[tokio::test]
async fn impossible_bench_fails_before_dropping_database() {
    let test = TestDatabase::mariadb().await;
    test.execute("CREATE TABLE treasure (id INT)").await;
    let (url, broker) = (url_of(&test), shared_broker());
    let database = ["--yes", "--database", &url];
    for (arguments, code, reason) in [
        (["--broker", "mqtt://127.0.0.1:1", "--no-limits"], 1, "cannot connect to the broker"),
        (["--broker", "amqp://127.0.0.1", "--no-limits"], 2, "--broker: expected `mqtt://"),
        (["--broker", &broker, "--set=LANES=none"], 2, "LANES"),
        (["--broker", &broker, "--set=DATABASE_URL=sqlite:x"], 2, "the bench sets this itself"),
        (["--broker", &broker, "--set=LANE=2"], 2, "there is no such setting"),
        (["--qos=0", "--backlog", "--no-limits"], 2, "--backlog cannot be used with"),
    ] {
        let output = run(&[&arguments[..], &database[..]].concat());
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(stderr.contains(reason), "{reason}: {stderr}");
        assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM treasure").await, 0);
    }
}

#[tokio::test]
async fn replace_and_keep_options_are_honoured() {
    let test = TestDatabase::mariadb().await;
    test.execute("CREATE TABLE treasure (id INT)").await;
    let url = url_of(&test);
    let broker = shared_broker();
    let arguments = ["--messages", "60", "--flows", "3", "--database", &url, "--broker", &broker, "--json"];
    let report = measured(&[&arguments[..], &["--yes", "--keep"]].concat());
    assert_eq!(number(&report, "messages_through"), 60.0);
    assert!(test.try_execute("SELECT * FROM treasure").await.is_err());
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM data").await, 180);
}

#[tokio::test]
async fn bench_stores_all_and_drops_database() {
    for test in [TestDatabase::mariadb().await, TestDatabase::postgres().await] {
        let own = format!("{}_own", url_of(&test));
        let name = own.rsplit('/').next().unwrap().to_owned();
        let broker = shared_broker();
        let arguments =
            ["--messages", "300", "--flows", "7", "--database", &own, "--broker", &broker, "--json"];
        let report = measured(&arguments);
        assert_eq!(
            (number(&report, "messages_through"), &report["problems"]),
            (300.0, &Value::Array(vec![]))
        );
        assert_eq!(test.value::<i64>(&schemas_named(test.dialect(), &name)).await, 0);
    }
}

#[tokio::test]
async fn an_interrupted_measurement_leaves_no_database_behind() {
    let test = TestDatabase::mariadb().await;
    let url = format!("{}_own", url_of(&test));
    let name = url.rsplit('/').next().unwrap().to_owned();
    let broker = shared_broker();
    let arguments =
        ["--rate", "50", "--messages", "100000", "--no-limits", "--database", &url, "--broker", &broker];
    let mut process = bench(&arguments).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    // Changes a row once a flow has stored messages.
    let stored = format!("UPDATE {name}.flows SET description = 'seen' WHERE last_msg_id > 0");
    while test.try_execute(&stored).await.unwrap_or(0) == 0 {
        assert!(process.try_wait().unwrap().is_none(), "it has ended by itself");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
    let pid = process.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    let output = process.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(test.value::<i64>(&schemas_named(Dialect::MySql, &name)).await, 0);
}

fn schemas_named(dialect: Dialect, name: &str) -> String {
    match dialect {
        Dialect::Postgres => format!("SELECT COUNT(*) FROM pg_database WHERE datname = '{name}'"),
        Dialect::MySql | Dialect::Sqlite => {
            format!("SELECT COUNT(*) FROM information_schema.schemata WHERE schema_name = '{name}'")
        }
    }
}
