//! A migrated database with a lane on it, and batches for the lane.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use mqtt_gateway::domain::batch::{Batch, BatchEntry, LaggingFlow, Scope};
use mqtt_gateway::domain::message::{Body, DeliveryFacts, FlowId, Offset, Record};
use mqtt_gateway::domain::payload::PayloadLimits;
use mqtt_gateway::domain::processing::ProcessingRules;
use mqtt_gateway::domain::value_style::ValueStyle;
use mqtt_gateway::store::{
    BatchRules, Committed, Database, Dialect, ErrorClass, LaneObserver, LanePosition, LaneStore, OutboxGauge,
    StoreError, load_limits, migrate,
};

use crate::database::TestDatabase;

/// Name of the inbox in these tests.
pub(crate) const INBOX: &str = "0123456789abcdef0123456789abcdef";

pub(crate) const OUTBOX_BOUND: u64 = 20;

pub(crate) const KEYS_KNOWN_FOR: Duration = Duration::from_hours(1);

/// A migrated database, and the rules for it.
pub(crate) struct Setup {
    pub(crate) test: TestDatabase,
    pub(crate) database: Database,
    pub(crate) rules: Arc<BatchRules>,
    pub(crate) observer: Failures,
}

impl Setup {
    pub(crate) async fn new(test: TestDatabase) -> Self {
        test.create_sqlalchemy_tables().await;
        let database = Database::connect(test.settings(), 2).await.unwrap();
        migrate(&database).await.unwrap();
        let limits = load_limits(&database).await.unwrap();
        let processing = ProcessingRules::new(
            INBOX.into(),
            ValueStyle::Python,
            PayloadLimits::default(),
            limits,
            OUTBOX_BOUND,
            KEYS_KNOWN_FOR,
        );
        let rules = Arc::new(BatchRules { processing, gauge: Arc::new(OutboxGauge::default()) });
        Self { test, database, rules, observer: Failures::default() }
    }

    /// The rules, with a change.
    pub(crate) fn rules_with(&self, change: impl FnOnce(&mut ProcessingRules)) -> BatchRules {
        let mut rules = (*self.rules).clone();
        change(&mut rules.processing);
        rules
    }

    pub(crate) async fn flow(&self, code: &str, action: &str) {
        self.test
            .execute(&format!(
                "INSERT INTO flows (code, description, topic, action, payload_schema, endpoint_url, enabled) \
                 VALUES ('{code}', '', 't', '{action}', '{{}}', 'http://127.0.0.1:1/', TRUE)"
            ))
            .await;
    }

    /// From now on the table of stored values has a rule of its site.
    pub(crate) async fn refuse_the_value(&self, value: &str) {
        let rule = match self.test.dialect() {
            Dialect::MySql | Dialect::Postgres => {
                format!("ALTER TABLE data ADD CONSTRAINT rule CHECK (attribute_value <> '{value}')")
            }
            Dialect::Sqlite => format!(
                "CREATE TRIGGER rule BEFORE INSERT ON data WHEN NEW.attribute_value = '{value}' \
                 BEGIN SELECT RAISE(ABORT, 'refused by a rule of the site'); END"
            ),
        };
        self.test.execute(&rule).await;
    }

    /// From now on the table takes no row at all.
    pub(crate) async fn refuse_every_row(&self) {
        let trigger = |refusal: &str| format!("CREATE TRIGGER rule BEFORE INSERT ON data {refusal}");
        let rule = match self.test.dialect() {
            Dialect::MySql => trigger("FOR EACH ROW SIGNAL SQLSTATE '45000'"),
            Dialect::Postgres => "ALTER TABLE data ADD CONSTRAINT rule CHECK (1 = 0) NOT VALID".to_owned(),
            Dialect::Sqlite => trigger("BEGIN SELECT RAISE(ABORT, 'refused'); END"),
        };
        self.test.execute(&rule).await;
    }

    /// The rule is gone, whichever it was.
    pub(crate) async fn lift_the_rule(&self) {
        match self.test.dialect() {
            Dialect::Postgres => self.test.execute("ALTER TABLE data DROP CONSTRAINT rule").await,
            Dialect::Sqlite => self.test.execute("DROP TRIGGER rule").await,
            Dialect::MySql => {
                self.test.execute("DROP TRIGGER IF EXISTS rule").await;
                self.test.execute("ALTER TABLE data DROP CONSTRAINT IF EXISTS rule").await;
            }
        }
    }

    /// Locks the row of a flow, and no other, however few there are.
    pub(crate) fn lock_flow(&self, id: FlowId) -> String {
        let index = if self.test.dialect() == Dialect::MySql { "FORCE INDEX (PRIMARY)" } else { "" };
        format!("SELECT id FROM flows {index} WHERE id = {id} FOR UPDATE")
    }

    pub(crate) fn lane(&self) -> LaneStore {
        LaneStore::new(self.database.clone(), Arc::clone(&self.rules), 0)
    }

    pub(crate) async fn count(&self, sql: &str) -> i64 {
        self.test.value(sql).await
    }

    pub(crate) async fn lane_offset(&self) -> i64 {
        self.count("SELECT next_offset FROM inbox_offsets").await
    }
}

pub(crate) fn entry(offset: Offset, payload: &str, flows: &[FlowId]) -> BatchEntry {
    BatchEntry {
        record: Arc::new(record(offset, payload)),
        flows: flows.to_vec(),
        reports_invalid_payload: false,
    }
}

pub(crate) fn batch_of(position: LanePosition, entries: Vec<BatchEntry>) -> Batch {
    Batch {
        lane: 0,
        epoch: position.epoch,
        scope: Scope::Lane { max_deferred: 0 },
        from: position.next_offset,
        next: 1 << 40,
        entries,
    }
}

pub(crate) fn record(offset: Offset, payload: &str) -> Record {
    Record {
        offset,
        received_at_us: 1_700_000_000_123_456,
        topic: "t".into(),
        body: Body::Whole(payload.as_bytes().to_vec()),
        delivery: DeliveryFacts::default(),
    }
}

/// Records the failures that a lane reports.
#[derive(Default)]
pub(crate) struct Failures {
    count: AtomicU32,
    in_trouble: AtomicBool,
    faults: Mutex<Vec<ErrorClass>>,
    lags: Mutex<Vec<String>>,
    failed: Mutex<Vec<ErrorClass>>,
    committed: Mutex<Vec<Committed>>,
    told: tokio::sync::Notify,
}

impl Failures {
    pub(crate) fn failures(&self) -> u32 {
        self.count.load(Ordering::SeqCst)
    }

    pub(crate) fn faults(&self) -> Vec<ErrorClass> {
        self.faults.lock().unwrap().clone()
    }

    /// All failures, with and without a retry.
    pub(crate) fn failed(&self) -> Vec<ErrorClass> {
        self.failed.lock().unwrap().clone()
    }

    /// Messages and bytes of the transactions.
    pub(crate) fn committed(&self) -> Vec<(usize, usize)> {
        let committed = self.committed.lock().unwrap();
        committed.iter().map(|transaction| (transaction.messages, transaction.bytes)).collect()
    }

    /// Flows that were left behind or came back, in order.
    pub(crate) fn lags(&self) -> Vec<String> {
        self.lags.lock().unwrap().clone()
    }

    /// Whether the last word was of a failure.
    pub(crate) fn in_trouble(&self) -> bool {
        self.in_trouble.load(Ordering::SeqCst)
    }

    pub(crate) async fn failed_once(&self) {
        self.told.notified().await;
    }
}

impl LaneObserver for Failures {
    fn retrying(&self, error: &StoreError, _: u32, _: Duration) {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.in_trouble.store(true, Ordering::SeqCst);
        self.faults.lock().unwrap().push(error.class());
        self.told.notify_one();
    }

    fn failed(&self, error: &StoreError) {
        self.failed.lock().unwrap().push(error.class());
    }

    fn committed(&self, transaction: Committed) {
        self.committed.lock().unwrap().push(transaction);
    }

    fn progressing(&self) {
        self.in_trouble.store(false, Ordering::SeqCst);
    }

    fn deferred(&self, lagging: LaggingFlow, code: &str) {
        self.lags.lock().unwrap().push(format!("{code} left behind at {}", lagging.next_offset));
    }

    fn set_aside(&self, lagging: LaggingFlow, code: &str, refused: u32, _: &StoreError) {
        self.lags
            .lock()
            .unwrap()
            .push(format!("{code} set aside at {} after {refused}", lagging.next_offset));
    }

    fn rejoined(&self, flow: FlowId) {
        self.lags.lock().unwrap().push(format!("flow {flow} back in step"));
    }
}
