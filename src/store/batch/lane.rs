//! Writes the batches of one lane: retries until each is committed, and commits none twice.

mod deferral;
mod isolation;
mod observer;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

pub use self::observer::{Committed, LaneObserver};
use super::BatchRules;
use super::attempts::Attempts;
use super::failed::Failed;
use super::fence::{Fence, LaneFenced, LaneKey, lagging_sum};
use super::lane_waits::LaneWaits;
use super::locked_flow::{IfLocked, SchemaCache};
use super::part::BatchPart;
use super::prepared::PreparedTransaction;
use super::progress::BatchStep;
use super::refusals::Refusals;
use super::remedy::{Remedy, backoff, remedy};
use super::transaction::run;
use crate::domain::batch::{Batch, BatchOutcome, CatchUp, LaggingFlow, Lane, OpenedLane};
use crate::domain::message::FlowId;
use crate::domain::processing::ParsedMessage;
use crate::store::connect::{Database, Recovery, answer_timeout, with_timeout};
use crate::store::dialect::Dialect;
use crate::store::error::{ErrorClass, StoreError};
use crate::store::limits::max_packet_bytes;

/// The reaction to a failure.
enum Reaction {
    /// The cause was removed: retry at once.
    Retry,
    /// Retry after a pause.
    RetryLater(StoreError),
    /// The lagging flow stays where it is.
    StayLagging,
}

/// A batch that was not processed to its end, with the outcome of the part that is committed.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub struct BrokenOff {
    /// Why.
    #[source]
    pub failure: LaneFenced,
    /// The committed part.
    pub done: BatchOutcome,
}

/// The SQL side of one lane.
#[derive(Debug)]
pub struct LaneStore {
    database: Database,
    rules: Arc<BatchRules>,
    lane: Lane,
    schemas: SchemaCache,
    prepared: PreparedTransaction,
    /// The lagging flows of the lane: its own batches skip them.
    lagging: BTreeSet<FlowId>,
    /// The lagging flows whose rows were free the last time.
    unlocked: BTreeSet<FlowId>,
    refusals: Refusals,
    waits: Arc<LaneWaits>,
    /// Longest duration of a transaction.
    transaction_timeout: Duration,
    /// Whether to read the limits again: after a failure the server may accept smaller statements only.
    recheck_limits: bool,
}

impl LaneStore {
    /// Creates the store of `lane`, of the inbox that the rules name. The connections of the database must belong to
    /// the runtime of the caller.
    #[must_use]
    pub fn new(database: Database, rules: Arc<BatchRules>, lane: Lane) -> Self {
        Self {
            database,
            rules,
            lane,
            schemas: SchemaCache::default(),
            prepared: PreparedTransaction::default(),
            lagging: BTreeSet::new(),
            unlocked: BTreeSet::new(),
            refusals: Refusals::default(),
            waits: Arc::default(),
            transaction_timeout: answer_timeout(),
            recheck_limits: false,
        }
    }

    /// Shows in `waits` which rows the lane waits for.
    #[must_use]
    pub fn with_waits(self, waits: Arc<LaneWaits>) -> Self {
        Self { waits, ..self }
    }

    /// Sets the longest duration of a transaction.
    #[must_use]
    pub fn with_transaction_timeout(self, transaction_timeout: Duration) -> Self {
        Self { transaction_timeout, ..self }
    }

    /// Takes the lane over; retries until the database allows it.
    pub async fn open(&mut self, observer: &impl LaneObserver) -> OpenedLane {
        let mut failures = 0;
        loop {
            match with_timeout(self.transaction_timeout, self.row().take_over(&self.database)).await {
                Ok(opened) => {
                    observer.progressing();
                    self.lagging = opened.lagging.iter().map(|lagging| lagging.flow).collect();
                    self.unlocked.clear();
                    self.waits.reset();
                    return opened;
                }
                Err(error) => {
                    failures += 1;
                    observer.failed(&error);
                    if let Err(error) = self.recover_connections(error).await {
                        pause(&error, failures, observer).await;
                    }
                }
            }
        }
    }

    /// Opens the transaction of the next batch ahead of time.
    pub async fn prepare(&mut self) {
        self.prepared.prepare(&self.database).await;
    }

    /// Drops a prepared transaction that was not used in time.
    pub fn drop_stale(&mut self) {
        self.prepared.drop_stale();
    }

    /// Processes a batch; returns when all of it is committed, or when its lagging flow is still locked.
    ///
    /// # Errors
    /// [`LaneFenced`] when another worker has taken the lane over, with the part that was committed before.
    pub async fn process(
        &mut self,
        batch: &Batch,
        observer: &impl LaneObserver,
    ) -> Result<BatchOutcome, BrokenOff> {
        let limits = self.rules.processing.payload;
        let messages: Vec<ParsedMessage> =
            batch.entries.iter().map(|entry| ParsedMessage::new(entry, &limits)).collect();
        let mut attempts = Attempts::new(batch, &messages);
        match self.process_steps(&mut attempts, observer).await {
            Ok(()) => Ok(attempts.outcome),
            Err(failure) => Err(BrokenOff { failure, done: attempts.outcome }),
        }
    }

    async fn process_steps(
        &mut self,
        attempts: &mut Attempts<'_>,
        observer: &impl LaneObserver,
    ) -> Result<(), LaneFenced> {
        while let Some(step) = attempts.progress.step() {
            let began = Instant::now();
            match self.attempt(attempts, &step).await {
                Ok(outcome) => {
                    if !outcome.results.is_empty() {
                        let (took, messages) = (began.elapsed(), outcome.results.len());
                        observer.committed(Committed { took, messages, bytes: attempts.bytes(&step) });
                    }
                    self.committed(attempts, &step, outcome, observer);
                }
                Err(Failed::Fenced(found)) => {
                    let (step, outcome) = attempts.resolve(found)?;
                    self.committed(attempts, &step, outcome, observer);
                }
                Err(Failed::StillLocked) => return self.stay_lagging(attempts, &step),
                Err(Failed::Unknown(error, outcome)) => {
                    observer.failed(&error);
                    self.recheck_limits = true;
                    attempts.unknown = Some((step, *outcome));
                    let failures = attempts.progress.failed();
                    if let Err(error) = self.recover_connections(error).await {
                        pause(&error, failures, observer).await;
                    }
                }
                Err(Failed::Error(error)) => {
                    observer.failed(&error);
                    match self.recover(attempts, &step, error, observer).await? {
                        Reaction::Retry => {}
                        Reaction::RetryLater(error) => {
                            pause(&error, attempts.progress.failed(), observer).await;
                        }
                        Reaction::StayLagging => return self.stay_lagging(attempts, &step),
                    }
                }
            }
        }
        Ok(())
    }

    async fn attempt(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &BatchStep,
    ) -> Result<BatchOutcome, Failed> {
        if self.database.is_superseded() {
            self.reconnect();
        }
        self.check_limits().await?;
        let rules = Arc::clone(&self.rules);
        let row = LaneKey { inbox_id: rules.inbox_id(), lane: self.lane };
        let fence = Fence {
            row,
            flow: attempts.lagging_flow(),
            expected: step.expected,
            next: step.next,
            lagging_sum: lagging_sum(&self.lagging),
        };
        let is_waiting = attempts.lagging_flow().is_none_or(|flow| self.unlocked.contains(&flow));
        let if_locked = if is_waiting { IfLocked::Wait } else { IfLocked::Fail };
        let waits = Arc::clone(&self.waits);
        let part = BatchPart { if_locked, waits: Some(&waits), ..attempts.part(step, &self.lagging) };
        if self.database.dialect == Dialect::Sqlite {
            // There the transaction begins by waiting for the only write lock.
            waits.begin(&part.flows());
        }
        let prepared = self.prepared.take();
        let running = run(prepared, &self.database, &rules, &mut self.schemas, Some(fence), &part);
        if let Ok(attempted) = timeout(self.transaction_timeout, running).await {
            note_wait(&waits, &attempted, attempts.lagging_flow());
            return attempted;
        }
        // If COMMIT was already sent, the fence resolves it. The outcome of an earlier COMMIT is obsolete.
        attempts.unknown = None;
        Err(Failed::Error(StoreError::TimedOut { waited: self.transaction_timeout }))
    }

    fn committed(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &BatchStep,
        outcome: BatchOutcome,
        observer: &impl LaneObserver,
    ) {
        self.refusals.count(&outcome.results);
        let part = attempts.part(step, &self.lagging);
        observer.processed(&mut part.processed(), &outcome);
        attempts.committed(step, outcome, &self.rules);
        observer.progressing();
        let (flow, catch_up) = (attempts.lagging_flow(), attempts.outcome.catch_up);
        self.update_lagging(flow, catch_up);
        if let (Some(flow), Some(CatchUp::Rejoined)) = (flow, catch_up) {
            self.refusals.forget(flow);
            observer.rejoined(flow);
        }
    }

    fn stay_lagging(&mut self, attempts: &mut Attempts<'_>, step: &BatchStep) -> Result<(), LaneFenced> {
        self.update_lagging(attempts.lagging_flow(), Some(CatchUp::StillLocked));
        attempts.still_locked(step)
    }

    /// Records the result for a lagging flow. If its row was free, the next batch waits for it: another gateway with
    /// the same flows holds the row often but briefly, and without waiting the flow might never get it.
    fn update_lagging(&mut self, flow: Option<FlowId>, catch_up: Option<CatchUp>) {
        let (Some(flow), Some(catch_up)) = (flow, catch_up) else { return };
        self.unlocked.remove(&flow);
        match catch_up {
            CatchUp::StillLocked => return,
            CatchUp::Advanced => drop(self.unlocked.insert(flow)),
            CatchUp::Rejoined => drop(self.lagging.remove(&flow)),
        }
        self.waits.rejoin(flow);
    }

    /// Handles a failed attempt by its remedy.
    async fn recover(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &BatchStep,
        error: StoreError,
        observer: &impl LaneObserver,
    ) -> Result<Reaction, LaneFenced> {
        self.recheck_limits = true;
        let error = match self.recover_connections(error).await {
            Ok(()) => return Ok(Reaction::Retry),
            Err(error) => error,
        };
        let refused = attempts.lagging_flow().and_then(|flow| Some((flow, self.refusals.exceeded(flow)?)));
        Ok(match remedy(error.class(), step.range.len(), refused) {
            Remedy::Defer if self.defer_locked(attempts, step, observer).await? => Reaction::Retry,
            Remedy::Defer | Remedy::Wait => Reaction::RetryLater(error),
            Remedy::Split => {
                attempts.progress.halve();
                Reaction::Retry
            }
            Remedy::Examine => self.examine(attempts, step, error, observer).await?,
            Remedy::StayLagging { flow, code } => {
                let next_offset = step.expected.lag.offset().unwrap_or_default();
                self.announce(LaggingFlow { flow, next_offset }, &code, &error, observer);
                Reaction::StayLagging
            }
        })
    }

    /// Replaces connections after a failure, if that may help. `Ok` if the cause is gone, so that the caller retries at
    /// once, else the error to wait for.
    async fn recover_connections(&mut self, error: StoreError) -> Result<(), StoreError> {
        let recovered = self.database.recover(&error).await;
        if !matches!(recovered, Ok(Recovery::Unchanged)) {
            self.prepared = PreparedTransaction::default();
        }
        match recovered? {
            Recovery::Mended => Ok(()),
            Recovery::Unchanged | Recovery::Renewed => Err(error),
        }
    }

    /// Abandons connections that wait for an answer.
    fn reconnect_after_timeout(&mut self) -> StoreError {
        self.reconnect();
        StoreError::TimedOut { waited: self.transaction_timeout }
    }

    /// Opens a new pool, whose connections are made when they are needed.
    fn reconnect(&mut self) {
        self.database = self.database.anew();
        self.prepared = PreparedTransaction::default();
    }

    /// Reconnects if the database has not answered.
    fn reconnect_if_timed_out<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(answer, Err(StoreError::TimedOut { .. })) {
            return Err(self.reconnect_after_timeout());
        }
        answer
    }

    /// After a failure, reads the limit of a statement again. The server's limit may have been lowered, and a longer
    /// statement ends the connection.
    async fn check_limits(&mut self) -> Result<(), StoreError> {
        if self.recheck_limits {
            let bytes = with_timeout(self.transaction_timeout, max_packet_bytes(&self.database)).await;
            let bytes = self.reconnect_if_timed_out(bytes)?;
            self.rules = Arc::new(self.rules.with_max_packet_bytes(bytes));
            self.recheck_limits = false;
        }
        Ok(())
    }

    fn row(&self) -> LaneKey<'_> {
        LaneKey { inbox_id: self.rules.inbox_id(), lane: self.lane }
    }
}

/// After an attempt that found rows locked, the lane goes on waiting for them.
fn note_wait(waits: &LaneWaits, attempted: &Result<BatchOutcome, Failed>, lagging: Option<FlowId>) {
    match (attempted, lagging) {
        (Err(Failed::Error(error)), _) if error.class() == ErrorClass::LockTimeout => return,
        (Err(Failed::StillLocked), Some(flow)) => waits.defer(flow),
        _ => {}
    }
    waits.end();
}

async fn pause(error: &StoreError, failures: u32, observer: &impl LaneObserver) {
    let delay = backoff(error.class()).delay(failures, rand::random());
    observer.retrying(error, failures, delay);
    tokio::time::sleep(delay).await;
}
