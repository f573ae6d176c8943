//! Brings the batches of one lane into SQL: never gives up, never does it twice.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::time::timeout;

use super::BatchRules;
use super::attempts::Attempts;
use super::fence::{Fence, LaneRow, lagging_sum};
use super::lagging::{DeferredFlow, defer_locked, set_aside};
use super::locked_flow::SchemaCache;
use super::prepared::PreparedTransaction;
use super::progress::Step;
use super::refusals::{MAX_REFUSED, Refusals};
use super::suspects::refusal_of;
use super::transaction::{Failed, FlowScope, Work, run};
use crate::domain::batch::{Batch, BatchOutcome, CatchUp, LaggingFlow, Lane, LanePosition, OpenedLane};
use crate::domain::message::FlowId;
use crate::domain::processing::ParsedMessage;
use crate::domain::retry::Backoff;
use crate::store::connect::{Database, Recovery, answer_timeout, with_timeout};
use crate::store::dialect::Dialect;
use crate::store::error::{ErrorClass, StoreError};
use crate::store::limits::max_packet_bytes;

/// Two transactions that met: they only have to come one after the other.
const AFTER_DEADLOCK: Backoff = Backoff { base: Duration::from_millis(10), max: Duration::from_millis(500) };
/// The database refuses: it gets time to recover.
const AFTER_OUTAGE: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(5) };

/// A transaction that has brought messages into SQL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// From the batch to the answer to COMMIT.
    pub took: Duration,
    /// Messages, counted once for each flow.
    pub messages: usize,
    /// Their payloads, in bytes.
    pub bytes: usize,
}

/// Hears how the lane fares.
pub trait LaneObserver {
    /// The database failed at something; whatever is done about it.
    fn failed(&self, error: &StoreError);
    /// A transaction with messages was committed, and its answer came.
    fn committed(&self, transaction: Committed);
    /// The database refused, for the `failures`th time in a row; the next attempt is after `delay`.
    fn retrying(&self, error: &StoreError, failures: u32, delay: Duration);
    /// A transaction was committed.
    fn progressing(&self);
    /// The lane goes on without a flow, whose row is locked elsewhere.
    fn deferred(&self, flow: LaggingFlow, code: &str);
    /// The lane goes on without a flow, of which the database has refused so many messages in a row.
    fn set_aside(&self, flow: LaggingFlow, code: &str, refused: u32, refusal: &StoreError);
    /// A flow that lagged is in step with the lane again.
    fn rejoined(&self, flow: FlowId);
}

/// The reaction to a failure.
enum Next {
    /// Something was done about it: the same again, at once.
    Again,
    /// Nothing could be done: the same again, after a pause.
    Pause(StoreError),
    /// The flow that lags is not let in: it stays where it is.
    StaysBehind,
}

/// A batch that was not processed to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchFailure {
    /// The lane stands elsewhere or belongs to another epoch: open it anew. What the batch holds
    /// is in the inbox still, or in SQL already.
    #[error("the lane stands at offset {} in epoch {}", .0.next_offset, .0.epoch)]
    Fenced(LanePosition),
}

/// A batch that was not processed to its end, and what was done until then: it is in SQL, and nobody
/// else knows.
#[derive(Debug, thiserror::Error)]
#[error("{failure}")]
pub struct BrokenOff {
    /// Why.
    #[source]
    pub failure: BatchFailure,
    /// What was done.
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
    /// Flows that the lane has left behind: its own batches pass them over.
    lagging: BTreeSet<FlowId>,
    /// Those of them whose rows could be had the last time.
    moving: BTreeSet<FlowId>,
    refusals: Refusals,
    /// How long one transaction may take.
    transaction_timeout: Duration,
    /// Something failed, and the server may by now take smaller statements than it did.
    suspects_bounds: bool,
}

impl LaneStore {
    /// For `lane` of the inbox named in the rules. The database's connections must belong to the
    /// runtime that calls.
    #[must_use]
    pub fn new(database: Database, rules: Arc<BatchRules>, lane: Lane) -> Self {
        Self {
            database,
            rules,
            lane,
            schemas: SchemaCache::default(),
            prepared: PreparedTransaction::default(),
            lagging: BTreeSet::new(),
            moving: BTreeSet::new(),
            refusals: Refusals::default(),
            transaction_timeout: answer_timeout(),
            suspects_bounds: false,
        }
    }

    /// The same, with another bound on the time that one transaction may take.
    #[must_use]
    pub fn with_transaction_timeout(self, transaction_timeout: Duration) -> Self {
        Self { transaction_timeout, ..self }
    }

    /// Takes the lane over, as soon as the database lets it.
    pub async fn open(&mut self, observer: &impl LaneObserver) -> OpenedLane {
        let mut failures = 0;
        loop {
            match with_timeout(self.transaction_timeout, self.row().take_over(&self.database)).await {
                Ok(opened) => {
                    observer.progressing();
                    self.lagging = opened.lagging.iter().map(|lagging| lagging.flow).collect();
                    self.moving.clear();
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

    /// Makes ready for the next batch, so that it does not have to wait for the beginning of its transaction.
    pub async fn prepare(&mut self) {
        self.prepared.begin(&self.database).await;
    }

    /// Lets go of what was made ready for a batch that did not come.
    pub fn drop_stale(&mut self) {
        self.prepared.drop_stale();
    }

    /// Brings a batch into SQL; returns when all of it is there, or when the flow that it is about
    /// turns out to be locked still.
    ///
    /// # Errors
    /// [`BatchFailure::Fenced`] when another worker has taken the lane over, together with the part
    /// that was done before.
    pub async fn process(
        &mut self,
        batch: &Batch,
        observer: &impl LaneObserver,
    ) -> Result<BatchOutcome, BrokenOff> {
        let limits = self.rules.processing.payload;
        let messages: Vec<ParsedMessage> =
            batch.entries.iter().map(|entry| ParsedMessage::new(entry, &limits)).collect();
        let mut attempts = Attempts::new(batch, &messages);
        match self.carry_on(&mut attempts, observer).await {
            Ok(()) => Ok(attempts.outcome),
            Err(failure) => Err(BrokenOff { failure, done: attempts.outcome }),
        }
    }

    async fn carry_on(
        &mut self,
        attempts: &mut Attempts<'_>,
        observer: &impl LaneObserver,
    ) -> Result<(), BatchFailure> {
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
                Err(Failed::StillLocked) => return self.stays_behind(attempts, &step),
                Err(Failed::Unknown(error, outcome)) => {
                    observer.failed(&error);
                    self.suspects_bounds = true;
                    attempts.unknown = Some((step, *outcome));
                    let failures = attempts.progress.failed();
                    if let Err(error) = self.recover_connections(error).await {
                        pause(&error, failures, observer).await;
                    }
                }
                Err(Failed::Error(error)) => {
                    observer.failed(&error);
                    match self.recover(attempts, &step, error, observer).await? {
                        Next::Again => {}
                        Next::Pause(error) => pause(&error, attempts.progress.failed(), observer).await,
                        Next::StaysBehind => return self.stays_behind(attempts, &step),
                    }
                }
            }
        }
        Ok(())
    }

    async fn attempt(&mut self, attempts: &mut Attempts<'_>, step: &Step) -> Result<BatchOutcome, Failed> {
        if self.database.is_superseded() {
            self.reconnect();
        }
        self.check_bounds().await?;
        let rules = Arc::clone(&self.rules);
        let row = LaneRow { inbox_id: rules.inbox_id(), lane: self.lane };
        let fence = Fence {
            row,
            flow: attempts.lagging_flow(),
            expected: step.expected,
            next: step.next,
            lagging_sum: lagging_sum(&self.lagging),
        };
        let waits = attempts.lagging_flow().is_none_or(|flow| self.moving.contains(&flow));
        let work = Work { waits, ..attempts.work(step, &self.lagging) };
        let prepared = self.prepared.take();
        let running = run(prepared, &self.database, &rules, &mut self.schemas, Some(fence), &work);
        if let Ok(attempted) = timeout(self.transaction_timeout, running).await {
            return attempted;
        }
        // Should the COMMIT have been under way, the fence tells; what an earlier one would have come
        // to does not.
        attempts.unknown = None;
        Err(Failed::Error(StoreError::TimedOut { waited: self.transaction_timeout }))
    }

    fn committed(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &Step,
        outcome: BatchOutcome,
        observer: &impl LaneObserver,
    ) {
        self.refusals.count(&outcome.results);
        attempts.committed(step, outcome, &self.rules);
        observer.progressing();
        let (flow, said) = (attempts.lagging_flow(), attempts.outcome.catch_up);
        self.note_lag(flow, said);
        if let (Some(flow), Some(CatchUp::Rejoined)) = (flow, said) {
            self.refusals.forget(flow);
            observer.rejoined(flow);
        }
    }

    fn stays_behind(&mut self, attempts: &mut Attempts<'_>, step: &Step) -> Result<(), BatchFailure> {
        self.note_lag(attempts.lagging_flow(), Some(CatchUp::StillLocked));
        attempts.still_locked(step)
    }

    /// Remembers what came of a lagging flow: one whose row could be had is waited for the next time.
    /// Another gateway with the same flows has the row most of the time, though never for long: who
    /// does not queue for it comes too late again and again.
    fn note_lag(&mut self, flow: Option<FlowId>, said: Option<CatchUp>) {
        let (Some(flow), Some(said)) = (flow, said) else { return };
        self.moving.remove(&flow);
        match said {
            CatchUp::StillLocked => {}
            CatchUp::Advanced => drop(self.moving.insert(flow)),
            CatchUp::Rejoined => drop(self.lagging.remove(&flow)),
        }
    }

    /// After a failure that something can be done about the same is tried again at once, else after
    /// a pause.
    async fn recover(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &Step,
        error: StoreError,
        observer: &impl LaneObserver,
    ) -> Result<Next, BatchFailure> {
        self.suspects_bounds = true;
        let error = match self.recover_connections(error).await {
            Ok(()) => return Ok(Next::Again),
            Err(error) => error,
        };
        Ok(match error.class() {
            ErrorClass::Poison => self.isolate(attempts, step, error, observer).await?,
            ErrorClass::LockTimeout if self.defer_locked(attempts, step, observer).await? => Next::Again,
            _ => Next::Pause(error),
        })
    }

    /// Goes on without flows whose rows are locked elsewhere. Answers whether that changed anything:
    /// not if it was something else that was locked, if they are too many, or if the database fails.
    ///
    /// What a lost COMMIT has made of the list, nobody here knows: the lane has to be opened anew.
    async fn defer_locked(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &Step,
        observer: &impl LaneObserver,
    ) -> Result<bool, BatchFailure> {
        let most = attempts.max_deferred();
        if most == 0 || self.database.dialect == Dialect::Sqlite {
            return Ok(false);
        }
        let flows = attempts.work(step, &self.lagging).flows();
        let leaving = defer_locked(&self.database, self.row(), step.expected.lane, &flows, most);
        let left = timeout(self.transaction_timeout, leaving).await.ok();
        let Some(held) = self.written_down(attempts, step, left, observer).await? else { return Ok(false) };
        for (lagging, code) in held {
            observer.deferred(lagging, &code);
        }
        Ok(true)
    }

    /// Goes on without flows whose messages the database refuses one after the other. Answers whether it may: not
    /// if they are too many, or if the database fails.
    async fn set_aside(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &Step,
        flows: Vec<DeferredFlow>,
        refusal: &StoreError,
        observer: &impl LaneObserver,
    ) -> Result<bool, BatchFailure> {
        if flows.len() > attempts.max_deferred() {
            return Ok(false);
        }
        let writing = set_aside(&self.database, self.row(), step.expected.lane, flows);
        let written = timeout(self.transaction_timeout, writing).await.ok();
        let Some(flows) = self.written_down(attempts, step, written, observer).await? else {
            return Ok(false);
        };
        for (lagging, code) in flows {
            self.announce(lagging, &code, refusal, observer);
        }
        Ok(true)
    }

    fn announce(
        &mut self,
        lagging: LaggingFlow,
        code: &str,
        refusal: &StoreError,
        observer: &impl LaneObserver,
    ) {
        if self.refusals.announce(lagging.flow) {
            observer.set_aside(lagging, code, MAX_REFUSED, refusal);
        }
    }

    /// What became of writing down flows that the lane leaves behind; `None` from the database's silence. Answers which
    /// lag from now on, with their codes, or `None` where nothing has changed.
    async fn written_down(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &Step,
        written: Option<Result<Vec<DeferredFlow>, Failed>>,
        observer: &impl LaneObserver,
    ) -> Result<Option<Vec<(LaggingFlow, String)>>, BatchFailure> {
        let lane = step.expected.lane;
        let Some(written) = written else {
            let error = self.reconnect_after_timeout();
            pause(&error, attempts.progress.failed(), observer).await;
            return Err(BatchFailure::Fenced(lane));
        };
        match written {
            Ok(flows) if flows.is_empty() => Ok(None),
            Ok(flows) => {
                let lag = |flow: DeferredFlow| {
                    let lagging = LaggingFlow { flow: flow.id, next_offset: lane.next_offset };
                    (lagging, flow.code)
                };
                let flows: Vec<_> = flows.into_iter().map(lag).collect();
                self.lagging.extend(flows.iter().map(|(lagging, _)| lagging.flow));
                attempts.outcome.deferred.extend(flows.iter().map(|(lagging, _)| *lagging));
                Ok(Some(flows))
            }
            Err(Failed::Fenced(found)) => {
                let (step, outcome) = attempts.resolve(found)?;
                self.committed(attempts, &step, outcome, observer);
                Ok(Some(Vec::new()))
            }
            Err(Failed::Unknown(error, _)) => {
                pause(&error, attempts.progress.failed(), observer).await;
                Err(BatchFailure::Fenced(lane))
            }
            Err(Failed::Error(_) | Failed::StillLocked) => Ok(None),
        }
    }

    /// Has the database do what it can about a failure: `Ok` if the cause is gone, so that there is nothing to wait
    /// for, else the error to wait over.
    async fn recover_connections(&mut self, error: StoreError) -> Result<(), StoreError> {
        let recovered = self.database.recover(&error).await;
        if !matches!(recovered, Ok(Recovery::Kept)) {
            self.prepared = PreparedTransaction::default();
        }
        match recovered? {
            Recovery::Mended => Ok(()),
            Recovery::Kept | Recovery::Renewed => Err(error),
        }
    }

    /// Leaves connections that wait for an answer behind.
    fn reconnect_after_timeout(&mut self) -> StoreError {
        self.reconnect();
        StoreError::TimedOut { waited: self.transaction_timeout }
    }

    /// Has new ones made, when there are any to be had.
    fn reconnect(&mut self) {
        self.database = self.database.anew();
        self.prepared = PreparedTransaction::default();
    }

    /// Turns from a database that has not answered.
    fn reconnect_if_timed_out<T>(&mut self, answer: Result<T, StoreError>) -> Result<T, StoreError> {
        if matches!(answer, Err(StoreError::TimedOut { .. })) {
            return Err(self.reconnect_after_timeout());
        }
        answer
    }

    /// Reads after a failure how large a statement may be: the server's limit may have been lowered,
    /// and what is above it does not only fail but ends the connection.
    async fn check_bounds(&mut self) -> Result<(), StoreError> {
        if self.suspects_bounds {
            let bytes = with_timeout(self.transaction_timeout, max_packet_bytes(&self.database)).await;
            let bytes = self.reconnect_if_timed_out(bytes)?;
            self.rules = Arc::new(self.rules.with_max_packet_bytes(bytes));
            self.suspects_bounds = false;
        }
        Ok(())
    }

    /// Data that the database seems to refuse: the step is split until one message stands alone, then
    /// each of its flows is tried by itself. What is the message's own fault becomes a dead letter; else the
    /// database is at fault, and is waited for. A flow that has had too many such dead letters makes no more: it
    /// is set aside, or stays behind.
    async fn isolate(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &Step,
        refusal: StoreError,
        observer: &impl LaneObserver,
    ) -> Result<Next, BatchFailure> {
        if step.range.len() > 1 {
            attempts.progress.halve();
            return Ok(Next::Again);
        }
        if let Some(flow) = attempts.lagging_flow()
            && let Some(code) = self.refusals.exceeded(flow)
        {
            // Whose fault it is need not be known: the flow waits either way.
            let lagging = LaggingFlow { flow, next_offset: step.expected.lag.offset().unwrap_or_default() };
            self.announce(lagging, &code, &refusal, observer);
            return Ok(Next::StaysBehind);
        }
        let found = match self.refused_flows(attempts, step).await {
            Ok(found) if found.is_empty() => return Ok(Next::Pause(refusal)),
            Ok(found) => found,
            Err(error) => {
                observer.failed(&error);
                return Ok(Next::Pause(error));
            }
        };
        let exceeded = |(flow, _): &(FlowId, String)| {
            let code = self.refusals.exceeded(*flow)?;
            Some(DeferredFlow { id: *flow, code: code.to_string() })
        };
        let exceeded: Vec<DeferredFlow> = found.iter().filter_map(exceeded).collect();
        if exceeded.is_empty() {
            let index = step.range.start;
            attempts.poison.extend(found.into_iter().map(|(flow, reason)| ((index, flow), reason)));
            return Ok(Next::Again);
        }
        let is_set_aside = self.set_aside(attempts, step, exceeded, &refusal, observer).await?;
        Ok(if is_set_aside { Next::Again } else { Next::Pause(refusal) })
    }

    /// The flows for which the only message of a step is refused by its own fault, and why. One whose dead letter
    /// is refused as well is none of them.
    async fn refused_flows(
        &mut self,
        attempts: &Attempts<'_>,
        step: &Step,
    ) -> Result<Vec<(FlowId, String)>, StoreError> {
        self.check_bounds().await?;
        let rules = Arc::clone(&self.rules);
        let mut found = Vec::new();
        for flow in attempts.work(step, &self.lagging).flows() {
            if attempts.poison.contains_key(&(step.range.start, flow)) {
                continue;
            }
            // The attempt had the lock a moment ago, and may give it back only now.
            let work =
                Work { scope: FlowScope::Only(flow), waits: true, ..attempts.work(step, &self.lagging) };
            let trying =
                refusal_of(&self.database, &rules, &mut self.schemas, &work, flow, self.transaction_timeout);
            let tried = trying.await;
            if let Some(refusal) = self.reconnect_if_timed_out(tried)? {
                found.push((flow, refusal.to_string()));
            }
        }
        Ok(found)
    }

    fn row(&self) -> LaneRow<'_> {
        LaneRow { inbox_id: self.rules.inbox_id(), lane: self.lane }
    }
}

async fn pause(error: &StoreError, failures: u32, observer: &impl LaneObserver) {
    let backoff = match error.class() {
        ErrorClass::Deadlock => AFTER_DEADLOCK,
        _ => AFTER_OUTAGE,
    };
    let delay = backoff.delay(failures, rand::random());
    observer.retrying(error, failures, delay);
    tokio::time::sleep(delay).await;
}
