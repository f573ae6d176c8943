//! Tables that were made otherwise than the Python service makes them.

use test_support::oracle::Load;
use test_support::sql::Sql;
use test_support::world::{Backend, World, text_of};

/// That `run` and `check` end with this, and `migrate` as well.
fn assert_refused_by_every_command(world: &World, words: &[&str]) {
    for (arguments, line) in [
        (&["run"][..], "Fatal error during startup: "),
        (&["check"], "FAIL schema: "),
        (&["migrate"], "Migration failed: "),
    ] {
        let output = world.command(arguments);
        let text = text_of(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {text}");
        let said = text.lines().find(|said| said.contains(line)).unwrap_or_else(|| panic!("{line}: {text}"));
        assert!(words.iter().all(|word| said.contains(word)), "{words:?}: {said}");
        assert!(!text.contains("The database is not available"), "{text}");
    }
}

#[test]
fn tables_without_transactions_are_refused() {
    for engine in ["MyISAM", "Aria"] {
        let world = World::on(Backend::MariaDb);
        let mut load = Load::over(&world, 2);
        world.sql.run(&format!("ALTER TABLE data ENGINE={engine}"));
        let mends = "ALTER TABLE data ENGINE=InnoDB";
        assert_refused_by_every_command(&world, &["data", engine, mends]);

        world.sql.run(mends);
        let mut gateway = world.start_subscribed();
        let messages = load.next(&world, 20);
        world.publish_all(messages);
        load.wait_until_stored(&world);
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(load.judge(&world), [0; 0]);
    }
}

#[test]
fn a_column_that_cannot_be_read_is_named() {
    for (backend, alter) in [
        (Backend::MariaDb, "ALTER TABLE mqtt_servers MODIFY port VARCHAR(20)"),
        (Backend::Postgres, "ALTER TABLE mqtt_servers ALTER COLUMN port TYPE VARCHAR(20)"),
    ] {
        let world = World::on(backend);
        world.sql.run(alter);
        assert_refused_by_every_command(
            &world,
            &["mqtt_servers.port", "varying(20)", "an integer"]
                .map(|word| {
                    if backend == Backend::MariaDb {
                        word.replace("varying", "varchar")
                    } else {
                        word.to_owned()
                    }
                })
                .each_ref()
                .map(String::as_str),
        );
    }
    let world = World::on(Backend::Sqlite);
    world.sql.run("UPDATE mqtt_servers SET port = 'mqtt'");
    let output = world.command(&["run"]);
    let text = text_of(&output);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains("Fatal error during startup: reading the MQTT servers: "), "{text}");
    assert!(!text.contains("The database is not available"), "{text}");
}

/// As a server of another version may lack it.
#[test]
fn server_without_function_ends_start() {
    let world = World::on(Backend::Postgres);
    let mut database = url::Url::parse(&std::env::var("TEST_POSTGRES_URL").unwrap()).unwrap();
    database.set_path(&world.name);
    let admin = Sql::open(database.as_str());
    admin.run("ALTER FUNCTION pg_catalog.pg_advisory_xact_lock(bigint) RENAME TO gone");
    assert_refused_by_every_command(&world, &["taking the migration lock", "pg_advisory_xact_lock"]);
}

/// Waiting helps, because a GRANT takes effect on a server that runs.
#[test]
fn a_refused_statement_is_not_called_an_outage() {
    let world = World::on(Backend::Postgres);
    let mut database = url::Url::parse(&std::env::var("TEST_POSTGRES_URL").unwrap()).unwrap();
    database.set_path(&world.name);
    let admin = Sql::open(database.as_str());
    admin.run("ALTER TABLE mqtt_servers OWNER TO root");
    admin.run(&format!("GRANT ALL ON mqtt_servers TO {}", world.name));
    let gateway = world.start();
    gateway.wait_for_line("The database refuses what the start needs, trying again: adding to the schema: ");
    assert_eq!(gateway.count_lines("The database is not available"), 0);
    admin.run(&format!("ALTER TABLE mqtt_servers OWNER TO {}", world.name));
    gateway.wait_for_line("Database: added column mqtt_servers.tls");
}

#[test]
fn unsigned_keys_and_ports_are_read() {
    for integer in ["INT UNSIGNED", "BIGINT UNSIGNED"] {
        let world = World::on(Backend::MariaDb);
        let mut load = Load::over(&world, 4);
        for alter in [
            &format!("flows MODIFY id {integer} NOT NULL AUTO_INCREMENT"),
            &format!("mqtt_servers MODIFY id {integer} NOT NULL AUTO_INCREMENT"),
            "mqtt_servers MODIFY port SMALLINT UNSIGNED",
        ] {
            world.sql.run(&format!("ALTER TABLE {alter}"));
        }
        let checked = world.command(&["check"]);
        assert!(checked.status.success(), "{}", text_of(&checked));
        let mut gateway = world.start_subscribed();
        let messages = load.next(&world, 400);
        world.publish_all(messages);
        load.wait_until_stored(&world);
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(load.judge(&world), [0; 0]);
        assert_eq!(world.dead_letters(), []);
    }
}

#[test]
fn nonzero_enabled_flags_run() {
    for backend in [Backend::MariaDb, Backend::Postgres, Backend::Sqlite] {
        let world = World::on(backend);
        let mut load = Load::over(&world, 2);
        for table in ["flows", "mqtt_servers"] {
            if backend == Backend::Postgres {
                let alter =
                    "ALTER COLUMN enabled TYPE SMALLINT USING CAST(CAST(enabled AS INTEGER) AS SMALLINT)";
                world.sql.run(&format!("ALTER TABLE {table} {alter}"));
            }
            world.sql.run(&format!(
                "UPDATE {table} SET enabled = 2 WHERE enabled = {}",
                match backend {
                    Backend::Postgres => "1",
                    Backend::MariaDb | Backend::Sqlite => "TRUE",
                }
            ));
        }
        let mark = world.broker.mark();
        let mut gateway = world.start();
        world.wait_for_filters(mark, &[&world.topic("load/0"), &world.topic("load/1")]);
        let messages = load.next(&world, 40);
        world.publish_all(messages);
        load.wait_until_stored(&world);
        assert_eq!(gateway.stop(), Some(0));
        assert_eq!(load.judge(&world), [0; 0]);
    }
}

#[test]
fn start_with_broker_needs_no_insert_right() {
    let world = World::on(Backend::MariaDb);
    let mut load = Load::over(&world, 2);
    assert!(world.command(&["migrate"]).status.success());
    let user = format!("'{}'@'%'", world.name);
    world.sql.run(&format!("REVOKE ALL ON {}.* FROM {user}", world.name));
    world.sql.run(&format!("GRANT SELECT, UPDATE, DELETE ON {}.* TO {user}", world.name));
    let tables = world.sql.rows(
        "SELECT CAST(table_name AS CHAR) FROM information_schema.tables WHERE table_schema = DATABASE()",
        [],
    );
    for table in tables.iter().map(|row| row.try_get_by_index::<String>(0).unwrap()) {
        if table != "mqtt_servers" {
            world.sql.run(&format!("GRANT INSERT ON {}.{table} TO {user}", world.name));
        }
    }
    let mut gateway = world.start_subscribed();
    let messages = load.next(&world, 20);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
}
