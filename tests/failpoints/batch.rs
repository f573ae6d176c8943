//! Batches on databases that fail in the middle: each message counts once.

use std::time::Duration;

use std::sync::atomic::{AtomicBool, Ordering};

use crate::batches::{Setup, batch_of, entry, record};
use crate::database::TestDatabase;
use fail::FailScenario;
use mqtt_gateway::domain::batch::{Batch, BatchOutcome, ProcessError};
use mqtt_gateway::settings::DatabaseSettings;
use mqtt_gateway::store::{
    Database, Dialect, ErrorClass, LaneFenced, LanePosition, LaneStore, ProcessMessageError,
    process_flow_message,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};

on_every_database! {
    unanswered_commit_is_not_repeated
    failed_commit_is_retried
    lost_answer_is_recognised_by_smaller_retry
    repeated_lost_answers_are_each_resolved
    lost_answer_is_fenced_after_takeover
    locked_lane_is_awaited
    retries_never_store_twice
    unfenced_message_reports_earlier_commit
    interrupted_batch_reports_committed_part
}

on_every_server! {
    lock_timeout_of_flow_is_retried
    unresponsive_session_is_replaced
    deadlock_victim_retries_batch
    session_killed_during_lock_wait_is_replaced
    session_killed_before_commit_is_replaced
    killed_prepared_session_is_replaced
}

async fn unanswered_commit_is_not_repeated(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, mut lane, batch) = a_batch_of_ten(test).await;
    fail::cfg("commit-not-answered", "1*return").unwrap();

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_eq!(setup.observer.failures(), 1);
    assert!(!setup.observer.in_trouble(), "nobody was told that it goes on");
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

async fn failed_commit_is_retried(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, mut lane, batch) = a_batch_of_ten(test).await;
    fail::cfg("commit-not-sent", "1*return").unwrap();

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_eq!(setup.observer.failures(), 1);
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

/// The third failure in a row halves the step, and its COMMIT took place. So the next step has fewer
/// messages than were committed.
async fn lost_answer_is_recognised_by_smaller_retry(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, mut lane, batch) = a_batch_of_ten(test).await;
    fail::cfg("commit-not-sent", "2*return->off").unwrap();
    fail::cfg("commit-not-answered", "1*return").unwrap();

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_eq!(setup.observer.failures(), 3);
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

/// Not sent: done again, by halves. Not answered: taken as done.
async fn repeated_lost_answers_are_each_resolved(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, mut lane, batch) = a_batch_of_ten(test).await;
    fail::cfg("commit-not-sent", "4*return->1*off->1*return").unwrap();
    fail::cfg("commit-not-answered", "2*return").unwrap();

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert!(setup.observer.failures() > 5);
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

async fn lost_answer_is_fenced_after_takeover(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, mut lane, batch) = a_batch_of_ten(test).await;
    fail::cfg("commit-not-answered", "1*return").unwrap();

    let processing = async { lane.process(&batch, &setup.observer).await };
    let taking_over = async {
        setup.observer.failed_once().await;
        setup.lane().open(&setup.observer).await.position
    };
    let (processed, taken) = tokio::join!(processing, taking_over);

    // The successor begins where the lost COMMIT has brought the lane.
    assert_eq!(taken, LanePosition { epoch: taken.epoch.max(batch.epoch + 1), next_offset: batch.next });
    assert_eq!(processed.err().map(|broken| broken.failure), Some(LaneFenced(taken)));
    assert_rows_are_there_once(&setup, &batch).await;
}

async fn locked_lane_is_awaited(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, mut lane, batch) = a_batch_of_ten(test).await;
    let other = Database::connect(setup.test.settings(), 1).await.unwrap();
    let holding = other.begin().await.unwrap();
    run(&holding, "UPDATE inbox_offsets SET updated_at = NULL").await;

    let processing = async { lane.process(&batch, &setup.observer).await.unwrap() };
    let releasing = async {
        setup.observer.failed_once().await;
        holding.rollback().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(processing, releasing);

    assert_eq!(setup.observer.faults(), [ErrorClass::LockTimeout]);
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

/// Every message has a key, and is attempted three times: it must not be taken for its own repetition.
async fn retries_never_store_twice(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, mut lane, batch) = a_batch_of_ten(test).await;
    setup.test.execute("UPDATE flows SET message_key = '/n'").await;
    fail::cfg("commit-not-sent", "2*return->off").unwrap();
    fail::cfg("commit-not-answered", "1*return").unwrap();

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_eq!(setup.observer.failures(), 3);
    assert_all_are_there_once(&setup, &batch, &outcome).await;
    assert_eq!(setup.count("SELECT COUNT(*) FROM message_keys").await, 20);
}

/// It has no fence, so only the key shows whether an unanswered COMMIT took place.
async fn unfenced_message_reports_earlier_commit(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.test.execute("UPDATE flows SET message_key = '/n'").await;
    let process = || process_flow_message(&setup.database, &setup.rules, 1, record(1, r#"{"n":1}"#));

    fail::cfg("commit-not-sent", "1*return").unwrap();
    assert!(process().await.unwrap_err().is_retryable());
    fail::cfg("commit-not-answered", "1*return").unwrap();
    assert!(process().await.unwrap_err().is_retryable());

    let done = ProcessError::Repeated { flow_code: "F".into(), message_id: 1, inbox_offset: 1 };
    let error = process().await.unwrap_err();
    assert!(matches!(error, ProcessMessageError::Message(error) if error == done));
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 1);
}

/// The batch goes in two steps, and another worker takes the lane over in between.
async fn interrupted_batch_reports_committed_part(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, mut lane, mut batch) = a_batch_of_ten(test).await;
    setup.refuse_the_value("poison").await;
    *batch.entries.last_mut().unwrap() = entry(9, r#"{"n":"poison"}"#, &[1]);
    let settings = setup.test.settings().clone();
    let take_over = move || {
        let settings = settings.clone();
        std::thread::spawn(move || run_from_outside(&settings, "UPDATE inbox_offsets SET epoch = epoch + 1"))
            .join()
            .unwrap();
    };
    fail::cfg_callback("worker-after-commit", take_over).unwrap();

    let broken = lane.process(&batch, &setup.observer).await.unwrap_err();

    let there = LanePosition { epoch: batch.epoch + 1, next_offset: 5 };
    assert_eq!(broken.failure, LaneFenced(there));
    assert_eq!(broken.done.results.len(), 10);
    let posts = broken.done.posts.iter().map(|post| post.message_id);
    assert!(posts.eq(1..=5), "{:?}", broken.done.posts);
    assert_eq!(setup.count("SELECT COUNT(*) FROM outbox").await, 5);
}

async fn lock_timeout_of_flow_is_retried(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, mut lane, batch) = a_batch_of_ten(test).await;
    let other = Database::connect(setup.test.settings(), 1).await.unwrap();
    let holding = other.begin().await.unwrap();
    run(&holding, &setup.lock_flow(2)).await;

    let processing = async { lane.process(&batch, &setup.observer).await.unwrap() };
    let releasing = async {
        setup.observer.failed_once().await;
        holding.rollback().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(processing, releasing);

    assert_eq!(setup.observer.faults(), [ErrorClass::LockTimeout]);
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

async fn unresponsive_session_is_replaced(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, lane, batch) = a_batch_of_ten(test).await;
    // Well below the time after which the server would give up waiting for the lock.
    let mut lane = lane.with_transaction_timeout(Duration::from_millis(200));
    let other = Database::connect(setup.test.settings(), 1).await.unwrap();
    let holding = other.begin().await.unwrap();
    run(&holding, &setup.lock_flow(2)).await;

    let processing = async { lane.process(&batch, &setup.observer).await.unwrap() };
    let releasing = async {
        setup.observer.failed_once().await;
        holding.rollback().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(processing, releasing);

    assert_eq!(setup.observer.faults().first(), Some(&ErrorClass::ConnectionLost));
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

async fn deadlock_victim_retries_batch(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    test.look_late_for_deadlocks().await;
    let (setup, mut lane, batch) = a_batch_of_ten(test).await;
    let other = Database::connect(setup.test.settings(), 1).await.unwrap();
    let holding = other.begin().await.unwrap();
    holding_finds_no_deadlock(&setup, &holding).await;
    // MariaDB ends the transaction with fewer changes.
    let rows = vec![format!("({}, 'X')", setup.test.seconds_from_now(0)); 200].join(", ");
    run(&holding, &format!("INSERT INTO data (received_at, flow_code) VALUES {rows}")).await;
    run(&holding, &setup.lock_flow(2)).await;

    let processing = async { lane.process(&batch, &setup.observer).await.unwrap() };
    let colliding = async {
        has_locked(&setup, 1).await;
        run(&holding, &setup.lock_flow(1)).await;
        setup.observer.failed_once().await;
        holding.rollback().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(processing, colliding);

    assert_eq!(setup.observer.faults().first(), Some(&ErrorClass::Deadlock));
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

async fn session_killed_during_lock_wait_is_replaced(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, _, batch) = a_batch_of_ten(test).await;
    let (mut lane, session) = lane_with_one_session(&setup).await;
    let other = Database::connect(setup.test.settings(), 1).await.unwrap();
    let holding = other.begin().await.unwrap();
    run(&holding, &setup.lock_flow(2)).await;

    let processing = async { lane.process(&batch, &setup.observer).await.unwrap() };
    let killing = async {
        has_locked(&setup, 1).await;
        run_apart(setup.test.settings(), &end_of_session(setup.test.dialect(), session)).await;
        setup.observer.failed_once().await;
        holding.rollback().await.unwrap();
    };
    let (outcome, ()) = tokio::join!(processing, killing);

    assert_eq!(setup.observer.faults(), [ErrorClass::ConnectionLost]);
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

/// All is written when the server ends the session; COMMIT meets a connection that is gone.
async fn session_killed_before_commit_is_replaced(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, _, batch) = a_batch_of_ten(test).await;
    let (mut lane, session) = lane_with_one_session(&setup).await;
    let settings = setup.test.settings().clone();
    let end = end_of_session(setup.test.dialect(), session);
    let killed = AtomicBool::new(false);
    let kill = move || {
        if !killed.swap(true, Ordering::SeqCst) {
            let (settings, end) = (settings.clone(), end.clone());
            // A thread of its own: this one is the worker's.
            std::thread::spawn(move || run_from_outside(&settings, &end)).join().unwrap();
        }
    };
    fail::cfg_callback("worker-before-commit", kill).unwrap();

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_eq!(setup.observer.faults(), [ErrorClass::ConnectionLost]);
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

async fn killed_prepared_session_is_replaced(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let (setup, _, batch) = a_batch_of_ten(test).await;
    let (mut lane, session) = lane_with_one_session(&setup).await;
    lane.prepare().await;
    run_apart(setup.test.settings(), &end_of_session(setup.test.dialect(), session)).await;

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_eq!(setup.observer.faults(), [ErrorClass::ConnectionLost]);
    assert_all_are_there_once(&setup, &batch, &outcome).await;
}

/// Ten messages for a flow that stores and a flow that posts, and their lane.
async fn a_batch_of_ten(test: TestDatabase) -> (Setup, LaneStore, Batch) {
    let setup = Setup::new(test).await;
    setup.flow("STORES", "STORE_DB").await;
    setup.flow("POSTS", "POST_ENDPOINT").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let entries = (0..10).map(|n| entry(n, &format!(r#"{{"n":{n}}}"#), &[1, 2])).collect();
    (setup, lane, batch_of(position, entries))
}

async fn assert_all_are_there_once(setup: &Setup, batch: &Batch, outcome: &BatchOutcome) {
    let numbers = outcome.results.iter().map(|result| result.as_ref().unwrap().message_id);
    assert!(numbers.eq((1..=10).flat_map(|n| [n, n])), "{:?}", outcome.results);
    let posted = outcome.posts.iter().map(|post| (post.key.inbox_offset, post.message_id));
    assert!(posted.eq((0..10).zip(1..)), "{:?}", outcome.posts);
    assert_eq!(setup.rules.gauge.waiting(2), 10);
    assert_rows_are_there_once(setup, batch).await;
}

async fn assert_rows_are_there_once(setup: &Setup, batch: &Batch) {
    let stored: Vec<String> = setup.test.column("SELECT attribute_value FROM data ORDER BY id").await;
    assert_eq!(stored, (0..10).map(|n| n.to_string()).collect::<Vec<_>>());
    let numbers: Vec<i64> = setup.test.column("SELECT last_msg_id FROM data ORDER BY id").await;
    assert_eq!(numbers, (1..=10).collect::<Vec<_>>());
    let waiting: Vec<i64> = setup.test.column("SELECT message_id FROM outbox ORDER BY inbox_offset").await;
    assert_eq!(waiting, numbers);
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 0);
    assert_eq!(setup.count("SELECT COUNT(*) FROM flows WHERE last_msg_id = 10").await, 2);
    assert_eq!(setup.lane_offset().await, batch.next.cast_signed());
}

/// `PostgreSQL` ends the session that checks first, and each session checks once.
async fn holding_finds_no_deadlock(setup: &Setup, holding: &DatabaseTransaction) {
    if setup.test.dialect() == Dialect::Postgres {
        run(holding, "SET LOCAL deadlock_timeout = '1h'").await;
    }
}

async fn run(transaction: &DatabaseTransaction, sql: &str) {
    transaction.execute_unprepared(sql).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// Waits until another session has locked the row of this flow.
async fn has_locked(setup: &Setup, flow: i64) {
    while setup.test.try_execute(&format!("{} NOWAIT", setup.lock_flow(flow))).await.is_ok() {}
}

/// A lane with a single session, and the server's number for it.
async fn lane_with_one_session(setup: &Setup) -> (LaneStore, i64) {
    let database = Database::connect(setup.test.settings(), 1).await.unwrap();
    let asking = database.begin().await.unwrap();
    let sql = match setup.test.dialect() {
        Dialect::Postgres => "SELECT CAST(pg_backend_pid() AS BIGINT) AS id",
        Dialect::MySql | Dialect::Sqlite => "SELECT CAST(CONNECTION_ID() AS SIGNED) AS id",
    };
    let statement = Statement::from_string(asking.get_database_backend(), sql);
    let row = asking.query_one_raw(statement).await.unwrap().unwrap();
    asking.rollback().await.unwrap();
    (LaneStore::new(database, setup.rules.clone(), 0), row.try_get("", "id").unwrap())
}

fn end_of_session(dialect: Dialect, session: i64) -> String {
    match dialect {
        Dialect::Postgres => format!("SELECT pg_terminate_backend({session}, 60000)"),
        Dialect::MySql | Dialect::Sqlite => format!("KILL CONNECTION {session}"),
    }
}

fn run_from_outside(settings: &DatabaseSettings, sql: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run_apart(settings, sql));
}

/// In a session of its own, committed.
async fn run_apart(settings: &DatabaseSettings, sql: &str) {
    let database = Database::connect(settings, 1).await.unwrap();
    let transaction = database.begin().await.unwrap();
    run(&transaction, sql).await;
    transaction.commit().await.unwrap();
}
