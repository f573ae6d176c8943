//! Migration: additive, repeatable, and safe when two gateways start at once.

use test_support::flows::NewFlow;
use test_support::world::{World, text_of};

fn second_migration_changes_nothing(world: World) {
    for _ in 0..2 {
        let output = world.command(&["migrate"]);
        assert!(output.status.success(), "{}", text_of(&output));
    }
    NewFlow::new("python", "p").insert(&world.sql);
    world.sql.run(
        "INSERT INTO data (received_at, flow_code, attribute_name, attribute_value, last_msg_id) \
         VALUES ('2026-01-02 03:04:05', 'python', 'a', '1', 1)",
    );
    world.sql.run(
        "INSERT INTO mqtt_servers (host, port, username, password, enabled, is_default) \
         VALUES ('h', NULL, NULL, NULL, NULL, NULL)",
    );
    assert_eq!(world.stored("python").len(), 1);
}

fn python_rows_stay_unchanged(world: World) {
    NewFlow::new("old", "p").schema(r#"{"a": "int"}"#).continues_from(7).insert(&world.sql);
    world.sql.run(
        "INSERT INTO data (received_at, flow_code, attribute_name, attribute_value, last_msg_id) \
         VALUES ('2026-01-02 03:04:05', 'old', 'a', '1', 7)",
    );
    assert!(world.command(&["migrate"]).status.success());
    assert_eq!(world.last_msg_id("old"), Some(7));
    let stored = world.stored("old");
    assert_eq!((stored[0].id, stored[0].value("a")), (7, Some("1")));
    assert!(stored[0].received_at.starts_with("2026-01-02 03:04:05"));
}

fn concurrent_migrations_succeed(world: World) {
    std::thread::scope(|scope| {
        let (settings, directory) = (&world.settings, world.directory());
        let runs: Vec<_> = (0..3)
            .map(|_| scope.spawn(|| test_support::world::command(&["migrate"], settings, directory)))
            .collect();
        for run in runs {
            let output = run.join().unwrap();
            assert!(output.status.success(), "{}", text_of(&output));
        }
    });
    assert_eq!(world.sql.count("SELECT COUNT(*) FROM dead_letters", []), 0);
}

fn a_start_migrates_by_itself(world: World) {
    world.flow("any", "t").insert(&world.sql);
    let _gateway = world.start_subscribed();
    world.publish("t", r#"{"a": 1}"#);
    world.wait_for_stored("any", 1);
    for table in ["inbox_offsets", "outbox", "dead_letters"] {
        world.sql.count(&format!("SELECT COUNT(*) FROM {table}"), []);
    }
}

on_each_database!(
    second_migration_changes_nothing,
    python_rows_stay_unchanged,
    concurrent_migrations_succeed,
    a_start_migrates_by_itself,
);
