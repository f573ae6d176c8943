//! One attempt to write a part of a batch: one transaction.

use std::collections::BTreeMap;

use sea_orm::{ConnectionTrait, DatabaseTransaction};

use super::BatchRules;
use super::counters::write_counters;
use super::failed::Failed;
use super::fence::Fence;
use super::frame::{advance_offset, lock_and_fence};
use super::insert::WriteContext;
use super::keys::load_keys;
use super::locked_flow::{SchemaCache, lock_flows};
use super::part::BatchPart;
use super::writes::write_rows;
use crate::domain::batch::BatchOutcome;
use crate::domain::message::FlowId;
use crate::domain::processing::{FlowState, MessageProcessor, ProcessingOutcome};
use crate::store::connect::Database;
use crate::store::dialect::Dialect;
use crate::store::error::{ErrorClass, StoreError, While};
use crate::store::flow_table::write_draft;

/// Locks, processes, writes and commits, in the prepared transaction or in a new one. A message that belongs to no
/// inbox has no fence.
pub(super) async fn run(
    prepared: Option<DatabaseTransaction>,
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    fence: Option<Fence<'_>>,
    part: &BatchPart<'_>,
) -> Result<BatchOutcome, Failed> {
    let transaction = match prepared {
        Some(transaction) => transaction,
        None => database.begin().await?,
    };
    let flows = lock_and_fence(&transaction, database, schemas, fence, part).await?;
    let processed = process(&transaction, database, rules, flows, part).await?;
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
        // A deferred constraint has refused the rows: the database has answered, and rolled back.
        Err(error) if error.class() == ErrorClass::Poison => Err(Failed::Error(error)),
        Err(error) => Err(Failed::Unknown(error, Box::new(outcome))),
    }
}

/// Commits. After an error the outcome is unknown: the answer may be lost.
pub(super) async fn commit(transaction: DatabaseTransaction) -> Result<(), StoreError> {
    const DOING: &str = "committing";
    fail::fail_point!("commit-not-sent", |_| Err(sea_orm::DbErr::Custom("injected".into()))
        .while_doing(DOING));
    transaction.commit().await.while_doing(DOING)?;
    fail::fail_point!("commit-not-answered", |_| Err(sea_orm::DbErr::Custom("injected".into()))
        .while_doing(DOING));
    Ok(())
}

/// Does all of it and rolls back, to find out whether the database accepts it.
pub(super) async fn rehearse(
    database: &Database,
    rules: &BatchRules,
    schemas: &mut SchemaCache,
    part: &BatchPart<'_>,
) -> Result<(), StoreError> {
    let transaction = database.begin().await?;
    let result = rehearse_within(&transaction, database, rules, schemas, part).await;
    roll_back(transaction, result.map(drop)).await
}

/// Does all of it within a transaction that the caller rolls back.
pub(super) async fn rehearse_within<'a>(
    transaction: &DatabaseTransaction,
    database: &Database,
    rules: &'a BatchRules,
    schemas: &mut SchemaCache,
    part: &BatchPart<'a>,
) -> Result<ProcessingOutcome<'a>, StoreError> {
    if let Some(draft) = part.draft {
        write_draft(transaction, database.dialect, draft).await?;
    }
    let flows = lock_flows(transaction, database.dialect, &part.flows(), part.if_locked, schemas).await?;
    let processed = process(transaction, database, rules, flows, part).await?;
    write_rows(transaction, &WriteContext::new(database, rules), &processed).await?;
    write_counters(transaction, database.dialect, &processed.counters).await?;
    check_deferred_constraints(transaction, database.dialect).await?;
    Ok(processed)
}

/// Has the database make the checks of the commit.
async fn check_deferred_constraints(
    transaction: &DatabaseTransaction,
    dialect: Dialect,
) -> Result<(), StoreError> {
    match dialect {
        Dialect::Postgres => {
            let checked = transaction.execute_unprepared("SET CONSTRAINTS ALL IMMEDIATE").await;
            checked.map(|_| ()).while_doing("checking the deferred constraints")
        }
        // The one checks nothing at the commit, and the other cannot check it earlier.
        Dialect::MySql | Dialect::Sqlite => Ok(()),
    }
}

/// Rolls a transaction back and returns its result. A dropped transaction would end a little later, and its locks would
/// block the next one.
pub(super) async fn roll_back<T>(
    transaction: DatabaseTransaction,
    result: Result<T, StoreError>,
) -> Result<T, StoreError> {
    let ended = transaction.rollback().await.while_doing("rolling back");
    result.and_then(|value| ended.map(|()| value))
}

/// Applies the rules to all messages of `part`, with what the locked rows say.
async fn process<'a>(
    transaction: &DatabaseTransaction,
    database: &Database,
    rules: &'a BatchRules,
    flows: BTreeMap<FlowId, FlowState>,
    part: &BatchPart<'a>,
) -> Result<ProcessingOutcome<'a>, StoreError> {
    let retention = rules.processing.key_retention;
    let keys = load_keys(transaction, database.dialect, &flows, part, retention).await?;
    let waiting = |flow| rules.gauge.waiting(flow);
    let mut processor = MessageProcessor::new(&rules.processing, flows, keys, part.poison, &waiting);
    for (index, message) in part.numbered_messages() {
        let flows = message.flows.iter().copied().filter(|flow| part.scope.contains(*flow));
        processor.process(index, message, flows);
    }
    Ok(processor.into_outcome())
}
