//! A flow whose messages are all refused is set aside, and catches up when the rule is gone.

use std::ops::Range;

use mqtt_gateway::domain::batch::{Batch, BatchOutcome, CatchUp, LaggingFlow, Scope};
use mqtt_gateway::domain::message::{FlowId, Offset};
use mqtt_gateway::store::{LaneFenced, LanePosition, LaneStore};

use crate::batches::{Setup, entry};
use crate::database::TestDatabase;

on_every_database! {
    refused_flow_is_set_aside_and_catches_up
    rejected_flow_holds_lane_without_deferral
    refused_flow_that_lags_stays_where_it_is
    worker_that_begins_counts_anew
}

const A: FlowId = 1;
const B: FlowId = 2;
const LIMIT: Offset = 20;

/// A lane with two flows; the database refuses every message of `A`.
struct Lane {
    setup: Setup,
    store: LaneStore,
    position: LanePosition,
}

impl Lane {
    async fn new(test: TestDatabase) -> Self {
        let setup = Setup::new(test).await;
        setup.flow("A", "STORE_DB").await;
        setup.flow("B", "STORE_DB").await;
        setup.refuse_the_value("refused").await;
        let mut store = setup.lane();
        let position = store.open(&setup.observer).await.position;
        Self { setup, store, position }
    }

    fn batch(&self, messages: Range<Offset>, max_deferred: usize) -> Batch {
        let both = messages.clone().flat_map(|n| [(n, "refused", A), (n, "fine", B)]);
        self.batch_of(Scope::Lane { max_deferred }, messages, both)
    }

    fn catch_up(&self, messages: Range<Offset>) -> Batch {
        let scope = Scope::Lagging { flow: A, lane_at: self.position.next_offset };
        self.batch_of(scope, messages.clone(), messages.map(|n| (n, "refused", A)))
    }

    fn batch_of(
        &self,
        scope: Scope,
        messages: Range<Offset>,
        of: impl Iterator<Item = (Offset, &'static str, FlowId)>,
    ) -> Batch {
        let entries =
            of.map(|(n, text, flow)| entry(n, &format!(r#"{{"text":"{text}"}}"#), &[flow])).collect();
        Batch {
            lane: 0,
            epoch: self.position.epoch,
            scope,
            from: messages.start,
            next: messages.end,
            entries,
        }
    }

    async fn process(&mut self, batch: &Batch) -> BatchOutcome {
        let outcome = self.store.process(batch, &self.setup.observer).await.unwrap();
        if matches!(batch.scope, Scope::Lane { .. }) {
            self.position.next_offset = batch.next;
        }
        outcome
    }

    async fn dead_letters(&self) -> i64 {
        self.setup.count("SELECT COUNT(*) FROM dead_letters WHERE reason = 'refused_by_database'").await
    }

    async fn numbers(&self, code: &str) -> Vec<i64> {
        let sql = format!("SELECT last_msg_id FROM data WHERE flow_code = '{code}' ORDER BY id");
        self.setup.test.column(&sql).await
    }
}

fn at(next_offset: Offset) -> LaggingFlow {
    LaggingFlow { flow: A, next_offset }
}

async fn refused_flow_is_set_aside_and_catches_up(test: TestDatabase) {
    let mut lane = Lane::new(test).await;

    let outcome = lane.process(&lane.batch(0..30, 1)).await;
    assert_eq!(outcome.deferred, [at(LIMIT)]);
    assert_eq!(lane.dead_letters().await, 20);
    assert_eq!(lane.numbers("B").await, (1..=30).collect::<Vec<_>>());
    assert_eq!(lane.setup.observer.failures(), 0, "the lane did not wait");

    // It is tried with one message, which stays where it is.
    for _ in 0..3 {
        let outcome = lane.process(&lane.catch_up(LIMIT..LIMIT + 1)).await;
        assert_eq!((outcome.catch_up, outcome.results.len()), (Some(CatchUp::StillLocked), 0));
    }
    assert_eq!(lane.dead_letters().await, 20);

    lane.setup.lift_the_rule().await;
    let outcome = lane.process(&lane.catch_up(LIMIT..LIMIT + 1)).await;
    assert_eq!(outcome.catch_up, Some(CatchUp::Advanced));
    let outcome = lane.process(&lane.catch_up(LIMIT + 1..30)).await;
    assert_eq!(outcome.catch_up, Some(CatchUp::Rejoined));
    assert_eq!(lane.numbers("A").await, (1..=10).collect::<Vec<_>>());
    assert_eq!(lane.setup.observer.lags(), ["A set aside at 20 after 20", "flow 1 back in step"]);

    let outcome = lane.process(&lane.batch(30..32, 1)).await;
    assert_eq!((outcome.deferred.len(), outcome.results.len()), (0, 4));
    assert_eq!(lane.dead_letters().await, 20);
}

async fn rejected_flow_holds_lane_without_deferral(test: TestDatabase) {
    let mut lane = Lane::new(test).await;
    let batch = lane.batch(0..22, 0);

    let processing = async { lane.store.process(&batch, &lane.setup.observer).await.unwrap() };
    let mending = async {
        lane.setup.observer.failed_once().await;
        lane.setup.observer.failed_once().await;
        lane.setup.lift_the_rule().await;
    };
    let (outcome, ()) = tokio::join!(processing, mending);

    assert_eq!(outcome.deferred, []);
    assert_eq!(lane.dead_letters().await, 20);
    assert_eq!(lane.numbers("A").await, [1, 2]);
    assert_eq!(lane.numbers("B").await, (1..=22).collect::<Vec<_>>());
}

/// It lags for another reason, and exceeds the limit in the middle of a batch.
async fn refused_flow_that_lags_stays_where_it_is(test: TestDatabase) {
    let mut lane = Lane::new(test).await;
    lane.setup
        .test
        .execute(&format!(
            "INSERT INTO inbox_lagging (inbox_id, lane, flow_id, next_offset, since) \
             VALUES ('{}', 0, {A}, 0, '2026-01-02 03:04:05')",
            crate::batches::INBOX
        ))
        .await;
    lane.position = lane.store.open(&lane.setup.observer).await.position;
    lane.process(&lane.batch(0..30, 1)).await;

    // A part of the batch is done, so the lane has to be opened again.
    let broken = lane.store.process(&lane.catch_up(0..30), &lane.setup.observer).await.unwrap_err();
    assert!(matches!(broken.failure, LaneFenced(_)));
    assert_eq!((lane.dead_letters().await, broken.done.results.len()), (20, 20));
    let opened = lane.store.open(&lane.setup.observer).await;
    assert_eq!(opened.lagging, [at(LIMIT)]);
    lane.position = opened.position;

    let outcome = lane.process(&lane.catch_up(LIMIT..LIMIT + 1)).await;
    assert_eq!(outcome.catch_up, Some(CatchUp::StillLocked));
    assert_eq!(lane.dead_letters().await, 20);
    assert_eq!(lane.setup.observer.lags(), ["A set aside at 20 after 20"]);
}

async fn worker_that_begins_counts_anew(test: TestDatabase) {
    let mut lane = Lane::new(test).await;
    lane.process(&lane.batch(0..30, 1)).await;
    lane.store = lane.setup.lane();
    let opened = lane.store.open(&lane.setup.observer).await;
    assert_eq!(opened.lagging, [at(LIMIT)]);
    lane.position = opened.position;

    let outcome = lane.process(&lane.catch_up(LIMIT..LIMIT + 1)).await;

    assert_eq!(outcome.catch_up, Some(CatchUp::Advanced));
    assert_eq!(lane.dead_letters().await, 21);
}
