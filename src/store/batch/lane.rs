//! Brings the batches of one lane into SQL: never gives up, never does it twice.

use std::sync::Arc;
use std::time::Duration;

use super::fence::LaneRow;
use super::judge::Poison;
use super::locked_flow::SchemaCache;
use super::progress::{Progress, Step};
use super::transaction::{Failed, Fence, Work, harmless_row_goes, rehearse, run};
use super::{BatchRules, Parsed};
use tokio::time::timeout;

use crate::domain::batch::{Batch, BatchOutcome, Lane, LanePosition, OpenedLane};
use crate::domain::message::FlowId;
use crate::domain::retry::Backoff;
use crate::store::connect::Database;
use crate::store::error::{Fault, StoreError};

/// Two transactions that met: they only have to come one after the other.
const AFTER_DEADLOCK: Backoff = Backoff { base: Duration::from_millis(10), max: Duration::from_millis(500) };
/// The database refuses: it gets time to recover.
const AFTER_OUTAGE: Backoff = Backoff { base: Duration::from_millis(200), max: Duration::from_secs(5) };

/// A transaction that takes longer waits for a host that is gone: nothing in the connection itself
/// would ever notice. Far above what a full batch takes, lock waits included.
const SILENCE: Duration = Duration::from_mins(1);

/// Hears how the lane fares.
pub trait LaneObserver {
    /// The database refused, for the `failures`th time in a row; the next attempt is after `delay`.
    fn retrying(&self, error: &StoreError, failures: u32, delay: Duration);
    /// A transaction was committed.
    fn progressing(&self);
}

/// A batch that was not processed to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BatchFailure {
    /// The lane stands elsewhere or belongs to another epoch: open it anew. What the batch holds
    /// is in the inbox still, or in SQL already.
    #[error("the lane stands at offset {} in epoch {}", .0.next_offset, .0.epoch)]
    Fenced(LanePosition),
}

/// The SQL side of one lane.
#[derive(Debug)]
pub struct LaneStore {
    database: Database,
    rules: Arc<BatchRules>,
    lane: Lane,
    schemas: SchemaCache,
    /// How long one transaction may take.
    silence: Duration,
}

impl LaneStore {
    /// For `lane` of the inbox named in the rules. The database's connections must belong to the
    /// runtime that calls.
    #[must_use]
    pub fn new(database: Database, rules: Arc<BatchRules>, lane: Lane) -> Self {
        Self { database, rules, lane, schemas: SchemaCache::default(), silence: SILENCE }
    }

    /// The same, with another bound on the time that one transaction may take.
    #[must_use]
    pub fn with_silence(self, silence: Duration) -> Self {
        Self { silence, ..self }
    }

    /// Takes the lane over, as soon as the database lets it.
    pub async fn open(&mut self, observer: &impl LaneObserver) -> OpenedLane {
        let mut failures = 0;
        loop {
            let opened = match timeout(self.silence, self.row().take_over(&self.database)).await {
                Ok(opened) => opened,
                Err(_) => Err(self.turn_from_silence().await),
            };
            match opened {
                Ok(opened) => {
                    observer.progressing();
                    return opened;
                }
                Err(error) => {
                    failures += 1;
                    pause(&error, failures, observer).await;
                }
            }
        }
    }

    /// Brings a batch into SQL; returns when all of it is there.
    ///
    /// # Errors
    /// [`BatchFailure::Fenced`] when another worker has taken the lane over.
    pub async fn process(
        &mut self,
        batch: &Batch,
        observer: &impl LaneObserver,
    ) -> Result<BatchOutcome, BatchFailure> {
        let limits = self.rules.payload;
        let messages: Vec<Parsed> = batch.entries.iter().map(|entry| Parsed::new(entry, &limits)).collect();
        let mut attempts = Attempts::new(batch, &messages);
        while let Some(step) = attempts.progress.step() {
            let attempted = match timeout(self.silence, self.attempt(&attempts, &step)).await {
                Ok(attempted) => attempted,
                // Should the COMMIT have been under way, the fence tells.
                Err(_) => Err(Failed::Fault(self.turn_from_silence().await)),
            };
            match attempted {
                Ok(outcome) => {
                    attempts.committed(&step, outcome, &self.rules);
                    observer.progressing();
                }
                Err(Failed::Fenced(found)) => {
                    // The lane is where a step whose COMMIT went unanswered would have brought it.
                    let lost = attempts.unknown.take().filter(|(step, _)| found == step.next);
                    let (step, outcome) = lost.ok_or(BatchFailure::Fenced(found))?;
                    attempts.committed(&step, outcome, &self.rules);
                    observer.progressing();
                }
                Err(Failed::Unknown(error, outcome)) => {
                    attempts.unknown = Some((step, *outcome));
                    pause(&error, attempts.progress.failed(), observer).await;
                }
                Err(Failed::Fault(error)) if error.fault() == Fault::Poison => {
                    if let Err(error) = self.isolate(&mut attempts, &step, error).await {
                        pause(&error, attempts.progress.failed(), observer).await;
                    }
                }
                Err(Failed::Fault(error)) => pause(&error, attempts.progress.failed(), observer).await,
            }
        }
        Ok(attempts.outcome)
    }

    async fn attempt(&mut self, attempts: &Attempts<'_>, step: &Step) -> Result<BatchOutcome, Failed> {
        let rules = Arc::clone(&self.rules);
        let row = LaneRow { inbox_id: &rules.inbox_id, lane: self.lane };
        let fence = Fence { row, expected: step.expected, next: step.next };
        let work = attempts.work(step, None);
        run(&self.database, &rules, &mut self.schemas, Some(fence), &work).await
    }

    /// Leaves connections that wait for an answer behind, and takes new ones if there are any to be had.
    async fn turn_from_silence(&mut self) -> StoreError {
        match self.database.anew().await {
            Ok(database) => {
                self.database = database;
                StoreError::Silent { waited: self.silence }
            }
            Err(error) => error,
        }
    }

    /// Data that the database refuses: the step is split until one message stands alone, then
    /// each of its flows is tried by itself. What is refused even so becomes a dead letter, if a
    /// harmless row goes where it did not; else the database is at fault, and is waited for.
    async fn isolate(
        &mut self,
        attempts: &mut Attempts<'_>,
        step: &Step,
        refusal: StoreError,
    ) -> Result<(), StoreError> {
        if step.range.len() > 1 {
            attempts.progress.halve();
            return Ok(());
        }
        let mut found = Vec::new();
        let rules = Arc::clone(&self.rules);
        for flow in attempts.flows_of(step) {
            let work = attempts.work(step, Some(flow));
            match rehearse(&self.database, &rules, &mut self.schemas, &work).await {
                Err(error) if error.fault() == Fault::Poison => found.push((flow, error.to_string())),
                other => other?,
            }
        }
        found.retain(|(flow, _)| !attempts.poison.contains_key(&(step.range.start, *flow)));
        if found.is_empty() {
            return Err(refusal);
        }
        for (flow, _) in &found {
            harmless_row_goes(&self.database, *flow).await?;
        }
        attempts.poison.extend(found.into_iter().map(|(flow, reason)| ((step.range.start, flow), reason)));
        Ok(())
    }

    fn row(&self) -> LaneRow<'_> {
        LaneRow { inbox_id: &self.rules.inbox_id, lane: self.lane }
    }
}

/// A batch, how far it has got, and what was learnt on the way.
struct Attempts<'a> {
    messages: &'a [Parsed<'a>],
    progress: Progress<'a>,
    poison: Poison,
    /// A step whose COMMIT went unanswered, and what it would have come to.
    unknown: Option<(Step, BatchOutcome)>,
    outcome: BatchOutcome,
}

impl<'a> Attempts<'a> {
    fn new(batch: &'a Batch, messages: &'a [Parsed<'a>]) -> Self {
        Self {
            messages,
            progress: Progress::new(batch),
            poison: Poison::new(),
            unknown: None,
            outcome: BatchOutcome::default(),
        }
    }

    fn work(&self, step: &Step, only_flow: Option<FlowId>) -> Work<'_> {
        Work { messages: self.messages, range: step.range.clone(), only_flow, poison: &self.poison }
    }

    fn flows_of(&self, step: &Step) -> Vec<FlowId> {
        self.messages.get(step.range.start).map(|message| message.flows.to_vec()).unwrap_or_default()
    }

    fn committed(&mut self, step: &Step, outcome: BatchOutcome, rules: &BatchRules) {
        for post in &outcome.posts {
            rules.gauge.add(post.key.flow_id, 1);
        }
        self.outcome.results.extend(outcome.results);
        self.outcome.posts.extend(outcome.posts);
        self.unknown = None;
        self.progress.committed(step);
    }
}

async fn pause(error: &StoreError, failures: u32, observer: &impl LaneObserver) {
    let backoff = match error.fault() {
        Fault::Deadlock => AFTER_DEADLOCK,
        _ => AFTER_OUTAGE,
    };
    let delay = backoff.delay(failures, rand::random());
    observer.retrying(error, failures, delay);
    tokio::time::sleep(delay).await;
}
