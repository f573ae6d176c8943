//! A lane with three flows, and its test helpers.

use std::ops::Range;
use std::sync::{Arc, Mutex};

use mqtt_gateway::domain::batch::{Batch, BatchOutcome, LaggingFlow, Scope};
use mqtt_gateway::domain::message::{FlowId, Offset};
use mqtt_gateway::store::{Database, ErrorClass, LanePosition, LaneStore, OpenedLane};

use crate::batches::{self, Setup, entry};
use crate::database::TestDatabase;
use crate::lagging::held::Held;
use crate::lagging::{A, B, C, LOCK_WAIT, list, message};

/// A lane with three flows. Its inbox holds a message for all of them at every offset.
pub(crate) struct Lane {
    pub(crate) setup: Setup,
    pub(crate) store: LaneStore,
    pub(crate) position: LanePosition,
}

impl Lane {
    pub(crate) async fn new(test: TestDatabase) -> Self {
        let setup = Setup::new(test).await;
        for (code, action) in [("A", "STORE_DB"), ("B", "POST_ENDPOINT"), ("C", "STORE_DB")] {
            setup.flow(code, action).await;
        }
        let position = LanePosition { epoch: 0, next_offset: 0 };
        let store = setup.lane();
        let mut lane = Self { setup, store, position };
        lane.store = lane.another_store().await;
        lane.reopen().await;
        lane
    }

    /// Its first ten messages are in SQL, except those of the flow `A`.
    pub(crate) async fn with_a_lagging_flow(test: TestDatabase) -> Self {
        let mut lane = Self::new(test).await;
        lane.write_down(A, 0, 0).await;
        lane.reopen().await;
        lane.process(&lane.batch(0..10, 0)).await;
        lane
    }

    pub(crate) async fn another_store(&self) -> LaneStore {
        let database = Database::connect_with(self.setup.test.settings(), 2, LOCK_WAIT).await.unwrap();
        LaneStore::new(database, Arc::clone(&self.setup.rules), 0)
    }

    pub(crate) async fn write_down(&self, flow: FlowId, at: Offset, lane: u32) {
        let values = format!("('{}', {lane}, {flow}, {at}, '2026-01-02 03:04:05')", batches::INBOX);
        let insert = format!(
            "INSERT INTO inbox_lagging (inbox_id, lane, flow_id, next_offset, since) VALUES {values}"
        );
        self.setup.test.execute(&insert).await;
    }

    pub(crate) async fn reopen(&mut self) -> OpenedLane {
        let opened = self.store.open(&self.setup.observer).await;
        self.position = opened.position;
        opened
    }

    /// A batch of the lane with these messages.
    pub(crate) fn batch(&self, messages: Range<Offset>, max_deferred: usize) -> Batch {
        self.batch_of(Scope::Lane { max_deferred }, messages, &[A, B, C])
    }

    /// A batch of a flow that lags behind where the lane is now.
    pub(crate) fn catch_up(&self, flow: FlowId, messages: Range<Offset>) -> Batch {
        self.batch_of(Scope::Lagging { flow, lane_at: self.position.next_offset }, messages, &[flow])
    }

    /// Ten messages. The database refuses the last one, so that the first five are processed alone.
    pub(crate) async fn batch_in_two_steps(&self, scope: Scope, flows: &[FlowId]) -> Batch {
        self.setup.refuse_the_value("poison").await;
        let mut batch = self.batch_of(scope, 0..10, flows);
        *batch.entries.last_mut().unwrap() = entry(9, r#"{"n":"poison"}"#, &flows[flows.len() - 1..]);
        batch
    }

    pub(crate) fn batch_of(&self, scope: Scope, messages: Range<Offset>, flows: &[FlowId]) -> Batch {
        let entries = messages.clone().map(|n| message(n, flows)).collect();
        let Range { start: from, end: next } = messages;
        Batch { lane: 0, epoch: self.position.epoch, scope, from, next, entries }
    }

    pub(crate) async fn process(&mut self, batch: &Batch) -> BatchOutcome {
        let outcome = self.store.process(batch, &self.setup.observer).await.unwrap();
        if matches!(batch.scope, Scope::Lane { .. }) {
            self.position.next_offset = batch.next;
        }
        outcome
    }

    pub(crate) async fn list(&self) -> Vec<LaggingFlow> {
        list(&self.setup.database.begin().await.unwrap()).await
    }

    pub(crate) fn hold(&self, statements: &[String]) -> Held {
        Held::by(self.setup.test.settings().clone(), statements.to_vec())
    }

    /// The same between the next committed transaction and its successor.
    pub(crate) fn hold_after_the_next_commit(&self, statements: &[String]) -> Arc<Mutex<Option<Held>>> {
        let (settings, statements) = (self.setup.test.settings().clone(), statements.to_vec());
        let held: Arc<Mutex<Option<Held>>> = Arc::default();
        let slot = Arc::clone(&held);
        let take = move || {
            let mut slot = slot.lock().unwrap();
            if slot.is_none() {
                *slot = Some(Held::by(settings.clone(), statements.clone()));
            }
        };
        fail::cfg_callback("worker-after-commit", take).unwrap();
        held
    }

    /// Asserts that no flow is deferred while this lock is held, and that all is done afterwards.
    pub(crate) async fn assert_it_waits(&mut self, batch: &Batch, held: &[String]) {
        let held = self.hold(held);
        let setup = &self.setup;
        let releasing = async {
            setup.observer.failed_once().await;
            held.release();
        };
        let (outcome, ()) = tokio::join!(self.store.process(batch, &setup.observer), releasing);
        assert_eq!(outcome.unwrap().deferred, []);
        assert!(setup.observer.faults().iter().all(|fault| *fault == ErrorClass::LockTimeout));
        self.assert_all_are_there_in_order(5).await;
    }

    /// That each flow has numbered the first `messages` messages once and in order, and none lags.
    pub(crate) async fn assert_all_are_there_in_order(&self, messages: i64) {
        let test = &self.setup.test;
        let numbers: Vec<i64> = (1..=messages).collect();
        for code in ["A", "C"] {
            let of_flow = format!("FROM data WHERE flow_code = '{code}' ORDER BY id");
            let ids: Vec<i64> = test.column(&format!("SELECT last_msg_id {of_flow}")).await;
            let values: Vec<String> = test.column(&format!("SELECT attribute_value {of_flow}")).await;
            assert_eq!(ids, numbers, "{code}");
            assert!(values.iter().cloned().eq((0..messages).map(|n| n.to_string())), "{code}: {values:?}");
        }
        let posts: Vec<i64> = test.column("SELECT message_id FROM outbox ORDER BY inbox_offset").await;
        assert_eq!(posts, numbers);
        assert_eq!(self.setup.rules.gauge.waiting(B), messages.unsigned_abs());
        let counters: Vec<i64> = test.column("SELECT last_msg_id FROM flows").await;
        assert_eq!(counters, [messages; 3]);
        assert_eq!(self.setup.count("SELECT COUNT(*) FROM dead_letters").await, 0);
        assert_eq!(self.list().await, []);
    }
}
