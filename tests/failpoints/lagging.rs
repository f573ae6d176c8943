//! Flows whose rows are locked elsewhere, on real databases: their lane goes on, and they catch up.

mod held;
mod lane;

use std::time::Duration;

use crate::batches::entry;
use crate::database::TestDatabase;
use fail::FailScenario;
use lane::Lane;
use mqtt_gateway::domain::batch::{Batch, BatchEntry, BatchOutcome, CatchUp, LaggingFlow, Scope};
use mqtt_gateway::domain::message::{FlowId, Offset};
use mqtt_gateway::store::{Database, LaneFenced};
use sea_orm::{ConnectionTrait, QueryResult, Statement};

/// Two flows that store, `A` and `C`, and one that posts, `B`.
const A: FlowId = 1;
const B: FlowId = 2;
const C: FlowId = 3;

/// How long the lanes of these tests wait for a row.
const LOCK_WAIT: Duration = Duration::from_secs(1);

on_every_database! {
    whoever_takes_a_lane_over_finds_its_list
    batch_for_other_lagging_list_is_fenced
    lagging_flow_rejoins_at_lane_offset
    batch_of_flow_at_other_offset_is_fenced
    deleted_lagging_flow_catches_up_by_dead_letters
    disabled_lagging_flow_catches_up_by_dead_letters
    poison_of_lagging_flow_is_dead_letter
    lost_catch_up_answers_are_recognised
    lost_answer_repeats_no_dead_letter
    failed_catch_up_commit_is_retried
}

on_every_server! {
    locked_flow_catches_up_in_order
    flow_is_deferred_within_a_batch
    flows_locked_together_are_deferred_together
    lane_waits_if_deferring_is_disabled
    lane_waits_above_deferral_limit
    locked_lane_defers_no_flow
    still_locked_flow_blocks_no_other
    catch_up_queues_for_row_lock
    flow_relocked_in_catch_up_stays_deferred
    flow_under_deletion_lags_until_deleted
    lock_during_catch_up_reopens_lane
    takeover_during_deferral_misses_no_flow
    uncertain_lagging_list_is_reread
    lost_answer_with_deferred_flows_is_recognised
}

async fn locked_flow_catches_up_in_order(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    for flow in [A, B, C] {
        let mut lane = Lane::new(test.another().await).await;
        let held = lane.hold(&[lane.setup.lock_flow(flow)]);

        let outcome = lane.process(&lane.batch(0..5, 1)).await;
        assert_eq!(outcome.deferred, [lagging(flow, 0)]);
        assert_eq!(outcome.results.len(), 10);
        let outcome = lane.process(&lane.batch(5..8, 1)).await;
        assert_eq!((outcome.deferred.len(), outcome.results.len()), (0, 6));
        assert_eq!(lane.setup.observer.failures(), 0, "a flow that is left behind is no failure");
        assert_eq!(lane.list().await, [lagging(flow, 0)]);

        held.release();
        let outcome = lane.process(&lane.catch_up(flow, 0..3)).await;
        assert_eq!((outcome.catch_up, outcome.results.len()), (Some(CatchUp::Advanced), 3));
        let outcome = lane.process(&lane.catch_up(flow, 3..8)).await;
        assert_eq!((outcome.catch_up, outcome.results.len()), (Some(CatchUp::Rejoined), 5));
        assert_eq!(lane.process(&lane.batch(8..10, 1)).await.results.len(), 6);
        lane.assert_all_are_there_in_order(10).await;
        let code = ["A", "B", "C"][usize::try_from(flow).unwrap() - 1];
        let told = [format!("{code} left behind at 0"), format!("flow {flow} back in step")];
        assert_eq!(lane.setup.observer.lags(), told);
    }
}

async fn flow_is_deferred_within_a_batch(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::new(test).await;
    let batch = lane.batch_in_two_steps(Scope::Lane { max_deferred: 1 }, &[A, B, C]).await;
    let held = lane.hold_after_the_next_commit(&[lane.setup.lock_flow(A)]);

    let outcome = lane.process(&batch).await;

    assert_eq!(outcome.deferred, [lagging(A, 5)]);
    assert_eq!(numbers(&outcome, "A"), [1, 2, 3, 4, 5]);
    assert_eq!(numbers(&outcome, "C"), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(lane.list().await, [lagging(A, 5)]);
    held.lock().unwrap().take().unwrap().release();
    let outcome = lane.process(&lane.catch_up(A, 5..10)).await;
    assert_eq!(outcome.catch_up, Some(CatchUp::Rejoined));
    assert_eq!(numbers(&outcome, "A"), [6, 7, 8, 9, 10]);
}

async fn flows_locked_together_are_deferred_together(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::new(test).await;
    let held = lane.hold(&[lane.setup.lock_flow(A), lane.setup.lock_flow(C)]);

    let outcome = lane.process(&lane.batch(0..5, 2)).await;

    assert_eq!(outcome.deferred, [lagging(A, 0), lagging(C, 0)]);
    assert_eq!(numbers(&outcome, "B"), [1, 2, 3, 4, 5]);
    held.release();
    for flow in [C, A] {
        assert_eq!(lane.process(&lane.catch_up(flow, 0..5)).await.catch_up, Some(CatchUp::Rejoined));
    }
    lane.assert_all_are_there_in_order(5).await;
}

async fn lane_waits_if_deferring_is_disabled(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::new(test).await;
    let batch = lane.batch(0..5, 0);
    lane.assert_it_waits(&batch, &[lane.setup.lock_flow(A)]).await;
}

async fn lane_waits_above_deferral_limit(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::new(test).await;
    let batch = lane.batch(0..5, 1);
    lane.assert_it_waits(&batch, &[lane.setup.lock_flow(A), lane.setup.lock_flow(C)]).await;
}

async fn locked_lane_defers_no_flow(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::new(test).await;
    let batch = lane.batch(0..5, 3);
    lane.assert_it_waits(&batch, &["UPDATE inbox_offsets SET updated_at = NULL".to_owned()]).await;
}

async fn still_locked_flow_blocks_no_other(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::new(test).await;
    let held = lane.hold(&["UPDATE flows SET description = 'edited' WHERE id = 1".to_owned()]);
    lane.process(&lane.batch(0..5, 1)).await;

    let outcome = lane.process(&lane.catch_up(A, 0..5)).await;

    assert_eq!((outcome.catch_up, outcome.results.len()), (Some(CatchUp::StillLocked), 0));
    assert_eq!(lane.setup.observer.failures(), 0);
    assert_eq!(lane.list().await, [lagging(A, 0)]);
    held.release();
    lane.process(&lane.catch_up(A, 0..5)).await;
    lane.assert_all_are_there_in_order(5).await;
}

/// Another gateway that has the row time and again must not win each time.
async fn catch_up_queues_for_row_lock(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;
    lane.store = lane.setup.lane();
    lane.reopen().await;
    lane.process(&lane.catch_up(A, 0..4)).await;
    let held = lane.hold(&[lane.setup.lock_flow(A)]);
    let batch = lane.catch_up(A, 4..10);

    let test = &lane.setup.test;
    let releasing = async {
        while test.try_execute("SELECT * FROM inbox_offsets FOR UPDATE NOWAIT").await.is_ok() {}
        held.release();
    };
    let (outcome, ()) = tokio::join!(lane.store.process(&batch, &lane.setup.observer), releasing);

    assert_eq!(outcome.unwrap().catch_up, Some(CatchUp::Rejoined));
    lane.assert_all_are_there_in_order(10).await;
}

async fn flow_relocked_in_catch_up_stays_deferred(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;
    lane.process(&lane.catch_up(A, 0..4)).await;
    let held = lane.hold(&[lane.setup.lock_flow(A)]);

    for _ in 0..2 {
        let outcome = lane.process(&lane.catch_up(A, 4..10)).await;
        assert_eq!((outcome.catch_up, outcome.results.len()), (Some(CatchUp::StillLocked), 0));
    }
    assert_eq!(lane.setup.observer.failures(), 0);
    held.release();
    lane.process(&lane.catch_up(A, 4..10)).await;
    lane.assert_all_are_there_in_order(10).await;
}

/// A row that is being deleted is locked; it may yet come back.
async fn flow_under_deletion_lags_until_deleted(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::new(test).await;
    let held = lane.hold(&["DELETE FROM flows WHERE id = 1".to_owned()]);
    assert_eq!(lane.process(&lane.batch(0..5, 1)).await.deferred, [lagging(A, 0)]);
    let outcome = lane.process(&lane.catch_up(A, 0..5)).await;
    assert_eq!(outcome.catch_up, Some(CatchUp::StillLocked));

    held.commit();
    let outcome = lane.process(&lane.catch_up(A, 0..5)).await;

    assert_eq!(outcome.catch_up, Some(CatchUp::Rejoined));
    assert_eq!(lane.list().await, []);
    assert_eq!(lane.setup.count("SELECT COUNT(*) FROM dead_letters WHERE reason = 'flow_deleted'").await, 5);
}

async fn lock_during_catch_up_reopens_lane(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;
    let scope = Scope::Lagging { flow: A, lane_at: lane.position.next_offset };
    let batch = lane.batch_in_two_steps(scope, &[A]).await;
    let held = lane.hold_after_the_next_commit(&[lane.setup.lock_flow(A)]);

    let broken = lane.store.process(&batch, &lane.setup.observer).await.unwrap_err();

    assert_eq!(broken.failure, LaneFenced(lane.position));
    assert_eq!(numbers(&broken.done, "A"), [1, 2, 3, 4, 5]);
    held.lock().unwrap().take().unwrap().release();
    assert_eq!(lane.reopen().await.lagging, [lagging(A, 5)]);
}

/// Whether the list was written before the lane was taken over or not at all: the successor knows.
async fn takeover_during_deferral_misses_no_flow(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::new(test).await;
    let held = lane.hold(&[lane.setup.lock_flow(A)]);
    let batch = lane.batch(0..5, 1);
    let successor = Database::connect(lane.setup.test.settings(), 1).await.unwrap();

    let setup = &lane.setup;
    let taking_over = async {
        // The predecessor has the lane's row, and waits for the flow's.
        while setup.test.try_execute("SELECT * FROM inbox_offsets FOR UPDATE NOWAIT").await.is_ok() {}
        let transaction = successor.begin().await.unwrap();
        transaction.execute_unprepared("UPDATE inbox_offsets SET epoch = epoch + 1").await.unwrap();
        let found = list(&transaction).await;
        transaction.commit().await.unwrap();
        found
    };
    let (_, found) = tokio::join!(lane.store.process(&batch, &setup.observer), taking_over);

    assert_eq!(lane.list().await, found);
    held.release();
}

/// A database that went back may have another list at the same epoch and offset.
async fn batch_for_other_lagging_list_is_fenced(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::new(test).await;
    let batch = lane.batch(0..5, 1);
    lane.write_down(A, 0, 0).await;
    let refused = lane.store.process(&batch, &lane.setup.observer).await;
    assert!(matches!(refused.map_err(|broken| broken.failure), Err(LaneFenced(_))));

    lane.reopen().await;
    let batch = lane.batch(0..5, 1);
    lane.setup.test.execute("DELETE FROM inbox_lagging").await;
    let refused = lane.store.process(&batch, &lane.setup.observer).await;
    assert!(matches!(refused.map_err(|broken| broken.failure), Err(LaneFenced(_))));
    assert_eq!(lane.setup.count("SELECT COUNT(*) FROM data").await, 0);
}

async fn uncertain_lagging_list_is_reread(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    for (fault, there) in [("commit-not-answered", vec![lagging(A, 0)]), ("commit-not-sent", vec![])] {
        let mut lane = Lane::new(test.another().await).await;
        let held = lane.hold(&[lane.setup.lock_flow(A)]);
        fail::cfg(fault, "1*return").unwrap();
        let batch = lane.batch(0..5, 1);

        let broken = lane.store.process(&batch, &lane.setup.observer).await.unwrap_err();

        assert_eq!(broken.failure, LaneFenced(lane.position));
        assert_eq!(broken.done.deferred, []);
        assert_eq!(lane.reopen().await.lagging, there, "{fault}");
        lane.process(&lane.batch(0..5, 1)).await;
        assert_eq!(lane.list().await, [lagging(A, 0)]);
        held.release();
        lane.process(&lane.catch_up(A, 0..5)).await;
        lane.assert_all_are_there_in_order(5).await;
    }
}

/// The list is written, the rest of the batch is not known to be.
async fn lost_answer_with_deferred_flows_is_recognised(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::new(test).await;
    let held = lane.hold(&[lane.setup.lock_flow(A)]);
    fail::cfg("commit-not-answered", "1*off->1*return").unwrap();

    let outcome = lane.process(&lane.batch(0..5, 1)).await;

    assert_eq!(lane.setup.observer.failures(), 1);
    assert_eq!((outcome.deferred, outcome.results.len()), (vec![lagging(A, 0)], 10));
    held.release();
    lane.process(&lane.catch_up(A, 0..5)).await;
    lane.assert_all_are_there_in_order(5).await;
}

async fn whoever_takes_a_lane_over_finds_its_list(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;
    lane.write_down(B, 7, 0).await;
    lane.write_down(C, 8, 1).await;

    assert_eq!(lane.reopen().await.lagging, [lagging(A, 0), lagging(B, 7)]);

    let outcome = lane.process(&lane.batch(10..12, 0)).await;
    assert_eq!((numbers(&outcome, "C"), outcome.results.len()), (vec![11, 12], 2));
}

async fn lagging_flow_rejoins_at_lane_offset(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;

    for (part, said, left) in [
        (0..4, CatchUp::Advanced, vec![lagging(A, 4)]),
        // A stretch without a message of its own.
        (4..9, CatchUp::Advanced, vec![lagging(A, 9)]),
        (9..10, CatchUp::Rejoined, vec![]),
    ] {
        assert_eq!(lane.process(&lane.catch_up(A, part)).await.catch_up, Some(said));
        assert_eq!(lane.list().await, left);
        assert_eq!(lane.setup.lane_offset().await, 10);
    }
    lane.process(&lane.batch(10..12, 0)).await;
    lane.assert_all_are_there_in_order(12).await;
}

async fn batch_of_flow_at_other_offset_is_fenced(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;
    let right = lane.catch_up(A, 0..4);
    let older = Batch { epoch: right.epoch - 1, ..right.clone() };
    let elsewhere = Batch { scope: Scope::Lagging { flow: A, lane_at: 9 }, ..right.clone() };
    let no_lag = Batch { scope: Scope::Lagging { flow: C, lane_at: 10 }, ..right };

    for wrong in [lane.catch_up(A, 3..5), older, elsewhere, no_lag] {
        let refused = lane.store.process(&wrong, &lane.setup.observer).await.unwrap_err();
        assert_eq!(refused.failure, LaneFenced(lane.position), "{wrong:?}");
    }
    assert_eq!(lane.list().await, [lagging(A, 0)]);
    assert_eq!(lane.setup.count("SELECT COUNT(*) FROM flows WHERE last_msg_id IS NULL").await, 1);
}

async fn deleted_lagging_flow_catches_up_by_dead_letters(test: TestDatabase) {
    let change = "DELETE FROM flows WHERE id = 1";
    catches_up_by_dead_letters(test, change, "reason = 'flow_deleted' AND flow_code IS NULL").await;
}

async fn disabled_lagging_flow_catches_up_by_dead_letters(test: TestDatabase) {
    let change = "UPDATE flows SET enabled = FALSE WHERE id = 1";
    catches_up_by_dead_letters(test, change, "reason = 'flow_disabled' AND flow_code = 'A'").await;
}

/// None is left out, and the flow joins its lane where the lane is.
async fn catches_up_by_dead_letters(test: TestDatabase, change: &str, expected: &str) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;
    lane.setup.test.execute(change).await;
    let count =
        format!("SELECT COUNT(DISTINCT inbox_offset) FROM dead_letters WHERE flow_id = 1 AND {expected}");

    for (part, said, left, letters) in
        [(0..4, CatchUp::Advanced, vec![lagging(A, 4)], 4), (4..10, CatchUp::Rejoined, vec![], 10)]
    {
        let messages = part.end - part.start;
        let outcome = lane.process(&lane.catch_up(A, part)).await;
        assert_eq!((outcome.catch_up, outcome.results.len() as u64), (Some(said), messages));
        assert_eq!(lane.list().await, left);
        assert_eq!(lane.setup.count(&count).await, letters);
    }
    assert_eq!(lane.setup.count("SELECT COUNT(*) FROM dead_letters").await, 10);
    assert_eq!(lane.setup.observer.lags(), ["flow 1 back in step"]);
    assert_eq!(lane.setup.lane_offset().await, 10);
}

async fn poison_of_lagging_flow_is_dead_letter(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;
    lane.setup.refuse_the_value("poison").await;
    let mut batch = lane.catch_up(A, 0..10);
    batch.entries[6] = entry(6, r#"{"n":"poison"}"#, &[A]);

    let outcome = lane.process(&batch).await;

    assert_eq!(outcome.catch_up, Some(CatchUp::Rejoined));
    assert_eq!(numbers(&outcome, "A"), [1, 2, 3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(lane.setup.count("SELECT inbox_offset FROM dead_letters").await, 6);
    assert_eq!(lane.list().await, []);
}

async fn lost_catch_up_answers_are_recognised(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;
    for (part, said) in [(0..4, CatchUp::Advanced), (4..10, CatchUp::Rejoined)] {
        let messages = part.end - part.start;
        fail::cfg("commit-not-answered", "1*return").unwrap();
        let outcome = lane.process(&lane.catch_up(A, part)).await;
        assert_eq!((outcome.catch_up, outcome.results.len() as u64), (Some(said), messages));
    }
    assert_eq!(lane.setup.observer.failures(), 2);
    lane.assert_all_are_there_in_order(10).await;
}

async fn lost_answer_repeats_no_dead_letter(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;
    lane.setup.test.execute("DELETE FROM flows WHERE id = 1").await;
    fail::cfg("commit-not-answered", "1*return").unwrap();

    let outcome = lane.process(&lane.catch_up(A, 0..10)).await;

    assert_eq!(lane.setup.observer.failures(), 1);
    assert_eq!(outcome.catch_up, Some(CatchUp::Rejoined));
    assert_eq!(lane.list().await, []);
    assert_eq!(lane.setup.count("SELECT COUNT(*) FROM dead_letters").await, 10);
}

async fn failed_catch_up_commit_is_retried(test: TestDatabase) {
    let _scenario = FailScenario::setup();
    let mut lane = Lane::with_a_lagging_flow(test).await;
    fail::cfg("commit-not-sent", "1*return").unwrap();

    let outcome = lane.process(&lane.catch_up(A, 0..10)).await;

    assert_eq!(lane.setup.observer.failures(), 1);
    assert_eq!(outcome.catch_up, Some(CatchUp::Rejoined));
    lane.assert_all_are_there_in_order(10).await;
}

fn message(n: Offset, flows: &[FlowId]) -> BatchEntry {
    entry(n, &format!(r#"{{"n":{n}}}"#), flows)
}

/// All that is written down.
async fn list(connection: &impl ConnectionTrait) -> Vec<LaggingFlow> {
    let sql = "SELECT flow_id, next_offset FROM inbox_lagging ORDER BY flow_id";
    let statement = Statement::from_string(connection.get_database_backend(), sql);
    let rows = connection.query_all_raw(statement).await.unwrap();
    let number = |row: &QueryResult, index| row.try_get_by_index::<i64>(index).unwrap();
    rows.iter().map(|row| lagging(number(row, 0), number(row, 1).cast_unsigned())).collect()
}

fn lagging(flow: FlowId, next_offset: Offset) -> LaggingFlow {
    LaggingFlow { flow, next_offset }
}

/// Numbers that a flow gave in this batch.
fn numbers(outcome: &BatchOutcome, code: &str) -> Vec<i64> {
    let given = outcome.results.iter().filter_map(|result| result.as_ref().ok());
    given.filter(|result| &*result.flow_code == code).map(|result| result.message_id).collect()
}
