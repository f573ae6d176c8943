//! Numbers that come to the end of an `INT`.

use test_support::oracle::Load;
use test_support::world::{Backend, SERVERS, World, text_of};

const HIGHEST: i64 = i32::MAX as i64;

#[test]
fn exhausted_ids_wait_for_wider_column() {
    SERVERS.into_iter().for_each(takes_no_number_until_its_column_is_widened);
}

fn takes_no_number_until_its_column_is_widened(backend: Backend) {
    let world = World::on(backend);
    world.flow("full", "full").continues_from(HIGHEST - 5).insert(&world.sql);
    world.flow("other", "other").insert(&world.sql);
    let mut gateway = world.start_subscribed();
    let publish = |count: usize| {
        for number in 0..count {
            world.publish("full", format!(r#"{{"number": {number}}}"#));
            world.publish("other", format!(r#"{{"number": {number}}}"#));
        }
    };
    publish(8);
    let other = world.wait_for_stored("other", 8);
    assert!(other.iter().map(|message| message.id).eq(1..=8));
    let letters = world.wait_for_dead_letters(3);
    assert!(letters.iter().all(|letter| letter.reason == "counter_exhausted"), "{letters:?}");
    assert_eq!((letters.len(), world.last_msg_id("full")), (3, Some(HIGHEST)));
    assert_eq!(gateway.stop(), Some(0));

    let output = world.command(&["migrate", "--widen-ids"]);
    assert!(output.status.success(), "{}", text_of(&output));
    let mut gateway = world.start_subscribed();
    publish(4);
    let stored = world.wait_for_stored("full", 9);
    assert!(stored.iter().map(|message| message.id).eq(HIGHEST - 4..=HIGHEST + 4));
    assert_eq!(world.dead_letters().len(), 3);
    assert_eq!(gateway.stop(), Some(0));
}

#[test]
fn exhausted_row_ids_wait_for_wider_column() {
    SERVERS.into_iter().for_each(wait_until_the_column_is_widened);
}

fn wait_until_the_column_is_widened(backend: Backend) {
    let world = World::on(backend);
    let mut load = Load::over(&world, 4);
    let mut gateway = world.start_subscribed();
    let count_from = match backend {
        Backend::Postgres => "ALTER SEQUENCE data_id_seq RESTART WITH",
        Backend::MariaDb | Backend::Sqlite => "ALTER TABLE data AUTO_INCREMENT =",
    };
    world.sql.run(&format!("{count_from} {}", HIGHEST - 300));
    // The warning goes by the highest id there is.
    let messages = load.next(&world, 4);
    world.publish_all(messages);
    load.wait_until_stored(&world);
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    gateway.wait_for_line("Database refuses, nothing is lost");
    gateway.wait_for_line("run `mqtt-gateway migrate --widen-ids`");
    let messages = load.next(&world, 500);
    world.publish_all(messages);
    assert_eq!(world.dead_letters(), []);

    // The gateway goes on trying meanwhile.
    let output = world.command(&["migrate", "--widen-ids"]);
    assert!(output.status.success(), "{}", text_of(&output));
    load.wait_until_stored(&world);
    assert_eq!(gateway.stop(), Some(0));
    assert_eq!(load.judge(&world), [0; 0]);
    assert_eq!(world.dead_letters(), []);
}
