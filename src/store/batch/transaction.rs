//! One attempt to bring a part of a batch into SQL: one transaction.

use std::collections::BTreeSet;
use std::ops::Range;

use sea_orm::{ConnectionTrait, DatabaseTransaction, Statement};

use super::counters::write_counters;
use super::fence::LaneRow;
use super::judge::{Judge, Poison};
use super::locked_flow::{SchemaCache, lock_flows};
use super::writes::WriteContext;
use super::{BatchRules, Parsed};
use crate::domain::batch::{BatchOutcome, LanePosition};
use crate::domain::message::FlowId;
use crate::store::connect::Database;
use crate::store::error::{StoreError, While};

/// A part of a batch, and what it may be measured against.
#[derive(Debug, Clone)]
pub(super) struct Work<'a> {
    /// All messages of the batch.
    pub(super) messages: &'a [Parsed<'a>],
    /// The ones this transaction is about.
    pub(super) range: Range<usize>,
    /// Only this flow, when the poison of one message is looked for.
    pub(super) only_flow: Option<FlowId>,
    /// Messages the database refuses.
    pub(super) poison: &'a Poison,
}

/// The row of the lane, where it must stand, and where it will.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fence<'a> {
    pub(super) row: LaneRow<'a>,
    pub(super) expected: LanePosition,
    pub(super) next: LanePosition,
}

/// How a transaction ended that did not succeed.
#[derive(Debug)]
pub(super) enum Failed {
    /// The lane stands elsewhere; nothing was written.
    Fenced(LanePosition),
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
        let position = fence.row.lock(database, &transaction).await?;
        if position != fence.expected {
            return Err(Failed::Fenced(position));
        }
    }
    let outcome = judge_and_write(&transaction, database, rules, schemas, work).await?;
    if let Some(fence) = fence {
        fence.row.write(database, &transaction, fence.next).await?;
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
async fn commit(transaction: DatabaseTransaction) -> Result<(), StoreError> {
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
    judge_and_write(&transaction, database, rules, schemas, work).await?;
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

async fn judge_and_write(
    transaction: &DatabaseTransaction,
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    work: &Work<'_>,
) -> Result<BatchOutcome, StoreError> {
    let messages = work.messages.get(work.range.clone()).unwrap_or_default();
    let wanted = |flow: &FlowId| work.only_flow.is_none_or(|only| only == *flow);
    let ids: BTreeSet<FlowId> =
        messages.iter().flat_map(|message| message.flows).copied().filter(wanted).collect();
    let ids: Vec<FlowId> = ids.into_iter().collect();
    let flows = lock_flows(transaction, database.dialect, &ids, schemas).await?;

    let mut judge = Judge::new(rules, flows, work.poison);
    for (index, message) in work.range.clone().zip(messages) {
        for flow in message.flows.iter().copied().filter(|flow| wanted(flow)) {
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
