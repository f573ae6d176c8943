//! One attempt to bring a part of a batch into SQL: one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};

use super::counters::write_counters;
use super::fence::Fence;
use super::judge::{Judge, Poison};
use super::locked_flow::{LockedFlow, SchemaCache, lock_flows};
use super::standing::Standing;
use super::writes::WriteContext;
use super::{BatchRules, Parsed};
use crate::domain::batch::{BatchOutcome, CatchUp};
use crate::domain::message::FlowId;
use crate::store::connect::Database;
use crate::store::error::{Fault, StoreError, While};

/// A part of a batch, and what it may be measured against.
#[derive(Debug, Clone)]
pub(super) struct Work<'a> {
    /// All messages of the batch.
    pub(super) messages: &'a [Parsed<'a>],
    /// The ones this transaction is about.
    pub(super) range: Range<usize>,
    /// The flows it is for.
    pub(super) whose: Whose<'a>,
    /// Whether a flow that is locked elsewhere is waited for.
    pub(super) waits: bool,
    /// Messages the database refuses.
    pub(super) poison: &'a Poison,
}

/// The flows that a transaction is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Whose<'a> {
    /// All that its messages belong to, but for those that lag.
    AllBut(&'a BTreeSet<FlowId>),
    /// One: it lags, or it is tried by itself.
    Only(FlowId),
}

impl Whose<'_> {
    fn holds(self, flow: FlowId) -> bool {
        match self {
            Self::AllBut(others) => !others.contains(&flow),
            Self::Only(only) => only == flow,
        }
    }
}

impl<'a> Work<'a> {
    /// The flows to be locked, ascending. One that is asked for by itself is, also without a message.
    pub(super) fn flows(&self) -> Vec<FlowId> {
        if let Whose::Only(flow) = self.whose {
            return vec![flow];
        }
        let all = self.messages().iter().flat_map(|message| message.flows).copied();
        let flows: BTreeSet<FlowId> = all.filter(|flow| self.whose.holds(*flow)).collect();
        flows.into_iter().collect()
    }

    fn messages(&self) -> &'a [Parsed<'a>] {
        self.messages.get(self.range.clone()).unwrap_or_default()
    }
}

/// How a transaction ended that did not succeed.
#[derive(Debug)]
pub(super) enum Failed {
    /// Things stand otherwise; nothing was written.
    Fenced(Standing),
    /// The flow that lags is locked elsewhere; nothing was written.
    StillLocked,
    /// Nothing was written.
    Fault(StoreError),
    /// The connection broke while COMMIT was under way: it may be written or not.
    Unknown(StoreError, Box<BatchOutcome>),
}

impl From<StoreError> for Failed {
    fn from(error: StoreError) -> Self {
        Self::Fault(error)
    }
}

/// Locks, validates, numbers, writes and commits; without a fence for the batch of one that
/// belongs to no inbox.
pub(super) async fn run(
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    fence: Option<Fence<'_>>,
    work: &Work<'_>,
) -> Result<BatchOutcome, Failed> {
    let transaction = database.begin().await?;
    if let Some(fence) = fence {
        let found = fence.find(database, &transaction).await?;
        if found != fence.expected {
            return Err(Failed::Fenced(found));
        }
    }
    let catches_up = fence.is_some_and(|fence| fence.flow.is_some());
    let flows = match lock(&transaction, database, schemas, work).await {
        Err(error) if catches_up && error.fault() == Fault::LockTimeout => return Err(Failed::StillLocked),
        locked => locked?,
    };
    let is_gone = matches!(work.whose, Whose::Only(_)) && flows.is_empty();
    let mut outcome = judge_and_write(&transaction, database, rules, flows, work).await?;
    if let Some(fence) = fence {
        outcome.catch_up = if is_gone { Some(CatchUp::Left) } else { fence.next.catch_up() };
        fence.write(database, &transaction, fence.next.reached(outcome.catch_up)).await?;
    }
    fail::fail_point!("worker-before-commit");
    match commit(transaction).await {
        Ok(()) => {
            fail::fail_point!("worker-after-commit");
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
    let flows = lock(&transaction, database, schemas, work).await?;
    judge_and_write(&transaction, database, rules, flows, work).await?;
    roll_back(transaction).await
}

/// Whether a harmless row goes where the refused one did not: else the database is at fault.
///
/// A row without values: what a site's own rules say of values, they do not say of NULL.
pub(super) async fn harmless_row_goes(database: &Database, flow: FlowId) -> Result<(), StoreError> {
    let transaction = database.begin().await?;
    let sql = format!(
        "INSERT INTO data (received_at, flow_code, attribute_name, attribute_value, last_msg_id) \
         SELECT {}, code, 'probe', NULL, NULL FROM flows WHERE id = ?",
        database.dialect.now()
    );
    let statement = Statement::from_sql_and_values(database.dialect.backend(), sql, [flow.into()]);
    transaction
        .execute_raw(statement)
        .await
        .while_doing("writing a harmless row of the flow without values")?;
    roll_back(transaction).await
}

async fn roll_back(transaction: DatabaseTransaction) -> Result<(), StoreError> {
    transaction.rollback().await.while_doing("rolling back")
}

async fn lock(
    transaction: &DatabaseTransaction,
    database: &Database,
    schemas: &mut SchemaCache,
    work: &Work<'_>,
) -> Result<BTreeMap<FlowId, LockedFlow>, StoreError> {
    lock_flows(transaction, database.dialect, &work.flows(), work.waits, schemas).await
}

async fn judge_and_write(
    transaction: &DatabaseTransaction,
    database: &Database,
    rules: &BatchRules,
    flows: BTreeMap<FlowId, LockedFlow>,
    work: &Work<'_>,
) -> Result<BatchOutcome, StoreError> {
    let mut judge = Judge::new(rules, flows, work.poison);
    for (index, message) in work.range.clone().zip(work.messages()) {
        for flow in message.flows.iter().copied().filter(|flow| work.whose.holds(*flow)) {
            judge.message(index, message, flow);
        }
        if message.judge {
            judge.unreadable(message);
        }
    }
    let writes = judge.verdict();
    let context = WriteContext {
        dialect: database.dialect,
        inbox_id: &rules.inbox_id,
        most_bytes: rules.statement_bytes,
    };
    writes.write(transaction, &context).await?;
    write_counters(transaction, database.dialect, &writes.counters).await?;
    Ok(BatchOutcome { results: writes.results, posts: writes.posts, ..BatchOutcome::default() })
}
