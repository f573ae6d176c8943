//! The measured limits on real databases. They count their rows and delete them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::Duration;

use crate::database::TestDatabase;
use mqtt_gateway::bench::limits::broker::{BrokerLimitError, BrokerLoad, broker_limit};
use mqtt_gateway::bench::limits::database::{DatabaseLimitError, commit_times, database_limit, outbox_limit};
use mqtt_gateway::bench::limits::post::{PostLoad, post_limit};
use mqtt_gateway::bench::sink::{Arrival, Sink};
use mqtt_gateway::store::bench::insert::InsertLoad;
use mqtt_gateway::store::bench::outbox::SamplePost;
use mqtt_gateway::store::bench::rows::{SampleMessage, TableError};
use mqtt_gateway::store::{Database, Dialect, migrate};

on_every_database! {
    what_counts_as_inserted_is_in_the_table
    database_limit_leaves_table_empty
    single_commits_leave_the_table_empty
    outbox_limit_leaves_other_rows_alone
    a_table_that_holds_rows_is_not_touched
}

async fn migrated(test: &TestDatabase) {
    let database = Database::connect(test.settings(), 1).await.unwrap();
    migrate(&database).await.unwrap();
    database.close().await.unwrap();
}

fn sample() -> SampleMessage {
    let attribute = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let attributes =
        vec![attribute("n", "123456"), attribute("value", "21.5"), attribute("unit", "degree Celsius")];
    SampleMessage { flow_code: "BENCH_1".to_owned(), attributes }
}

/// The measurements have runtimes of their own.
async fn apart<T: Send + 'static>(measure: impl FnOnce() -> T + Send + 'static) -> T {
    tokio::task::spawn_blocking(measure).await.unwrap()
}

async fn what_counts_as_inserted_is_in_the_table(test: TestDatabase) {
    migrated(&test).await;
    let short = SampleMessage { flow_code: "BENCH_2".to_owned(), attributes: vec![] };
    let samples = [sample(), short, sample()];
    let load = InsertLoad::new(&samples, 30, 100, Duration::ZERO);
    let inserted = load.insert(test.settings(), || ()).await.unwrap();
    // Whole statements, and one before the time is taken.
    assert_eq!((load.per_statement(), inserted.messages), (30, 120));
    let rows = "SELECT COUNT(*) FROM data WHERE flow_code = 'BENCH_1'";
    assert_eq!(test.value::<i64>(rows).await, (120 + 30) / 3 * 2 * 3);
    let one = "SELECT attribute_value FROM data WHERE last_msg_id = 119 ORDER BY attribute_name";
    assert_eq!(test.column::<String>(one).await, ["123456", "degree Celsius", "21.5"]);
}

async fn outbox_limit_leaves_other_rows_alone(test: TestDatabase) {
    migrated(&test).await;
    let now = test.seconds_from_now(0);
    test.execute(&format!(
        "INSERT INTO outbox (inbox_id, flow_id, inbox_offset, message_id, url, payload, owner, created_at, \
         next_attempt_at) VALUES ('a', 1, 1, 1, 'http://h/', '{{}}', 'a', {now}, {now})"
    ))
    .await;
    let post = |flow_id| SamplePost {
        flow_id,
        flow_code: format!("BENCH_{flow_id}"),
        topic: "t".to_owned(),
        url: "http://127.0.0.1:1/".to_owned(),
        payload: b"{}".to_vec(),
    };
    let settings = test.settings().clone();
    let samples = [post(0), post(1), post(2)];
    let limit = apart(move || outbox_limit(&settings, &samples, 1, Duration::ZERO)).await.unwrap();
    assert!(limit > 0.0);
    assert_eq!(test.column::<String>("SELECT owner FROM outbox").await, ["a"]);
}

async fn database_limit_leaves_table_empty(test: TestDatabase) {
    migrated(&test).await;
    let settings = test.settings().clone();
    let limit = apart(move || database_limit(&settings, &[sample()], 1, Duration::ZERO)).await.unwrap();
    assert!(limit.messages_per_second > 0.0);
    assert_eq!(limit.connections, if test.dialect() == Dialect::Sqlite { 1 } else { 2 });
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM data").await, 0);
}

async fn single_commits_leave_the_table_empty(test: TestDatabase) {
    migrated(&test).await;
    let settings = test.settings().clone();
    let times = apart(move || commit_times(&settings, &sample())).await.unwrap();
    assert!(!times.median.is_zero() && times.median <= times.p99);
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM data").await, 0);
}

async fn a_table_that_holds_rows_is_not_touched(test: TestDatabase) {
    migrated(&test).await;
    test.execute("INSERT INTO data (received_at) VALUES ('2026-01-01 00:00:00')").await;
    let settings = test.settings().clone();
    let limit = apart(move || database_limit(&settings, &[sample()], 1, Duration::ZERO)).await;
    assert!(matches!(limit, Err(DatabaseLimitError::Table(TableError::NotEmpty))), "{limit:?}");
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM data").await, 1);
}

/// Publishes messages to topics of its own. `filter` replaces the subscription to them.
fn broker_load<T>(messages: u64, filter: Option<&str>, measure: impl FnOnce(&BrokerLoad<'_>) -> T) -> T {
    let name = format!("limits-{}-{messages}", std::process::id());
    let topics: Vec<String> = (0..16).map(|flow| format!("{name}/{flow}")).collect();
    let own = format!("{name}/+");
    measure(&BrokerLoad {
        host: "127.0.0.1",
        port: std::env::var("TEST_MQTT_PORT").expect("TEST_MQTT_PORT: run scripts/test").parse().unwrap(),
        credentials: None,
        client_id: &name,
        qos: 1,
        filter: filter.unwrap_or(&own),
        topics: &topics,
        messages,
        payload: &|number| format!("{{\"n\": {number}}}").into_bytes(),
    })
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_mqtt-gateway"))
}

#[test]
fn broker_limit_counts_every_message() {
    let limit = broker_load(5_000, None, |load| broker_limit(program(), load)).unwrap();
    assert_eq!(limit.messages, 5_000);
    assert!(limit.messages_per_second > 0.0 && limit.messages_per_second.is_finite());
}

#[test]
fn refused_subscription_is_reported_by_child() {
    let error = broker_load(1, Some("a/#/b"), |load| broker_limit(program(), load)).unwrap_err();
    assert!(matches!(&error, BrokerLimitError::Subscriber(why) if why.contains("a/#/b")), "{error}");
}

#[test]
fn early_subscriber_exit_is_no_limit() {
    let error = broker_load(2, None, |load| broker_limit(Path::new("/bin/true"), load)).unwrap_err();
    assert!(matches!(error, BrokerLimitError::Subscriber(_) | BrokerLimitError::Process(_)), "{error}");
}

#[test]
fn sink_reports_posts_once_in_order() {
    let (sender, arrivals) = channel();
    let sink = Sink::start(sender).unwrap();
    let flows = ["A", "B", "C"].map(|code| (Arc::from(code), Arc::from(sink.url(code)))).to_vec();
    let payload = Arc::new(|number: u64| format!("{{\"text\": \"x\", \"n\": {number}}}").into_bytes());
    let limit = post_limit(&PostLoad { flows, messages: 300, payload }).unwrap();
    sink.end();
    assert_eq!(limit.in_flight, 3);

    let mut by_flow = BTreeMap::<String, Vec<Arrival>>::new();
    for arrival in arrivals {
        by_flow.entry(arrival.flow_code.clone()).or_default().push(arrival);
    }
    for (flow, (code, told)) in by_flow.iter().enumerate() {
        let flow = i64::try_from(flow).unwrap();
        assert_eq!(*code, ["A", "B", "C"][usize::try_from(flow).unwrap()]);
        assert!(told.iter().filter_map(|arrival| arrival.n).eq((0..100).map(|turn| 3 * turn + flow)));
        assert!(told.iter().all(|a| a.key.ends_with(&format!("-{}-{flow}", a.n.unwrap()))), "{told:?}");
    }
    assert_eq!(by_flow.values().map(Vec::len).sum::<usize>(), 300);
}

#[test]
fn a_sink_that_nobody_listens_to_takes_nothing() {
    let (sender, arrivals) = channel();
    let sink = Sink::start(sender).unwrap();
    drop(arrivals);
    let flows = vec![("A".into(), sink.url("A").into())];
    let limit = post_limit(&PostLoad { flows, messages: 1, payload: Arc::new(|_| b"{}".to_vec()) });
    assert!(limit.is_err());
    sink.end();
}
