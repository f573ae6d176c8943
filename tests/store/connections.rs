//! Connections, the classification of their errors, and reads at start, on real databases.

use std::path::PathBuf;

use crate::database::TestDatabase;
use crate::refusals::{class_of, fault};
use mqtt_gateway::domain::broker::MqttVersion;
use mqtt_gateway::settings::{DatabaseSettings, DatabaseTls, SecretSource, ServerAddress, Servers};
use mqtt_gateway::store::{
    Database, Dialect, ErrorClass, LoadServerError, StoreError, load_flows, load_limits, load_mqtt_server,
    load_mqtt_servers, load_mqtt_servers_before_migration, migrate,
};
use sea_orm::{ConnectionTrait, DatabaseTransaction};

on_every_database! {
    only_enabled_flows_are_loaded
    the_default_broker_comes_first_among_the_enabled
    a_broker_port_out_of_range_is_refused
    enabled_brokers_load_in_order
    unmigrated_broker_table_needs_explicit_read
    unreadable_tls_columns_are_an_error
    read_then_write_transactions_serialise
    repairable_errors_are_outages
}

/// With the tables of the service that came before, and ours.
async fn migrated(test: &TestDatabase) -> Database {
    test.create_sqlalchemy_tables().await;
    let database = Database::connect(test.settings(), 2).await.unwrap();
    migrate(&database).await.unwrap();
    database
}

async fn only_enabled_flows_are_loaded(test: TestDatabase) {
    let database = migrated(&test).await;
    test.execute(
        "INSERT INTO flows (id, code, description, topic, action, payload_schema, endpoint_url, enabled) VALUES \
         (5, 'post', '', 'a/#', 'POST_ENDPOINT', '{}', 'http://127.0.0.1/', TRUE), \
         (3, 'store', '', 'b/+', 'STORE_DB', '{\"v\": \"no such type\"}', NULL, TRUE), \
         (1, 'off', '', 'c', 'STORE_DB', '{}', NULL, FALSE), (2, 'null', '', 'd', 'STORE_DB', '{}', NULL, NULL)",
    )
    .await;
    let flows = load_flows(&database).await.unwrap();
    let brief: Vec<_> =
        flows.iter().map(|f| (f.id, f.code.as_str(), f.topic.as_str(), f.endpoint_url.as_deref())).collect();
    assert_eq!(brief, [(3, "store", "b/+", None), (5, "post", "a/#", Some("http://127.0.0.1/"))]);
    assert_eq!(flows[1].action, "POST_ENDPOINT");
}

async fn the_default_broker_comes_first_among_the_enabled(test: TestDatabase) {
    let database = migrated(&test).await;
    test.execute(
        "DELETE FROM mqtt_servers; INSERT INTO mqtt_servers (id, host, port, username, password, enabled, is_default) \
         VALUES (1, 'off', 1, NULL, NULL, FALSE, TRUE), (2, 'null', NULL, 'u', 'p', TRUE, NULL), \
         (3, 'no', 3, NULL, NULL, TRUE, FALSE), (4, 'second', 4, NULL, NULL, TRUE, TRUE), \
         (5, 'third', 5, NULL, NULL, TRUE, TRUE), (6, 'off', 6, NULL, NULL, NULL, TRUE)",
    )
    .await;
    let mut order = Vec::new();
    let error = loop {
        match load_mqtt_server(&database).await {
            Ok(server) => {
                order.push((server.id, server.port));
                test.execute(&format!("UPDATE mqtt_servers SET enabled = FALSE WHERE id = {}", server.id))
                    .await;
            }
            Err(error) => break error,
        }
    };
    assert_eq!(order, [(4, 4), (5, 5), (2, 1883), (3, 3)], "NULL and no are the same");
    assert!(matches!(error, LoadServerError::NoneEnabled), "{error}");
}

async fn enabled_brokers_load_in_order(test: TestDatabase) {
    let database = migrated(&test).await;
    test.execute(
        "DELETE FROM mqtt_servers; \
         INSERT INTO mqtt_servers (id, host, port, enabled, is_default, tls, ca_file, protocol_version) VALUES \
         (1, 'plain', NULL, TRUE, NULL, NULL, NULL, NULL), (2, 'bad-port', 0, TRUE, TRUE, NULL, NULL, NULL), \
         (3, 'encrypted', NULL, TRUE, TRUE, TRUE, '/ca.pem', '3.1.1'), \
         (4, 'bad-version', 4, TRUE, FALSE, NULL, NULL, '4'), (5, 'off', 5, FALSE, TRUE, NULL, NULL, NULL), \
         (6, 'no-tls', 6, TRUE, FALSE, FALSE, '/ca.pem', NULL)",
    )
    .await;
    let servers = load_mqtt_servers(&database).await.unwrap();
    let usable: Vec<_> = servers.usable.iter().map(|server| (server.id, server.port)).collect();
    assert_eq!(usable, [(3, 8883), (1, 1883)]);
    assert_eq!(servers.usable[0].tls.as_ref().unwrap().ca_file.as_deref(), Some("/ca.pem"));
    assert_eq!(servers.usable[0].version, Some(MqttVersion::V311));
    let skipped: Vec<_> = servers.skipped.iter().map(LoadServerError::id).collect();
    assert_eq!(skipped, [Some(2), Some(4), Some(6)]);
    test.execute("DELETE FROM mqtt_servers WHERE id IN (1, 3)").await;
    let error = load_mqtt_servers(&database).await.unwrap_err();
    assert_eq!(error.id(), Some(2), "what is wrong with the first: {error}");
}

async fn unmigrated_broker_table_needs_explicit_read(test: TestDatabase) {
    test.create_sqlalchemy_tables().await;
    test.execute("INSERT INTO mqtt_servers (host, port, enabled) VALUES ('127.0.0.1', 1883, TRUE)").await;
    let database = Database::connect(test.settings(), 1).await.unwrap();
    let servers = load_mqtt_servers_before_migration(&database).await.unwrap().usable;
    let [server] = &servers[..] else { panic!("{servers:?}") };
    assert_eq!((server.host.as_str(), server.port, &server.tls), ("127.0.0.1", 1883, &None));
    let error = load_mqtt_servers(&database).await.unwrap_err();
    assert!(matches!(error, LoadServerError::Store(_)), "{error}");
}

/// The columns of the unmigrated table stay readable.
async fn unreadable_tls_columns_are_an_error(test: TestDatabase) {
    let database = migrated(&test).await;
    test.execute("DELETE FROM mqtt_servers").await;
    test.execute("INSERT INTO mqtt_servers (host, enabled, tls) VALUES ('encrypted', TRUE, TRUE)").await;
    assert!(load_mqtt_server(&database).await.unwrap().tls.is_some());
    match test.dialect() {
        Dialect::MySql => test.execute("ALTER TABLE mqtt_servers MODIFY tls VARCHAR(5)").await,
        Dialect::Postgres => test.execute("ALTER TABLE mqtt_servers ALTER COLUMN tls TYPE VARCHAR(5)").await,
        // A column of any type holds any value.
        Dialect::Sqlite => {}
    }
    test.execute("UPDATE mqtt_servers SET tls = 'yes'").await;
    // The second time by a statement that has been prepared for the table as it is now.
    for database in [database.clone(), Database::connect(test.settings(), 1).await.unwrap()] {
        for outcome in
            [load_mqtt_servers(&database).await, load_mqtt_servers_before_migration(&database).await]
        {
            let error = outcome.unwrap_err();
            assert!(matches!(error, LoadServerError::Store(_)), "{error}");
        }
    }
}

async fn a_broker_port_out_of_range_is_refused(test: TestDatabase) {
    let database = migrated(&test).await;
    test.execute("UPDATE mqtt_servers SET port = 70000").await;
    let error = load_mqtt_server(&database).await.unwrap_err();
    assert!(matches!(error, LoadServerError::InvalidPort { port: 70_000, .. }), "{error}");
}

async fn read_then_write_transactions_serialise(test: TestDatabase) {
    let database = migrated(&test).await;
    test.execute("INSERT INTO outbox_owners VALUES ('a', '2026-01-01 00:00:00')").await;
    test.execute("INSERT INTO inbox_offsets (inbox_id, lane, epoch, next_offset) VALUES ('a', 0, 0, 0)")
        .await;
    let lock = if test.dialect() == Dialect::Sqlite { "" } else { " FOR UPDATE" };
    let mut writers = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let database = database.clone();
        writers.spawn(async move {
            for _ in 0..10 {
                let transaction = database.begin().await.unwrap();
                let read = format!("SELECT epoch FROM inbox_offsets WHERE inbox_id = 'a' AND lane = 0{lock}");
                let epoch: i64 = number(&transaction, &read).await;
                let write = format!("UPDATE inbox_offsets SET epoch = {} WHERE inbox_id = 'a'", epoch + 1);
                transaction.execute_unprepared(&write).await.unwrap();
                transaction.commit().await.unwrap();
            }
        });
    }
    writers.join_all().await;
    assert_eq!(test.value::<i64>("SELECT epoch FROM inbox_offsets").await, 40);
}

async fn repairable_errors_are_outages(test: TestDatabase) {
    let database = migrated(&test).await;
    test.execute("INSERT INTO data (id, received_at) VALUES (1, '2026-01-01 00:00:00')").await;
    for sql in [
        "INSERT INTO no_such_table VALUES (1)",
        "INSERT INTO data (received_at, no_such_column) VALUES ('2026-01-01 00:00:00', 1)",
        "INSERT nonsense",
    ] {
        assert_eq!(class_of(&database, sql).await, ErrorClass::Outage, "{sql}");
    }
    // An exhausted key or a duplicate from a device: only a retry distinguishes them.
    let duplicate = "INSERT INTO data (id, received_at) VALUES (1, '2026-01-01 00:00:00')";
    assert_eq!(class_of(&database, duplicate).await, ErrorClass::Poison);
}

#[tokio::test]
async fn every_mysql_session_is_set_up() {
    let test = TestDatabase::mariadb().await;
    let database = Database::connect(test.settings(), 2).await.unwrap();
    // At the same time, so that they are two connections.
    let (first, second) = (database.begin().await.unwrap(), database.begin().await.unwrap());
    for session in [first, second] {
        let right = "SELECT @@tx_isolation = 'READ-COMMITTED' AND FIND_IN_SET('STRICT_TRANS_TABLES', @@sql_mode) \
                     AND @@wait_timeout = 20 AND @@innodb_lock_wait_timeout = 5 AND @@lock_wait_timeout = 30 \
                     AND @@time_zone = '+00:00' AND @@character_set_client = 'utf8mb4' \
                     AND @@character_set_connection = 'utf8mb4'";
        assert_eq!(number(&session, right).await, 1);
    }
}

#[tokio::test]
async fn sqlite_connections_are_durable_and_shared() {
    let test = TestDatabase::sqlite();
    let database = Database::connect(test.settings(), 2).await.unwrap();
    let session = database.begin().await.unwrap();
    assert_eq!(number(&session, "SELECT synchronous = 2 FROM pragma_synchronous").await, 1);
    assert_eq!(number(&session, "SELECT journal_mode = 'wal' FROM pragma_journal_mode").await, 1);
}

#[tokio::test]
async fn a_password_may_hold_any_character() {
    let test = TestDatabase::mariadb().await;
    let user = test.create_user("p@ss:w/o rd#?%41$&'\"\\;=ü€").await;
    Database::connect(&user, 1).await.unwrap();
}

#[tokio::test]
async fn connection_error_hides_password() {
    let test = TestDatabase::mariadb().await;
    let DatabaseSettings::MySql { servers, name, .. } = test.settings().clone() else { unreachable!() };
    let ServerAddress { host, port } = servers.address(0).clone();
    let settings = |name: &str, port| DatabaseSettings::MySql {
        servers: Servers::single(&*host, port),
        name: name.to_owned(),
        user: "nobody".to_owned(),
        password: "hush-hush".into(),
        source: SecretSource::Fixed,
        tls: DatabaseTls::default(),
    };
    let denied = Database::connect(&settings(&name, port), 1).await.unwrap_err();
    assert!(denied.to_string().contains("Access denied"), "{denied}");
    assert_eq!(denied.class(), ErrorClass::Outage);
    // A port that was free a moment ago.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let absent = Database::connect(&settings(&name, free), 1).await.unwrap_err();
    assert!(absent.to_string().contains(&format!("127.0.0.1:{free}")), "{absent}");
    assert_eq!(absent.class(), ErrorClass::ConnectionLost);
    for error in [denied, absent] {
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
    }
}

#[tokio::test]
async fn unusable_servers_are_all_named() {
    let mut settings = TestDatabase::mariadb().await.settings().clone();
    let DatabaseSettings::MySql { servers, .. } = &mut settings else { unreachable!() };
    let free = || std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let addresses = [free(), free()].map(|port| ServerAddress { host: "127.0.0.1".to_owned(), port });
    *servers = Servers::new(addresses.to_vec()).unwrap();
    let error = Database::connect(&settings, 1).await.unwrap_err();
    assert_eq!(error.class(), ErrorClass::ConnectionLost);
    for address in addresses {
        assert!(error.to_string().contains(&format!("at {address} as user")), "{error}");
    }
}

#[tokio::test]
async fn a_missing_directory_is_named() {
    let settings = DatabaseSettings::Sqlite { path: PathBuf::from("/no/such/directory/gateway.db") };
    let error = Database::connect(&settings, 1).await.unwrap_err();
    assert!(matches!(error, StoreError::NoDirectory { .. }), "{error}");
    assert!(error.to_string().contains("the directory /no/such/directory does not exist"), "{error}");
}

#[tokio::test]
async fn refused_values_are_poison_on_mariadb() {
    let test = TestDatabase::mariadb().await;
    let database = migrated(&test).await;
    test.execute(
        "ALTER TABLE data MODIFY attribute_value TEXT CHARACTER SET latin1; \
         ALTER TABLE data ADD CONSTRAINT no_red CHECK (attribute_value <> 'red'); \
         CREATE TRIGGER no_blue BEFORE INSERT ON data FOR EACH ROW BEGIN \
         IF NEW.attribute_value = 'blue' THEN SIGNAL SQLSTATE '45000'; END IF; END",
    )
    .await;
    let now = "UTC_TIMESTAMP()";
    for (received_at, value, number) in [
        (now, "REPEAT('x', 70000)", "1"),
        (now, "'\u{1F600}'", "1"),
        (now, "'red'", "1"),
        (now, "'blue'", "1"),
        (now, "''", "3000000000"),
        (now, "''", "'seven'"),
        ("'no date'", "''", "1"),
        ("NULL", "''", "1"),
    ] {
        let sql = format!(
            "INSERT INTO data (received_at, attribute_value, last_msg_id) VALUES ({received_at}, {value}, {number})"
        );
        assert_eq!(class_of(&database, &sql).await, ErrorClass::Poison, "{sql}");
    }
    test.execute("CREATE TABLE parts (n INT) PARTITION BY RANGE (n) (PARTITION low VALUES LESS THAN (5))")
        .await;
    assert_eq!(class_of(&database, "INSERT INTO parts VALUES (7)").await, ErrorClass::Outage, "no partition");
    let no_json = "UPDATE flows SET payload_schema = 'no json'";
    test.execute(
        "INSERT INTO flows (code, description, topic, action, payload_schema) VALUES ('a', '', 'a', 'STORE_DB', '{}')",
    )
    .await;
    assert_eq!(class_of(&database, no_json).await, ErrorClass::Poison);
}

#[tokio::test]
async fn refused_values_are_poison_on_sqlite() {
    let test = TestDatabase::sqlite();
    let database = migrated(&test).await;
    test.execute(
        "CREATE TABLE checked (value TEXT NOT NULL CHECK (value <> 'red')); \
         CREATE TABLE strict (value INTEGER) STRICT; \
         CREATE TRIGGER no_blue BEFORE INSERT ON checked WHEN NEW.value = 'blue' \
         BEGIN SELECT RAISE(ABORT, 'no blue'); END",
    )
    .await;
    for sql in [
        "INSERT INTO checked VALUES ('red')",
        "INSERT INTO checked VALUES ('blue')",
        "INSERT INTO checked VALUES (NULL)",
        "INSERT INTO strict VALUES ('seven')",
        "INSERT INTO checked VALUES (zeroblob(1500000000))",
    ] {
        assert_eq!(class_of(&database, sql).await, ErrorClass::Poison, "{sql}");
    }
}

#[tokio::test]
async fn locked_row_is_lock_timeout() {
    let test = TestDatabase::mariadb().await;
    let database = migrated(&test).await;
    let holder = database.begin().await.unwrap();
    let lock = "SELECT id FROM mqtt_servers FOR UPDATE";
    holder.execute_unprepared(lock).await.unwrap();
    let waiter = database.begin().await.unwrap();
    waiter.execute_unprepared("SET SESSION innodb_lock_wait_timeout = 1").await.unwrap();
    assert_eq!(fault(waiter.execute_unprepared(lock).await), ErrorClass::LockTimeout);
}

#[tokio::test]
async fn second_sqlite_writer_is_lock_timeout() {
    let test = TestDatabase::sqlite();
    let database = migrated(&test).await;
    let _holder = database.begin().await.unwrap();
    assert_eq!(database.begin().await.map(|_| ()).unwrap_err().class(), ErrorClass::LockTimeout);
}

#[tokio::test]
async fn deadlock_is_reported_to_one_session() {
    let test = TestDatabase::mariadb().await;
    let database = migrated(&test).await;
    test.execute("INSERT INTO mqtt_servers (id, host) VALUES (11, 'a'), (12, 'b')").await;
    let (one, other) = (database.begin().await.unwrap(), database.begin().await.unwrap());
    let lock = |id: u8| format!("SELECT id FROM mqtt_servers WHERE id = {id} FOR UPDATE");
    one.execute_unprepared(&lock(11)).await.unwrap();
    other.execute_unprepared(&lock(12)).await.unwrap();
    let crossing = async {
        let outcome = one.execute_unprepared(&lock(12)).await.map(|_| ());
        one.rollback().await.unwrap();
        outcome
    };
    let crossed = async {
        let outcome = other.execute_unprepared(&lock(11)).await.map(|_| ());
        other.rollback().await.unwrap();
        outcome
    };
    let (first, second) = tokio::join!(crossing, crossed);
    let faults: Vec<ErrorClass> = [first, second].into_iter().filter(Result::is_err).map(fault).collect();
    assert_eq!(faults, [ErrorClass::Deadlock]);
}

#[tokio::test]
async fn killed_connection_is_replaced() {
    let test = TestDatabase::mariadb().await;
    let database = migrated(&test).await;
    let session = database.begin().await.unwrap();
    let id = number(&session, "SELECT CAST(CONNECTION_ID() AS SIGNED)").await;
    test.execute(&format!("KILL {id}")).await;
    assert_eq!(fault(session.execute_unprepared("SELECT 1").await), ErrorClass::ConnectionLost);
    drop(session);
    let next = database.begin().await.unwrap();
    assert_ne!(number(&next, "SELECT CAST(CONNECTION_ID() AS SIGNED)").await, id);
}

/// MariaDB raises the errors of `MySQL`.
#[tokio::test]
async fn what_relatives_of_mariadb_say_is_understood() {
    let test = TestDatabase::mariadb().await;
    let database = Database::connect(test.settings(), 1).await.unwrap();
    for (number, fault, makes_new_connections) in [
        (8025, ErrorClass::Poison, false),
        (8004, ErrorClass::Poison, false),
        (9500, ErrorClass::Poison, false),
        (8002, ErrorClass::Deadlock, false),
        (8005, ErrorClass::Deadlock, false),
        (8022, ErrorClass::Deadlock, false),
        (8028, ErrorClass::Deadlock, false),
        (9007, ErrorClass::Deadlock, false),
        (9004, ErrorClass::LockTimeout, false),
        (9005, ErrorClass::Outage, false),
        (1047, ErrorClass::Outage, true),
        (1290, ErrorClass::Outage, true),
        (1836, ErrorClass::Outage, true),
        (3168, ErrorClass::Outage, true),
    ] {
        let session = database.begin().await.unwrap();
        let signal = format!("SIGNAL SQLSTATE 'HY000' SET MYSQL_ERRNO = {number}");
        let source = session.execute_unprepared(&signal).await.map(|_| ()).unwrap_err();
        let error = StoreError::Statement { doing: "testing", source };
        assert_eq!((error.class(), error.wants_new_connections()), (fault, makes_new_connections), "{error}");
        session.rollback().await.unwrap();
    }
}

#[tokio::test]
async fn limits_are_those_of_the_live_tables() {
    let test = TestDatabase::mariadb().await;
    let database = migrated(&test).await;
    let limits = load_limits(&database).await.unwrap();
    assert_eq!(limits.attribute_name_chars, 255);
    assert_eq!(limits.attribute_value_bytes, Some(65_535));
    assert_eq!((limits.max_message_id, limits.max_data_id), (i64::from(i32::MAX), i64::from(i32::MAX)));
    let packet: i64 = test.value("SELECT CAST(@@max_allowed_packet AS SIGNED)").await;
    assert_eq!(limits.max_packet_bytes, usize::try_from(packet).unwrap());

    test.execute(
        "ALTER TABLE data MODIFY attribute_name VARCHAR(64), MODIFY id BIGINT NOT NULL AUTO_INCREMENT, \
         MODIFY last_msg_id BIGINT, MODIFY attribute_value MEDIUMTEXT CHARACTER SET latin1",
    )
    .await;
    let limits = load_limits(&database).await.unwrap();
    assert_eq!(limits.attribute_name_chars, 64);
    assert_eq!(limits.attribute_value_bytes, None, "only the server knows how long a text is in latin1");
    assert_eq!(limits.max_message_id, i64::from(i32::MAX), "flows.last_msg_id is still narrow");
    assert_eq!(limits.max_data_id, i64::MAX);
}

#[tokio::test]
async fn limits_on_sqlite_are_those_of_the_declaration() {
    let test = TestDatabase::sqlite();
    let limits = load_limits(&migrated(&test).await).await.unwrap();
    assert_eq!((limits.attribute_name_chars, limits.attribute_value_bytes), (255, None));
    assert_eq!((limits.max_message_id, limits.max_data_id), (i64::MAX, i64::MAX));
}

async fn number(session: &DatabaseTransaction, sql: &str) -> i64 {
    let statement = sea_orm::Statement::from_string(session.get_database_backend(), sql);
    session.query_one_raw(statement).await.unwrap().unwrap().try_get_by_index(0).unwrap()
}
