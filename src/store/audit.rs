//! Reads the tables for an audit, while gateways are at work.
//!
//! One read-only transaction reads one snapshot, so concurrent writes do not look like errors. It locks no row. A long
//! one keeps the server from discarding old row versions, as a dump does.

mod data;
mod tables;

use std::collections::BTreeMap;

use sea_orm::{
    AccessMode, DatabaseTransaction, FromQueryResult, IsolationLevel, SqliteTransactionMode,
    TransactionOptions, TransactionTrait, Value,
};

pub use tables::lane_rows;

use super::connect::Database;
use super::dialect::Dialect;
use super::error::{StoreError, While};
use super::limits::load_limits;
use super::statement::statement;
use super::{NumbersUsed, numbers_used};
use crate::domain::audit::{Facts, FlowFacts, StoredFacts};
use crate::domain::message::Offset;

/// The progress of the reading: rows of `data` read, and the highest key ahead.
type ProgressCallback<'a> = dyn FnMut(AuditProgress) + 'a;

/// A place in a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AuditProgress {
    /// The table.
    pub table: &'static str,
    /// Rows read so far.
    pub rows: u64,
    /// The key reached.
    pub key: i64,
    /// The highest key.
    pub highest_key: i64,
}

/// The position of a lane of an inbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLane {
    /// The name of the inbox.
    pub inbox_id: String,
    /// The lane.
    pub lane: i64,
    /// `inbox_offsets.next_offset`
    pub next_offset: Offset,
    /// The lowest `inbox_lagging.next_offset` of its flows.
    pub lagging_from: Option<Offset>,
}

/// Reads the facts of the tables, of all flows or of one. Does not read the inbox.
pub async fn audit(
    database: &Database,
    only: Option<&str>,
    progress: &mut ProgressCallback<'_>,
) -> Result<Facts, StoreError> {
    let limits = load_limits(database).await?;
    let numbers = numbers_used(database, &limits).await?;
    let running_out = numbers.into_iter().filter_map(NumbersUsed::warning).collect();
    let snapshot = AuditSnapshot::begin(database).await?;
    let mut flows = snapshot.flows(only).await?;
    let mut stored = snapshot.stored(only, progress).await?;
    for flow in flows.values_mut() {
        flow.stored = stored.remove(&flow.code).unwrap_or_default();
    }
    let mut facts = Facts { running_out, ..Facts::default() };
    snapshot.lagging(&mut flows).await?;
    snapshot.outbox(only, &mut flows, &mut facts).await?;
    snapshot.dead_letters(only, &mut flows, &mut facts, progress).await?;
    facts.flows = flows.into_values().collect();
    take_strangers(stored, &mut facts);
    snapshot.transaction.rollback().await.while_doing("ending the audit")?;
    Ok(facts)
}

/// The rest after every flow has its part. Rows without a code belong to no flow.
fn take_strangers(stored: BTreeMap<String, StoredFacts>, facts: &mut Facts) {
    for (code, found) in stored {
        if code.is_empty() {
            facts.rows_without_code += found.rows + found.rows_without_number;
        } else {
            facts.strange_codes.insert(code, found.rows + found.rows_without_number);
        }
    }
}

type FactsByFlow = BTreeMap<i64, FlowFacts>;

/// A snapshot of the tables.
struct AuditSnapshot {
    transaction: DatabaseTransaction,
    dialect: Dialect,
}

impl AuditSnapshot {
    /// The snapshot is taken by the first read.
    async fn begin(database: &Database) -> Result<Self, StoreError> {
        let options = match database.dialect {
            Dialect::MySql | Dialect::Postgres => TransactionOptions {
                isolation_level: Some(IsolationLevel::RepeatableRead),
                access_mode: Some(AccessMode::ReadOnly),
                sqlite_transaction_mode: None,
            },
            Dialect::Sqlite => TransactionOptions {
                sqlite_transaction_mode: Some(SqliteTransactionMode::Deferred),
                ..TransactionOptions::default()
            },
        };
        let begun = database.connection.begin_with_options(options).await;
        Ok(Self { transaction: begun.while_doing("beginning the audit")?, dialect: database.dialect })
    }

    async fn all<R: FromQueryResult>(
        &self,
        doing: &'static str,
        sql: &str,
        values: impl IntoIterator<Item = Value>,
    ) -> Result<Vec<R>, StoreError> {
        let statement = statement(self.dialect.backend(), sql, values);
        R::find_by_statement(statement).all(&self.transaction).await.while_doing(doing)
    }
}
