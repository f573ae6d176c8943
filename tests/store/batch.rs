//! Batches on real databases: exactly once, and the effect of a bad message on the others.

use std::sync::Arc;

use crate::batches::{INBOX, OUTBOX_BOUND, Setup, batch_of, entry, record};
use crate::database::TestDatabase;
use mqtt_gateway::domain::batch::{Batch, BatchEntry, BatchOutcome, ProcessError, ProcessResult};
use mqtt_gateway::domain::flow::Action;
use mqtt_gateway::domain::message::FlowId;
use mqtt_gateway::store::{
    Database, Dialect, ErrorClass, LaneFenced, LanePosition, ProcessMessageError, process_flow_message,
};

on_every_database! {
    messages_are_numbered_in_order
    prepared_transaction_sees_later_writes
    flows_of_a_batch_are_numbered_separately
    a_batch_of_an_older_epoch_is_void
    epoch_rises_after_row_rollback
    committed_batch_is_not_repeated
    poison_becomes_dead_letter_others_stored
    poison_is_decided_per_flow
    outage_keeps_batch_until_recovery
    rejecting_every_row_is_an_outage
    disabled_and_deleted_flows_get_dead_letters
    exhausted_flow_is_rejected_before_numbering
    message_over_row_limit_serves_first_flows
    post_is_numbered_and_queued
    full_outbox_makes_dead_letters
    also_posted_messages_are_in_both_tables
    rolled_back_batch_leaves_neither_row_nor_post
    an_unreadable_payload_is_answered_for_once
    the_batch_of_one_does_the_same
}

on_every_server! {
    locked_flows_block_only_their_batches
}

async fn locked_flows_block_only_their_batches(test: TestDatabase) {
    const LOCKED: FlowId = 41;
    let setup = Setup::new(test).await;
    for flow in 1..=LOCKED {
        setup.flow(&format!("F{flow}"), "STORE_DB").await;
    }
    let other = Database::connect(setup.test.settings(), 1).await.unwrap();
    let holding = other.begin().await.unwrap();
    let lock = format!("SELECT id FROM flows WHERE id = {LOCKED} FOR UPDATE");
    sea_orm::ConnectionTrait::execute_unprepared(&holding, &lock).await.unwrap();

    // Statements for few flows and for many are not the same.
    let many: Vec<FlowId> = (1..LOCKED).collect();
    for flows in [&[1, 2][..], &many] {
        let mut lane = setup.lane();
        let position = lane.open(&setup.observer).await.position;
        let batch = Batch {
            next: position.next_offset + 1,
            ..batch_of(position, vec![entry(position.next_offset, r#"{"a":1}"#, flows)])
        };
        lane.process(&batch, &setup.observer).await.unwrap();
    }

    assert_eq!(setup.observer.failures(), 0);
    holding.rollback().await.unwrap();
}

/// As at the end of the process: an actor's state is dropped outside its runtime.
#[test]
fn a_lane_that_outlives_its_runtime_ends_quietly() {
    for dialect in [Dialect::MySql, Dialect::Postgres] {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let lane = runtime.block_on(async {
            let test = match dialect {
                Dialect::Postgres => TestDatabase::postgres().await,
                Dialect::MySql | Dialect::Sqlite => TestDatabase::mariadb().await,
            };
            let setup = Setup::new(test).await;
            let mut lane = setup.lane();
            lane.open(&setup.observer).await;
            lane.prepare().await;
            lane
        });
        drop(lane);
    }
}

async fn messages_are_numbered_in_order(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.test.execute("UPDATE flows SET last_msg_id = 41").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let payload = |n: u64| format!(r#"{{"n":{n},"text":"t"}}"#);
    let entries = (0..1_300).map(|n| entry(n, &payload(n), &[1])).collect();
    let batch = batch_of(position, entries);

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    let ids: Vec<i64> = outcome.results.iter().map(|result| result.as_ref().unwrap().message_id).collect();
    assert_eq!(ids, (42..1_342).collect::<Vec<_>>());
    let stored: Vec<i64> =
        setup.test.column("SELECT last_msg_id FROM data WHERE attribute_name = 'n' ORDER BY id").await;
    assert_eq!(stored, ids);
    let values: Vec<String> =
        setup.test.column("SELECT attribute_value FROM data WHERE attribute_name = 'n' ORDER BY id").await;
    assert_eq!(values, (0..1_300).map(|n| n.to_string()).collect::<Vec<_>>());
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 2_600);
    assert_eq!(setup.count("SELECT last_msg_id FROM flows").await, 1_341);
    assert_eq!(setup.lane_offset().await, batch.next.cast_signed());
}

async fn prepared_transaction_sees_later_writes(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let first = batch_of(position, vec![entry(10, r#"{"a":1}"#, &[1])]);
    lane.process(&first, &setup.observer).await.unwrap();
    lane.prepare().await;
    setup.test.execute("UPDATE flows SET last_msg_id = 41").await;

    let position = LanePosition { next_offset: first.next, ..position };
    let second = Batch { next: first.next + 1, ..batch_of(position, vec![entry(11, r#"{"a":2}"#, &[1])]) };
    let outcome = lane.process(&second, &setup.observer).await.unwrap();

    assert_eq!(outcome.results.first().unwrap().as_ref().unwrap().message_id, 42);
    assert_eq!(setup.lane_offset().await, second.next.cast_signed());
}

async fn flows_of_a_batch_are_numbered_separately(test: TestDatabase) {
    const FLOWS: i64 = 700;
    let setup = Setup::new(test).await;
    for flow in 1..=FLOWS {
        setup.flow(&format!("F{flow}"), "STORE_DB").await;
    }
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let all: Vec<FlowId> = (1..=FLOWS).collect();
    let entries = vec![entry(1, r#"{"a":1}"#, &all), entry(2, r#"{"a":2}"#, &all[..5])];

    lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();

    let counters: Vec<i64> = setup.test.column("SELECT last_msg_id FROM flows ORDER BY id").await;
    let expected: Vec<i64> = (1..=FLOWS).map(|flow| if flow <= 5 { 2 } else { 1 }).collect();
    assert_eq!(counters, expected);
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, FLOWS + 5);
}

async fn a_batch_of_an_older_epoch_is_void(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    let (mut old, mut new) = (setup.lane(), setup.lane());
    let before = old.open(&setup.observer).await.position;
    let after = new.open(&setup.observer).await.position;
    assert!(after.epoch > before.epoch);

    let batch = batch_of(before, vec![entry(10, r#"{"a":1}"#, &[1])]);
    let refused = old.process(&batch, &setup.observer).await;

    assert_eq!(refused.err().map(|broken| broken.failure), Some(LaneFenced(after)));
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 0);
    assert_eq!(setup.count("SELECT COUNT(*) FROM flows WHERE last_msg_id IS NOT NULL").await, 0);
}

async fn epoch_rises_after_row_rollback(test: TestDatabase) {
    let setup = Setup::new(test).await;
    let mut lane = setup.lane();
    let first = lane.open(&setup.observer).await.position;
    let before = lane.open(&setup.observer).await.position;
    setup.test.execute(&format!("UPDATE inbox_offsets SET epoch = {}", first.epoch)).await;
    let after = lane.open(&setup.observer).await.position;
    assert!(after.epoch > before.epoch, "{before:?}, {after:?}");
}

async fn committed_batch_is_not_repeated(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let batch = batch_of(position, vec![entry(10, r#"{"a":1}"#, &[1])]);
    lane.process(&batch, &setup.observer).await.unwrap();

    let again = lane.process(&batch, &setup.observer).await;

    let there = LanePosition { next_offset: batch.next, ..position };
    assert_eq!(again.err().map(|broken| broken.failure), Some(LaneFenced(there)));
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 1);
}

async fn poison_becomes_dead_letter_others_stored(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.refuse_the_value("poison").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let bad = |n: u64| n == 77 || (400..405).contains(&n);
    let payload = |n: u64| if bad(n) { r#"{"a":"poison"}"#.to_owned() } else { format!(r#"{{"a":"{n}"}}"#) };
    let entries = (0..600).map(|n| entry(n, &payload(n), &[1])).collect();

    let outcome = lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();

    assert_eq!(outcome.results.len(), 600);
    for (n, result) in (0..).zip(&outcome.results) {
        assert_eq!(matches!(result, Err(ProcessError::Rejected(_))), bad(n), "message {n}");
    }
    let ids: Vec<i64> = setup.test.column("SELECT last_msg_id FROM data ORDER BY id").await;
    assert_eq!(ids, (1..=594).collect::<Vec<_>>());
    let reasons: Vec<String> = setup.test.column("SELECT reason FROM dead_letters").await;
    assert_eq!(reasons, vec!["refused_by_database"; 6]);
    assert_eq!(setup.count("SELECT MIN(inbox_offset) FROM dead_letters").await, 77);
    assert!(
        setup.observer.failed().contains(&ErrorClass::Poison),
        "it is told, although nobody waits for it"
    );
    let messages: usize = setup.observer.committed().iter().map(|(messages, _)| messages).sum();
    assert_eq!(messages, 600, "what was tried again counts once");
}

async fn poison_is_decided_per_flow(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("STORES", "STORE_DB").await;
    setup.flow("POSTS", "POST_ENDPOINT").await;
    setup.refuse_the_value("poison").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let entries = vec![entry(10, r#"{"a":"poison"}"#, &[1, 2])];

    let outcome = lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();

    assert!(matches!(outcome.results[..], [Err(ProcessError::Rejected(_)), Ok(_)]), "{:?}", outcome.results);
    assert_eq!(setup.count("SELECT COUNT(*) FROM outbox WHERE flow_id = 2").await, 1);
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters WHERE flow_id = 1").await, 1);
}

async fn outage_keeps_batch_until_recovery(test: TestDatabase) {
    let setup = Arc::new(Setup::new(test).await);
    setup.flow("F", "STORE_DB").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    setup.test.execute("ALTER TABLE data RENAME TO data_away").await;
    let entries = (0..10).map(|n| entry(n, r#"{"a":1}"#, &[1])).collect();
    let batch = batch_of(position, entries);

    let processing = async { lane.process(&batch, &setup.observer).await.unwrap() };
    let mending = async {
        setup.observer.failed_once().await;
        assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 0);
        setup.test.execute("ALTER TABLE data_away RENAME TO data").await;
    };
    let (outcome, ()) = tokio::join!(processing, mending);

    assert!(outcome.results.iter().all(Result::is_ok));
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 10);
    assert!(setup.observer.failed().contains(&ErrorClass::Outage));
    assert_eq!(setup.observer.committed(), [(10, 10 * r#"{"a":1}"#.len())], "messages and bytes, once");
}

async fn rejecting_every_row_is_an_outage(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    setup.refuse_every_row().await;
    let batch = batch_of(position, (0..3).map(|n| entry(n, r#"{"a":1}"#, &[1])).collect());

    let processing = lane.process(&batch, &setup.observer);
    tokio::pin!(processing);
    tokio::select! {
        done = &mut processing => panic!("nobody could be stored: {done:?}"),
        () = setup.observer.failed_once() => setup.lift_the_rule().await,
    }
    let outcome = processing.await.unwrap();

    assert!(outcome.results.iter().all(Result::is_ok));
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 0);
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 3);
}

async fn message_over_row_limit_serves_first_flows(test: TestDatabase) {
    let mut setup = Setup::new(test).await;
    setup.rules = Arc::new(setup.rules_with(|rules| rules.max_rows_per_message = 5));
    for (code, action) in [
        ("A", "STORE_DB"),
        ("B", "STORE_DB"),
        ("POSTS", "POST_ENDPOINT"),
        ("C", "STORE_DB"),
        ("D", "STORE_DB"),
    ] {
        setup.flow(code, action).await;
    }
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let two = r#"{"a":1,"b":2}"#;
    let entries = vec![
        entry(10, two, &[1, 2, 3, 4, 5]),
        // Each message has a count of its own.
        entry(11, r#"{"a":1}"#, &[1, 2, 3, 4, 5]),
        entry(12, two, &[4, 5]),
    ];

    let outcome = lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();

    assert_eq!(rejections(&outcome), ["4 C too_many_rows", "5 D too_many_rows"]);
    let payload: Vec<u8> = setup.test.value("SELECT payload FROM dead_letters WHERE flow_code = 'D'").await;
    assert_eq!(payload, two.as_bytes());
    let numbers: Vec<i64> = setup.test.column("SELECT last_msg_id FROM flows ORDER BY id").await;
    assert_eq!(numbers, [2, 2, 2, 2, 2]);
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 2 * 2 + 4 + 2 * 2);
}

async fn disabled_and_deleted_flows_get_dead_letters(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("DISABLED", "STORE_DB").await;
    setup.flow("NULL", "POST_ENDPOINT").await;
    setup.flow("RUNS", "STORE_DB").await;
    setup.test.execute("UPDATE flows SET enabled = FALSE WHERE id = 1").await;
    setup.test.execute("UPDATE flows SET enabled = NULL WHERE id = 2").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let entries = vec![entry(10, r#"{"a":1}"#, &[1, 2, 3, 99])];

    let outcome = lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();

    assert_eq!(
        rejections(&outcome),
        ["1 DISABLED flow_disabled", "2 NULL flow_disabled", "99 - flow_deleted"]
    );
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 3);
    for (flow, code, reason) in [
        (1, "flow_code = 'DISABLED'", "flow_disabled"),
        (2, "flow_code = 'NULL'", "flow_disabled"),
        (99, "flow_code IS NULL", "flow_deleted"),
    ] {
        let row = format!("FROM dead_letters WHERE flow_id = {flow} AND {code} AND reason = '{reason}'");
        assert_eq!(setup.count(&format!("SELECT COUNT(*) {row} AND message_id IS NULL")).await, 1, "{row}");
        let payload: Vec<u8> = setup.test.value(&format!("SELECT payload {row}")).await;
        assert_eq!(payload, br#"{"a":1}"#);
    }
    assert_eq!(setup.count("SELECT COUNT(*) FROM flows WHERE last_msg_id IS NULL").await, 2);
    assert_eq!(setup.count("SELECT COUNT(*) FROM outbox").await, 0);
    assert_eq!(setup.count("SELECT COUNT(*) FROM data WHERE flow_code = 'RUNS'").await, 1);
}

/// Flow, code and reason of each.
fn rejections(outcome: &BatchOutcome) -> Vec<String> {
    let rejected = outcome.results.iter().filter_map(|result| match result {
        Err(ProcessError::Rejected(rejection)) => Some(rejection),
        _ => None,
    });
    let words = rejected.map(|rejection| {
        let (flow, code) = rejection.flow.as_ref().unwrap();
        format!("{flow} {} {}", code.as_deref().unwrap_or("-"), rejection.reason)
    });
    words.collect()
}

async fn exhausted_flow_is_rejected_before_numbering(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    let maximum = setup.rules.processing.limits.max_message_id;
    setup.test.execute(&format!("UPDATE flows SET last_msg_id = {}", maximum - 1)).await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let entries = vec![entry(10, r#"{"a":1}"#, &[1]), entry(11, r#"{"a":2}"#, &[1])];

    let outcome = lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();

    assert!(matches!(&outcome.results[..], [Ok(last), Err(_)] if last.message_id == maximum));
    assert_eq!(setup.count("SELECT last_msg_id FROM flows").await, maximum);
    let reason: String = setup.test.value("SELECT reason FROM dead_letters").await;
    assert_eq!(reason, "counter_exhausted");
}

async fn post_is_numbered_and_queued(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "POST_ENDPOINT").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let payload = r#"{ "a" : 1.50, "a":2 }"#;

    let batch = batch_of(position, vec![entry(10, payload, &[1])]);
    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    let [post] = &outcome.posts[..] else { panic!("{:?}", outcome.posts) };
    assert_eq!(post.payload.as_bytes(), payload.as_bytes());
    assert_eq!(post.key.to_string(), format!("{INBOX}-10-1"));
    let kept: Vec<u8> = setup.test.value("SELECT payload FROM outbox").await;
    assert_eq!(kept, payload.as_bytes());
    assert_eq!(setup.count("SELECT message_id FROM outbox").await, 1);
    assert_eq!(setup.rules.gauge.waiting(1), 1);
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, 0);
}

async fn full_outbox_makes_dead_letters(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "POST_ENDPOINT").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let entries = (0..OUTBOX_BOUND + 2).map(|n| entry(n, r#"{"a":1}"#, &[1])).collect();

    lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();

    assert_eq!(setup.count("SELECT COUNT(*) FROM outbox").await, OUTBOX_BOUND.cast_signed());
    let numbers: Vec<i64> = setup
        .test
        .column("SELECT message_id FROM dead_letters WHERE reason = 'outbox_full' ORDER BY id")
        .await;
    assert_eq!(numbers, [OUTBOX_BOUND.cast_signed() + 1, OUTBOX_BOUND.cast_signed() + 2]);
}

/// The numbers in `data` with their codes, and those waiting or dead.
async fn assert_rows_and_posts_agree(setup: &Setup, expected: i64) {
    let numbers = async |sql: &str| setup.test.column::<i64>(sql).await;
    let stored =
        numbers("SELECT DISTINCT last_msg_id FROM data WHERE flow_code = 'F' ORDER BY last_msg_id").await;
    let posts = "SELECT message_id FROM outbox WHERE flow_id = 1 UNION ALL \
                 SELECT message_id FROM dead_letters WHERE reason = 'outbox_full' ORDER BY message_id";
    assert_eq!(stored, (1..=expected).collect::<Vec<_>>());
    assert_eq!(numbers(posts).await, stored);
    assert_eq!(setup.count("SELECT last_msg_id FROM flows WHERE id = 1").await, expected);
}

async fn set_also_post(setup: &Setup) {
    setup.test.execute("UPDATE flows SET options = '{\"also_post\": true}' WHERE id = 1").await;
}

async fn also_posted_messages_are_in_both_tables(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    set_also_post(&setup).await;
    setup.refuse_the_value("poison").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    // The second message is refused by the database after it was numbered in an attempt that is rolled back.
    let payloads = [r#"{"a":1,"b":2}"#, r#"{"a":"poison"}"#, r#"{"a":"\ud83d"}"#];
    let valid = (3..OUTBOX_BOUND + 5).map(|_| r#"{"a":1}"#);
    let entries = (0..).zip(payloads.into_iter().chain(valid)).map(|(n, payload)| entry(n, payload, &[1]));

    let outcome = lane.process(&batch_of(position, entries.collect()), &setup.observer).await.unwrap();

    assert_eq!(outcome.posts.len() as u64, OUTBOX_BOUND);
    assert_eq!(setup.rules.gauge.waiting(1), OUTBOX_BOUND);
    assert_rows_and_posts_agree(&setup, OUTBOX_BOUND.cast_signed() + 3).await;
    let reasons: Vec<String> =
        setup.test.column("SELECT reason FROM dead_letters ORDER BY inbox_offset").await;
    let full = "outbox_full";
    assert_eq!(reasons, ["refused_by_database", "half_surrogate_pair", full, full, full]);
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters WHERE message_id IS NULL").await, 2);

    // The action and the URL decide at the next message.
    let process =
        async |offset| process_flow_message(&setup.database, &setup.rules, 1, record(offset, "{}")).await;
    setup.test.execute("UPDATE flows SET action = 'POST_ENDPOINT'").await;
    let error = process(1000).await.unwrap_err().to_string();
    assert!(error.contains("options.also_post: is for flows with the action STORE_DB"), "{error}");
    setup.test.execute("UPDATE flows SET action = 'STORE_DB', endpoint_url = NULL").await;
    let error = process(1001).await.unwrap_err().to_string();
    assert!(error.contains("the flow has no endpoint_url"), "{error}");
}

async fn rolled_back_batch_leaves_neither_row_nor_post(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    set_also_post(&setup).await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let mut other = setup.lane();
    let newer = other.open(&setup.observer).await.position;
    let batch = |position| batch_of(position, (0..3).map(|n| entry(n, r#"{"a":1}"#, &[1])).collect());
    lane.process(&batch(position), &setup.observer).await.unwrap_err();
    for table in ["data", "outbox", "dead_letters"] {
        assert_eq!(setup.count(&format!("SELECT COUNT(*) FROM {table}")).await, 0, "{table}");
    }
    other.process(&batch(newer), &setup.observer).await.unwrap();
    assert_rows_and_posts_agree(&setup, 3).await;
}

async fn an_unreadable_payload_is_answered_for_once(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let not_ours = entry(10, "[1]", &[1]);
    let ours = BatchEntry { reports_invalid_payload: true, ..entry(11, "[1]", &[1]) };

    let outcome = lane.process(&batch_of(position, vec![not_ours, ours]), &setup.observer).await.unwrap();

    assert_eq!(outcome.results.len(), 1);
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 1);
    assert_eq!(setup.count("SELECT inbox_offset FROM dead_letters WHERE flow_id IS NULL").await, 11);
}

async fn the_batch_of_one_does_the_same(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.refuse_the_value("poison").await;
    let process =
        |offset, payload| process_flow_message(&setup.database, &setup.rules, 1, record(offset, payload));

    let stored = process(1, r#"{"a":1}"#).await.unwrap();
    let expected =
        ProcessResult { flow_code: "F".into(), message_id: 1, action: Action::StoreDb, inbox_offset: 1 };
    assert_eq!(stored, expected);
    assert!(matches!(
        process(2, r#"{"a":"poison"}"#).await,
        Err(ProcessMessageError::Message(ProcessError::Rejected(_)))
    ));
    assert!(matches!(
        process(3, "no JSON").await,
        Err(ProcessMessageError::Message(ProcessError::Rejected(_)))
    ));
    assert_eq!(process(4, r#"{"a":2}"#).await.unwrap().message_id, 2);
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 2);
}
