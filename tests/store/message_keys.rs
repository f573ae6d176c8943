//! Producers' keys on real databases: a repeated message counts once, and no other message is lost.

#![allow(clippy::print_stdout, clippy::cast_precision_loss, reason = "the measurement")]

use std::sync::Arc;
use std::time::Duration;

use crate::batches::{INBOX, KEYS_KNOWN_FOR, Setup, batch_of, entry, record};
use crate::database::TestDatabase;
use mqtt_gateway::app::forget_expired_keys;
use mqtt_gateway::domain::batch::{BatchEntry, BatchOutcome, ProcessError};
use mqtt_gateway::domain::message::FlowId;
use mqtt_gateway::store::{
    Database, Dialect, LaneStore, ProcessMessageError, forget_keys, process_flow_message,
};
use sea_orm::ConnectionTrait;

const OTHER_INBOX: &str = "fedcba9876543210fedcba9876543210";

on_every_database! {
    repeated_key_takes_no_id
    keys_are_known_across_batches_and_workers
    concurrent_gateways_store_keys_once
    concurrent_gateways_number_without_gap
    each_flow_has_its_own_keys
    message_without_key_is_processed
    what_is_refused_leaves_its_key_free
    poison_leaves_its_key_free
    key_expires_after_its_time
    key_age_counts_between_receipts
    invalid_key_column_makes_dead_letters
    another_message_key_begins_anew
    repeated_post_is_not_queued
    full_outbox_keeps_message_key
    many_keys_of_many_flows_are_told_apart
    the_batch_of_one_knows_keys
    old_keys_are_forgotten_in_steps
    keys_of_messages_twice_as_old_as_they_are_known_are_forgotten
}

on_every_server! {
    key_cleanup_waits_for_no_other_row
    key_retaken_during_cleanup_stays
}

/// A scan of the table would come upon the locked row and wait.
async fn key_cleanup_waits_for_no_other_row(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    process(&setup, (0..4).map(|n| entry(n, &format!(r#"{{"k":{n}}}"#), &[1])).collect()).await;
    setup.test.execute("UPDATE message_keys SET written_at = '2020-01-02' WHERE message_id > 1").await;
    let other = Database::connect(setup.test.settings(), 1).await.unwrap();
    let holding = other.begin().await.unwrap();
    let index = if setup.test.dialect() == Dialect::MySql { "FORCE INDEX (PRIMARY)" } else { "" };
    let young = format!(
        "SELECT message_id FROM message_keys {index} WHERE flow_id = 1 AND key_hash = \
         (SELECT key_hash FROM message_keys WHERE message_id = 1) FOR UPDATE"
    );
    holding.execute_unprepared(&young).await.unwrap();

    forget_keys(&setup.database, Duration::from_hours(24)).await.unwrap();

    assert_eq!(setup.count("SELECT COUNT(*) FROM message_keys").await, 1);
    holding.rollback().await.unwrap();
}

/// The keys are old enough to be taken again and to be forgotten at the same time.
async fn key_retaken_during_cleanup_stays(test: TestDatabase) {
    const KEYS: u64 = 700;
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    let all = || (0..KEYS).map(|n| entry(n, &format!(r#"{{"k":{n}}}"#), &[1])).collect();
    process(&setup, all()).await;
    for round in 1..6 {
        setup
            .test
            .execute("UPDATE message_keys SET received_at = '2020-01-02', written_at = '2020-01-02'")
            .await;
        let forgetting = async {
            let mut passes = 0;
            while forget_keys(&setup.database, Duration::from_hours(24)).await.unwrap() {
                passes += 1;
            }
            passes
        };
        let (outcome, _) = tokio::join!(process(&setup, all()), forgetting);
        assert!(outcome.results.iter().all(Result::is_ok), "round {round}");
        let again = process(&setup, all()).await;
        assert!(numbers(&again).iter().all(|number| *number < 0), "round {round}");
    }
    assert_eq!(setup.observer.faults(), []);
}

/// A flow whose messages have their key at `/k`.
async fn keyed_flow(setup: &Setup, code: &str, action: &str) {
    setup.flow(code, action).await;
    setup.test.execute(&format!("UPDATE flows SET message_key = '/k' WHERE code = '{code}'")).await;
}

fn at(seconds: i64, entry: BatchEntry) -> BatchEntry {
    let mut record = Arc::unwrap_or_clone(entry.record);
    record.received_at_us += seconds * 1_000_000;
    BatchEntry { record: Arc::new(record), ..entry }
}

async fn process(setup: &Setup, entries: Vec<BatchEntry>) -> BatchOutcome {
    process_on(setup, setup.lane(), entries).await
}

async fn process_on(setup: &Setup, mut lane: LaneStore, entries: Vec<BatchEntry>) -> BatchOutcome {
    let position = lane.open(&setup.observer).await.position;
    let mut batch = batch_of(position, entries);
    batch.next = batch.from.max(batch.next) + 1;
    lane.process(&batch, &setup.observer).await.unwrap()
}

/// The number of each result. For a repetition the negative number of the first message, for other rejections 0.
fn numbers(outcome: &BatchOutcome) -> Vec<i64> {
    let number = |result: &Result<_, _>| match result {
        Ok(mqtt_gateway::domain::batch::ProcessResult { message_id, .. }) => *message_id,
        Err(ProcessError::Repeated { message_id, .. }) => -message_id,
        Err(_) => 0,
    };
    outcome.results.iter().map(number).collect()
}

async fn repeated_key_takes_no_id(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    let payloads = [r#"{"k":"a"}"#, r#"{"k":"b"}"#, r#"{"x":1,"k":"a"}"#, r#"{"k":"c"}"#, r#"{"k":"b"}"#];
    let outcome = process(&setup, (0..).zip(payloads).map(|(n, text)| entry(n, text, &[1])).collect()).await;

    assert_eq!(numbers(&outcome), [1, 2, -1, 3, -2]);
    let repeated = outcome.results[2].as_ref().unwrap_err();
    assert_eq!(repeated.to_string(), "flow F already has message 1 with the same key");
    let stored: Vec<String> = setup.test.column("SELECT attribute_value FROM data ORDER BY id").await;
    assert_eq!(stored, ["a", "b", "c"]);
    assert_eq!(setup.count("SELECT last_msg_id FROM flows").await, 3);
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 0);
    let known: Vec<i64> = setup.test.column("SELECT message_id FROM message_keys ORDER BY message_id").await;
    assert_eq!(known, [1, 2, 3]);
}

async fn keys_are_known_across_batches_and_workers(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let mut batch = batch_of(position, vec![entry(1, r#"{"k":7}"#, &[1])]);
    batch.next = 2;
    assert_eq!(numbers(&lane.process(&batch, &setup.observer).await.unwrap()), [1]);

    batch = batch_of(position, vec![entry(2, r#"{"k":7}"#, &[1])]);
    (batch.from, batch.next) = (2, 3);
    assert_eq!(numbers(&lane.process(&batch, &setup.observer).await.unwrap()), [-1]);

    let outcome = process(&setup, vec![entry(3, r#"{"k":7}"#, &[1]), entry(4, r#"{"k":"7"}"#, &[1])]).await;
    assert_eq!(numbers(&outcome), [-1, 2]);
}

async fn concurrent_gateways_store_keys_once(test: TestDatabase) {
    two_gateways_take_the_same_messages(test, 1, 200).await;
}

/// More than go into one statement with the lane.
async fn concurrent_gateways_number_without_gap(test: TestDatabase) {
    two_gateways_take_the_same_messages(test, 20, 100).await;
}

/// Each gateway has its own inbox with all messages. One of them begins at the end.
async fn two_gateways_take_the_same_messages(test: TestDatabase, flows: usize, messages: u64) {
    let setup = Setup::new(test).await;
    for number in 1..=flows {
        keyed_flow(&setup, &format!("F{number}"), "STORE_DB").await;
    }
    let ids: Vec<FlowId> = setup.test.column("SELECT id FROM flows ORDER BY id").await;
    let theirs = Arc::new(setup.rules_with(|rules| rules.inbox_id = OTHER_INBOX.into()));
    let their_lane = LaneStore::new(setup.database.clone(), theirs, 0);
    let run = async |mut lane: LaneStore, backwards: bool| {
        let mut position = lane.open(&setup.observer).await.position;
        let mut results = Vec::new();
        for from in (0..messages).step_by(10) {
            let number = |n| if backwards { messages - 1 - n } else { n };
            let entries =
                (from..from + 10).map(|n| entry(n, &format!(r#"{{"k":{}}}"#, number(n)), &ids)).collect();
            let mut batch = batch_of(position, entries);
            batch.next = from + 10;
            results.extend(numbers(&lane.process(&batch, &setup.observer).await.unwrap()));
            position.next_offset = batch.next;
        }
        // The outcomes of each message, by flow.
        let by_message = results.chunks(ids.len()).map(<[i64]>::to_vec);
        if backwards { by_message.rev().collect() } else { by_message.collect::<Vec<_>>() }
    };
    let (ours, theirs) = tokio::join!(run(setup.lane(), false), run(their_lane, true));

    for flow in 0..flows {
        let of_flow = |results: &[Vec<i64>]| results.iter().map(|made| made[flow]).collect::<Vec<_>>();
        let (ours, theirs) = (of_flow(&ours), of_flow(&theirs));
        let both = ours.iter().chain(&theirs).copied();
        let mut taken: Vec<i64> = both.filter(|number| *number > 0).collect();
        taken.sort_unstable();
        assert_eq!(taken, (1..=messages.cast_signed()).collect::<Vec<_>>());
        for (ours, theirs) in ours.iter().zip(theirs) {
            assert_eq!(*ours, -theirs, "of two copies one is stored, and the other names it");
        }
    }
    let stored = "SELECT COUNT(DISTINCT attribute_value) FROM data";
    assert_eq!(setup.count(stored).await, messages.cast_signed());
    let rows = i64::try_from(flows).unwrap() * messages.cast_signed();
    assert_eq!(setup.count("SELECT COUNT(*) FROM data").await, rows);
}

async fn each_flow_has_its_own_keys(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "A", "STORE_DB").await;
    setup.flow("B", "STORE_DB").await;
    keyed_flow(&setup, "C", "STORE_DB").await;
    let entries = (0..2).map(|n| entry(n, r#"{"k":1}"#, &[1, 2, 3])).collect();
    assert_eq!(numbers(&process(&setup, entries).await), [1, 1, 1, -1, 2, -1]);
}

async fn message_without_key_is_processed(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    let payloads =
        [r#"{"a":1}"#, r#"{"a":1}"#, r#"{"k":null}"#, r#"{"k":null}"#, r#"{"k":""}"#, r#"{"k":""}"#];
    let outcome = process(&setup, (0..).zip(payloads).map(|(n, text)| entry(n, text, &[1])).collect()).await;
    assert_eq!(numbers(&outcome), [1, 2, 3, 4, 5, 6]);
    assert_eq!(setup.count("SELECT COUNT(*) FROM message_keys").await, 0);
}

async fn what_is_refused_leaves_its_key_free(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    setup.test.execute(r#"UPDATE flows SET payload_schema = '{"v": "int"}'"#).await;
    let payloads = [r#"{"k":1,"v":"x"}"#, r#"{"k":1,"v":2}"#, r#"{"k":1,"v":3}"#, r#"{"k":1,"v":"x"}"#];
    let outcome = process(&setup, (0..).zip(payloads).map(|(n, text)| entry(n, text, &[1])).collect()).await;
    assert_eq!(numbers(&outcome), [0, 1, -1, -1]);
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 1, "a repetition is not refused");
}

async fn poison_leaves_its_key_free(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    setup.refuse_the_value("poison").await;
    // Every key comes twice; of 33 and 77 the first is poison.
    let payload = |n: u64| {
        let value = if n == 33 || n == 77 { "poison" } else { "good" };
        format!(r#"{{"k":{},"v":"{value}"}}"#, n % 100)
    };
    let outcome = process(&setup, (0..200).map(|n| entry(n, &payload(n), &[1])).collect()).await;

    let numbers = numbers(&outcome);
    assert_eq!((numbers[33], numbers[77]), (0, 0));
    assert_eq!((numbers[133], numbers[177]), (99, 100));
    assert_eq!(numbers.iter().filter(|number| **number > 0).count(), 100);
    assert_eq!(numbers.iter().filter(|number| **number < 0).count(), 98);
    assert_eq!(
        setup.count("SELECT COUNT(*) FROM dead_letters WHERE reason = 'refused_by_database'").await,
        2
    );
    assert_eq!(setup.count("SELECT COUNT(*) FROM message_keys").await, 100);
    assert_eq!(setup.count("SELECT MAX(last_msg_id) FROM data").await, 100);
}

async fn key_expires_after_its_time(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    let hour = KEYS_KNOWN_FOR.as_secs().cast_signed();
    let same = |n, seconds| at(seconds, entry(n, r#"{"k":1}"#, &[1]));
    assert_eq!(numbers(&process(&setup, vec![same(1, 0), same(2, hour - 1)]).await), [1, -1]);
    // The repetition did not extend it, and the next message takes the key again.
    assert_eq!(numbers(&process(&setup, vec![same(3, hour), same(4, 2 * hour - 1)]).await), [2, -2]);
    assert_eq!(numbers(&process(&setup, vec![same(5, 2 * hour - 1), same(6, 2 * hour)]).await), [-2, 3]);
    assert_eq!(setup.count("SELECT message_id FROM message_keys").await, 3);
}

/// Of two gateways, the one whose message came first may process it last.
async fn key_age_counts_between_receipts(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    let hour = KEYS_KNOWN_FOR.as_secs().cast_signed();
    let same = |n, seconds| at(seconds, entry(n, r#"{"k":1}"#, &[1]));
    assert_eq!(numbers(&process(&setup, vec![same(1, 0)]).await), [1]);
    assert_eq!(numbers(&process(&setup, vec![same(2, 1 - hour)]).await), [-1]);
    // A clock that was an hour fast for a moment, or more: the key is not kept for all that time.
    assert_eq!(
        numbers(&process(&setup, vec![same(3, 1_000 * hour), same(4, 0), same(5, 1)]).await),
        [2, 3, -3]
    );
}

async fn invalid_key_column_makes_dead_letters(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.test.execute("UPDATE flows SET message_key = 'k'").await;
    let outcome = process(&setup, vec![entry(1, r#"{"k":1}"#, &[1])]).await;
    assert_eq!(numbers(&outcome), [0]);
    let reason: String = setup.test.value("SELECT reason FROM dead_letters").await;
    assert_eq!(reason, "unusable_message_key");
    let detail: String = setup.test.value("SELECT detail FROM dead_letters").await;
    assert!(detail.contains(r#"message_key "k" is neither a JSON pointer"#), "{detail}");
}

async fn another_message_key_begins_anew(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    let same = |n| entry(n, r#"{"k":1,"l":1}"#, &[1]);
    assert_eq!(numbers(&process(&setup, vec![same(1)]).await), [1]);
    setup.test.execute("UPDATE flows SET message_key = '/l'").await;
    assert_eq!(numbers(&process(&setup, vec![same(2), same(3)]).await), [2, -2]);
    setup.test.execute("UPDATE flows SET message_key = NULL").await;
    assert_eq!(numbers(&process(&setup, vec![same(4), same(5)]).await), [3, 4]);
    setup.test.execute("UPDATE flows SET message_key = '/k'").await;
    assert_eq!(numbers(&process(&setup, vec![same(6)]).await), [-1]);
}

async fn repeated_post_is_not_queued(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "POST_ENDPOINT").await;
    let outcome = process(&setup, (0..3).map(|n| entry(n, r#"{"k":1}"#, &[1])).collect()).await;
    assert_eq!(numbers(&outcome), [1, -1, -1]);
    assert_eq!(outcome.posts.len(), 1);
    assert_eq!(setup.count("SELECT COUNT(*) FROM outbox").await, 1);
    assert_eq!(setup.rules.gauge.waiting(1), 1);
}

/// It has its number, and the dead letter goes back into the outbox with it.
async fn full_outbox_keeps_message_key(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "POST_ENDPOINT").await;
    (0..crate::batches::OUTBOX_BOUND).for_each(|_| setup.rules.gauge.add(1, 0));
    let outcome = process(&setup, (0..2).map(|n| entry(n, r#"{"k":1}"#, &[1])).collect()).await;
    assert_eq!(numbers(&outcome), [0, -1]);
    assert_eq!(setup.count("SELECT message_id FROM dead_letters WHERE reason = 'outbox_full'").await, 1);
}

async fn many_keys_of_many_flows_are_told_apart(test: TestDatabase) {
    const FLOWS: i64 = 40;
    let setup = Setup::new(test).await;
    for flow in 1..=FLOWS {
        keyed_flow(&setup, &format!("F{flow}"), "STORE_DB").await;
    }
    let all: Vec<FlowId> = (1..=FLOWS).collect();
    let entries =
        |from: u64| (from..from + 60).map(|n| entry(n, &format!(r#"{{"k":{}}}"#, n % 40), &all)).collect();
    for (outcome, new) in [(process(&setup, entries(0)).await, 40), (process(&setup, entries(60)).await, 0)] {
        let taken = outcome.results.iter().filter(|result| result.is_ok()).count();
        assert_eq!((taken, outcome.results.len()), (new * 40, 60 * 40));
    }
    assert_eq!(setup.count("SELECT COUNT(*) FROM message_keys").await, 40 * FLOWS);
    assert_eq!(setup.count("SELECT COUNT(*) FROM flows WHERE last_msg_id = 40").await, FLOWS);
}

async fn the_batch_of_one_knows_keys(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("F", "STORE_DB").await;
    setup.test.execute("UPDATE flows SET message_key = 'property:id'").await;
    let process = |offset, id: &str| {
        let mut record = record(offset, r#"{"a":1}"#);
        record.delivery.user_properties = vec![("id".to_owned(), id.to_owned())];
        process_flow_message(&setup.database, &setup.rules, 1, record)
    };
    assert_eq!(process(1, "x").await.unwrap().message_id, 1);
    let repeated = ProcessError::Repeated { flow_code: "F".into(), message_id: 1, inbox_offset: 2 };
    let error = process(2, "x").await.unwrap_err();
    assert!(!error.is_retryable());
    assert!(matches!(error, ProcessMessageError::Message(error) if error == repeated));
    assert_eq!(process(3, "y").await.unwrap().message_id, 2);
}

async fn old_keys_are_forgotten_in_steps(test: TestDatabase) {
    let setup = Setup::new(test).await;
    keyed_flow(&setup, "F", "STORE_DB").await;
    keyed_flow(&setup, "G", "STORE_DB").await;
    let entries =
        |from: u64| (from..from + 700).map(|n| entry(n, &format!(r#"{{"k":{n}}}"#), &[1, 2])).collect();
    process(&setup, entries(0)).await;
    let day = Duration::from_hours(24);
    assert!(!forget_keys(&setup.database, day).await.unwrap(), "there is nothing old");
    assert_eq!(setup.count("SELECT COUNT(*) FROM message_keys").await, 1_400);

    setup.test.execute("UPDATE message_keys SET written_at = '2020-01-02 03:04:05.000000'").await;
    process(&setup, entries(1_000)).await;
    let mut steps = 1;
    while forget_keys(&setup.database, day).await.unwrap() {
        steps += 1;
    }

    assert!(steps <= 3, "{steps}");
    assert_eq!(setup.count("SELECT COUNT(*) FROM message_keys WHERE written_at < '2021-01-01'").await, 0);
    assert_eq!(setup.count("SELECT COUNT(*) FROM message_keys").await, 1_400);
    assert_eq!(numbers(&process(&setup, vec![entry(3_000, r#"{"k":1000}"#, &[1])]).await), [-701]);
    assert_eq!(numbers(&process(&setup, vec![entry(3_001, r#"{"k":0}"#, &[1])]).await), [1_401]);
    assert_eq!(setup.rules.processing.inbox_id.as_ref(), INBOX);
}

async fn keys_of_messages_twice_as_old_as_they_are_known_are_forgotten(test: TestDatabase) {
    let setup = Setup::new(test).await;
    let (now, young) = (setup.test.seconds_from_now(0), setup.test.seconds_from_now(-47 * 3600));
    // More than are deleted at once.
    let hash = |n: usize| setup.test.bytes(&format!("{n:032x}"));
    let old = (0..1_300).map(|n| format!("(1, {}, {n}, {now}, '2020-01-02 03:04:05')", hash(n)));
    let kept = format!("(2, {}, 7, {now}, {young})", hash(0));
    let rows: Vec<String> = old.chain([kept]).collect();
    setup.test.execute(&format!("INSERT INTO message_keys VALUES {}", rows.join(", "))).await;

    let forgetting =
        forget_expired_keys(setup.test.settings().clone(), Duration::from_hours(24), Arc::default());
    let old_are_gone = async {
        while setup.count("SELECT COUNT(*) FROM message_keys").await > 1 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(Duration::from_mins(1), async {
        tokio::select! {
            () = forgetting => unreachable!("it goes on as long as the process"),
            () = old_are_gone => {}
        }
    });
    waited.await.expect("old keys are gone");
    assert_eq!(setup.count("SELECT message_id FROM message_keys").await, 7);
}

mod cost {
    use std::time::{Duration, Instant};

    use super::{Setup, TestDatabase, batch_of, entry};

    const FLOWS: u64 = 16;
    const BATCH: u64 = 1_024;
    const ROUNDS: u64 = 30;

    #[tokio::test]
    #[ignore = "measures: cargo test --test store message_keys::cost -- --ignored --nocapture --test-threads=1"]
    async fn on_mariadb() {
        let many = "SELECT 1 + seq % 16, UNHEX(MD5(seq)), seq, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) \
                    FROM seq_1_to_1000000";
        measure(TestDatabase::mariadb().await, many).await;
    }

    #[tokio::test]
    #[ignore = "measures: cargo test --test store message_keys::cost -- --ignored --nocapture --test-threads=1"]
    async fn on_sqlite() {
        let many = "WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM s WHERE n < 1000000) \
                    SELECT 1 + n % 16, randomblob(16), n, datetime('now'), datetime('now') FROM s";
        measure(TestDatabase::sqlite(), many).await;
    }

    /// Each round processes a batch in every way, one after the other, so that other load of the machine
    /// affects all of them.
    async fn measure(test: TestDatabase, many: &str) {
        let setup = Setup::new(test).await;
        for flow in 1..=2 * FLOWS {
            setup.flow(&format!("F{flow}"), "STORE_DB").await;
        }
        setup.test.execute(&format!("UPDATE flows SET message_key = '/k' WHERE id <= {FLOWS}")).await;
        compare(&setup, "a fresh table", 0).await;
        setup.test.execute(&format!("INSERT INTO message_keys {many}")).await;
        compare(&setup, "a table with a million keys", ROUNDS * BATCH).await;
    }

    async fn compare(setup: &Setup, table: &str, first_key: u64) {
        let (mut without, mut with, mut repeated) = (Vec::new(), Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            let keys = first_key + round * BATCH;
            without.push(take(setup, keys, FLOWS).await);
            with.push(take(setup, keys, 0).await);
            repeated.push(take(setup, keys, 0).await);
        }
        let plain = microseconds(without);
        for (what, times) in [("new keys", with), ("known keys", repeated)] {
            let each = microseconds(times);
            println!("{table}, {what}: {each:.1} µs a message, without keys {plain:.1}: {:.2}", each / plain);
        }
    }

    /// One batch of messages of three attributes, spread over the flows above `flows_from`.
    async fn take(setup: &Setup, first_key: u64, flows_from: u64) -> Duration {
        let mut lane = setup.lane();
        let position = lane.open(&setup.observer).await.position;
        let message = |n: u64| {
            let flow = flows_from + 1 + n % FLOWS;
            let payload = format!(r#"{{"k":{},"temperature":21.5,"unit":"C"}}"#, first_key + n);
            entry(position.next_offset + n, &payload, &[flow.cast_signed()])
        };
        let mut batch = batch_of(position, (0..BATCH).map(message).collect());
        batch.next = position.next_offset + BATCH;
        let begun = Instant::now();
        lane.process(&batch, &setup.observer).await.unwrap();
        begun.elapsed()
    }

    /// Of the round in the middle, for one message.
    fn microseconds(mut times: Vec<Duration>) -> f64 {
        times.sort_unstable();
        times[times.len() / 2].as_secs_f64() * 1e6 / BATCH as f64
    }
}
