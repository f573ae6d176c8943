//! Tables that people have made otherwise: integers of other widths and signs, flags above 1, texts for numbers,
//! engines without transactions.

use crate::batches::{Setup, batch_of, entry};
use crate::database::TestDatabase;
use mqtt_gateway::domain::batch::Batch;
use mqtt_gateway::domain::message::FlowId;
use mqtt_gateway::settings::DatabaseSettings;
use mqtt_gateway::store::{
    Database, Dialect, LoadServerError, StoreError, UnsafeTable, check_tables, count_dead_letters,
    load_flows, load_mqtt_server, load_mqtt_servers, load_mqtt_servers_before_migration, max_dead_letters,
    migrate, plan,
};

on_every_database! {
    nonzero_flow_flag_is_set
    nonzero_broker_flag_is_set
    own_tables_pass_the_check
    dead_letters_are_counted_by_their_ids
}

on_every_server! {
    integers_of_any_width_and_sign_are_read
    locked_narrow_key_blocks_no_other_flow
    a_column_of_a_wrong_type_is_named
    migration_with_broker_needs_no_insert_right
}

/// Changes the type of a column. `SQLite` keeps any value in any column.
async fn retype(test: &TestDatabase, table: &str, column: &str, mysql: &str, postgres: &str) {
    let alter = match test.dialect() {
        Dialect::MySql => format!("ALTER TABLE {table} MODIFY {column} {mysql}"),
        Dialect::Postgres => {
            format!(
                "ALTER TABLE {table} ALTER COLUMN {column} TYPE {postgres} USING CAST({column} AS {postgres})"
            )
        }
        Dialect::Sqlite => return,
    };
    test.execute(&alter).await;
}

/// Types of a flag, each with values that are set.
fn flags(dialect: Dialect) -> Vec<(&'static str, Vec<&'static str>)> {
    match dialect {
        Dialect::MySql => vec![
            ("TINYINT(1)", vec!["1", "2", "-1"]),
            ("TINYINT UNSIGNED", vec!["1", "200"]),
            ("SMALLINT", vec!["1", "300", "-300"]),
            ("INT UNSIGNED", vec!["4294967295"]),
            ("BIGINT", vec!["5000000000"]),
            ("BIT(1)", vec!["b'1'"]),
        ],
        Dialect::Postgres => vec![
            ("BOOLEAN", vec!["TRUE"]),
            ("SMALLINT", vec!["1", "2", "-1"]),
            ("INTEGER", vec!["300"]),
            ("BIGINT", vec!["2"]),
        ],
        Dialect::Sqlite => vec![("", vec!["1", "2", "-1", "300"])],
    }
}

fn unset(kind: &str) -> [&'static str; 2] {
    [if kind == "BOOLEAN" { "FALSE" } else { "0" }, "NULL"]
}

/// A boolean column of `PostgreSQL` becomes an integer by way of a text only.
async fn retype_flag(test: &TestDatabase, table: &str, column: &str, kind: &str) {
    if test.dialect() == Dialect::Postgres {
        test.execute(&format!("ALTER TABLE {table} DROP COLUMN {column}, ADD COLUMN {column} {kind}")).await;
    } else {
        retype(test, table, column, kind, kind).await;
    }
}

async fn nonzero_flow_flag_is_set(test: TestDatabase) {
    for (kind, values) in flags(test.dialect()) {
        let setup = Setup::new(test.another().await).await;
        retype_flag(&setup.test, "flows", "enabled", kind).await;
        let all: Vec<_> = unset(kind).into_iter().chain(values.iter().copied()).collect();
        for (n, value) in (1..).zip(&all) {
            let row = format!("{n}, 'F{n}', '', 't', 'STORE_DB', '{{}}', {value}");
            let columns = "id, code, description, topic, action, payload_schema, enabled";
            setup.test.execute(&format!("INSERT INTO flows ({columns}) VALUES ({row})")).await;
        }
        let flows: Vec<FlowId> = (1..=i64::try_from(all.len()).unwrap()).collect();

        check_tables(&setup.database).await.unwrap();
        let loaded: Vec<FlowId> =
            load_flows(&setup.database).await.unwrap().iter().map(|flow| flow.id).collect();
        assert_eq!(loaded, flows[2..], "{kind}");
        // Statements for few flows and for many are not the same.
        for extra in [0, 20] {
            let mut lane = setup.lane();
            let position = lane.open(&setup.observer).await.position;
            let of = flows.iter().copied().chain(1_000..1_000 + extra).collect::<Vec<_>>();
            let batch = Batch {
                next: position.next_offset + 1,
                ..batch_of(position, vec![entry(position.next_offset, r#"{"a":1}"#, &of)])
            };
            let outcome = lane.process(&batch, &setup.observer).await.unwrap();
            assert_eq!(setup.observer.failures(), 0, "{kind}");
            let numbered = outcome.results.iter().filter(|result| result.is_ok()).count();
            assert_eq!(numbered, values.len(), "{kind}: {:?}", outcome.results);
        }
    }
}

async fn nonzero_broker_flag_is_set(test: TestDatabase) {
    for (kind, values) in flags(test.dialect()) {
        let setup = Setup::new(test.another().await).await;
        for column in ["enabled", "is_default", "tls"] {
            retype_flag(&setup.test, "mqtt_servers", column, kind).await;
        }
        let [no, null] = unset(kind);
        for yes in values {
            setup.test.execute("DELETE FROM mqtt_servers").await;
            setup
                .test
                .execute(&format!(
                    "INSERT INTO mqtt_servers (id, host, port, enabled, is_default, tls) VALUES \
                     (1, 'no', 1, {no}, {yes}, {no}), (2, 'null', 2, {null}, {yes}, {null}), \
                     (3, 'second', 3, {yes}, {null}, {no}), (4, 'first', 4, {yes}, {yes}, {yes})"
                ))
                .await;
            let servers = load_mqtt_servers(&setup.database).await.unwrap().usable;
            let brief: Vec<_> = servers.iter().map(|server| (server.id, server.tls.is_some())).collect();
            assert_eq!(brief, [(4, true), (3, false)], "{kind} {yes}");
        }
    }
}

async fn own_tables_pass_the_check(test: TestDatabase) {
    let database = Database::connect(test.settings(), 1).await.unwrap();
    check_tables(&database).await.unwrap();
    migrate(&database).await.unwrap();
    check_tables(&database).await.unwrap();
    if test.dialect() != Dialect::Sqlite {
        test.execute("ALTER TABLE data RENAME TO stored; CREATE VIEW data AS SELECT * FROM stored").await;
        check_tables(&database).await.unwrap();
    }
}

/// `flows.id`, `flows.last_msg_id`, `mqtt_servers.id` and `mqtt_servers.port`.
async fn with_integers(test: TestDatabase, mysql: &str, postgres: &str) -> Setup {
    let setup = Setup::new(test).await;
    let key = format!("{mysql} NOT NULL AUTO_INCREMENT");
    retype(&setup.test, "flows", "id", &key, postgres).await;
    retype(&setup.test, "flows", "last_msg_id", mysql, postgres).await;
    retype(&setup.test, "mqtt_servers", "id", &key, postgres).await;
    let port = if mysql.starts_with("TINYINT") { "SMALLINT UNSIGNED" } else { mysql };
    let wide_port = if postgres == "SMALLINT" { "NUMERIC(5)" } else { postgres };
    retype(&setup.test, "mqtt_servers", "port", port, wide_port).await;
    setup
}

const INTEGERS: [(&str, &str); 6] = [
    ("TINYINT UNSIGNED", "SMALLINT"),
    ("SMALLINT UNSIGNED", "INTEGER"),
    ("MEDIUMINT UNSIGNED", "BIGINT"),
    ("INT", "NUMERIC(18)"),
    ("INT UNSIGNED", "BIGINT"),
    ("BIGINT UNSIGNED", "BIGINT"),
];

async fn integers_of_any_width_and_sign_are_read(test: TestDatabase) {
    for (mysql, postgres) in INTEGERS {
        let setup = with_integers(test.another().await, mysql, postgres).await;
        for flow in 1..=40 {
            setup.flow(&format!("F{flow}"), "STORE_DB").await;
        }
        setup.test.execute("UPDATE mqtt_servers SET port = 61883").await;

        check_tables(&setup.database).await.unwrap();
        assert_eq!(load_flows(&setup.database).await.unwrap().len(), 40, "{mysql}");
        assert_eq!(load_mqtt_server(&setup.database).await.unwrap().port, 61_883, "{mysql}");
        let mut lane = setup.lane();
        let position = lane.open(&setup.observer).await.position;
        let many: Vec<FlowId> = (1..=40).collect();
        let entries = vec![entry(10, r#"{"a":1}"#, &[1, 2]), entry(11, r#"{"a":2}"#, &many)];
        let outcome = lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();
        let numbers: Vec<i64> =
            outcome.results.iter().map(|result| result.as_ref().unwrap().message_id).collect();
        assert_eq!((numbers.len(), &numbers[..5]), (42, &[1, 1, 2, 2, 1][..]), "{mysql}");
        assert_eq!(setup.count("SELECT COUNT(*) FROM flows WHERE last_msg_id IN (1, 2)").await, 40);
    }
}

async fn locked_narrow_key_blocks_no_other_flow(test: TestDatabase) {
    for (mysql, postgres) in INTEGERS {
        let setup = with_integers(test.another().await, mysql, postgres).await;
        for flow in 1..=40 {
            setup.flow(&format!("F{flow}"), "STORE_DB").await;
        }
        let other = Database::connect(setup.test.settings(), 1).await.unwrap();
        let holding = other.begin().await.unwrap();
        sea_orm::ConnectionTrait::execute_unprepared(&holding, &setup.lock_flow(40)).await.unwrap();
        for flows in [vec![1, 2], (1..40).collect::<Vec<FlowId>>()] {
            let mut lane = setup.lane();
            let position = lane.open(&setup.observer).await.position;
            let batch = Batch {
                next: position.next_offset + 1,
                ..batch_of(position, vec![entry(position.next_offset, r#"{"a":1}"#, &flows)])
            };
            lane.process(&batch, &setup.observer).await.unwrap();
        }
        assert_eq!(setup.observer.failures(), 0, "{mysql}");
        holding.rollback().await.unwrap();
    }
}

async fn a_column_of_a_wrong_type_is_named(test: TestDatabase) {
    for (table, column, expected) in [
        ("flows", "enabled", "a boolean or an integer"),
        ("flows", "last_msg_id", "an integer"),
        ("mqtt_servers", "enabled", "a boolean or an integer"),
        ("mqtt_servers", "is_default", "a boolean or an integer"),
        ("mqtt_servers", "tls", "a boolean or an integer"),
        ("mqtt_servers", "port", "an integer"),
    ] {
        let setup = Setup::new(test.another().await).await;
        retype(&setup.test, table, column, "VARCHAR(20)", "VARCHAR(20)").await;
        let database = Database::connect(setup.test.settings(), 1).await.unwrap();
        let found = if test.dialect() == Dialect::MySql { "varchar(20)" } else { "character varying(20)" };
        let said = format!("the column {table}.{column} has the type {found}: expected {expected}");

        let error = check_tables(&database).await.unwrap_err();
        assert!(error.is_about_the_tables());
        assert_eq!(error.to_string(), said);
        if table == "flows" {
            assert_eq!(load_flows(&database).await.unwrap_err().to_string(), said);
        } else {
            assert_eq!(load_mqtt_servers(&database).await.unwrap_err().to_string(), said);
            let error = load_mqtt_servers_before_migration(&database).await.unwrap_err();
            assert_eq!(error.to_string(), said);
        }
    }
}

#[tokio::test]
async fn a_value_that_sqlite_cannot_read_is_named() {
    let setup = Setup::new(TestDatabase::sqlite()).await;
    setup.test.execute("UPDATE mqtt_servers SET port = 'mqtt'").await;
    let LoadServerError::Store(error) = load_mqtt_servers(&setup.database).await.unwrap_err() else {
        panic!("the port was read")
    };
    assert!(error.is_about_the_tables(), "{error:?}");
    let text = error.to_string();
    assert!(text.contains("reading the MQTT servers") && text.contains("\"port\""), "{text}");
}

/// The rows that were there are there still, which no statement can say of these engines after a failure.
#[tokio::test]
async fn nontransactional_tables_are_named_with_remedy() {
    for engine in ["MyISAM", "Aria"] {
        let test = TestDatabase::mariadb().await;
        test.create_sqlalchemy_tables().await;
        let database = Database::connect(test.settings(), 1).await.unwrap();
        test.execute(&format!("ALTER TABLE data ENGINE={engine}")).await;
        for migrated in [false, true] {
            if migrated {
                migrate(&database).await.unwrap();
                test.execute(&format!("ALTER TABLE outbox ENGINE={engine}")).await;
            }
            let error = check_tables(&database).await.unwrap_err();
            assert!(error.is_about_the_tables());
            let said = error.to_string();
            let names = if migrated { &["data", "outbox"][..] } else { &["data"] };
            let each = names.iter().map(|table| {
                format!("{table} has the storage engine {engine}: ALTER TABLE {table} ENGINE=InnoDB")
            });
            let each: Vec<String> = each.collect();
            assert_eq!(said, format!("tables without transactions: {}", each.join("; ")));
            let StoreError::NoTransactions { tables } = error else { panic!("{said}") };
            let expected: Vec<UnsafeTable> = names
                .iter()
                .map(|table| UnsafeTable { table: (*table).to_owned(), engine: engine.to_owned() })
                .collect();
            assert_eq!(tables, expected);
        }
        test.execute("ALTER TABLE data ENGINE=InnoDB; ALTER TABLE outbox ENGINE=InnoDB").await;
        check_tables(&database).await.unwrap();
    }
}

async fn migration_with_broker_needs_no_insert_right(test: TestDatabase) {
    let database = Database::connect(test.settings(), 1).await.unwrap();
    migrate(&database).await.unwrap();
    let limited = test.create_user("s3cret").await;
    match &limited {
        DatabaseSettings::MySql { name, user, .. } => {
            for host in ["'%'", "localhost"] {
                test.execute(&format!("REVOKE INSERT ON {name}.* FROM {user}@{host}")).await;
            }
        }
        DatabaseSettings::Postgres { user, .. } => {
            test.execute(&format!("REVOKE INSERT ON mqtt_servers FROM {user}")).await;
        }
        DatabaseSettings::Sqlite { .. } => panic!("SQLite has no users"),
    }
    let database = Database::connect(&limited, 1).await.unwrap();

    assert!(migrate(&database).await.unwrap().added.is_empty());
    assert!(plan(&database).await.unwrap().added.is_empty());
    test.execute("DELETE FROM mqtt_servers").await;
    let refused = migrate(&database).await.unwrap_err();
    assert!(refused.to_string().contains("inserting the default broker"), "{refused}");
}

async fn dead_letters_are_counted_by_their_ids(test: TestDatabase) {
    let setup = Setup::new(test).await;
    assert_eq!(max_dead_letters(&setup.database).await.unwrap(), 0);
    for id in [7, 8, 12] {
        let columns =
            "id, occurred_at, received_at, inbox_id, inbox_offset, topic, payload, payload_bytes, reason";
        let bytes = setup.test.bytes("00");
        let values = format!("{id}, '2026-01-01', '2026-01-01', 'i', 1, 't', {bytes}, 1, 'r'");
        setup.test.execute(&format!("INSERT INTO dead_letters ({columns}) VALUES ({values})")).await;
    }
    assert_eq!(max_dead_letters(&setup.database).await.unwrap(), 6);
    for (exact_up_to, expected) in [(6, 6), (5, 3), (3, 3), (2, 6)] {
        let counted = count_dead_letters(&setup.database, exact_up_to).await.unwrap();
        assert_eq!(counted, expected, "exact up to {exact_up_to}");
    }
}
