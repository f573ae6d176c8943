//! Waiting posts as operators work with them, on real databases.

use crate::batches::{INBOX, OUTBOX_BOUND, Setup, batch_of, entry};
use crate::database::TestDatabase;
use mqtt_gateway::domain::outbox::CountedPosts;
use mqtt_gateway::domain::outbox_work::Pause;
use mqtt_gateway::store::outbox::{
    Outbox, cancel_deliveries, count_posts, count_waiting, delivery_keys, retry_deliveries,
    waiting_deliveries,
};

on_every_database! {
    waiting_posts_are_listed_by_flow
    posts_of_a_flow_with_two_owners_are_one_line
    retried_posts_are_due_and_young
    retry_keeps_the_pause_of_a_disabled_flow
    cancelled_posts_are_dead_letters_once
}

/// A flow with posts that wait, the first of them after a failure.
async fn waiting_flow(test: TestDatabase) -> Setup {
    let setup = Setup::new(test).await;
    setup.flow("F", "POST_ENDPOINT").await;
    let mut lane = setup.lane();
    let position = lane.open(&setup.observer).await.position;
    let entries = (0..OUTBOX_BOUND).map(|n| entry(n, r#"{"a":1}"#, &[1])).collect();
    lane.process(&batch_of(position, entries), &setup.observer).await.unwrap();
    let later = setup.test.seconds_from_now(3_600);
    setup
        .test
        .execute(&format!(
            "UPDATE outbox SET attempts = 2, last_error = 'no', next_attempt_at = {later}, \
             recent_attempts = '[{{\"ms\":1}}]' WHERE message_id = 1"
        ))
        .await;
    setup
}

async fn rows(setup: &Setup) -> (i64, i64) {
    let letters = "SELECT COUNT(*) FROM dead_letters WHERE reason = 'cancelled' AND message_id IS NOT NULL";
    (setup.count("SELECT COUNT(*) FROM outbox").await, setup.count(letters).await)
}

async fn waiting_posts_are_listed_by_flow(test: TestDatabase) {
    let setup = waiting_flow(test).await;
    let found = waiting_deliveries(&setup.database, None).await.unwrap();
    let [flow] = &found[..] else { panic!("{found:?}") };
    assert_eq!((flow.flow, flow.code.as_deref(), flow.posts), (1, Some("F"), OUTBOX_BOUND));
    assert_eq!(flow.last_message_id, i64::try_from(OUTBOX_BOUND).unwrap());
    assert_eq!((flow.message_id, flow.attempts, flow.last_error.as_deref()), (1, 2, Some("no")));
    assert_eq!(flow.first.to_string(), format!("{INBOX}-0-1"));
    assert_eq!(flow.recent_attempts.as_deref(), Some(r#"[{"ms":1}]"#));
    assert!(flow.next_attempt_at_us > flow.oldest_at_us + 3_000_000_000);
    assert_eq!(waiting_deliveries(&setup.database, Some(1)).await.unwrap(), found);
    assert_eq!(waiting_deliveries(&setup.database, Some(2)).await.unwrap(), []);
    assert_eq!(count_waiting(&setup.database).await.unwrap(), (OUTBOX_BOUND, Some(flow.oldest_at_us)));
    setup.test.execute("DELETE FROM outbox").await;
    assert_eq!(count_waiting(&setup.database).await.unwrap(), (0, None));
}

async fn posts_of_a_flow_with_two_owners_are_one_line(test: TestDatabase) {
    let setup = waiting_flow(test).await;
    let before = waiting_deliveries(&setup.database, None).await.unwrap();
    let owner = "f".repeat(32);
    setup.test.execute(&format!("UPDATE outbox SET owner = '{owner}' WHERE message_id > 1")).await;
    assert_eq!(waiting_deliveries(&setup.database, None).await.unwrap(), before);
    // A counter that was set back gives two posts the same number.
    setup.test.execute("UPDATE outbox SET message_id = 2 WHERE message_id = 3").await;
    assert_eq!(waiting_deliveries(&setup.database, Some(1)).await.unwrap(), before);
}

async fn retried_posts_are_due_and_young(test: TestDatabase) {
    let setup = waiting_flow(test).await;
    retry_deliveries(&setup.database, 1).await.unwrap();
    retry_deliveries(&setup.database, 1).await.unwrap();
    let now = setup.test.seconds_from_now(1);
    let later = format!("SELECT COUNT(*) FROM outbox WHERE next_attempt_at > {now}");
    assert_eq!(setup.count(&later).await, 0);
    let pauses = Outbox::new(setup.database.clone(), INBOX.into()).pauses(None).await.unwrap();
    assert!(matches!(pauses.get(&1), Some(Pause::Ended { ago }) if ago.as_secs() < 60), "{pauses:?}");
}

async fn retry_keeps_the_pause_of_a_disabled_flow(test: TestDatabase) {
    let setup = waiting_flow(test).await;
    let now = setup.test.seconds_from_now(0);
    setup.test.execute(&format!("INSERT INTO outbox_pauses (flow_id, paused_at) VALUES (1, {now})")).await;
    retry_deliveries(&setup.database, 1).await.unwrap();
    assert_eq!(setup.count("SELECT COUNT(*) FROM outbox_pauses WHERE resumed_at IS NULL").await, 1);
}

async fn cancelled_posts_are_dead_letters_once(test: TestDatabase) {
    let setup = waiting_flow(test).await;
    let keys = delivery_keys(&setup.database, 1, None).await.unwrap();
    let all = i64::try_from(keys.len()).unwrap();
    let (posts, counted) = count_posts(&setup.database, 1).await.unwrap().unwrap();
    assert_eq!((posts, counted.last_message_id), (OUTBOX_BOUND, all));
    assert_eq!(delivery_keys(&setup.database, 1, Some(counted)).await.unwrap(), keys);
    let up_to_second = CountedPosts { last_message_id: 2, ..counted };
    assert_eq!(delivery_keys(&setup.database, 1, Some(up_to_second)).await.unwrap(), keys[..2]);
    let earlier = CountedPosts { at_us: counted.at_us - 3_600_000_000, ..counted };
    assert_eq!(delivery_keys(&setup.database, 1, Some(earlier)).await.unwrap(), []);
    assert_eq!(count_posts(&setup.database, 2).await.unwrap(), None);
    let mut cancelled = 0;
    cancel_deliveries(&setup.database, &keys[..1], &mut |posts| cancelled += posts).await.unwrap();
    assert_eq!((cancelled, rows(&setup).await), (1, (all - 1, 1)));
    let kept = "SELECT COUNT(*) FROM dead_letters WHERE recent_attempts IS NOT NULL AND inbox_offset = 0";
    assert_eq!(setup.count(kept).await, 1);
    cancel_deliveries(&setup.database, &keys, &mut |posts| cancelled += posts).await.unwrap();
    assert_eq!((cancelled, rows(&setup).await), (all.unsigned_abs(), (0, all)));
}
