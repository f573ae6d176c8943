//! Whether it is the message's fault or the database's: constraints and triggers of a site, identifiers that run out.

use mqtt_gateway::domain::batch::{Batch, BatchOutcome, ProcessError};
use mqtt_gateway::domain::message::FlowId;
use mqtt_gateway::store::{Dialect, LaneStore, ProcessMessageError, process_flow_message};

use crate::batches::{Setup, batch_of, entry, record};
use crate::database::TestDatabase;

on_every_database! {
    unique_key_violation_is_dead_letter
    foreign_key_violation_is_dead_letter
    foreign_key_without_null_uses_stored_row
    trigger_duplicate_is_dead_letter
    post_whose_key_is_in_the_outbox_waits
    batch_of_one_is_decided_the_same_way
}

on_every_server! {
    trigger_division_is_dead_letter
    rows_that_find_no_identifier_wait
}

/// A lane with the flows `A` and `B`, and a batch for it. All messages were received at the same moment.
async fn lane_with(setup: &Setup, messages: &[(&str, &[FlowId])]) -> (LaneStore, Batch) {
    setup.flow("A", "STORE_DB").await;
    setup.flow("B", "STORE_DB").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let entries = (0..).zip(messages).map(|(offset, (payload, flows))| entry(offset, payload, flows));
    let batch = batch_of(position, entries.collect());
    (lane, batch)
}

/// Asserts that exactly these messages are dead letters, and that the numbers of both flows have no gap.
async fn assert_refused(setup: &Setup, outcome: &BatchOutcome, offsets: &[i64]) {
    let letters: Vec<i64> = setup
        .test
        .column("SELECT inbox_offset FROM dead_letters WHERE reason = 'refused_by_database' ORDER BY id")
        .await;
    assert_eq!(letters, offsets);
    let others = "SELECT COUNT(*) FROM dead_letters WHERE reason <> 'refused_by_database'";
    assert_eq!(setup.count(others).await, 0);
    for code in ["A", "B"] {
        let numbers: Vec<i64> = numbers(outcome, code);
        let consecutive = (1..).zip(&numbers).all(|(expected, number)| expected == *number);
        assert!(consecutive, "{code}: {numbers:?}");
        let stored = format!("SELECT DISTINCT last_msg_id FROM data WHERE flow_code = '{code}' ORDER BY 1");
        assert_eq!(setup.test.column::<i64>(&stored).await, numbers, "{code}");
    }
    assert_eq!(setup.observer.failures(), 0, "nobody waited");
}

fn numbers(outcome: &BatchOutcome, code: &str) -> Vec<i64> {
    let numbered = outcome.results.iter().flatten().filter(|result| *result.flow_code == *code);
    numbered.map(|result| result.message_id).collect()
}

async fn unique_key_violation_is_dead_letter(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.test.execute("CREATE UNIQUE INDEX once ON data (flow_code, attribute_name, received_at)").await;
    let messages: [(&str, &[FlowId]); 4] = [
        (r#"{"a":1}"#, &[1, 2]),
        (r#"{"a":2}"#, &[1]),
        (r#"{"b":1,"c":1,"d":1}"#, &[1, 2]),
        (r#"{"e":1}"#, &[2]),
    ];
    let (mut lane, batch) = lane_with(&setup, &messages).await;

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_refused(&setup, &outcome, &[1]).await;
    assert_eq!((numbers(&outcome, "A").len(), numbers(&outcome, "B").len()), (2, 3));
}

/// The table as it is, but for `attribute_name`.
async fn refer_to_names(setup: &Setup, null: &str) {
    let test = &setup.test;
    test.execute("CREATE TABLE names (n VARCHAR(255) NOT NULL PRIMARY KEY); INSERT INTO names VALUES ('a')")
        .await;
    match test.dialect() {
        Dialect::MySql => {
            let column = format!("ALTER TABLE data MODIFY attribute_name VARCHAR(255) {null}");
            test.execute(&format!(
                "{column}; ALTER TABLE data ADD FOREIGN KEY (attribute_name) REFERENCES names (n)"
            ))
            .await;
        }
        Dialect::Postgres => {
            if null == "NOT NULL" {
                test.execute("ALTER TABLE data ALTER attribute_name SET NOT NULL").await;
            }
            test.execute("ALTER TABLE data ADD FOREIGN KEY (attribute_name) REFERENCES names (n)").await;
        }
        Dialect::Sqlite => {
            test.execute(&format!(
                "DROP TABLE data; CREATE TABLE data (id INTEGER NOT NULL PRIMARY KEY, received_at DATETIME NOT NULL, \
                 flow_code VARCHAR(100), attribute_name VARCHAR(255) {null} REFERENCES names (n), \
                 attribute_value TEXT, last_msg_id INTEGER)"
            ))
            .await;
        }
    }
}

const WITH_A_NAME_THAT_IS_UNKNOWN: [(&str, &[FlowId]); 3] =
    [(r#"{"a":1}"#, &[1, 2]), (r#"{"unknown":2}"#, &[1]), (r#"{"a":3}"#, &[1, 2])];

async fn foreign_key_violation_is_dead_letter(test: TestDatabase) {
    let setup = Setup::new(test).await;
    refer_to_names(&setup, "NULL").await;
    let (mut lane, batch) = lane_with(&setup, &WITH_A_NAME_THAT_IS_UNKNOWN).await;

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_refused(&setup, &outcome, &[1]).await;
}

async fn foreign_key_without_null_uses_stored_row(test: TestDatabase) {
    let setup = Setup::new(test).await;
    refer_to_names(&setup, "NOT NULL").await;
    let (mut lane, batch) = lane_with(&setup, &WITH_A_NAME_THAT_IS_UNKNOWN).await;

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_refused(&setup, &outcome, &[1]).await;
}

/// The site keeps the latest value of each flow, and does not expect a second one.
async fn trigger_duplicate_is_dead_letter(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.test.execute("CREATE TABLE latest (code VARCHAR(100) NOT NULL PRIMARY KEY, value TEXT)").await;
    let fill = "INSERT INTO latest VALUES (NEW.flow_code, NEW.attribute_value)";
    let trigger = match setup.test.dialect() {
        Dialect::MySql => format!("CREATE TRIGGER fill AFTER INSERT ON data FOR EACH ROW {fill}"),
        Dialect::Sqlite => format!("CREATE TRIGGER fill AFTER INSERT ON data BEGIN {fill}; END"),
        Dialect::Postgres => format!(
            "CREATE FUNCTION fill() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN {fill}; RETURN NEW; END $$; \
             CREATE TRIGGER fill AFTER INSERT ON data FOR EACH ROW EXECUTE FUNCTION fill()"
        ),
    };
    setup.test.execute(&trigger).await;
    let messages: [(&str, &[FlowId]); 3] = [(r#"{"a":1}"#, &[1]), (r#"{"a":2}"#, &[1]), (r#"{"a":3}"#, &[2])];
    let (mut lane, batch) = lane_with(&setup, &messages).await;

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_refused(&setup, &outcome, &[1]).await;
}

async fn trigger_division_is_dead_letter(test: TestDatabase) {
    let setup = Setup::new(test).await;
    let trigger = match setup.test.dialect() {
        Dialect::MySql | Dialect::Sqlite => {
            "CREATE TRIGGER inverse BEFORE INSERT ON data FOR EACH ROW \
             SET NEW.attribute_value = 100 / CAST(NEW.attribute_value AS SIGNED)"
        }
        Dialect::Postgres => {
            "CREATE FUNCTION inverse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN \
             NEW.attribute_value := 100 / CAST(NEW.attribute_value AS INTEGER); RETURN NEW; END $$; \
             CREATE TRIGGER inverse BEFORE INSERT ON data FOR EACH ROW EXECUTE FUNCTION inverse()"
        }
    };
    setup.test.execute(trigger).await;
    let messages: [(&str, &[FlowId]); 3] =
        [(r#"{"a":1}"#, &[1, 2]), (r#"{"a":0}"#, &[2]), (r#"{"a":2}"#, &[1, 2])];
    let (mut lane, batch) = lane_with(&setup, &messages).await;

    let outcome = lane.process(&batch, &setup.observer).await.unwrap();

    assert_refused(&setup, &outcome, &[1]).await;
}

/// There is room for one more row, and the message has three: one harmless row would go.
async fn rows_that_find_no_identifier_wait(test: TestDatabase) {
    let setup = Setup::new(test).await;
    let last = setup.rules.processing.limits.max_data_id - 1;
    let now = setup.test.seconds_from_now(0);
    setup.test.execute(&format!("INSERT INTO data (id, received_at) VALUES ({last}, {now})")).await;
    if setup.test.dialect() == Dialect::Postgres {
        // The sequence of a SERIAL ends with its column. One whose type was not changed with the column does not.
        setup
            .test
            .execute(&format!("ALTER SEQUENCE data_id_seq AS BIGINT; SELECT setval('data_id_seq', {last})"))
            .await;
    }
    let (mut lane, batch) =
        lane_with(&setup, &[(r#"{"a":1,"b":2,"c":3}"#, &[1]), (r#"{"a":1}"#, &[2])]).await;

    let widen = match setup.test.dialect() {
        Dialect::Postgres => "ALTER TABLE data ALTER id TYPE BIGINT",
        Dialect::MySql | Dialect::Sqlite => "ALTER TABLE data MODIFY id BIGINT NOT NULL AUTO_INCREMENT",
    };

    let processing = lane.process(&batch, &setup.observer);
    tokio::pin!(processing);
    for attempt in 1..=2 {
        tokio::select! {
            done = &mut processing => panic!("at attempt {attempt} nothing could be stored: {done:?}"),
            () = setup.observer.failed_once() => {}
        }
    }
    setup.test.execute(widen).await;
    let outcome = processing.await.unwrap();

    assert!(outcome.results.iter().all(Result::is_ok), "{:?}", outcome.results);
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 0);
    assert_eq!(setup.count("SELECT COUNT(*) FROM data WHERE flow_code = 'A'").await, 3);
}

/// Each attempt takes ids from the sequence, so retries get past the ids in use.
#[tokio::test]
async fn identifiers_that_were_set_back_are_waited_for() {
    for in_use in 1..=12 {
        let setup = Setup::new(TestDatabase::postgres().await).await;
        let now = setup.test.seconds_from_now(0);
        let rows = vec![format!("({now})"); in_use].join(", ");
        setup.test.execute(&format!("INSERT INTO data (received_at) VALUES {rows}")).await;
        setup.test.execute("ALTER SEQUENCE data_id_seq RESTART WITH 1").await;
        let (mut lane, batch) = lane_with(&setup, &[(r#"{"a":1}"#, &[1])]).await;

        let outcome = lane.process(&batch, &setup.observer).await.unwrap();

        assert!(outcome.results.iter().all(Result::is_ok), "{in_use}: {:?}", outcome.results);
    }
}

/// The lane's row was set back, so the message comes again while it still waits to be posted.
async fn post_whose_key_is_in_the_outbox_waits(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("POSTS", "POST_ENDPOINT").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let batch = batch_of(position, vec![entry(10, r#"{"a":1}"#, &[1])]);
    lane.process(&batch, &setup.observer).await.unwrap();
    setup.test.execute("UPDATE inbox_offsets SET next_offset = 0").await;

    let processing = async { lane.process(&batch, &setup.observer).await.unwrap() };
    let posting = async {
        setup.observer.failed_once().await;
        setup.test.execute("DELETE FROM outbox").await;
    };
    let (outcome, ()) = tokio::join!(processing, posting);

    assert!(outcome.results.iter().all(Result::is_ok), "{:?}", outcome.results);
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 0);
}

async fn batch_of_one_is_decided_the_same_way(test: TestDatabase) {
    let setup = Setup::new(test).await;
    setup.flow("A", "STORE_DB").await;
    setup.test.execute("CREATE UNIQUE INDEX once ON data (flow_code, attribute_name, received_at)").await;
    let process =
        |offset, payload| process_flow_message(&setup.database, &setup.rules, 1, record(offset, payload));

    assert_eq!(process(1, r#"{"a":1}"#).await.unwrap().message_id, 1);
    assert!(matches!(
        process(2, r#"{"a":2}"#).await,
        Err(ProcessMessageError::Message(ProcessError::Rejected(_)))
    ));
    setup.refuse_every_row().await;
    let refused = process(3, r#"{"b":3}"#).await.unwrap_err();
    assert!(refused.is_retryable());
    let mut chain = std::iter::successors(Some(&refused as &dyn std::error::Error), |error| error.source());
    assert!(chain.any(<dyn std::error::Error>::is::<sea_orm::DbErr>), "keeps its source: {refused:?}");
    setup.lift_the_rule().await;
    assert_eq!(process(3, r#"{"b":3}"#).await.unwrap().message_id, 2);
    assert_eq!(setup.count("SELECT COUNT(*) FROM dead_letters").await, 1);
}
