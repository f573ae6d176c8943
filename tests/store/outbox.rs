//! The table of undelivered messages, its owners and their leases, on real databases.

use std::time::Duration;

use crate::database::TestDatabase;
use mqtt_gateway::domain::dead_letter::DeadLetterReason;
use mqtt_gateway::domain::message::FlowId;
use mqtt_gateway::domain::outbox::OutboxKey;
use mqtt_gateway::domain::outbox_work::{
    Destination, FlowDestination, HoldReason, LoadOrder, LoadedFlow, Outcome, Remainder, cost,
};
use mqtt_gateway::domain::posting::attempts::{Attempt, RecentAttempts};
use mqtt_gateway::store::outbox::{Lease, Outbox};
use mqtt_gateway::store::{Database, migrate};
use sea_orm::ConnectionTrait;

const US: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const THEM: &str = "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";
const OTHERS: &str = "cccccccccccccccccccccccccccccccc";

on_every_database! {
    outbox_loads_in_order_within_limits
    what_is_delivered_is_deleted_and_nothing_else
    large_and_small_payloads_are_loaded_together
    failed_delivery_waits_by_database_clock
    expired_row_becomes_complete_dead_letter
    row_that_another_deletes_becomes_no_dead_letter
    attempts_are_kept_until_the_dead_letter
    reassigned_rows_belong_to_new_owner
    a_lease_that_ran_out_is_begun_anew
    leaseless_rows_are_reassigned_once
    an_owner_that_lives_keeps_its_rows
    new_owner_gets_time_for_lease
    earlier_rows_of_other_owners_are_seen
    load_ends_before_rows_of_other_owners
    claim_during_a_load_changes_no_order
    pause_does_not_age_waiting_posts
    replicas_record_one_pause
    pauses_of_idle_flows_are_forgotten
}

async fn outbox(test: &TestDatabase, owner: &str) -> Outbox {
    let database = Database::connect(test.settings(), 2).await.unwrap();
    migrate(&database).await.unwrap();
    Outbox::new(database, owner.into())
}

/// Rows of `owner`, numbered like their offsets.
async fn insert(test: &TestDatabase, owner: &str, flow: i64, numbers: std::ops::RangeInclusive<i64>) {
    let now = test.seconds_from_now(0);
    for number in numbers {
        let sql = format!(
            "INSERT INTO outbox (inbox_id, flow_id, inbox_offset, message_id, flow_code, topic, url, payload, \
             owner, attempts, created_at, next_attempt_at) VALUES ('{owner}', {flow}, {number}, {number}, \
             'code', 'a/b', 'http://localhost/', '{{\"n\": {number:04}}}', '{owner}', 0, {now}, {now})"
        );
        test.execute(&sql).await;
    }
}

/// Sets a lease that ends `seconds` from now.
async fn lease(test: &TestDatabase, owner: &str, seconds: i64) {
    let until = test.seconds_from_now(seconds);
    test.execute(&format!("DELETE FROM outbox_owners WHERE owner = '{owner}'")).await;
    test.execute(&format!("INSERT INTO outbox_owners (owner, lease_until) VALUES ('{owner}', {until})"))
        .await;
}

fn key(inbox: &str, flow: i64, offset: u64) -> OutboxKey {
    OutboxKey { inbox_id: inbox.into(), inbox_offset: offset, flow_id: flow }
}

fn numbers(loaded: &LoadedFlow) -> Vec<i64> {
    loaded.items.iter().map(|loaded| loaded.item.message_id).collect()
}

fn order(flow: FlowId, after: Option<i64>, max_messages: usize, max_bytes: usize) -> LoadOrder {
    LoadOrder { flow, after, max_messages, max_bytes, wants_destination: false, waits_for_others: true }
}

async fn rows_left(test: &TestDatabase) -> i64 {
    test.value("SELECT COUNT(*) FROM outbox").await
}

async fn outbox_loads_in_order_within_limits(test: TestDatabase) {
    let outbox = outbox(&test, US).await;
    insert(&test, US, 1, 1..=9).await;
    insert(&test, US, 2, 1..=1).await;
    insert(&test, THEM, 1, 10..=10).await;
    // A counter that was set back by hand.
    test.execute("UPDATE outbox SET message_id = 100 WHERE flow_id = 1 AND inbox_offset = 1").await;

    let all = outbox.load(&order(1, None, 100, 1 << 20)).await.unwrap();
    assert_eq!((numbers(&all), all.remainder), (vec![2, 3, 4, 5, 6, 7, 8, 9, 100], Remainder::Nothing));
    let first = &all.items[0];
    assert_eq!(first.item.key, key(US, 1, 2));
    assert_eq!(first.item.payload.as_bytes(), b"{\"n\": 0002}");
    assert_eq!(
        (&*first.item.flow_code, &*first.item.topic, &*first.item.destination.url),
        ("code", "a/b", "http://localhost/")
    );
    assert!(first.age < Duration::from_mins(5) && first.due_in.is_zero());

    let some = outbox.load(&order(1, None, 4, 1 << 20)).await.unwrap();
    assert_eq!((numbers(&some), some.remainder), (vec![2, 3, 4, 5], Remainder::Above));
    let small = outbox.load(&order(1, None, 100, 3 * cost(11))).await.unwrap();
    assert_eq!((numbers(&small), small.remainder), (vec![2, 3, 4], Remainder::Above));
    let one = outbox.load(&order(1, None, 100, 0)).await.unwrap();
    assert_eq!((numbers(&one), one.remainder), (vec![2], Remainder::Above));
    let none = outbox.load(&order(3, None, 100, 100)).await.unwrap();
    assert_eq!((numbers(&none), none.remainder), (vec![], Remainder::Nothing));

    let later = outbox.load(&order(1, Some(7), 2, 1 << 20)).await.unwrap();
    assert_eq!((numbers(&later), later.remainder), (vec![8, 9], Remainder::Above));
    let last = outbox.load(&order(1, Some(9), 1, 1 << 20)).await.unwrap();
    assert_eq!((numbers(&last), last.remainder), (vec![100], Remainder::Nothing));
    test.execute("UPDATE outbox SET message_id = 3 WHERE flow_id = 1 AND inbox_offset = 1").await;
    let cut = outbox.load(&order(1, Some(2), 1, 1 << 20)).await.unwrap();
    assert_eq!((numbers(&cut), cut.remainder), (vec![3], Remainder::Same));
    test.execute("UPDATE outbox SET message_id = 100 WHERE flow_id = 1 AND inbox_offset = 1").await;

    let mut waiting = outbox.waiting().await.unwrap();
    waiting.sort_unstable_by_key(|waiting| waiting.flow);
    let found: Vec<_> =
        waiting.iter().map(|found| (found.flow, found.rows, found.lowest_message_id)).collect();
    assert_eq!(found, [(1, 9, 2), (2, 1, 1)]);
    test.execute("UPDATE outbox SET created_at = '2020-01-01 00:00:00' WHERE flow_id = 2").await;
    let aged = outbox.waiting().await.unwrap();
    let year = Duration::from_hours(365 * 24);
    let old: Vec<_> = aged.iter().filter(|found| found.oldest_age > year).map(|found| found.flow).collect();
    assert_eq!(old, [2]);
}

async fn large_and_small_payloads_are_loaded_together(test: TestDatabase) {
    let outbox = outbox(&test, US).await;
    insert(&test, US, 1, 1..=4).await;
    let large = "x".repeat(1000);
    test.execute(&format!("UPDATE outbox SET payload = '{large}' WHERE inbox_offset IN (1, 3)")).await;
    let loaded = outbox.load(&order(1, None, 10, 2 * cost(1000) + 2 * cost(11))).await.unwrap();
    let payloads: Vec<_> = loaded.items.iter().map(|loaded| loaded.item.payload.as_bytes()).collect();
    let large = large.as_bytes();
    assert_eq!(payloads, [large, b"{\"n\": 0002}", large, b"{\"n\": 0004}"]);
    let bounded = outbox.load(&order(1, None, 10, 2 * cost(1000))).await.unwrap();
    assert_eq!((numbers(&bounded), bounded.remainder), (vec![1, 2], Remainder::Above));
}

async fn what_is_delivered_is_deleted_and_nothing_else(test: TestDatabase) {
    let outbox = outbox(&test, US).await;
    insert(&test, US, 1, 1..=5).await;
    insert(&test, US, 2, 1..=5).await;
    outbox.write_outcomes(&[]).await.unwrap();
    assert_eq!(rows_left(&test).await, 10);
    let delivered = [(1, 1), (1, 2), (1, 3), (2, 5), (2, 77)];
    let delivered = delivered.map(|(flow, offset)| Outcome::Delivered { key: key(US, flow, offset) });
    outbox.write_outcomes(&delivered).await.unwrap();
    // Of unknown outcome: once more does no harm.
    outbox.write_outcomes(&delivered).await.unwrap();
    assert_eq!(numbers(&outbox.load(&order(1, None, 9, 9999)).await.unwrap()), [4, 5]);
    assert_eq!(numbers(&outbox.load(&order(2, None, 9, 9999)).await.unwrap()), [1, 2, 3, 4]);
}

async fn failed_delivery_waits_by_database_clock(test: TestDatabase) {
    let outbox = outbox(&test, US).await;
    insert(&test, US, 1, 1..=1).await;
    let error = "é".repeat(3000);
    let retry_in = Duration::from_millis(600_500);
    let recent_attempts = RecentAttempts::default();
    let failed = Outcome::Failed { key: key(US, 1, 1), attempts: 3, retry_in, error, recent_attempts };
    outbox.write_outcomes(&[failed]).await.unwrap();
    let loaded = outbox.load(&order(1, None, 1, 9999)).await.unwrap();
    let row = &loaded.items[0];
    assert_eq!(row.item.attempts, 3);
    assert!(row.due_in <= retry_in && row.due_in > Duration::from_mins(9), "due in {:?}", row.due_in);
    let kept: String = test.value("SELECT last_error FROM outbox").await;
    assert_eq!(kept, "é".repeat(2500));
}

async fn expired_row_becomes_complete_dead_letter(test: TestDatabase) {
    let outbox = outbox(&test, US).await;
    insert(&test, US, 7, 41..=42).await;
    let expired = Outcome::GivenUp {
        key: key(US, 7, 41),
        reason: DeadLetterReason::OutboxExpired,
        detail: "HTTP status 500".to_owned(),
        recent_attempts: RecentAttempts::default(),
    };
    outbox.write_outcomes(std::slice::from_ref(&expired)).await.unwrap();
    outbox.write_outcomes(&[expired]).await.unwrap();
    assert_eq!(numbers(&outbox.load(&order(7, None, 9, 9999)).await.unwrap()), [42]);
    let row = &test.rows("SELECT * FROM dead_letters").await[0];
    assert_eq!(row.try_get::<String>("", "reason").unwrap(), "outbox_expired");
    assert_eq!(row.try_get::<String>("", "detail").unwrap(), "HTTP status 500");
    assert_eq!(row.try_get::<Vec<u8>>("", "payload").unwrap(), b"{\"n\": 0041}");
    assert_eq!(row.try_get::<i64>("", "payload_bytes").unwrap(), 11);
    assert_eq!(row.try_get::<i64>("", "message_id").unwrap(), 41);
    assert_eq!(row.try_get::<i64>("", "flow_id").unwrap(), 7);
    assert_eq!(row.try_get::<i64>("", "inbox_offset").unwrap(), 41);
    assert_eq!(row.try_get::<String>("", "inbox_id").unwrap(), US);
    assert_eq!(row.try_get::<String>("", "flow_code").unwrap(), "code");
    assert_eq!(row.try_get::<String>("", "topic").unwrap(), "a/b");
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM dead_letters").await, 1);
}

async fn attempts_are_kept_until_the_dead_letter(test: TestDatabase) {
    let outbox = outbox(&test, US).await;
    insert(&test, US, 1, 1..=2).await;
    let attempt = Attempt::new(0, Duration::from_millis(7)).with_answer(503, "busy\0");
    let item = outbox.load(&order(1, None, 1, 9999)).await.unwrap().items.remove(0).item;
    assert_eq!(item.recent_attempts, RecentAttempts::default());
    let failed = |recent_attempts| Outcome::Failed {
        key: key(US, 1, 1),
        attempts: 1,
        retry_in: Duration::ZERO,
        error: String::new(),
        recent_attempts,
    };
    let outcome = failed(RecentAttempts::default()).with_attempt(&item, attempt.clone());
    // The second outcome brings no attempt and leaves those of the row.
    outbox.write_outcomes(&[outcome, failed(RecentAttempts::default())]).await.unwrap();
    let item = outbox.load(&order(1, None, 1, 9999)).await.unwrap().items.remove(0).item;
    assert_eq!(item.recent_attempts, RecentAttempts::default().with(attempt.clone()));

    let given_up = |offset| Outcome::GivenUp {
        key: key(US, 1, offset),
        reason: DeadLetterReason::FlowDeleted,
        detail: String::new(),
        recent_attempts: RecentAttempts::default(),
    };
    outbox.write_outcomes(&[given_up(1), given_up(2)]).await.unwrap();
    let kept: Vec<Option<String>> =
        test.column("SELECT recent_attempts FROM dead_letters ORDER BY message_id").await;
    assert_eq!(kept, [RecentAttempts::default().with(attempt).to_json(), None]);
}

async fn reassigned_rows_belong_to_new_owner(test: TestDatabase) {
    let outbox = outbox(&test, US).await;
    insert(&test, US, 1, 1..=3).await;
    test.execute(&format!("UPDATE outbox SET owner = '{THEM}'")).await;
    let error = "refused".to_owned();
    let outcomes = [
        Outcome::Failed {
            key: key(US, 1, 1),
            attempts: 9,
            retry_in: Duration::from_mins(1),
            error: error.clone(),
            recent_attempts: RecentAttempts::default(),
        },
        Outcome::GivenUp {
            key: key(US, 1, 2),
            reason: DeadLetterReason::OutboxExpired,
            detail: error,
            recent_attempts: RecentAttempts::default(),
        },
        Outcome::Delivered { key: key(US, 1, 3) },
    ];
    outbox.write_outcomes(&outcomes).await.unwrap();
    assert_eq!(rows_left(&test).await, 2);
    assert_eq!(test.value::<i64>("SELECT MAX(attempts) FROM outbox").await, 0);
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM dead_letters").await, 0);
}

async fn a_lease_that_ran_out_is_begun_anew(test: TestDatabase) {
    let outbox = outbox(&test, US).await;
    assert_eq!(outbox.renew_lease().await.unwrap(), Lease::Acquired);
    assert_eq!(outbox.renew_lease().await.unwrap(), Lease::Held);
    lease(&test, US, -1).await;
    assert_eq!(outbox.renew_lease().await.unwrap(), Lease::Acquired);
    assert_eq!(outbox.renew_lease().await.unwrap(), Lease::Held);
}

async fn leaseless_rows_are_reassigned_once(test: TestDatabase) {
    let (us, others) = (outbox(&test, US).await, outbox(&test, OTHERS).await);
    insert(&test, THEM, 1, 1..=20).await;
    lease(&test, THEM, -1).await;
    let (ours, theirs) = tokio::join!(us.claim_abandoned(), others.claim_abandoned());
    let (ours, theirs) = (ours.unwrap(), theirs.unwrap());
    assert_eq!(ours.max(theirs), 20);
    assert_eq!(ours.min(theirs), 0);
    let winner = if ours > 0 { us } else { others };
    let loaded = winner.load(&order(1, None, 100, 1 << 20)).await.unwrap();
    assert_eq!(loaded.items.len(), 20);
    assert_eq!(loaded.items[0].item.key, key(THEM, 1, 1), "the key stays the same");
    // A transaction of theirs that ends late.
    insert(&test, THEM, 1, 21..=21).await;
    assert_eq!(winner.claim_abandoned().await.unwrap(), 1);
}

async fn an_owner_that_lives_keeps_its_rows(test: TestDatabase) {
    let (us, them) = (outbox(&test, US).await, outbox(&test, THEM).await);
    insert(&test, THEM, 1, 1..=1).await;
    them.renew_lease().await.unwrap();
    assert_eq!(us.claim_abandoned().await.unwrap(), 0);
    assert_eq!(them.load(&order(1, None, 9, 9999)).await.unwrap().items.len(), 1);
    // Long dead, and without rows: forgotten.
    lease(&test, THEM, -100_000).await;
    test.execute("DELETE FROM outbox").await;
    assert_eq!(us.claim_abandoned().await.unwrap(), 0);
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM outbox_owners").await, 0);
}

async fn new_owner_gets_time_for_lease(test: TestDatabase) {
    let (us, them) = (outbox(&test, US).await, outbox(&test, THEM).await);
    insert(&test, THEM, 1, 1..=1).await;
    assert_eq!(us.claim_abandoned().await.unwrap(), 0);
    assert_eq!(them.renew_lease().await.unwrap(), Lease::Held);
    lease(&test, THEM, -1).await;
    assert_eq!(us.claim_abandoned().await.unwrap(), 1);
}

async fn earlier_rows_of_other_owners_are_seen(test: TestDatabase) {
    let us = outbox(&test, US).await;
    insert(&test, US, 1, 5..=6).await;
    insert(&test, THEM, 1, 7..=7).await;
    insert(&test, THEM, 2, 1..=1).await;
    lease(&test, THEM, 60).await;
    let is_behind = async |order: LoadOrder| us.load(&order).await.unwrap().is_behind;
    assert!(!is_behind(order(1, None, 9, 9999)).await, "others have only later rows");
    insert(&test, THEM, 1, 4..=4).await;
    assert!(is_behind(order(1, None, 9, 9999)).await);
    assert!(is_behind(order(1, Some(5), 9, 9999)).await, "not only at the start");
    assert!(!is_behind(LoadOrder { waits_for_others: false, ..order(1, None, 9, 9999) }).await);
    lease(&test, THEM, -1).await;
    assert!(us.has_abandoned().await.unwrap());
    assert_eq!(us.claim_abandoned().await.unwrap(), 3);
    assert!(!us.has_abandoned().await.unwrap());
    assert!(!is_behind(order(1, None, 9, 9999)).await, "they are our rows now");
}

async fn load_ends_before_rows_of_other_owners(test: TestDatabase) {
    let us = outbox(&test, US).await;
    insert(&test, US, 1, 1..=3).await;
    insert(&test, THEM, 1, 4..=4).await;
    insert(&test, US, 1, 5..=6).await;
    lease(&test, THEM, 60).await;
    let loaded = us.load(&order(1, None, 9, 9999)).await.unwrap();
    assert_eq!(
        (numbers(&loaded), loaded.remainder, loaded.is_behind),
        (vec![1, 2, 3], Remainder::Above, false)
    );
    let loaded = us.load(&order(1, Some(3), 9, 9999)).await.unwrap();
    assert_eq!((numbers(&loaded), loaded.is_behind), (vec![], true));
    // Both have a row with this number, because the counter was set back. One of them has to begin.
    test.execute("UPDATE outbox SET message_id = 4 WHERE inbox_offset = 5").await;
    let loaded = us.load(&order(1, Some(3), 9, 9999)).await.unwrap();
    assert_eq!((numbers(&loaded), loaded.remainder, loaded.is_behind), (vec![4], Remainder::Above, false));
}

/// The row 1 changes hands all the time. Whoever has it, row 2 is never the first.
async fn claim_during_a_load_changes_no_order(test: TestDatabase) {
    let us = outbox(&test, US).await;
    insert(&test, THEM, 1, 1..=1).await;
    insert(&test, US, 1, 2..=2).await;
    lease(&test, THEM, 60).await;
    let claims = async {
        for owner in [US, THEM].into_iter().cycle().take(200) {
            test.execute(&format!("UPDATE outbox SET owner = '{owner}' WHERE message_id = 1")).await;
        }
    };
    let loads = async {
        for _ in 0..200 {
            let loaded = us.load(&order(1, None, 9, 9999)).await.unwrap();
            let found = (numbers(&loaded), loaded.is_behind);
            assert!(found == (vec![1, 2], false) || found == (vec![], true), "{found:?}");
        }
    };
    tokio::join!(claims, loads);
}

/// A cancellation has deleted the same row, and commits a little later in each round.
async fn row_that_another_deletes_becomes_no_dead_letter(test: TestDatabase) {
    let us = outbox(&test, US).await;
    let other = Database::connect(test.settings(), 1).await.unwrap();
    let outcomes = [Outcome::GivenUp {
        key: key(US, 1, 1),
        reason: DeadLetterReason::OutboxExpired,
        detail: String::new(),
        recent_attempts: RecentAttempts::default(),
    }];
    for round in 0..40 {
        insert(&test, US, 1, 1..=1).await;
        let cancelling = other.begin().await.unwrap();
        cancelling.execute_unprepared("DELETE FROM outbox").await.unwrap();
        let ending = async {
            for _ in 0..round % 8 {
                cancelling.execute_unprepared("SELECT 1").await.unwrap();
            }
            cancelling.commit().await.unwrap();
        };
        let (given_up, ()) = tokio::join!(us.write_outcomes(&outcomes), ending);
        given_up.unwrap();
        assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM dead_letters").await, 0, "round {round}");
    }
}

fn paused(flow: i64) -> FlowDestination {
    FlowDestination { flow, code: "code".to_owned(), destination: Destination::OnHold(HoldReason::Disabled) }
}

fn posting(flow: i64) -> FlowDestination {
    FlowDestination {
        flow,
        code: "code".to_owned(),
        destination: Destination::Url("http://localhost/".into()),
    }
}

/// The whole minutes of the age of the oldest row, as counted and as loaded.
async fn ages_in_minutes(outbox: &Outbox, flow: i64) -> (u64, u64) {
    let waiting = outbox.waiting().await.unwrap();
    let counted = waiting.iter().find(|found| found.flow == flow).unwrap().oldest_age;
    // Whoever posts first: the ages count.
    let any = LoadOrder { waits_for_others: false, ..order(flow, None, 1, 9999) };
    let loaded = outbox.load(&any).await.unwrap().items[0].age;
    (counted.as_secs() / 60, loaded.as_secs() / 60)
}

async fn pause_does_not_age_waiting_posts(test: TestDatabase) {
    let outbox = outbox(&test, US).await;
    insert(&test, US, 1, 1..=2).await;
    insert(&test, US, 2, 1..=1).await;
    let aged = |seconds: i64| format!("UPDATE outbox SET created_at = {}", test.seconds_from_now(-seconds));
    test.execute(&aged(7230)).await;
    assert_eq!(ages_in_minutes(&outbox, 1).await, (120, 120));
    outbox.record_pauses(&[paused(1), posting(2)]).await.unwrap();
    assert_eq!(ages_in_minutes(&outbox, 1).await, (0, 0), "no age during the pause");
    assert_eq!(ages_in_minutes(&outbox, 2).await, (120, 120), "another flow");
    outbox.record_pauses(&[posting(1), posting(2)]).await.unwrap();
    assert_eq!(ages_in_minutes(&outbox, 1).await, (0, 0), "the age begins again");

    let ended = format!("UPDATE outbox_pauses SET resumed_at = {}", test.seconds_from_now(-1830));
    test.execute(&ended).await;
    outbox.record_pauses(&[posting(1), posting(2)]).await.unwrap();
    assert_eq!(ages_in_minutes(&outbox, 1).await, (30, 30));
    test.execute(&aged(630)).await;
    assert_eq!(ages_in_minutes(&outbox, 1).await, (10, 10), "numbered after the pause");

    outbox.record_pauses(&[paused(1), posting(2)]).await.unwrap();
    assert_eq!(ages_in_minutes(&outbox, 1).await, (0, 0), "a second pause");
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM outbox_pauses").await, 1);
}

async fn replicas_record_one_pause(test: TestDatabase) {
    let (us, them) = (outbox(&test, US).await, outbox(&test, THEM).await);
    insert(&test, US, 1, 1..=1).await;
    insert(&test, THEM, 1, 2..=2).await;
    us.claim_abandoned().await.unwrap();
    let both = async |destinations: &[FlowDestination]| {
        let (ours, theirs) = tokio::join!(us.record_pauses(destinations), them.record_pauses(destinations));
        ours.unwrap();
        theirs.unwrap();
    };
    let begun = "SELECT COUNT(*) FROM outbox_pauses WHERE resumed_at IS NULL";
    both(&[paused(1)]).await;
    let first = test.seconds_from_now(-600);
    test.execute(&format!("UPDATE outbox_pauses SET paused_at = {first}")).await;
    both(&[paused(1)]).await;
    let unchanged = format!("{begun} AND paused_at < {}", test.seconds_from_now(-300));
    assert_eq!(test.value::<i64>(&unchanged).await, 1, "a pause begins once");
    // One that has read the flow too early begins the pause again, and the next sweep ends it.
    them.record_pauses(&[posting(1)]).await.unwrap();
    us.record_pauses(&[paused(1)]).await.unwrap();
    both(&[posting(1)]).await;
    assert_eq!(test.value::<i64>("SELECT COUNT(*) FROM outbox_pauses WHERE resumed_at IS NOT NULL").await, 1);
    assert_eq!((ages_in_minutes(&us, 1).await, ages_in_minutes(&them, 1).await), ((0, 0), (0, 0)));
}

async fn pauses_of_idle_flows_are_forgotten(test: TestDatabase) {
    let (us, them) = (outbox(&test, US).await, outbox(&test, THEM).await);
    insert(&test, US, 1, 1..=1).await;
    insert(&test, THEM, 2, 1..=1).await;
    us.claim_abandoned().await.unwrap();
    us.record_pauses(&[paused(1)]).await.unwrap();
    them.record_pauses(&[paused(2)]).await.unwrap();
    us.record_pauses(&[]).await.unwrap();
    let flows = async || test.column::<i64>("SELECT flow_id FROM outbox_pauses ORDER BY flow_id").await;
    assert_eq!(flows().await, [1, 2], "messages of another gateway wait");
    us.write_outcomes(&[Outcome::Delivered { key: key(US, 1, 1) }]).await.unwrap();
    us.record_pauses(&[]).await.unwrap();
    assert_eq!(flows().await, [2]);
    them.write_outcomes(&[Outcome::Delivered { key: key(THEM, 2, 1) }]).await.unwrap();
    us.record_pauses(&[]).await.unwrap();
    assert!(flows().await.is_empty());
}
