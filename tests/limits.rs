//! The measured limits, on real databases: what they write is there to be counted, and gone afterwards.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::string_slice)]

#[macro_use]
#[path = "support/database.rs"]
mod database;

use std::time::Duration;

use database::TestDatabase;
use mqtt_gateway::bench::limits::database::{DatabaseLimitError, commit_times, database_limit};
use mqtt_gateway::store::bench::insert::InsertLoad;
use mqtt_gateway::store::bench::rows::{SampleMessage, TableError};
use mqtt_gateway::store::{Database, migrate};

on_both_databases! {
    what_counts_as_inserted_is_in_the_table
    the_limit_of_the_database_leaves_its_table_empty
    single_commits_leave_the_table_empty
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

async fn the_limit_of_the_database_leaves_its_table_empty(test: TestDatabase) {
    migrated(&test).await;
    let settings = test.settings().clone();
    let limit = apart(move || database_limit(&settings, &[sample()], 1, Duration::ZERO)).await.unwrap();
    assert!(limit.messages_per_second > 0.0);
    assert_eq!(limit.connections, if test.is_mysql() { 2 } else { 1 });
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
