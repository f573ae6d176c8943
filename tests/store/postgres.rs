//! Properties of `PostgreSQL` alone: sessions, errors, types and prepared statements, on a real server.

use std::time::Duration;

use crate::batches::{Setup, batch_of, entry};
use crate::database::TestDatabase;
use crate::refusals::{class_of, fault};
use mqtt_gateway::domain::batch::{Batch, BatchOutcome, ProcessError};
use mqtt_gateway::settings::{DatabaseSettings, Servers};
use mqtt_gateway::store::{
    Database, ErrorClass, LaneStore, StoreError, load_limits, migrate, plan, widen_ids,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};

/// With the tables of the service that came before, and ours.
async fn migrated() -> (TestDatabase, Database) {
    let test = TestDatabase::postgres().await;
    test.create_sqlalchemy_tables().await;
    let database = Database::connect(test.settings(), 2).await.unwrap();
    migrate(&database).await.unwrap();
    (test, database)
}

#[tokio::test]
async fn every_session_is_set_up() {
    let test = TestDatabase::postgres().await;
    let database = Database::connect_with(test.settings(), 2, Duration::from_secs(7)).await.unwrap();
    // At the same time, so that they are two connections.
    let (first, second) = (database.begin().await.unwrap(), database.begin().await.unwrap());
    for session in [first, second] {
        for (name, value) in [
            ("transaction_isolation", "read committed"),
            ("lock_timeout", "7s"),
            ("idle_in_transaction_session_timeout", "20s"),
            ("tcp_user_timeout", "20000"),
            ("plan_cache_mode", "force_custom_plan"),
            ("client_min_messages", "warning"),
            ("application_name", "mqtt-gateway"),
            ("TimeZone", "UTC"),
        ] {
            assert_eq!(setting(&session, name).await, value, "{name}");
        }
    }
}

/// Committed messages are deleted from the inbox, so commits must be durable.
#[tokio::test]
async fn commits_are_always_durable() {
    let test = TestDatabase::postgres().await;
    let DatabaseSettings::Postgres { name, .. } = test.settings() else { unreachable!() };
    for (preferred, used) in [("off", "on"), ("local", "local"), ("remote_apply", "remote_apply")] {
        test.execute(&format!("ALTER DATABASE {name} SET synchronous_commit = {preferred}")).await;
        let database = Database::connect(test.settings(), 1).await.unwrap();
        let session = database.begin().await.unwrap();
        assert_eq!(setting(&session, "synchronous_commit").await, used, "{preferred}");
    }
}

async fn setting(session: &DatabaseTransaction, name: &str) -> String {
    let sql = format!("SELECT current_setting('{name}')");
    let statement = Statement::from_string(session.get_database_backend(), sql);
    session.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}

#[tokio::test]
async fn a_password_may_hold_any_character() {
    let (test, _) = migrated().await;
    let user = test.create_user("p@ss:w/o rd#?%41$&'\"\\;=ü€").await;
    Database::connect(&user, 1).await.unwrap();
}

#[tokio::test]
async fn connection_error_hides_password() {
    let (test, _) = migrated().await;
    let mut wrong = test.create_user("secret").await;
    let DatabaseSettings::Postgres { password, .. } = &mut wrong else { unreachable!() };
    *password = "hush-hush".into();
    let mut nobody_listens = wrong.clone();
    let DatabaseSettings::Postgres { servers, .. } = &mut nobody_listens else { unreachable!() };
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    *servers = Servers::single("127.0.0.1", free);

    let denied = Database::connect(&wrong, 1).await.unwrap_err();
    assert!(denied.to_string().contains("password authentication failed"), "{denied}");
    assert_eq!(denied.class(), ErrorClass::Outage);
    let absent = Database::connect(&nobody_listens, 1).await.unwrap_err();
    assert_eq!(absent.class(), ErrorClass::ConnectionLost);
    for error in [denied, absent] {
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    }
}

#[tokio::test]
async fn refused_values_are_poison() {
    let (test, database) = migrated().await;
    test.execute(
        "ALTER TABLE data ADD CONSTRAINT no_red CHECK (attribute_value <> 'red'); \
         CREATE INDEX values ON data (attribute_value); \
         CREATE FUNCTION no_blue() RETURNS trigger LANGUAGE plpgsql AS \
         $$ BEGIN IF NEW.attribute_value = 'blue' THEN RAISE 'no blue'; END IF; RETURN NEW; END $$; \
         CREATE TRIGGER no_blue BEFORE INSERT ON data FOR EACH ROW EXECUTE FUNCTION no_blue()",
    )
    .await;
    let now = "statement_timestamp()";
    for (received_at, name, value, number) in [
        (now, "repeat('x', 256)", "''", "1"),
        (now, "'a'", "E'a\\000'", "1"),
        (now, "'a'", "'red'", "1"),
        (now, "'a'", "'blue'", "1"),
        (now, "'a'", "(SELECT string_agg(md5(n::text), '') FROM generate_series(1, 1000) AS n)", "1"),
        (now, "'a'", "''", "3000000000"),
        (now, "'a'", "''", "'seven'"),
        ("'no date'", "'a'", "''", "1"),
        ("NULL", "'a'", "''", "1"),
    ] {
        let sql = format!(
            "INSERT INTO data (received_at, attribute_name, attribute_value, last_msg_id) \
             VALUES ({received_at}, {name}, {value}, {number})"
        );
        assert_eq!(class_of(&database, &sql).await, ErrorClass::Poison, "{sql}");
    }
    test.execute("CREATE TABLE parts (n INT) PARTITION BY RANGE (n)").await;
    assert_eq!(class_of(&database, "INSERT INTO parts VALUES (7)").await, ErrorClass::Outage, "no partition");
}

#[tokio::test]
async fn locked_row_is_lock_timeout() {
    let (_test, database) = migrated().await;
    let holder = database.begin().await.unwrap();
    let lock = "SELECT id FROM mqtt_servers FOR UPDATE";
    holder.execute_unprepared(lock).await.unwrap();
    let waiter = database.begin().await.unwrap();
    waiter.execute_unprepared("SET lock_timeout = '1s'").await.unwrap();
    assert_eq!(fault(waiter.execute_unprepared(lock).await), ErrorClass::LockTimeout);
    waiter.rollback().await.unwrap();
    let at_once = database.begin().await.unwrap();
    assert_eq!(fault(at_once.execute_unprepared(&format!("{lock} NOWAIT")).await), ErrorClass::LockTimeout);
}

#[tokio::test]
async fn killed_connection_is_replaced() {
    let (test, database) = migrated().await;
    let session = database.begin().await.unwrap();
    let statement = Statement::from_string(session.get_database_backend(), "SELECT pg_backend_pid()");
    let row = session.query_one_raw(statement).await.unwrap().unwrap();
    let pid: i32 = row.try_get_by_index(0).unwrap();
    test.execute(&format!("SELECT pg_terminate_backend({pid}, 60000)")).await;
    assert_eq!(fault(session.execute_unprepared("SELECT 1").await), ErrorClass::ConnectionLost);
    drop(session);
    database.begin().await.unwrap().execute_unprepared("SELECT 1").await.unwrap();
}

#[tokio::test]
async fn limits_are_those_of_the_live_tables() {
    let (test, database) = migrated().await;
    let limits = load_limits(&database).await.unwrap();
    assert_eq!((limits.attribute_name_chars, limits.attribute_value_bytes), (255, None));
    assert_eq!((limits.max_message_id, limits.max_data_id), (i64::from(i32::MAX), i64::from(i32::MAX)));
    assert!(!limits.takes_nul);
    test.execute("ALTER TABLE data ALTER attribute_name TYPE VARCHAR(64), ALTER last_msg_id TYPE BIGINT")
        .await;
    let limits = load_limits(&database).await.unwrap();
    assert_eq!(limits.attribute_name_chars, 64);
    assert_eq!(limits.max_message_id, i64::from(i32::MAX), "flows.last_msg_id is still narrow");
}

#[tokio::test]
async fn new_tables_have_wide_ids_unpadded_texts() {
    let test = TestDatabase::postgres().await;
    migrate(&Database::connect(test.settings(), 1).await.unwrap()).await.unwrap();
    let odd: Vec<String> = test
        .column(
            "SELECT CAST(table_name || '.' || column_name AS TEXT) FROM information_schema.columns \
             WHERE table_schema = current_schema() AND (data_type = 'character' \
             OR (column_name LIKE '%id' AND data_type NOT IN ('bigint', 'character varying')))",
        )
        .await;
    assert_eq!(odd, Vec::<String>::new());
}

#[tokio::test]
async fn ids_and_sequences_are_widened_on_request() {
    let (test, database) = migrated().await;
    test.execute("ALTER TABLE flows ALTER last_msg_id SET DEFAULT 0").await;
    assert_eq!(plan(&database).await.unwrap().added, Vec::<String>::new(), "a start widens nothing");

    let widened = widen_ids(&database).await.unwrap().added;

    assert_eq!(
        widened,
        ["64 bits for data.id", "64 bits for data.last_msg_id", "64 bits for flows.last_msg_id"]
    );
    let declared: Vec<String> = test
        .column(
            "SELECT CONCAT_WS(' ', table_name, column_name, data_type, is_nullable, column_default) \
             FROM information_schema.columns WHERE table_schema = current_schema() \
             AND table_name IN ('data', 'flows') AND data_type LIKE '%int' OR data_type = 'integer' ORDER BY 1",
        )
        .await;
    let wide = [
        "data id bigint NO nextval('data_id_seq'::regclass)",
        "data last_msg_id bigint YES",
        "flows id integer NO nextval('flows_id_seq'::regclass)",
        "flows last_msg_id bigint YES 0",
    ];
    assert!(wide.iter().all(|column| declared.iter().any(|found| found == column)), "{declared:?}");
    test.execute("ALTER SEQUENCE data_id_seq RESTART WITH 5000000000").await;
    test.execute("INSERT INTO data (received_at) VALUES ('2026-01-01 00:00:00')").await;
    assert_eq!(test.value::<i64>("SELECT MAX(id) FROM data").await, 5_000_000_000);
    assert_eq!(widen_ids(&database).await.unwrap().to_string(), "nothing");
}

/// After a failed statement the server rejects all others of the transaction. The first error is reported.
#[tokio::test]
async fn missing_schema_right_is_named() {
    let (test, _) = migrated().await;
    let restricted = Database::connect(&test.create_user("secret").await, 1).await.unwrap();
    assert_eq!(migrate(&restricted).await.unwrap().to_string(), "nothing");
    test.execute("DROP TABLE dead_letters").await;
    let error = migrate(&restricted).await.unwrap_err();
    assert!(matches!(error, StoreError::Statement { doing: "adding to the schema", .. }), "{error}");
    assert!(error.to_string().contains("permission denied"), "{error}");
}

#[tokio::test]
async fn text_with_nul_becomes_dead_letter() {
    let setup = Setup::new(TestDatabase::postgres().await).await;
    setup.flow("STORES", "STORE_DB").await;
    setup.flow("POSTS", "POST_ENDPOINT").await;
    setup.flow("WANTS", "STORE_DB").await;
    setup.test.execute(r#"UPDATE flows SET payload_schema = '{"\u0000": "int"}' WHERE code = 'WANTS'"#).await;
    let payloads = [
        r#"{"a": "x\u0000y"}"#,
        r#"{"\u0000b": 1}"#,
        r#"{"nested": {"c": "\u0000"}}"#,
        r#"{"good": "\\u0000"}"#,
    ];

    let entries = payloads.iter().zip(0..).map(|(payload, n)| entry(n, payload, &[1, 2, 3])).collect();
    let outcome = process(&setup, entries).await;

    assert_eq!(setup.observer.failures(), 0, "nothing was tried that is bound to fail");
    let given = |code: &str| {
        let results = outcome.results.iter().filter_map(|result| result.as_ref().ok());
        results.filter(|result| &*result.flow_code == code).count()
    };
    assert_eq!((given("STORES"), given("POSTS"), given("WANTS")), (2, 4, 0));
    let stored: Vec<String> = setup.test.column("SELECT attribute_value FROM data ORDER BY id").await;
    assert_eq!(stored, [r#"{"c": "\u0000"}"#, r"\u0000"]);
    let kept = "SELECT payload FROM dead_letters WHERE reason = 'nul_character' ORDER BY id";
    assert_eq!(setup.test.column::<Vec<u8>>(kept).await, [payloads[0].as_bytes(), payloads[1].as_bytes()]);
    let said: Vec<String> =
        setup.test.column("SELECT detail FROM dead_letters WHERE reason = 'nul_character' ORDER BY id").await;
    assert!(said[0].contains("the attribute a holds"), "{said:?}");
    assert!(said[1].contains("the attribute \u{2400}b holds"), "{said:?}");
}

/// The server refuses a prepared statement whose columns have changed, and the driver would use it for ever.
#[tokio::test]
async fn altered_table_costs_one_attempt() {
    let setup = Setup::new(TestDatabase::postgres().await).await;
    setup.flow("F", "STORE_DB").await;
    let one_session = Database::connect(setup.test.settings(), 1).await.unwrap();
    let mut lane = LaneStore::new(one_session, setup.rules.clone(), 0);
    let position = lane.open(&setup.observer).await.position;
    for n in 0..2 {
        let next = position.next_offset + n;
        let batch =
            Batch { from: next, next: next + 1, ..batch_of(position, vec![entry(next, r#"{"a":1}"#, &[1])]) };
        assert!(lane.process(&batch, &setup.observer).await.unwrap().results.iter().all(Result::is_ok));
        setup.test.execute("ALTER TABLE flows ALTER code TYPE VARCHAR(120)").await;
    }
    assert_eq!(setup.observer.failures(), 1);
    assert_eq!(setup.count("SELECT last_msg_id FROM flows").await, 2);
}

/// A name may lead to another server once one has become a standby: here to the same, as new sessions see it.
#[tokio::test]
async fn read_only_session_is_replaced() {
    let setup = Setup::new(TestDatabase::postgres().await).await;
    setup.flow("F", "STORE_DB").await;
    let DatabaseSettings::Postgres { name, .. } = setup.test.settings() else { unreachable!() };
    let of_new_sessions = |access: &str| {
        format!(
            "BEGIN READ WRITE; ALTER DATABASE {name} SET default_transaction_read_only = {access}; COMMIT"
        )
    };
    setup.test.execute(&of_new_sessions("on")).await;
    let one_session = Database::connect(setup.test.settings(), 1).await.unwrap();
    let mut lane = LaneStore::new(one_session, setup.rules.clone(), 0);

    let (opened, ()) = tokio::join!(lane.open(&setup.observer), async {
        setup.observer.failed_once().await;
        setup.test.execute(&of_new_sessions("off")).await;
    });

    assert!(opened.position.epoch > 0);
    assert!(setup.observer.faults().iter().all(|fault| *fault == ErrorClass::Outage));
}

async fn process(setup: &Setup, entries: Vec<mqtt_gateway::domain::batch::BatchEntry>) -> BatchOutcome {
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let outcome = lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();
    let is_stopped = |reason| ["flow_disabled", "flow_deleted"].contains(&reason);
    let mut rejected = outcome.results.iter().filter_map(|result| match result {
        Err(ProcessError::Rejected(rejection)) => Some(rejection.reason.as_str()),
        _ => None,
    });
    assert!(!rejected.any(is_stopped));
    outcome
}
