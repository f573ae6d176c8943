//! Old rows are deleted in portions, on real databases.

use std::time::Duration;

use crate::batches::Setup;
use crate::database::TestDatabase;
use mqtt_gateway::store::{
    Database, delete_excess_letters, delete_old_data, delete_old_letters, oldest_row_ahead,
};
use sea_orm::ConnectionTrait;

on_every_database! {
    old_letters_are_deleted_in_portions
    young_letters_do_not_hide_old_ones
    letter_that_is_refused_again_meanwhile_stays
    excess_letters_are_deleted_from_the_oldest
    old_data_is_deleted_up_to_the_first_young_row
    first_row_of_data_with_a_time_ahead_is_found
}

const HOUR: Duration = Duration::from_hours(1);

async fn insert_letters(setup: &Setup, count: usize, seconds: i64) {
    let at = setup.test.seconds_from_now(seconds);
    let row = format!("({at}, {at}, '0123456789abcdef0123456789abcdef', 1, 't', '', 0, 'flow_disabled')");
    let rows = vec![row.as_str(); count].join(", ");
    let columns = "occurred_at, received_at, inbox_id, inbox_offset, topic, payload, payload_bytes, reason";
    setup.test.execute(&format!("INSERT INTO dead_letters ({columns}) VALUES {rows}")).await;
}

async fn letters(setup: &Setup) -> i64 {
    setup.count("SELECT COUNT(*) FROM dead_letters").await
}

async fn old_letters_are_deleted_in_portions(test: TestDatabase) {
    let setup = Setup::new(test).await;
    insert_letters(&setup, 600, -3_700).await;
    // A letter that was refused again lies among older ones.
    insert_letters(&setup, 1, 0).await;
    insert_letters(&setup, 100, -3_700).await;
    insert_letters(&setup, 10, -3_500).await;
    assert_eq!(deleted_portions(&setup).await, [512, 188]);
    assert_eq!(letters(&setup).await, 11);
    assert_eq!(deleted_portions(&setup).await, [0]);
}

/// The numbers of deleted letters of all portions.
async fn deleted_portions(setup: &Setup) -> Vec<u64> {
    let (mut portions, mut after) = (Vec::new(), None);
    loop {
        let portion = delete_old_letters(&setup.database, HOUR, after).await.unwrap();
        portions.push(portion.deleted);
        after = portion.last_id;
        if after.is_none() {
            return portions;
        }
    }
}

/// Letters that were refused again have the lowest ids.
async fn young_letters_do_not_hide_old_ones(test: TestDatabase) {
    let setup = Setup::new(test).await;
    insert_letters(&setup, 513, 0).await;
    insert_letters(&setup, 1, -3_700).await;
    assert_eq!(deleted_portions(&setup).await, [0, 1]);
    assert_eq!(letters(&setup).await, 513);
    assert_eq!(deleted_portions(&setup).await, [0, 0]);
}

/// A replay holds the letter, and commits a little later in each round.
async fn letter_that_is_refused_again_meanwhile_stays(test: TestDatabase) {
    let setup = Setup::new(test).await;
    let other = Database::connect(setup.test.settings(), 1).await.unwrap();
    for round in 0..40 {
        insert_letters(&setup, 1, -3_700).await;
        let replaying = other.begin().await.unwrap();
        let refused = format!("UPDATE dead_letters SET occurred_at = {}", setup.test.seconds_from_now(0));
        replaying.execute_unprepared(&refused).await.unwrap();
        let ending = async {
            for _ in 0..round % 8 {
                replaying.execute_unprepared("SELECT 1").await.unwrap();
            }
            replaying.commit().await.unwrap();
        };
        let (portion, ()) = tokio::join!(delete_old_letters(&setup.database, HOUR, None), ending);
        assert_eq!((portion.unwrap().deleted, letters(&setup).await), (0, 1), "round {round}");
        setup.test.execute("DELETE FROM dead_letters").await;
    }
}

async fn excess_letters_are_deleted_from_the_oldest(test: TestDatabase) {
    let setup = Setup::new(test).await;
    assert_eq!(delete_excess_letters(&setup.database, 5).await.unwrap(), 0);
    insert_letters(&setup, 600, 0).await;
    setup.test.execute("DELETE FROM dead_letters WHERE id = 300").await;
    assert_eq!(delete_excess_letters(&setup.database, 599).await.unwrap(), 0);
    assert_eq!(delete_excess_letters(&setup.database, 5).await.unwrap(), 512);
    assert_eq!(delete_excess_letters(&setup.database, 5).await.unwrap(), 82);
    assert_eq!(delete_excess_letters(&setup.database, 5).await.unwrap(), 0);
    assert_eq!(setup.count("SELECT MIN(id) FROM dead_letters").await, 596);
}

async fn store_data(setup: &Setup, seconds_from_now: &[i64]) {
    for seconds in seconds_from_now {
        let at = setup.test.seconds_from_now(*seconds);
        let sql = format!(
            "INSERT INTO data (received_at, flow_code, attribute_name, attribute_value, last_msg_id) \
             VALUES ({at}, 'F', 'a', '1', 1)"
        );
        setup.test.execute(&sql).await;
    }
}

async fn first_row_of_data_with_a_time_ahead_is_found(test: TestDatabase) {
    let setup = Setup::new(test).await;
    assert_eq!(oldest_row_ahead(&setup.database).await.unwrap(), None);
    store_data(&setup, &[90_000, -7_200]).await;
    assert_eq!(delete_old_data(&setup.database, HOUR).await.unwrap(), 0);
    assert_eq!(oldest_row_ahead(&setup.database).await.unwrap(), Some(1));
    setup.test.execute("DELETE FROM data WHERE id = 1").await;
    assert_eq!(oldest_row_ahead(&setup.database).await.unwrap(), None);
}

async fn old_data_is_deleted_up_to_the_first_young_row(test: TestDatabase) {
    let setup = Setup::new(test).await;
    store_data(&setup, &[-7_200, -3_700, -3_500, -7_200]).await;
    assert_eq!(delete_old_data(&setup.database, HOUR).await.unwrap(), 2);
    assert_eq!(delete_old_data(&setup.database, HOUR).await.unwrap(), 0);
    assert_eq!(setup.count("SELECT MIN(id) FROM data").await, 3);
}
