//! One attempt to bring a part of a batch into SQL: one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sea_orm::DatabaseTransaction;

use super::BatchRules;
use super::counters::write_counters;
use super::fence::Fence;
use super::frame::{advance_offset, lock_and_fence};
use super::keys::load_keys;
use super::locked_flow::{SchemaCache, lock_flows};
use super::position::Position;
use super::writes::{WriteContext, write_rows};
use crate::domain::batch::BatchOutcome;
use crate::domain::message::FlowId;
use crate::domain::processing::{
    FlowState, MessageProcessor, ParsedMessage, PoisonMessages, ProcessingOutcome,
};
use crate::store::connect::Database;
use crate::store::error::{StoreError, While};

/// A part of a batch, and what it may be measured against.
#[derive(Debug, Clone)]
pub(super) struct Work<'a> {
    /// All messages of the batch.
    pub(super) messages: &'a [ParsedMessage<'a>],
    /// The ones this transaction is about.
    pub(super) range: Range<usize>,
    /// The flows it is for.
    pub(super) scope: FlowScope<'a>,
    /// Whether a flow that is locked elsewhere is waited for.
    pub(super) waits: bool,
    /// Messages the database refuses.
    pub(super) poison: &'a PoisonMessages,
}

/// The flows that a transaction is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum FlowScope<'a> {
    /// All that its messages belong to, but for those that lag.
    Except(&'a BTreeSet<FlowId>),
    /// One: it lags, or it is tried by itself.
    Only(FlowId),
}

impl FlowScope<'_> {
    fn contains(self, flow: FlowId) -> bool {
        match self {
            Self::Except(others) => !others.contains(&flow),
            Self::Only(only) => only == flow,
        }
    }
}

impl<'a> Work<'a> {
    /// The flows to be locked, ascending. One that is asked for by itself is, also without a message.
    pub(super) fn flows(&self) -> Vec<FlowId> {
        if let FlowScope::Only(flow) = self.scope {
            return vec![flow];
        }
        let all = self.messages().iter().flat_map(|message| message.flows).copied();
        let flows: BTreeSet<FlowId> = all.filter(|flow| self.scope.contains(*flow)).collect();
        flows.into_iter().collect()
    }

    pub(super) fn messages(&self) -> &'a [ParsedMessage<'a>] {
        self.messages.get(self.range.clone()).unwrap_or_default()
    }

    /// The messages, each with its place in the batch.
    pub(super) fn numbered_messages(&self) -> impl Iterator<Item = (usize, &'a ParsedMessage<'a>)> {
        self.range.clone().zip(self.messages())
    }
}

/// How a transaction ended that did not succeed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Things stand otherwise; nothing was written.
    Fenced(Position),
    /// The flow that lags is locked elsewhere; nothing was written.
    StillLocked,
    /// Nothing was written.
    Error(StoreError),
    /// The connection broke while COMMIT was under way: it may be written or not.
    Unknown(StoreError, Box<BatchOutcome>),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Error(error)
    }
}

/// Locks, validates, numbers, writes and commits, in the transaction that is begun already or in a new one;
/// without a fence for the batch of one that belongs to no inbox.
pub(super) async fn run(
    prepared: Option<DatabaseTransaction>,
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    fence: Option<Fence<'_>>,
    work: &Work<'_>,
) -> Result<BatchOutcome, Failed> {
    let transaction = match prepared {
        Some(transaction) => transaction,
        None => database.begin().await?,
    };
    let flows = lock_and_fence(&transaction, database, schemas, fence, work).await?;
    let processed = process(&transaction, database, rules, flows, work).await?;
    write_rows(&transaction, &WriteContext::new(database, rules), &processed).await?;
    advance_offset(&transaction, database, fence, &processed.counters).await?;
    let catch_up = fence.and_then(|fence| fence.next.catch_up());
    let ProcessingOutcome { results, posts, .. } = processed;
    let outcome = BatchOutcome { results, posts, catch_up, ..BatchOutcome::default() };
    crash_point!("worker-before-commit");
    match commit(transaction).await {
        Ok(()) => {
            crash_point!("worker-after-commit");
            Ok(outcome)
        }
        Err(error) => Err(Failed::Unknown(error, Box::new(outcome))),
    }
}

/// An error leaves it open whether the server has committed: the answer may be what was lost.
pub(super) async fn commit(transaction: DatabaseTransaction) -> Result<(), StoreError> {
    const DOING: &str = "committing";
    fail::fail_point!("commit-not-sent", |_| Err(sea_orm::DbErr::Custom("injected".into()))
        .while_doing(DOING));
    transaction.commit().await.while_doing(DOING)?;
    fail::fail_point!("commit-not-answered", |_| Err(sea_orm::DbErr::Custom("injected".into()))
        .while_doing(DOING));
    Ok(())
}

/// Does all of it but commits nothing: to find out what the database refuses.
pub(super) async fn rehearse(
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    work: &Work<'_>,
) -> Result<(), StoreError> {
    let transaction = database.begin().await?;
    let tried = async {
        let flows = lock_flows(&transaction, database.dialect, &work.flows(), work.waits, schemas).await?;
        let processed = process(&transaction, database, rules, flows, work).await?;
        write_rows(&transaction, &WriteContext::new(database, rules), &processed).await?;
        write_counters(&transaction, database.dialect, &processed.counters).await
    };
    let tried = tried.await;
    roll_back(transaction, tried).await
}

/// Ends a transaction that was only tried, whatever came of it. One that is merely dropped ends a little later, and its
/// locks would be in the way of the next one.
pub(super) async fn roll_back<T>(
    transaction: DatabaseTransaction,
    tried: Result<T, StoreError>,
) -> Result<T, StoreError> {
    let ended = transaction.rollback().await.while_doing("rolling back");
    tried.and_then(|value| ended.map(|()| value))
}

/// Applies the rules to all messages of `work`, with what the locked rows say.
async fn process<'a>(
    transaction: &DatabaseTransaction,
    database: &Database,
    rules: &'a BatchRules,
    flows: BTreeMap<FlowId, FlowState>,
    work: &Work<'a>,
) -> Result<ProcessingOutcome<'a>, StoreError> {
    let retention = rules.processing.key_retention;
    let keys = load_keys(transaction, database.dialect, &flows, work, retention).await?;
    let waiting = |flow| rules.gauge.waiting(flow);
    let mut processor = MessageProcessor::new(&rules.processing, flows, keys, work.poison, &waiting);
    for (index, message) in work.numbered_messages() {
        let flows = message.flows.iter().copied().filter(|flow| work.scope.contains(*flow));
        processor.process(index, message, flows);
    }
    Ok(processor.into_outcome())
}
