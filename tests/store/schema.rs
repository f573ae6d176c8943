//! Migrations: their additions, and tables that they leave alone.

use std::sync::Arc;

use crate::database::TestDatabase;
use mqtt_gateway::store::{Database, Dialect, StoreError, migrate, plan, widen_ids};

const TABLES: [&str; 17] = [
    "database_identity",
    "gateway_starts",
    "data",
    "flows",
    "flow_revision",
    "edit_history",
    "mqtt_servers",
    "inbox_offsets",
    "inbox_lagging",
    "outbox",
    "outbox_owners",
    "outbox_pauses",
    "dead_letters",
    "message_keys",
    "gateway_members",
    "api_tokens",
    "flow_fields",
];

/// Additions besides the tables: five indexes and the row of a broker.
const FURTHER: usize = 6;

on_every_database! {
    from_nothing_everything_is_made
    migration_only_adds_to_sqlalchemy_tables
    a_second_migration_adds_nothing
    gateways_that_start_at_once_add_everything_once
    gateways_that_start_at_once_insert_one_broker
    what_a_broken_off_migration_lacks_is_added
    plan_lists_additions_and_changes_nothing
    default_broker_is_inserted_once
    id_of_a_removed_flow_is_never_given_again
    foreign_table_is_refused_unchanged
}

async fn connect(test: &TestDatabase) -> Database {
    Database::connect(test.settings(), 2).await.unwrap()
}

/// A dead letter of the removed flow would otherwise go to another one.
async fn id_of_a_removed_flow_is_never_given_again(test: TestDatabase) {
    let database = connect(&test).await;
    migrate(&database).await.unwrap();
    let mut ids = Vec::new();
    for code in ["a", "b"] {
        test.execute(&format!(
            "INSERT INTO flows (code, description, topic, action, payload_schema) VALUES ('{code}', '', 't', 'STORE_DB', '{{}}')"
        ))
        .await;
        ids.push(test.value::<i64>("SELECT MAX(id) FROM flows").await);
        test.execute("DELETE FROM flows").await;
    }
    assert!(ids[0] < ids[1], "{ids:?}");
}

async fn from_nothing_everything_is_made(test: TestDatabase) {
    let database = connect(&test).await;
    let added = migrate(&database).await.unwrap().added;
    for table in TABLES {
        assert!(added.contains(&format!("table {table}")), "{table} in {added:?}");
        assert_eq!(test.value::<i64>(&format!("SELECT COUNT(*) FROM {table} WHERE 1 = 0")).await, 0);
    }
    assert!(added.contains(&"index outbox.outbox_of_owner".to_owned()), "{added:?}");
    assert!(added.contains(&"index message_keys.message_keys_by_age".to_owned()), "{added:?}");
    assert!(added.contains(&"broker 127.0.0.1:1883".to_owned()), "{added:?}");
    assert_eq!(added.len(), TABLES.len() + FURTHER, "a fresh table lacks no column: {added:?}");
    python_inserts_work(&test).await;
}

/// Columns added to the Python service's tables, all nullable.
const NEW_COLUMNS: [(&str, &str); 7] = [
    ("flows", "message_key"),
    ("flows", "options"),
    ("mqtt_servers", "tls"),
    ("mqtt_servers", "ca_file"),
    ("mqtt_servers", "client_cert_file"),
    ("mqtt_servers", "client_key_file"),
    ("mqtt_servers", "protocol_version"),
];

async fn migration_only_adds_to_sqlalchemy_tables(test: TestDatabase) {
    test.create_sqlalchemy_tables().await;
    insert_as_python_does(&test).await;
    let (declared, stored) = (declarations(&test).await, contents(&test).await);

    let added = migrate(&connect(&test).await).await.unwrap().added;

    let old = ["data", "flows", "mqtt_servers"];
    let is_of_old = |what: &&String| what.split([' ', '.']).nth(1).is_some_and(|table| old.contains(&table));
    let to_old_tables = added.iter().filter(is_of_old);
    let new = NEW_COLUMNS.map(|(table, column)| format!("column {table}.{column}"));
    assert!(to_old_tables.eq(&new), "{added:?}");
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM flows WHERE message_key IS NULL").await, 2);
    assert_eq!(contents(&test).await, stored);
    python_inserts_work(&test).await;
    for (table, column) in NEW_COLUMNS {
        test.execute(&format!("ALTER TABLE {table} DROP COLUMN {column}")).await;
    }
    assert_eq!(declarations(&test).await, declared);
    python_inserts_work(&test).await;
}

async fn a_second_migration_adds_nothing(test: TestDatabase) {
    let database = connect(&test).await;
    migrate(&database).await.unwrap();
    let first = declarations(&test).await;
    assert_eq!(migrate(&database).await.unwrap().to_string(), "nothing");
    assert_eq!(migrate(&connect(&test).await).await.unwrap().to_string(), "nothing");
    assert_eq!(declarations(&test).await, first);
}

async fn gateways_that_start_at_once_add_everything_once(test: TestDatabase) {
    let mut gateways = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let settings = test.settings().clone();
        gateways.spawn(async move { migrate(&Database::connect(&settings, 2).await?).await });
    }
    let reports = gateways.join_all().await;
    let mut added: Vec<String> = reports.into_iter().flat_map(|report| report.unwrap().added).collect();
    let all = added.len();
    added.sort();
    added.dedup();
    assert_eq!((added.len(), all), (TABLES.len() + FURTHER, TABLES.len() + FURTHER), "{added:?}");
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM mqtt_servers").await, 1);
}

/// In rounds, because the time between one gateway's insert and the next one's query is short.
async fn gateways_that_start_at_once_insert_one_broker(test: TestDatabase) {
    const ROUNDS: usize = 10;
    let mut gateways = Vec::new();
    for _ in 0..8 {
        gateways.push(Arc::new(connect(&test).await));
    }
    migrate(&gateways[0]).await.unwrap();
    for _ in 0..ROUNDS {
        test.execute("DELETE FROM mqtt_servers").await;
        let at_once = gateways.iter().cloned().map(|gateway| async move { migrate(&gateway).await });
        let reports = at_once.collect::<tokio::task::JoinSet<_>>().join_all().await;
        let inserted: usize = reports.into_iter().map(|report| report.unwrap().added.len()).sum();
        assert_eq!(inserted, 1);
        assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM mqtt_servers").await, 1);
    }
}

async fn what_a_broken_off_migration_lacks_is_added(test: TestDatabase) {
    let database = connect(&test).await;
    migrate(&database).await.unwrap();
    let whole = declarations(&test).await;
    test.execute("DROP TABLE dead_letters").await;
    let of_table = if test.dialect() == Dialect::MySql { " ON outbox" } else { "" };
    test.execute(&format!("DROP INDEX outbox_of_owner{of_table}")).await;
    test.execute("ALTER TABLE outbox DROP COLUMN last_error").await;
    test.execute("ALTER TABLE outbox DROP COLUMN attempts").await;

    let expected = [
        "column outbox.attempts",
        "column outbox.last_error",
        "index outbox.outbox_of_owner",
        "table dead_letters",
        "index dead_letters.dead_letters_of_flow",
    ];
    assert_eq!(plan(&database).await.unwrap().added, expected);
    assert_eq!(migrate(&database).await.unwrap().added, expected);
    assert_eq!(migrate(&database).await.unwrap().added, Vec::<String>::new());
    assert_eq!(declarations(&test).await.len(), whole.len());
}

async fn plan_lists_additions_and_changes_nothing(test: TestDatabase) {
    test.create_sqlalchemy_tables().await;
    let database = connect(&test).await;
    let before = declarations(&test).await;
    let planned = plan(&database).await.unwrap();
    assert_eq!(declarations(&test).await, before);
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM mqtt_servers").await, 0);
    assert_eq!(migrate(&database).await.unwrap(), planned);
    assert!(plan(&database).await.unwrap().added.is_empty());
}

async fn default_broker_is_inserted_once(test: TestDatabase) {
    let database = connect(&test).await;
    migrate(&database).await.unwrap();
    let row = "SELECT COUNT(*) FROM mqtt_servers WHERE host = '127.0.0.1' AND port = 1883 \
               AND enabled = TRUE AND is_default = TRUE AND username IS NULL AND password IS NULL";
    assert_eq!(test.value::<i64>(row).await, 1);
    test.execute("UPDATE mqtt_servers SET host = 'broker.example', enabled = NULL").await;
    migrate(&database).await.unwrap();
    assert_eq!(test.column::<String>("SELECT host FROM mqtt_servers").await, ["broker.example"]);
}

async fn foreign_table_is_refused_unchanged(test: TestDatabase) {
    test.execute("CREATE TABLE data (colour VARCHAR(10)); INSERT INTO data VALUES ('red')").await;
    let before = declarations(&test).await;
    let error = migrate(&connect(&test).await).await.unwrap_err();
    assert!(error.to_string().contains("column data.id is missing"), "{error}");
    assert_eq!(declarations(&test).await, before);
    // The lock was given back: with the table out of the way, another gateway goes on.
    test.execute("DROP TABLE data").await;
    migrate(&connect(&test).await).await.unwrap();
}

#[tokio::test]
async fn new_tables_ignore_server_defaults() {
    let test = TestDatabase::mariadb().await;
    let name: String = test.value("SELECT DATABASE()").await;
    test.execute(&format!("ALTER DATABASE {name} CHARACTER SET latin1")).await;
    migrate(&connect(&test).await).await.unwrap();
    let others: Vec<String> = test
        .column(
            "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() \
             AND (engine <> 'InnoDB' OR table_collation NOT LIKE 'utf8mb4%')",
        )
        .await;
    assert_eq!(others, Vec::<String>::new());
    let narrow: Vec<String> = test
        .column(
            "SELECT CONCAT(table_name, '.', column_name) FROM information_schema.columns \
             WHERE table_schema = DATABASE() AND (column_name LIKE '%id' OR column_name LIKE '%offset') \
             AND column_name <> 'client_id' AND data_type NOT IN ('bigint', 'char')",
        )
        .await;
    assert_eq!(narrow, Vec::<String>::new());
    let json = "INSERT INTO flows (code, description, topic, action, payload_schema) \
                VALUES ('a', '', 'a', 'STORE_DB', 'no json')";
    assert!(test.try_execute(json).await.is_err(), "payload_schema is checked to be JSON");
}

#[tokio::test]
async fn widening_changes_only_ids() {
    let test = TestDatabase::mariadb().await;
    test.create_sqlalchemy_tables().await;
    test.execute("ALTER TABLE flows MODIFY last_msg_id INTEGER DEFAULT 0 COMMENT 'the user''s \\\\ note'")
        .await;
    insert_as_python_does(&test).await;
    let database = connect(&test).await;
    migrate(&database).await.unwrap();
    assert_eq!(plan(&database).await.unwrap().added, Vec::<String>::new(), "a start widens nothing");
    let stored = contents(&test).await;

    let widened = widen_ids(&database).await.unwrap().added;

    assert_eq!(
        widened,
        ["64 bits for data.id", "64 bits for data.last_msg_id", "64 bits for flows.last_msg_id"]
    );
    assert_eq!(contents(&test).await, stored);
    let declared: Vec<String> = test
        .column(
            "SELECT CONCAT_WS(' ', table_name, column_name, data_type, is_nullable, IFNULL(column_default, '-'), \
             extra, column_comment) FROM information_schema.columns WHERE table_schema = DATABASE() \
             AND table_name IN ('data', 'flows') AND data_type LIKE '%int' ORDER BY 1",
        )
        .await;
    assert_eq!(
        declared,
        [
            "data id bigint NO - auto_increment ",
            "data last_msg_id bigint YES NULL  ",
            "flows enabled tinyint YES NULL  ",
            "flows id int NO - auto_increment ",
            "flows last_msg_id bigint YES 0  the user's \\ note",
        ]
    );
    test.execute("UPDATE flows SET last_msg_id = 5000000000").await;
    python_inserts_work(&test).await;
    assert_eq!(widen_ids(&database).await.unwrap().to_string(), "nothing");
}

#[tokio::test]
async fn on_sqlite_there_is_nothing_to_widen() {
    let test = TestDatabase::sqlite();
    test.create_sqlalchemy_tables().await;
    assert_eq!(widen_ids(&connect(&test).await).await.unwrap().to_string(), "nothing");
}

#[tokio::test]
async fn complete_schema_needs_no_ddl_right() {
    let test = TestDatabase::mariadb().await;
    migrate(&connect(&test).await).await.unwrap();
    let user = test.create_user("secret").await;
    let restricted = Database::connect(&user, 1).await.unwrap();
    assert_eq!(migrate(&restricted).await.unwrap().to_string(), "nothing");
    test.execute("DROP TABLE dead_letters").await;
    let error = migrate(&restricted).await.unwrap_err();
    assert!(matches!(error, StoreError::Statement { doing: "adding to the schema", .. }), "{error}");
}

/// How every table is declared, by the database's own words.
async fn declarations(test: &TestDatabase) -> Vec<String> {
    let sql = match test.dialect() {
        Dialect::MySql => {
            "SELECT CONCAT_WS(' ', table_name, ordinal_position, column_name, column_type, is_nullable, \
             IFNULL(column_default, '-'), column_key, extra, IFNULL(collation_name, '-')) \
             FROM information_schema.columns WHERE table_schema = DATABASE() \
             AND table_name IN ('data', 'flows', 'mqtt_servers') ORDER BY table_name, ordinal_position"
        }
        Dialect::Postgres => {
            "SELECT CONCAT_WS(' ', table_name, column_name, data_type, character_maximum_length, is_nullable, \
             column_default, is_identity) FROM information_schema.columns \
             WHERE table_schema = current_schema() AND table_name IN ('data', 'flows', 'mqtt_servers') \
             ORDER BY table_name, ordinal_position"
        }
        Dialect::Sqlite => {
            "SELECT sql FROM sqlite_master WHERE name IN ('data', 'flows', 'mqtt_servers') ORDER BY name"
        }
    };
    test.column(sql).await
}

/// Every value of the three old tables as text.
async fn contents(test: &TestDatabase) -> Vec<String> {
    let mut rows = Vec::new();
    for (table, columns) in [
        ("data", "id received_at flow_code attribute_name attribute_value last_msg_id"),
        ("flows", "id code description topic action payload_schema endpoint_url last_msg_id enabled"),
        ("mqtt_servers", "id host port username password enabled is_default"),
    ] {
        for column in columns.split(' ') {
            let as_type = if test.dialect() == Dialect::MySql { "CHAR" } else { "TEXT" };
            let sql = format!(
                "SELECT COALESCE(CAST({column} AS {as_type}), 'NULL') FROM {table} WHERE id < 1000 ORDER BY id"
            );
            rows.extend(test.column::<String>(&sql).await);
        }
    }
    rows
}

/// The statements that the service which came before sends, with its columns and literals of its kinds.
async fn insert_as_python_does(test: &TestDatabase) {
    let now =
        if test.dialect() == Dialect::MySql { "2026-01-02 03:04:05" } else { "2026-01-02 03:04:05.000000" };
    test.execute(&format!(
        "INSERT INTO data (received_at, flow_code, attribute_name, attribute_value, last_msg_id) \
         VALUES ('{now}', 'temperature', 'value', '21.5', 7), ('{now}', NULL, NULL, NULL, NULL)"
    ))
    .await;
    test.execute(
        "INSERT INTO flows (code, description, topic, action, payload_schema, endpoint_url, last_msg_id, enabled) \
         VALUES ('temperature', 'Größe', 'sensors/+/t', 'STORE_DB', '{\"value\": \"number\"}', NULL, 7, TRUE), \
         ('alarm', '', 'alarm/#', 'POST_ENDPOINT', '{}', 'http://127.0.0.1/', NULL, NULL)",
    )
    .await;
    test.execute(
        "INSERT INTO mqtt_servers (host, port, username, password, enabled, is_default) \
         VALUES ('broker.example', 1883, NULL, NULL, TRUE, TRUE), ('other.example', NULL, 'u', 'p', NULL, NULL)",
    )
    .await;
}

/// Inserts again after a migration, and reads back as an ORM does.
async fn python_inserts_work(test: &TestDatabase) {
    test.execute("DELETE FROM flows").await;
    let before: i64 = test.value("SELECT COUNT(*) FROM data").await;
    insert_as_python_does(test).await;
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM data").await, before + 2);
    let next = "UPDATE flows SET last_msg_id = last_msg_id + 1 WHERE code = 'temperature'";
    assert_eq!(test.try_execute(next).await.unwrap(), 1);
    assert_eq!(test.column::<i64>("SELECT last_msg_id FROM flows WHERE enabled = TRUE").await, [8]);
}
