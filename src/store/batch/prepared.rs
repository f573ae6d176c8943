//! A transaction that is opened before its batch arrives.
//!
//! BEGIN is a round trip that a single message would wait for. An unused transaction holds no lock, and at READ
//! COMMITTED no snapshot: each statement reads the latest commit. On `SQLite` it would hold the write lock, so none is
//! opened ahead of time.

use std::time::{Duration, Instant};

use sea_orm::DatabaseTransaction;
use tokio::runtime::Handle;
use tokio::time::timeout;

use crate::store::connect::Database;
use crate::store::dialect::Dialect;

/// Age at which an unused transaction is dropped: its connection may be gone, and operators look for idle transactions.
const MAX_AGE: Duration = Duration::from_secs(1);

/// A slower BEGIN saves nothing.
const BEGIN_TIMEOUT: Duration = Duration::from_secs(1);

/// The transaction for the next batch, if one is open.
#[derive(Debug, Default)]
pub(super) struct PreparedTransaction(Option<PendingTransaction>);

#[derive(Debug)]
struct PendingTransaction {
    transaction: DatabaseTransaction,
    since: Instant,
    /// The runtime of the connection.
    runtime: Handle,
}

impl PreparedTransaction {
    /// Opens a transaction ahead of time if none is pending. Errors are ignored; the next batch opens its own.
    pub(super) async fn prepare(&mut self, database: &Database) {
        if self.0.is_none() && database.dialect != Dialect::Sqlite {
            let prepared = timeout(BEGIN_TIMEOUT, database.begin()).await;
            self.0 = prepared.ok().and_then(Result::ok).map(|transaction| PendingTransaction {
                transaction,
                since: Instant::now(),
                runtime: Handle::current(),
            });
        }
    }

    /// Takes the transaction, unless it is stale.
    pub(super) fn take(&mut self) -> Option<DatabaseTransaction> {
        self.drop_stale();
        self.0.take().map(|ready| ready.transaction)
    }

    /// Drops a stale transaction.
    pub(super) fn drop_stale(&mut self) {
        self.0.take_if(|ready| ready.since.elapsed() >= MAX_AGE);
    }
}

impl Drop for PreparedTransaction {
    /// Enters the runtime first: the driver rolls back in a task, and panics without a runtime. At the end of a thread
    /// its actors are dropped after the runtime was left.
    fn drop(&mut self) {
        if let Some(PendingTransaction { transaction, runtime, .. }) = self.0.take() {
            let _entered = runtime.enter();
            drop(transaction);
        }
    }
}
